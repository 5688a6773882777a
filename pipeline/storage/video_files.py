"""The video file behind a row of the videos table, for work that decodes it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.storage.run_folder import RunFolder, file_mark


def video_file(run: RunFolder, row: Mapping[str, Any]) -> Path:
    """The video file of a row of the videos table, unchanged since the run.

    Raises:
        VideoError: it does not exist any more, or has changed.
    """
    path = Path(row["path"])
    if not path.is_file():
        raise VideoError(VideoErrorKind.MISSING, "no longer there, but needed: put it back, or run on its new place", str(path))
    mark = run.mark(row["video_id"])
    if mark and file_mark(path) != mark:
        raise VideoError(VideoErrorKind.CHANGED, "it has changed since the run, so its frames may not fit the tables: run again", str(path))
    return path
