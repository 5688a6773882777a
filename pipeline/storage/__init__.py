"""Where results are kept: the run folder and its Parquet tables, on this machine or on a remote file system.

In: rows of `pipeline.schemas`. Out: the same rows, read back. Open `run_folder.py` first.
"""
