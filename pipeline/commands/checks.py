"""Checks of arguments before a command imports anything heavy, so that a wrong argument is answered at once.

Nothing here imports torch, OpenCV, onnxruntime, pyarrow.dataset or Ray, which take from a quarter of a second to several seconds.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import ModelError, SettingsError, VideoError, VideoErrorKind
from pipeline.settings import DescribeGroup

DETECTORS = ("auto", "centerface", "insightface")
"""Detectors that are named instead of given as a file."""


def check_run_folders(folders: Iterable[str | Path]) -> None:
    """Check that local folders hold runs; URLs are left to the code that opens them.

    Raises:
        SettingsError: a folder holds no run.
    """
    for folder in folders:
        videos = Path(folder) / "videos"
        if "://" not in str(folder) and not videos.is_dir():
            raise SettingsError(f"{folder} holds no run: there is no {videos}; make one with focalface run")


def check_people(folder: Path | None) -> None:
    """Check that a folder holds linked people.

    Raises:
        SettingsError: it does not.
    """
    if folder is not None and not (folder / "tracks.parquet").is_file():
        raise SettingsError(f"--people: {folder} holds no people; link them with focalface people RUN... --out {folder}")


def check_inputs(inputs: Sequence[str]) -> None:
    """Check that local files and folders exist; URLs and glob patterns are left to the search.

    Raises:
        SettingsError: an input does not exist.
    """
    from pipeline.storage.names import on_disk

    for item in inputs:
        if "://" not in item and not glob.has_magic(item) and not os.path.lexists(on_disk(item)):
            raise SettingsError(f"there is no file or folder {item}")


def check_output_folder(out: str) -> None:
    """Check that results can go into a folder; URLs are left to the code that opens them.

    Raises:
        SettingsError: there is a file of that name.
    """
    if "://" not in out and Path(out).is_file():
        raise SettingsError(f"{out} is a file, not a folder for results")


def check_detector(detector: str) -> None:
    """Check that a detector is known, or is a file or folder.

    Raises:
        ModelError: it is neither.
    """
    if detector not in DETECTORS and not Path(detector).expanduser().exists():
        raise ModelError(f"detector {detector!r}: no such file; give {', '.join(DETECTORS)} or a path to an SCRFD or YuNet .onnx")


def check_checkpoint(settings: DescribeGroup) -> None:
    """Check that a checkpoint and an adapter are there; a hub id is fetched. A server's models are left to the code that asks it.

    Raises:
        ModelError: one of them is not there.
    """
    if not settings.is_local:
        return
    from pipeline.describe.checkpoints import locate, locate_adapter

    locate(settings.model)
    locate_adapter(settings.adapter)


def check_video(path: Path) -> None:
    """Check that a video file exists.

    Raises:
        VideoError: it does not.
    """
    if not path.is_file():
        raise VideoError(VideoErrorKind.MISSING, "no such file", str(path))
