"""One analysis: run folders in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.describe.active_units import active_aus
from pipeline.errors import writing
from pipeline.storage.atomic import replacing
from pipeline.trends import events, statistics, tracks
from pipeline.trends.ages import track_age
from pipeline.trends.changes import day_changes, track_changes
from pipeline.trends.eyes import CLOSED, blinks, eye_summary
from pipeline.trends.groups import Groups, read_groups
from pipeline.trends.measures import derive
from pipeline.trends.options import Options
from pipeline.trends.rows import Tables, TrackRows
from pipeline.trends.runs import Runs, open_runs
from pipeline.trends.schemas import SCHEMAS, WITH_GROUP_COLUMNS, schema_of
from pipeline.trends.series import EMOTION_COLUMNS, INTENSITY_COLUMNS, Series, track_series
from pipeline.vocabulary import AUS, EMOTIONS

Row = dict[str, Any]


@dataclass(frozen=True)
class Trends:
    """The tables of one analysis.

    Attributes:
        tables: name to Arrow table, as in `SCHEMAS`.
        options: the choices that were made.
        source: where the series come from: `frames` or `windows`.
        grid_s: seconds a cell; None for series of single frames.
        notes: what a reader of the results must know.
        names: person_id to the name that was given.
    """

    tables: dict[str, pa.Table]
    options: Options
    source: str
    grid_s: float | None
    notes: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def who(self, person_id: str | None) -> str:
        """The name of a person, or else the id; empty for tracks of nobody."""
        return "" if person_id is None or pd.isna(person_id) else self.names.get(person_id, person_id)

    def __getitem__(self, name: str) -> pa.Table:
        """One table, as Arrow."""
        return self.tables[name]

    def pandas(self, name: str) -> pd.DataFrame:
        """One table, as pandas."""
        return self.tables[name].to_pandas()

    def save(self, folder: Path | str) -> None:
        """Write every table as `<name>.parquet` and `<name>.csv`.

        Raises:
            SettingsError: the folder cannot be written.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, table in self.tables.items():
                with replacing(folder / f"{name}.parquet") as file:
                    pq.write_table(table, file, compression="zstd")
                with replacing(folder / f"{name}.csv") as file:
                    pyarrow.csv.write_csv(table, file)


def load(
    folders: Sequence[Path | str],
    options: Options | None = None,
    groups: Path | str | None = None,
    progress: Callable[[str], None] = lambda step: None,
    videos: Collection[str] | None = None,
    people: Path | str | None = None,
) -> Trends:
    """Analyse the runs in some folders, all together.

    Args:
        folders: outputs of `focalface run`; unfinished ones count with the videos that they have finished.
        options: the choices; by default those of `Options()`.
        groups: a table that assigns videos to groups, see `pipeline.trends.groups.read_groups`.
        progress: called with a few words about each step.
        videos: the only videos to analyse, by video_id; all by default.
        people: a people folder over the runs (`focalface people RUN... --out DIR`); by default each run's own, where it has one.

    Raises:
        SettingsError: a folder holds no run, its tables cannot be read, the options do not fit the runs, or the groups table does not.

    >>> import pipeline
    >>> trends = pipeline.load_trends(["outputs/demo"])  # doctest: +SKIP
    >>> trends.pandas("events").query("au == 'AU12'")  # doctest: +SKIP
    """
    options = options or Options()
    progress("reading the tables")
    runs = open_runs(folders, options, videos, people)
    notes = list(runs.notes)
    assigned = None
    if groups is not None:
        reserved = {name for table in WITH_GROUP_COLUMNS for name in SCHEMAS[table].names}
        assigned = read_groups(Path(groups), runs.videos, reserved)
        notes += assigned.notes
    with Tables(runs, options) as rows:
        collected = _Collected(runs, options, assigned)
        for number, track in enumerate(rows.tracks(), 1):
            progress(f"track {number}")
            unread_s = (track.samples.end_s - track.samples.start_s)[track.samples.gap].sum() if rows.source == "frames" else None
            series = track_series(track.video_id, track.track_id, track.samples, options, rows.grid_s)
            if series is not None:
                collected.add(series, track, unread_s)
        progress("comparing videos")
        names = {person: name for persons in runs.persons.values() for person, name in persons.names.items()}
        return Trends(collected.tables(), options, rows.source, rows.grid_s, (*notes, *rows.notes), names)


class _Collected:
    """Collects the rows of all tracks and makes tables of them."""

    def __init__(self, runs: Runs, options: Options, groups: Groups | None) -> None:
        self._options = options
        self._runs = runs
        self._carried = groups.columns if groups else ()
        self._order = groups.order if groups else ()
        videos = runs.videos.set_index("video_id", drop=False)
        if groups:
            videos = videos.drop(columns="group").join(groups.table)
        self._videos = videos
        self._rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
        self._series: list[pa.Table] = []

    def add(self, series: Series, rows: TrackRows, unread_s: float | None) -> None:
        """Analyse one track.

        Args:
            series, rows: of the track.
            unread_s: seconds in sampled frames in which the face was found and not read; None where the series does not show them.
        """
        options = self._options
        video = self._videos.loc[series.video_id]
        run = self._runs.runs[video["run"]]
        compared = series.relative if options.relative else series.scores
        thresholds = run.active_from(options)
        active = active_aus(compared, thresholds, options.hold)
        measures = derive(series)
        found_blinks = blinks(series, float(thresholds[CLOSED]))
        felt = events.episodes(series)
        summary = tracks.track_summary(series, track_age(rows.regions, rows.ages), measures) | {"unreadable_s": unread_s}
        summary |= eye_summary(series, found_blinks, float(thresholds[CLOSED]), options.hold)
        persons = self._runs.persons.get(video["run"])
        person = persons.of.get((series.video_id, series.track_id)) if persons else None
        key = {"run": video["run"], "video_id": series.video_id, "path": video["path"], "track_id": series.track_id, "person_id": person}
        summary |= {"person": None, "joined": 1}
        if persons is not None and person is not None:
            summary |= {"person": persons.names.get(person), "joined": persons.count(series.video_id, person)}
        found: dict[str, Iterable[Row]] = {
            "events": events.au_events(series, compared, active),
            "blinks": found_blinks,
            "episodes": felt,
            "transitions": events.transitions(felt),
            "tracks": [summary | {name: video[name] for name in self._carried}],
            "track_aus": tracks.track_aus(series, active, compared, thresholds),
            "moments": (moment | _sentence(rows.described, moment["time_s"]) for moment in tracks.moments(series)),
            "cooccurrence": tracks.cooccurrence(active[~series.gap], series.duration_s[~series.gap]),
            "changes": track_changes(series),
        }
        for name, new in found.items():
            self._rows[name] += [key | row for row in new]
        self._series.append(_series_table(series, measures, key))

    def tables(self) -> dict[str, pa.Table]:
        """Every table of `SCHEMAS`."""
        track_rows, units = (self._frame(name, self._rows[name]) for name in ("tracks", "track_aus"))
        seen = track_rows.groupby("video_id")["seen_s"].agg(["size", "sum"]).reindex(self._videos.index).fillna(0)
        hidden = track_rows.groupby("video_id")["unreadable_s"].sum(min_count=1).reindex(self._videos.index)
        videos = self._videos.assign(tracks=seen["size"].astype(int), seen_s=seen["sum"].astype(float), unreadable_s=hidden)
        origin = ["run", "video_id", "path", "day", "day_source", "group", *self._carried]
        by_video = self._frame("by_video", statistics.by_video(videos[origin], track_rows, units))
        by_person = statistics.by_person(track_rows, units)
        by_day = self._frame("by_day", statistics.means(by_video, "day"))
        self._rows |= {
            "videos": videos.to_dict("records"),
            "by_video": by_video.to_dict("records"),
            "by_person": by_person,
            "by_day": by_day.to_dict("records"),
            "by_group": statistics.means(by_video, "group", self._order),
            "comparisons": statistics.compare(by_video, self._order),
            "changes_by_day": day_changes(by_day),
        }
        tables = {name: _table(rows, schema_of(name, self._carried)) for name, rows in self._rows.items()}
        tables["series"] = pa.concat_tables([SCHEMAS["series"].empty_table(), *self._series])
        return tables

    def _frame(self, name: str, rows: list[Row]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=schema_of(name, self._carried).names)


def _sentence(described: pd.DataFrame, time_s: float) -> Row:
    """The sentence about the window around a moment, and the time of the frame that it describes."""
    inside = described[(described["start_s"] <= time_s) & (described["end_s"] > time_s)]
    if not len(inside):
        return {}
    row = inside.iloc[0]
    return {"description": row["description"], "described_s": row["time_s"]}


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows to Arrow; what is missing, None or NaN becomes null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _series_table(series: Series, measures: dict[str, np.ndarray], key: Row) -> pa.Table:
    """The rows of the series table of one track."""
    schema, size = SCHEMAS["series"], len(series.gap)
    names = np.array([*EMOTIONS, None], object)[events.leading(series)]
    columns: dict[str, Any] = {name: [value] * size for name, value in key.items()}
    columns |= {"time_s": series.start_s, "end_s": series.end_s, "gap": series.gap, "emotion": names, "age": series.age, **measures}
    columns["frame_index"] = pa.array(series.frame_index, pa.int64(), mask=series.frame_index < 0)
    columns |= dict(zip(AUS, series.scores.T, strict=True)) | dict(zip(EMOTION_COLUMNS, series.emotions.T, strict=True))
    columns |= dict(zip([f"{au}_rel" for au in AUS], series.relative.T, strict=True))
    columns |= dict(zip(INTENSITY_COLUMNS, series.intensity.T, strict=True))
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type, from_pandas=True) for field in schema], schema=schema)
