"""From frames to tracked faces: detection, alignment, head pose, tracking, scene cuts.

In: `pipeline.records.Frame`. Out: `pipeline.records.Face`, each with the track that it belongs to and its aligned crop. Open
`finding.py` first (from frames to measured faces, which needs pixels), then `tracking.py` (from measured faces to tracks, which does
not); the detectors are in `detectors/`.
"""
