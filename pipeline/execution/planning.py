"""What a run has to do: its videos, which of them are done, and what decides the results."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pipeline import __version__
from pipeline.describe.checkpoints import fingerprint as checkpoint_fingerprint
from pipeline.describe.checkpoints import locate
from pipeline.errors import FocalfaceWarning
from pipeline.execution.executors import load_run_detector
from pipeline.settings import Settings
from pipeline.storage.inputs import search
from pipeline.storage.run_folder import RunFolder, video_id

_PACKAGES = ("ray", "torch", "transformers", "onnxruntime", "decord", "av", "trackers", "pyarrow", "numpy")


@dataclass(frozen=True)
class PlannedVideo:
    """One video of a run.

    Attributes:
        path: as the inputs name it.
        mark: changes with the file.
        state: `done` by an earlier run, `changed` since then, or `todo`.
    """

    path: str
    mark: str
    state: Literal["done", "changed", "todo"]


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        videos: by `video_id`, in the order of the inputs.
        skipped: reason to the number of files and folders that the search for videos skipped for it (`pipeline.storage.inputs`).
    """

    videos: Mapping[str, PlannedVideo]
    skipped: Mapping[str, int]


def plan(inputs: Sequence[str], out: Path, settings: Settings, overwrite: bool = False) -> Plan:
    """What `pipeline.execution.run.run` would do with these arguments. Changes nothing.

    Raises:
        SettingsError, ModelError: see `pipeline.execution.run.run`.
    """
    found = search(inputs)
    folder = RunFolder(out)
    identity = run_identity(settings)
    if settings.execution.address is None:
        load_run_detector(settings)
    if not overwrite:
        folder.check(identity)
    return Plan(planned_in(folder, found.marks, overwrite), found.skipped)


def planned_in(folder: RunFolder, marks: Mapping[str, str], overwrite: bool = False) -> dict[str, PlannedVideo]:
    """What is to be done in a run folder; see `planned`.

    Args:
        folder: the run folder.
        marks: path to mark of every video.
        overwrite: whether the run starts again.
    """
    committed = {} if overwrite else folder.committed()
    return planned(marks, committed, folder.erased() if committed else ())


def planned(marks: Mapping[str, str], committed: Mapping[str, str], erased: Container[str] = ()) -> dict[str, PlannedVideo]:
    """Compare the videos that are there with those that are done.

    Args:
        marks: path to mark of every video.
        committed: `video_id` to the mark that the file had when it was done.
        erased: videos from which a person was erased. They stay done when the file changes, with a `FocalfaceWarning`: analysing them
            again would bring the person back.
    """
    videos: dict[str, PlannedVideo] = {}
    for path, mark in marks.items():
        done_mark = committed.get(key := video_id(path))
        state: Literal["done", "changed", "todo"] = "todo" if done_mark is None else "done" if done_mark == mark else "changed"
        if state == "changed" and key in erased:
            state = "done"
            text = f"{path} has changed, but is not analysed again, as a person was erased from it; --overwrite analyses everything again"
            warnings.warn(text, FocalfaceWarning, stacklevel=2)
        videos[key] = PlannedVideo(path, mark, state)
    return videos


def run_identity(settings: Settings) -> dict[str, Any]:
    """What decides the results of a run: settings, version and, where it is on this machine, the checkpoint.

    Raises:
        ModelError: when there is no such checkpoint.
    """
    identity = {"focalface": __version__, **settings.identity()}
    # A cluster's workers have their own disks, and a server its own checkpoints.
    if settings.execution.address is None and settings.describe.is_local:
        identity["checkpoint"] = checkpoint_fingerprint(locate(settings.describe.model))
    return identity


def package_versions() -> dict[str, str]:
    """Versions of focalface, Python and the packages on which results depend."""
    known = {"focalface": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
