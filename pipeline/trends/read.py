"""From run folders to one value a cell: which videos there are, and what was said of each person on a regular grid.

DuckDB does the work over the Parquet of all runs together. A video that several runs hold counts once, as the last named run has it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd

from pipeline.errors import SettingsError
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends.options import Options
from pipeline.vocabulary import AUS, EMOTIONS

EMOTION_COLUMNS = tuple(f"emotion_{name}" for name in EMOTIONS)
VALUES = (*AUS, *EMOTION_COLUMNS, "age", "age_low", "age_high")
_NEEDED = ("video_id", "track_id", "start_s", "end_s", "region")
_KNOWN_SINCE = 1990
"""Container times before this year are clocks that were never set (1904 and 1970 are the formats' zeros)."""
_SHOWN_ERRORS = 5
"""So many faults of a groups CSV are named at once."""


@dataclass(frozen=True)
class Archive:
    """What the runs hold.

    Attributes:
        videos: a row a video: run, video_id, path, day, day_source, group, status, error, duration_s.
        cells: a row a (video, track, cell) that was described at all: video_id, track_id, cell, coverage (share of the cell that windows
            cover), frame_index, description, and `VALUES` (means weighted by overlap).
        grid_s: seconds a cell; cell k spans k * grid_s to (k + 1) * grid_s.
        notes: what a reader of the results must know.
    """

    videos: pd.DataFrame
    cells: pd.DataFrame
    grid_s: float
    notes: tuple[str, ...]


def read(folders: Sequence[Path | str], options: Options, groups: Path | str | None = None) -> Archive:
    """Read runs.

    Raises:
        SettingsError: a folder that holds no run, tables that cannot be read, a grid finer than the windows, a region that no row has, or
            a groups CSV that does not fit.
    """
    runs, notes = _runs(folders)
    database = duckdb.connect()
    database.execute("set threads to 1")  # sums in one order: the same input gives the same digits
    try:
        videos = _videos(database, runs)
        cells, grid_s = _cells(database, runs, options)
    except duckdb.Error as error:
        raise SettingsError(f"the tables cannot be read: {' '.join(str(error).split())[:300]}") from error
    finally:
        database.close()
    if groups is not None:
        assigned = read_groups(Path(groups), videos)
        videos["group"] = videos["video_id"].map(assigned)
        if left := int(videos["group"].isna().sum()):
            notes.append(f"{left} of {len(videos)} videos have no row in {groups}; they take no part in the comparison.")
    return Archive(videos, cells, grid_s, tuple(notes))


def _runs(folders: Sequence[Path | str]) -> tuple[dict[str, tuple[str, RunFolder, str]], list[str]]:
    """video_id to (run's name, run, fingerprint), and notes."""
    if not folders:
        raise SettingsError("no run folder given")
    paths = list(dict.fromkeys(Path(folder) for folder in folders))
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    runs: dict[str, tuple[str, RunFolder, str]] = {}
    notes = []
    for name, path in zip(names, paths, strict=True):
        folder = RunFolder(path)
        if not (path / "videos").is_dir():
            raise SettingsError(f"{path} holds no run: there is no {path / 'videos'}; make one with focalface run")
        committed = folder.committed()
        if not committed:
            raise SettingsError(f"{path} holds no finished video yet: let focalface run go on")
        if (path / "_partial").is_dir():
            notes.append(f"{name} is unfinished (still running, or stopped): only its {len(committed)} finished videos count.")
        if again := len(runs.keys() & committed.keys()):
            notes.append(f"{again} videos of {name} are in an earlier named run too; each counts once, as {name} has it.")
        runs |= {key: (name, folder, mark) for key, mark in committed.items()}
    return runs, notes


def _literal(paths: Sequence[Path]) -> list[str]:
    """Paths as DuckDB's patterns that match nothing else."""
    return [re.sub(r"([*?\[])", r"[\1]", str(path)) for path in paths]


def _videos(database: duckdb.DuckDBPyConnection, runs: dict[str, tuple[str, RunFolder, str]]) -> pd.DataFrame:
    files = {key: folder.file("videos", key)[0] for key, (_, folder, _) in runs.items()}
    query = "select video_id, path, status, error, duration_s, filename from read_parquet(?, union_by_name = true, filename = true)"
    videos = database.execute(query, [_literal(list(dict.fromkeys(files.values())))]).df()
    place = videos["video_id"].map({key: str(file) for key, file in files.items()})
    videos = videos[videos["filename"] == place].drop(columns="filename")  # files may hold many videos, some of them of other runs
    videos.insert(0, "run", videos["video_id"].map(lambda key: runs[key][0]))
    days = [_day(path, key, runs[key][2]) for key, path in zip(videos["video_id"], videos["path"], strict=True)]
    videos["day"], videos["day_source"] = [day for day, _ in days], [source for _, source in days]
    videos["group"] = None
    return videos.sort_values(["path", "video_id"], ignore_index=True)


def _day(path: str, key: str, mark: str) -> tuple[str | None, str | None]:
    """UTC day of a recording and where it is known from: the container, or else the file's time that the run noted."""
    if video_id(path) == key and Path(path).is_file():  # the very file, not another of that name in this folder
        import av

        try:
            with av.open(path) as container:
                tags = [container.metadata, *(stream.metadata for stream in container.streams.video)]
            text = next((tag["creation_time"] for tag in tags if "creation_time" in tag), "")
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            if moment.year >= _KNOWN_SINCE:
                return moment.date().isoformat(), "container"
        except (OSError, ValueError):  # what FFmpeg or the date cannot read has no container time
            pass
    changed = mark.rpartition("-")[2]  # pipeline.storage.run_folder.fingerprint: size-nanoseconds
    if changed.isdigit() and int(changed) > 0:
        return datetime.fromtimestamp(int(changed) / 1e9, UTC).date().isoformat(), "file"
    return None, None


def _cells(
    database: duckdb.DuckDBPyConnection, runs: dict[str, tuple[str, RunFolder, str]], options: Options
) -> tuple[pd.DataFrame, float]:
    files = {key: file for key, (_, folder, _) in runs.items() if (file := folder.file("descriptions", key)[0]).is_file()}
    source = database.read_parquet(_literal(list(dict.fromkeys(files.values()))), union_by_name=True, filename=True)
    database.register("held", pd.DataFrame({"video_id": list(files), "filename": list(map(str, files.values()))}, dtype="string"))
    if missing := [name for name in _NEEDED if name not in source.columns]:
        raise SettingsError(f"the descriptions tables lack the columns {', '.join(missing)}: they are not focalface's")
    columns = [
        f"try_cast({name} as {kind}) as {name}" if name in source.columns else f"cast(null as {kind}) as {name}"
        for names, kind in ((VALUES, "double"), (("frame_index",), "bigint"), (("description",), "varchar"))
        for name in names
    ]
    database.execute(
        "create temp table rows as select video_id, track_id, start_s, end_s, region, "
        f"{', '.join(columns)} from source semi join held using (video_id, filename) where end_s > start_s and track_id is not null"
    )
    spans = "select median(end_s - start_s) as span from rows group by video_id"
    window = (database.execute(f"select max(span) from ({spans})").fetchone() or (None,))[0]
    grid_s = options.grid_s or round(window or 1.0, 6)
    if window and grid_s < window - 1e-6:
        raise SettingsError(
            f"--grid {grid_s:g} is finer than the runs' windows of {window:g} s, so values would only repeat: "
            f"pass {window:g} or more, or run again with a smaller --window"
        )
    regions = [row[0] for row in database.execute("select distinct region from rows order by 1").fetchall()]
    if regions and options.region not in regions:
        raise SettingsError(f"no row is about the region {options.region}: pass --region with one of {', '.join(regions)}")
    means = ", ".join(
        f"sum({name} * weight) filter (where isfinite({name})) / sum(weight) filter (where isfinite({name})) as {name}" for name in VALUES
    )
    return database.execute(
        f"""
        with spans as (
            select *, unnest(range(floor(start_s / $grid + 1e-6)::bigint, ceil(end_s / $grid - 1e-6)::bigint)) as cell
            from rows where region = $region
        ), weighted as (
            select *, least(end_s, (cell + 1) * $grid) - greatest(start_s, cell * $grid) as weight from spans
        )
        select video_id, track_id, cell, sum(weight) / $grid as coverage, arg_max(frame_index, weight) as frame_index,
               arg_max(description, weight) as description, {means}
        from weighted group by video_id, track_id, cell order by video_id, track_id, cell
        """,
        {"grid": grid_s, "region": options.region},
    ).df(), grid_s


def read_groups(file: Path, videos: pd.DataFrame) -> dict[str, str]:
    """Which group each video belongs to.

    Args:
        file: CSV with the header `video,group` or `path,group`; the first column is a path as the run was given it, an absolute path, or a
            file name where only one video has it.
        videos: with `video_id` and `path`.

    Returns:
        video_id to group.

    Raises:
        SettingsError: no such file or header, or rows that do not fit, each named by its line.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            header = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = header
            column = next((name for name in ("video", "path") if name in header), None)
            if column is None or "group" not in header:
                raise SettingsError(f"{file} needs the header video,group (or path,group), not {','.join(header) or 'nothing'}")
            rows = [(reader.line_num, (row[column] or "").strip(), (row["group"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"cannot read {file}: {error}") from error
    known: dict[str, set[str]] = {}
    for key, path in zip(videos["video_id"], videos["path"], strict=True):
        for name in (path, Path(path).name):
            known.setdefault(name, set()).add(key)
    groups: dict[str, str] = {}
    faults = []
    for line, name, group in rows:
        found = sorted(known.get(name) or ({video_id(name)} & set(videos["video_id"]) if name else ()))
        if not name or not group:
            fault = "a video and a group are needed"
        elif not found:
            fault = f"no video {name!r} in these runs"
        elif len(found) > 1:
            fault = f"{len(found)} videos are called {name!r}: write the path"
        elif groups.get(found[0], group) != group:
            fault = f"{name!r} is in group {groups[found[0]]!r} already"
        else:
            groups[found[0]] = group
            continue
        faults.append(f"line {line}: {fault}")
    if faults:
        more = f"; and {len(faults) - _SHOWN_ERRORS} more" if len(faults) > _SHOWN_ERRORS else ""
        raise SettingsError(f"{file}: {'; '.join(faults[:_SHOWN_ERRORS])}{more}")
    if not groups:
        raise SettingsError(f"{file} has no rows")
    return groups
