"""Who runs the stages, and where: in this process, in two processes, or on Ray.

In: settings and the paths of videos. Out: a run folder. Open `run.py` first.
"""
