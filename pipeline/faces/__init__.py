"""From frames to tracked faces: detection, alignment, head pose, tracking, scene cuts.

In: `pipeline.records.Frame`. Out: `pipeline.records.Face`, each with the track that it belongs to and its aligned crop. Open
`tracking.py` first; the detectors are in `detectors/`.
"""
