"""The main job, seen from its driver: which videos, which of them are still to do, and the tables that come of them."""

from __future__ import annotations

import glob
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipeline import __version__
from pipeline.describe.checkpoints import fingerprint as fingerprint_of
from pipeline.describe.checkpoints import locate
from pipeline.errors import SettingsError
from pipeline.execution.executors import is_little, working
from pipeline.execution.metrics import STAGES, Metrics, Stages
from pipeline.execution.progress import Progress
from pipeline.faces.detectors import load_detector
from pipeline.settings import Settings
from pipeline.storage.remote import absolute, find, is_url, plain
from pipeline.storage.run_folder import RunFolder, empty, fingerprint, shown, size_in, video_id

_KINDS = "3gp|asf|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpeg|mpg|mts|mxf|ogv|ts|vob|webm|wmv"
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split("|"))
"""Names that are taken for videos when a folder is searched; a file that is named itself is taken whatever its name."""

_PACKAGES = ("ray", "torch", "transformers", "onnxruntime", "decord", "av", "trackers", "pyarrow", "numpy")


def find_videos(inputs: Sequence[str]) -> list[str]:
    """The video files that the inputs stand for, each once, those of a folder or a pattern in order of name.

    Args:
        inputs: files, folders (searched to their depths) and glob patterns; URLs of these (`pipeline.storage.remote`).

    Raises:
        SettingsError: when one does not exist or matches nothing, or when no video is found at all.
    """
    return list(_marked(inputs))


def _marked(inputs: Sequence[str]) -> dict[str, str]:
    """`find_videos`, each with a mark that changes when it does."""
    found: dict[str, str] = {}
    marks: dict[str, str] = {}
    for item in map(plain, inputs):
        if is_url(item):
            marks |= find(item, _is_video)
            found |= {url: url for url in marks}
            continue
        matches = [item] if os.path.exists(item) else sorted(glob.glob(item, recursive=True))
        if not matches:
            what = "no file matches" if glob.has_magic(item) else "there is no file or folder"
            raise SettingsError(f"{what} {item}")
        for match in matches:
            for path in _in_folder(match) if os.path.isdir(match) else [match]:
                found.setdefault(os.path.abspath(path), path)
    if not found:
        raise SettingsError(f"no videos found in {', '.join(inputs)} (names ending in {' '.join(sorted(VIDEO_SUFFIXES))})")
    return {path: marks.get(path) or fingerprint(path) for path in found.values()}


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _in_folder(folder: str) -> list[str]:
    """The videos in a folder, at any depth; folders with a video's name and no video in them count as (unreadable) videos."""
    files: list[str] = []
    named: list[str] = []
    for parent, folders, names in os.walk(folder):
        for found, among in ((files, names), (named, folders)):
            found += [os.path.join(parent, name) for name in among if _is_video(name)]
    holding = {str(above) for path in files for above in Path(path).parents}
    return sorted([*files, *(path for path in named if path not in holding)])


def versions() -> dict[str, str]:
    """Of focalface and of what its results depend on."""
    known = {"focalface": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known


class Assembly:
    """Puts a video's results together, in whatever order they come."""

    def __init__(self) -> None:
        self.parts: dict[int, tuple[pa.Table, pa.Table]] = {}
        self.elapsed_s = 0.0
        self.row: dict[str, Any] | None = None
        self.expected = -1

    def add(self, index: int, faces: pa.Table, descriptions: pa.Table, elapsed_s: float, row: dict[str, Any] | None) -> bool:
        """Whether the video is complete now."""
        if index not in self.parts:  # work that was done again after a lost worker counts once
            self.parts[index] = (faces, descriptions)
            self.elapsed_s += elapsed_s
        if row is not None:
            self.row, self.expected = row, index + 1
        return len(self.parts) == self.expected

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Faces and descriptions; none where the video failed."""
        if self.row is None or self.row["status"] == "failed":
            return empty("faces"), empty("descriptions")
        faces, descriptions = zip(*self.parts.values(), strict=True)
        return pa.concat_tables(faces), pa.concat_tables(descriptions)


@dataclass(frozen=True)
class Planned:
    """One video of a run, as the run finds it.

    Attributes:
        path: as the inputs name it.
        mark: changes with the file.
        state: `done` in an earlier run; `changed` since then; else `todo`.
    """

    path: str
    mark: str
    state: Literal["done", "changed", "todo"]


def plan(inputs: Sequence[str], out: Path, settings: Settings, overwrite: bool = False) -> dict[str, Planned]:
    """What `run` would do with these arguments: video_id to what it finds, in its order. Changes nothing.

    Raises:
        SettingsError, ModelError: see `run`.
    """
    marks = _marked(inputs)
    folder = RunFolder(out)
    if not overwrite:
        folder.check(_identity(settings))
    return _planned(marks, {} if overwrite else folder.committed())


def _planned(marks: Mapping[str, str], committed: Mapping[str, str]) -> dict[str, Planned]:
    videos = {}
    for path, mark in marks.items():
        seen = committed.get(key := video_id(path))
        videos[key] = Planned(path, mark, "todo" if seen is None else "done" if seen == mark else "changed")
    return videos


def _identity(settings: Settings) -> dict[str, Any]:
    """What decides the results: settings, version and, where it is at hand, the checkpoint.

    Raises:
        ModelError: when the detector or the model cannot be loaded.
    """
    identity = {"focalface": __version__, **settings.identity()}
    if settings.execution.address is None:  # a mistake is said before Ray starts; on a cluster it is the workers' disks that count
        identity["checkpoint"] = fingerprint_of(locate(settings.describe.model))
        load_detector(settings.detect.detector, min_face=settings.detect.min_face)
    return identity


def run(
    inputs: Sequence[str], out: Path, settings: Settings, overwrite: bool = False, kept: Callable[[], None] = lambda: None
) -> RunFolder:
    """Describe the faces of videos, into a run folder; goes on where an earlier run of the same settings stopped.

    Args:
        inputs: see `find_videos`.
        out: the run folder.
        settings: of the run.
        overwrite: start anew in a folder that holds a run.
        kept: called whenever the folder has more in it that will stay (`pipeline.storage.remote.Mirror.push`).

    Raises:
        SettingsError: before any work, when an input or the folder does not fit.
        ModelError: when the detector or the model cannot be loaded.
    """
    marks, identity = _marked(inputs), _identity(settings)
    folder = RunFolder(out)
    folder.begin(identity, overwrite)
    videos = _planned(marks, folder.committed())
    todo = [key for key, video in videos.items() if video.state != "done"]
    for key in todo:
        folder.discard(key)
    if todo:
        began = datetime.now(UTC)
        little = is_little(settings, [size_in(videos[key].mark) for key in todo])
        folder.note(
            versions=versions(),
            settings=identity,
            execution=settings.execution.model_dump() | {"executor": "two_processes" if little else "ray"},
            timing={"started": began.isoformat(timespec="seconds")},
        )
        open_videos: dict[str, Assembly] = {}
        names: dict[str, str] = {}
        with Progress(len(todo)) as progress, working(settings, little) as results:
            metrics, driver = Metrics(exported=not little), Stages()
            for result in results([absolute(videos[key].path) for key in todo]):
                key = result.video_id
                video = open_videos.setdefault(key, Assembly())
                if result.index not in video.parts:
                    metrics.work(result.frames, result.faces.num_rows, result.descriptions.num_rows, result.stages)
                complete = video.add(result.index, result.faces, result.descriptions, result.elapsed_s, result.video)
                names = {"detector": result.detector, "model": result.model}
                progress.add(
                    key,
                    frames=result.frames,
                    share=result.share,
                    faces=result.faces.num_rows,
                    descriptions=result.descriptions.num_rows,
                )
                if complete and video.row is not None:
                    row = _named(video.row, videos[key].path) | {"elapsed_s": video.elapsed_s}
                    with driver.on("write"):
                        folder.commit(row, *video.tables(), "" if result.again else videos[key].mark)
                        kept()
                    metrics.work(0, 0, 0, driver.take())
                    metrics.finish(row)
                    progress.finish(key, row["status"] == "failed")
                    del open_videos[key]
            timing = {
                "started": began.isoformat(timespec="seconds"),
                "seconds": round(progress.elapsed_s, 3),
                "videos": progress.done,
                "frames_per_s": round(progress.frames / progress.elapsed_s, 2),
                "stage_seconds": {stage: round(metrics.seconds[stage], 3) for stage in STAGES if stage in metrics.seconds},
            }
        folder.note(**names, counts=counts(folder), timing=timing)
        from pipeline.execution.preview import preview

        preview(folder)
    folder.finish()
    return folder


def _named(row: dict[str, Any], path: str) -> dict[str, Any]:
    """A video's row with the path as the user typed it; the error of a failed video begins with it."""
    error = f"{shown(path)}: {row['error']}" if row["status"] == "failed" else row["error"]
    return row | {"path": shown(path), "error": error}


def counts(folder: RunFolder) -> dict[str, Any]:
    """What a run folder holds: videos by status and by kind of error, and the sums of their columns."""
    videos = folder.read("videos")
    by_status = {status: videos["status"].to_pylist().count(status) for status in ("ok", "no_faces", "failed")}
    columns = ("sampled_frames", "faces", "tracks", "windows", "descriptions")
    sums = {name: sum(filter(None, videos[name].to_pylist())) for name in columns}
    kinds = Counter(filter(None, videos["error_kind"].to_pylist()))
    return {"videos": videos.num_rows, **by_status, **sums, "error_kinds": dict(sorted(kinds.items()))}
