"""The main job, seen from its driver: which videos, which of them are still to do, and the tables that come of them."""

from __future__ import annotations

import glob
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import __version__
from pipeline.checkpoints import fingerprint as fingerprint_of
from pipeline.checkpoints import locate
from pipeline.detect import load_detector
from pipeline.errors import SettingsError
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.tables import RunFolder, empty, fingerprint, shown, video_id

_KINDS = "3gp|asf|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpeg|mpg|mts|mxf|ogv|ts|vob|webm|wmv"
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split("|"))
"""Names that are taken for videos when a folder is searched; a file that is named itself is taken whatever its name."""

_PACKAGES = ("ray", "torch", "transformers", "onnxruntime", "decord", "av", "trackers", "pyarrow", "numpy")


def find_videos(inputs: Sequence[str]) -> list[str]:
    """The video files that the inputs stand for, each once, those of a folder or a pattern in order of name.

    Args:
        inputs: files, folders (searched to their depths) and glob patterns.

    Raises:
        SettingsError: when one does not exist or matches nothing, or when no video is found at all.
    """
    found: dict[str, str] = {}
    for item in inputs:
        matches = [item] if os.path.exists(item) else sorted(glob.glob(item, recursive=True))
        if not matches:
            what = "no file matches" if glob.has_magic(item) else "there is no file or folder"
            raise SettingsError(f"{what} {item}")
        for match in matches:
            for path in _in_folder(match) if os.path.isdir(match) else [match]:
                found.setdefault(os.path.abspath(path), path)
    if not found:
        raise SettingsError(f"no videos found in {', '.join(inputs)} (names ending in {' '.join(sorted(VIDEO_SUFFIXES))})")
    return list(found.values())


def _in_folder(folder: str) -> list[str]:
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")
    )


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


def run(inputs: Sequence[str], out: Path, settings: Settings, overwrite: bool = False) -> RunFolder:
    """Describe the faces of videos, into a run folder; goes on where an earlier run of the same settings stopped.

    Args:
        inputs: see `find_videos`.
        out: the run folder.
        settings: of the run.
        overwrite: start anew in a folder that holds a run.

    Raises:
        SettingsError: before any work, when an input or the folder does not fit.
        ModelError: when the detector or the model cannot be loaded.
    """
    paths = {video_id(path): path for path in find_videos(inputs)}
    marks = {key: fingerprint(path) for key, path in paths.items()}
    checkpoint: dict[str, str] = {}
    if settings.engine.address is None:  # a mistake is said before Ray starts; on a cluster it is the workers' disks that count
        checkpoint["checkpoint"] = fingerprint_of(locate(settings.describe.model))
        load_detector(settings.detect.detector, min_face=settings.detect.min_face)
    folder = RunFolder(out)
    identity = {"focalface": __version__, **settings.identity(), **checkpoint}
    folder.begin(identity, overwrite)
    committed = folder.committed()
    todo = [key for key in paths if committed.get(key) != marks[key]]
    for key in todo:
        folder.discard(key)
    if todo:
        from pipeline.graph import engine, results

        began = datetime.now(UTC)
        folder.note(
            versions=versions(),
            settings=identity,
            engine=settings.engine.model_dump(),
            timing={"started": began.isoformat(timespec="seconds")},
        )
        open_videos: dict[str, Assembly] = {}
        names: dict[str, str] = {}
        with Progress(len(todo)) as progress, engine(settings.engine):
            for result in results([os.path.abspath(paths[key]) for key in todo], settings):
                key = result.video_id
                video = open_videos.setdefault(key, Assembly())
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
                    row = video.row | {"path": shown(paths[key]), "elapsed_s": video.elapsed_s}
                    folder.commit(row, *video.tables(), marks[key])
                    progress.finish(key, row["status"] == "failed")
                    del open_videos[key]
            timing = {
                "started": began.isoformat(timespec="seconds"),
                "seconds": round(progress.elapsed_s, 3),
                "videos": progress.done,
                "frames_per_s": round(progress.frames / progress.elapsed_s, 2),
            }
        folder.note(**names, counts=counts(folder), timing=timing)
        from pipeline.draw import preview

        preview(folder)
    folder.finish()
    return folder


def counts(folder: RunFolder) -> dict[str, int]:
    """What a run folder holds: videos by status, and the sums of their columns."""
    videos = folder.read("videos")
    by_status = {status: videos["status"].to_pylist().count(status) for status in ("ok", "no_faces", "failed")}
    columns = ("sampled_frames", "faces", "tracks", "windows", "descriptions")
    return {"videos": videos.num_rows, **by_status, **{name: sum(filter(None, videos[name].to_pylist())) for name in columns}}
