"""What the runs hold of each track: samples of its series, and the described windows. DuckDB reads the Parquet of all runs together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from pipeline.errors import SettingsError
from pipeline.storage.chosen_run import ChosenRun
from pipeline.trends.options import Options
from pipeline.trends.runs import Runs
from pipeline.trends.series import EMOTION_COLUMNS, HEAD, VALUES, Samples
from pipeline.video.sampling import TICK_TOLERANCE_S
from pipeline.vocabulary import AUS, WHOLE_FACE

SCORED_NEIGHBOURS = 0.5
"""A run has scores of every frame if, after a scored face, the track's next face is scored too in at least this share of cases. Where only
described frames are scored the share is near 0; faces that cannot be read come in stretches and lower it little."""

AGE_COLUMNS = ("age", "age_low", "age_high")
_BATCH_ROWS = 2**16


@dataclass(frozen=True)
class TrackRows:
    """What the runs hold of one track.

    Attributes:
        video_id, track_id: identify the track.
        samples: measurements, in order of time.
        regions: (W,) region of each described row of the track.
        ages: (W, 3) its age, 10th and 90th percentile in years.
        described: rows about the analysed region, or about the whole face: start_s, end_s, time_s, frame_index, description.
    """

    video_id: str
    track_id: int
    samples: Samples
    regions: np.ndarray
    ages: np.ndarray
    described: pd.DataFrame


class Tables:
    """The faces and descriptions tables of all runs together; a context manager.

    Attributes:
        source: `frames` or `windows`: where the series come from.
        grid_s: seconds a cell; None for single frames.
        notes: what a reader of the results must know.

    Raises:
        SettingsError: the tables cannot be read or lack columns, no row is about the region, or what was asked for is not there.
    """

    def __init__(self, runs: Runs, options: Options) -> None:
        self._runs, self._options = runs, options
        self._videos = runs.videos.set_index("video_id")
        self._database = duckdb.connect()
        self.notes: list[str] = []
        self._people = [
            (run, video, track, persons.lead(video, track))
            for run, persons in runs.persons.items()
            for (video, track), person in persons.of.items()
            if not options.person or person in options.person or persons.label(person) in options.person
        ]
        if options.person and not self._people:
            known = sorted({persons.label(person) for persons in runs.persons.values() for person in persons.of.values()})
            self._database.close()
            some = f"some of them: {', '.join(known[:8])}" if known else "no one is linked; link people with focalface people RUN"
            raise SettingsError(f"--person {', '.join(options.person)}: there is no such person in these runs; {some}")
        try:
            self._database.execute("set threads to 1")  # sums in one order: the same input gives the same digits
            self._database.register("counted", runs.videos[["video_id", "run"]].astype("string"))
            linked = pd.DataFrame(self._people, columns=["run", "video_id", "track_id", "lead"])
            types = {"run": "string", "video_id": "string", "track_id": "int32", "lead": "int32"}
            self._database.register("linked", linked.astype(types))
            self._choose()
            self._open("descriptions", ("video_id", "track_id", "start_s", "end_s", "region"))
            self._open("faces", ("video_id", "track_id", "frame_index", "time_s"))
            self._described = self._all_described()
            self.source = self._chosen_source()
            self.grid_s = options.grid_s if self.source == "frames" else self._window_grid()
            self._note_unreadable()
        except duckdb.Error as error:
            self._database.close()
            raise _unreadable(error) from error
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def tracks(self) -> Iterator[TrackRows]:
        """Every track of the videos, by video and track."""
        if self.source == "frames":
            measured, order, condition = VALUES, "frame_index, time_s as start_s, time_s as end_s, ", "true"
        else:
            measured, order, condition = VALUES[: -len(HEAD)], "frame_index, start_s, end_s, ", "region = $region and end_s > start_s"
        table = "faces" if self.source == "frames" else "descriptions"
        columns = order + ", ".join(self._number(table, name) for name in measured)
        query = f"select video_id, track_id, {columns} from {table} where {condition} and track_id is not null "
        if self.source == "windows" and self._people:  # where a cut falls into a window, the person has a row before it and one after it
            query += "qualify row_number() over (partition by video_id, track_id, start_s order by frame_index) = 1 "
        query += "order by 1, 2, 4, 3"
        parameters = {"region": self._options.region} if self.source == "windows" else {}
        empty = self._described[1].iloc[:0]
        try:
            for (video, track), rows in _by_track(self._database.sql(query, params=parameters)):
                samples = self._samples(video, rows)
                regions, ages, described = self._windows(video, track, empty)
                yield TrackRows(video, track, samples, regions, ages, described)
        except duckdb.Error as error:
            raise _unreadable(error) from error

    def _choose(self) -> None:
        """Register the chosen faces, where some are: video_id, track_id and frame_index."""
        choice = self._options.choice
        if not choice.text:
            return
        keys = ["video_id", "track_id", "frame_index"]
        parts = [pd.DataFrame({"video_id": pd.Series(dtype="string"), "track_id": [], "frame_index": []}).astype({"video_id": "string"})]
        for video in self._videos.itertuples():
            folder = self._runs.runs[video.run].folder
            faces = ChosenRun(folder.path, choice).read("faces", keys, video.Index)
            parts.append(faces.to_pandas().astype({"video_id": "string"}))
        rows = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        self._database.register("chosen", rows.astype({"track_id": "int64", "frame_index": "int64"}))
        self.notes.append(f"Only {choice.text} count; {len(rows)} faces.")

    def _open(self, table: str, needed: Sequence[str]) -> None:
        """Make a view of a table's rows, limited to the run from which each video counts."""
        counted = set(self._runs.videos["video_id"])
        files = {str(file): name for name, run in self._runs.runs.items() for file in run.folder.files(table, counted)}
        if files:
            source = self._database.read_parquet(_literal(list(files)), union_by_name=True, filename=True)
        else:
            types = ", ".join(f"null::varchar as {name}" for name in ("filename", *needed))
            source = self._database.sql(f"select {types} where false")
        if missing := [name for name in needed if name not in source.columns]:
            raise SettingsError(f"the {table} tables lack the columns {', '.join(missing)}: focalface did not write them")
        source.create_view(f"{table}_source")
        chosen = " semi join chosen using (video_id, track_id, frame_index)" if self._options.choice.text else ""
        self._database.register(f"{table}_files", pd.DataFrame({"filename": list(files), "run": list(files.values())}, dtype="string"))
        self._database.execute(
            f"create view {table}_counted as select * from {table}_source "
            f"join {table}_files using (filename) semi join counted using (video_id, run){chosen}"
        )
        kind = "inner" if self._options.person else "left"  # all tracks of a person in a video count as the first of them
        self._database.execute(
            f"create view {table} as select {table}_counted.* replace (coalesce(linked.lead, {table}_counted.track_id) as track_id) "
            f"from {table}_counted {kind} join linked using (run, video_id, track_id)"
            if self._people
            else f"create view {table} as from {table}_counted"
        )

    def _number(self, table: str, name: str) -> str:
        present = name in self._database.sql(f"select * from {table} limit 0").columns
        return f"try_cast({name} as double) as {name}" if present else f"null::double as {name}"

    def _chosen_source(self) -> str:
        if self._options.source == "windows" or self._options.region != WHOLE_FACE:
            return "windows"
        scored = " or ".join(f"isfinite({name})" for name in (*AUS, *EMOTION_COLUMNS))
        numbers = ", ".join(self._number("faces", name) for name in (*AUS, *EMOTION_COLUMNS))
        shares = self._database.execute(
            f"""
            with measured as (select run, video_id, track_id, frame_index, {numbers} from faces),
            marked as (select run, video_id, track_id, frame_index, coalesce({scored}, false) as scored from measured),
            pairs as (select run, scored, lead(scored) over (partition by video_id, track_id order by frame_index) as next from marked)
            select run, coalesce(avg(next::double) filter (where scored), 0) as share from pairs group by run order by run
            """
        ).fetchall()
        without = [run for run, share in shares if share < SCORED_NEIGHBOURS]
        if not without and shares:
            return "frames"
        if self._options.source == "frames":
            runs = ", ".join(without) or "the runs"
            raise SettingsError(f"{runs} has no scores of every frame: run it again with describe.frames=all, or leave --source out")
        if len(without) < len(shares):
            self.notes.append(f"{', '.join(without)} has no scores of every frame, so all series come from the described windows.")
        return "windows"

    def _note_unreadable(self) -> None:
        """Note how many faces were not readable, and why."""
        if "unreadable" not in self._database.sql("select * from faces limit 0").columns:
            return
        query = "select unreadable, count(*) from faces group by 1 order by 2 desc, 1"
        counts = self._database.execute(query).fetchall()
        faults = [(fault, count) for fault, count in counts if fault is not None]
        if faults:
            why = ", ".join(f"{fault} {count}" for fault, count in faults)
            hidden, faces = (sum(count for _, count in pairs) for pairs in (faults, counts))
            self.notes.append(f"{hidden} of {faces} faces were not readable ({why}); what they show is unknown, not absent.")

    def _window_grid(self) -> float:
        """Seconds a cell: the longest usual window of the videos, unless a coarser grid is asked for."""
        spans = "select median(end_s - start_s) as span from descriptions where end_s > start_s group by video_id"
        window = (self._database.execute(f"select max(span) from ({spans})").fetchone() or (None,))[0]
        grid_s = self._options.grid_s or round(window or 1.0, 6)
        if window and grid_s < window - 1e-6:
            raise SettingsError(
                f"--grid {grid_s:g} is finer than the runs' windows of {window:g} s, so values would only repeat: "
                f"pass {window:g} or more, or run again with a smaller --window"
            )
        regions = [row[0] for row in self._database.execute("select distinct region from descriptions order by 1").fetchall()]
        if regions and self._options.region not in regions:
            raise SettingsError(f"no row is about the region {self._options.region}: pass --region with one of {', '.join(regions)}")
        return grid_s

    def _all_described(self) -> tuple[dict[tuple[str, int], slice], pd.DataFrame]:
        """All described rows by track, with the place of each track; sentences of the analysed region and the whole face only."""
        ages = ", ".join(self._number("descriptions", name) for name in AGE_COLUMNS)
        names = self._database.sql("select * from descriptions limit 0").columns
        frame = "frame_index" if "frame_index" in names else "null::bigint as frame_index"
        time_s = self._number("descriptions", "time_s")
        text = "case when region in ($region, $whole) then description end" if "description" in names else "null::varchar"
        rows = self._database.execute(
            f"""
            select video_id, track_id, region, start_s, end_s, {time_s}, {frame}, {ages}, {text} as description
            from descriptions where track_id is not null order by video_id, track_id, start_s, region
            """,
            {"region": self._options.region, "whole": WHOLE_FACE} if "description" in names else {},
        ).df()
        return _places(rows), rows

    def _windows(self, video: str, track: int, empty: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        places, all_rows = self._described
        rows = all_rows.iloc[places[video, track]] if (video, track) in places else empty
        region = self._options.region if (rows["region"] == self._options.region).any() else WHOLE_FACE
        return (
            rows["region"].to_numpy(object),
            rows[list(AGE_COLUMNS)].to_numpy(float, na_value=np.nan),
            rows.loc[rows["region"] == region, ["start_s", "end_s", "time_s", "frame_index", "description"]],
        )

    def _samples(self, video: str, rows: pd.DataFrame) -> Samples:
        """One track's samples; measurements that a table does not have are NaN."""
        values = np.full((len(rows), len(VALUES)), np.nan)
        values[:, : rows.shape[1] - 5] = rows.iloc[:, 5:].to_numpy(float, na_value=np.nan)
        values[~np.isfinite(values)] = np.nan
        frame_index = rows.iloc[:, 2].to_numpy(float, na_value=-1).astype(np.int64)
        start_s, end_s = rows.iloc[:, 3].to_numpy(float), rows.iloc[:, 4].to_numpy(float)
        if self.source == "frames":
            about = self._videos.loc[video]
            end_s = frame_ends(start_s, frame_index, self._runs.runs[about["run"]].fps, about["fps"])
        return Samples(start_s, end_s, frame_index, values)


def frame_ends(time_s: np.ndarray, frame_index: np.ndarray, fps: float | None, video_fps: float | None = None) -> np.ndarray:
    """Until when the sampled frames of a track stand for what is on screen: to the next sampled frame, if the track is in it.

    Sampling takes the first frame at or after each instant k / fps. So two frames are neighbours, with no sampled frame between them, if
    they follow each other in the stream or lie in neighbouring intervals of 1 / fps.

    Args:
        time_s: (T,) the frames' times.
        frame_index: (T,) their places in the stream.
        fps: frames a second that were sampled; None for every frame.
        video_fps: mean frame rate of the video, if known.

    Returns:
        (T,) seconds. A frame without a neighbour stands for the usual step of the track.

    >>> frame_ends(np.array([0.0, 0.1, 0.4]), np.array([0, 3, 12]), 10.0).tolist()
    [0.1, 0.2, 0.5]
    """
    steps = np.diff(time_s)
    neighbours = np.diff(frame_index) == 1
    if fps is not None:
        neighbours |= np.diff(np.floor((time_s + TICK_TOLERANCE_S) * fps)) == 1
    rates = [rate for rate in (fps, video_fps) if rate is not None and np.isfinite(rate) and rate > 0]
    usual = float(np.median(steps[neighbours])) if neighbours.any() else 1 / min(rates, default=25.0)
    following = np.append(np.where(neighbours, time_s[1:], np.minimum(time_s[:-1] + usual, time_s[1:])), time_s[-1:] + usual)
    return np.round(following, 6)


def _unreadable(error: duckdb.Error) -> SettingsError:
    return SettingsError(f"the tables cannot be read: {' '.join(str(error).split())[:300]}")


def _literal(paths: Sequence[Path | str]) -> list[str]:
    """Paths as DuckDB patterns that match nothing else."""
    return [re.sub(r"([*?\[])", r"[\1]", str(path)) for path in paths]


def _places(rows: pd.DataFrame) -> dict[tuple[str, int], slice]:
    """(video_id, track_id) to the rows of that track, in a table sorted by both."""
    if not len(rows):
        return {}
    videos, tracks = rows["video_id"].to_numpy(object), rows["track_id"].to_numpy()
    starts = [0, *(np.flatnonzero((videos[1:] != videos[:-1]) | (tracks[1:] != tracks[:-1])) + 1).tolist(), len(rows)]
    return {(str(videos[start]), int(tracks[start])): slice(start, stop) for start, stop in pairwise(starts)}


def _by_track(result: duckdb.DuckDBPyRelation) -> Iterator[tuple[tuple[str, int], pd.DataFrame]]:
    """The rows of each track, from a result sorted by video_id and track_id; only one track and one batch are held at a time."""
    held: list[pd.DataFrame] = []
    current: tuple[str, int] | None = None
    for batch in result.to_arrow_reader(_BATCH_ROWS):
        rows = batch.to_pandas()
        for key, place in _places(rows).items():
            if key != current and current is not None:
                yield current, pd.concat(held, ignore_index=True)
                held = []
            current = key
            held.append(rows.iloc[place])
    if current is not None:
        yield current, pd.concat(held, ignore_index=True)
