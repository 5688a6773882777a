"""From a video file to upright RGB frames, each with its own time.

In: the path of a file on this machine. Out: `pipeline.records.Frame`, in order. Open `reader.py` first.
"""
