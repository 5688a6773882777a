"""`focalface bench`: the speed of this project, measured against a baseline that a user would write today.

In: a clip with faces. Out: rows that hold both times, their ratio, and whether both sides gave the same answers.

Open `rows.py` first: each row compares one job of `focalface_jobs.py` with one of `baseline_jobs.py`. Each side runs in a process of its
own (`timed_process.py`); `agreement.py` compares the answers. `breakdown.py` measures where our own time goes, `scale.py` how a run grows,
and `full_size.py` full-size models against the limits of the device.
"""
