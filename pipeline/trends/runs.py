"""Which videos some run folders hold, and what their runs state about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.errors import SettingsError
from pipeline.storage.people_folder import Persons
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends.options import Options
from pipeline.vocabulary import AUS

USUAL_THRESHOLD = 0.5
"""Score at which an AU counts as active where the run does not state its checkpoint's thresholds."""

EARLIEST_YEAR = 1990
"""Container times before this year come from clocks that were never set (1904 and 1970 are the formats' zeros)."""

_VIDEO_COLUMNS = ("video_id", "path", "status", "error", "duration_s", "fps")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        name: of the folder; its path where two folders have the same name.
        folder: the run folder.
        fps: frames a second that were sampled; None for every frame.
        thresholds: AU to the score at which its checkpoint counts it as active; None where run.json does not say.
    """

    name: str
    folder: RunFolder
    fps: float | None
    thresholds: Mapping[str, float] | None

    def active_from(self, options: Options) -> np.ndarray:
        """(A,) score at which an event of each AU begins; rounded like the scores in the tables, to float32."""
        stated = self.thresholds or {}
        values = [stated.get(au, USUAL_THRESHOLD) if options.threshold is None else options.threshold for au in AUS]
        return np.array(values, np.float32).astype(float)


@dataclass(frozen=True)
class Runs:
    """The runs of one analysis.

    Attributes:
        runs: name to run.
        videos: a row per video, by path: run, video_id, path, day, day_source, group, status, error, duration_s, fps. A video that several
            runs hold is listed once, as the last named run has it.
        notes: what a reader of the results must know.
        persons: run name to its people, of runs whose people are linked.
    """

    runs: dict[str, Run]
    videos: pd.DataFrame
    notes: tuple[str, ...]
    persons: Mapping[str, Persons] = field(default_factory=dict)


def open_runs(
    folders: Sequence[Path | str], options: Options, wanted: Collection[str] | None = None, people: Path | str | None = None
) -> Runs:
    """Open run folders.

    Args:
        folders: outputs of `focalface run`; unfinished ones count with the videos that they have finished.
        options: of the analysis.
        wanted: the only videos to analyse, by video_id; all by default.
        people: a people folder over the runs; by default each run's own, where it has one.

    Raises:
        SettingsError: a folder holds no run or no finished video (or none of those wanted), or its videos table cannot be read.
    """
    if not folders:
        raise SettingsError("no run folder given")
    paths = list(dict.fromkeys(Path(folder) for folder in folders))
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    runs: dict[str, Run] = {}
    parts: list[pd.DataFrame] = []
    notes: list[str] = []
    seen: set[str] = set()
    for name, path in zip(names, paths, strict=True):
        run, videos = _open_run(name, path, wanted)
        if (path / "_partial").is_dir():
            notes.append(f"{name} is unfinished (still running, or stopped): only its {len(videos)} finished videos count.")
        if again := len(seen & set(videos["video_id"])):
            notes.append(f"{again} videos of {name} are in an earlier named run too; each counts once, as {name} has it.")
        if run.thresholds is None and options.threshold is None:
            notes.append(f"{name} does not state its checkpoint's thresholds; an AU counts as active from a score of {USUAL_THRESHOLD:g}.")
        seen |= set(videos["video_id"])
        runs[name] = run
        parts.append(videos)
    videos = pd.concat(parts, ignore_index=True).drop_duplicates("video_id", keep="last")
    videos["group"] = None
    persons = _people_of(runs, people, next(iter(wanted)) if wanted is not None and len(wanted) == 1 else None)
    if len(persons) > 1 and people is None:
        persons = {name: own.within(name) for name, own in persons.items()}
        notes.append("The people of each run are counted apart: link the runs (focalface people RUN... --out DIR) and pass --people DIR.")
    if people is not None and (left := [name for name in runs if name not in persons]):
        notes.append(f"{people} says nothing about {', '.join(left)}: tracks there are nobody's; link again with all runs.")
    return Runs(runs, videos.sort_values(["path", "video_id"], ignore_index=True), tuple(notes), persons)


def _people_of(runs: Mapping[str, Run], people: Path | str | None, video: str | None) -> dict[str, Persons]:
    """The people of each run whose people are linked."""
    found = {name: run.folder.persons(people, video) for name, run in runs.items()}
    if people is not None and not any(found.values()):
        raise SettingsError(f"--people {people} says nothing about these runs: link them with focalface people RUN... --out DIR")
    return {name: persons for name, persons in found.items() if persons is not None}


def _open_run(name: str, path: Path, wanted: Collection[str] | None) -> tuple[Run, pd.DataFrame]:
    folder = RunFolder(path)
    if not (path / "videos").is_dir():
        raise SettingsError(f"{path} holds no run: there is no {path / 'videos'}; make one with focalface run")
    try:
        marks = folder.committed() if wanted is None else {key: folder.mark(key) for key in wanted}
        videos = folder.read("videos", _VIDEO_COLUMNS).to_pandas()
        if wanted is not None:
            videos = videos[videos["video_id"].isin(wanted)].reset_index(drop=True)
        info = folder.info
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SettingsError(f"the tables of {path} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not len(videos):
        raise SettingsError(f"{path} holds no finished video yet: let focalface run finish one")
    days = [_day(file, key, marks.get(key, "")) for key, file in zip(videos["video_id"], videos["path"], strict=True)]
    videos["day"], videos["day_source"] = [day for day, _ in days], [source for _, source in days]
    videos.insert(0, "run", name)
    fps = _get(info, "settings", "video", "fps")
    thresholds = info.get("thresholds")
    known = {au: float(value) for au, value in thresholds.items()} if isinstance(thresholds, dict) and thresholds else None
    return Run(name, folder, float(fps) if isinstance(fps, int | float) else None, known), videos


def _get(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _day(path: str, key: str, mark: str) -> tuple[str | None, str | None]:
    """UTC day of a recording and its source: the container, or else the file's time of last change that the run noted."""
    if video_id(path) == key and Path(path).is_file():  # the same file, not another of that name in this folder
        import av

        try:
            with av.open(path) as container:
                tags = [container.metadata, *(stream.metadata for stream in container.streams.video)]
            text = next((tag["creation_time"] for tag in tags if "creation_time" in tag), "")
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            if moment.year >= EARLIEST_YEAR:
                return moment.date().isoformat(), "container"
        except (OSError, ValueError):  # FFmpeg cannot read the file, or the date is none
            pass
    changed = mark.rpartition("-")[2]  # pipeline.storage.run_folder.file_mark: size-nanoseconds
    if changed.isdigit() and int(changed) > 0:
        return datetime.fromtimestamp(int(changed) / 1e9, UTC).date().isoformat(), "file"
    return None, None
