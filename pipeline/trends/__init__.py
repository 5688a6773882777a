"""How expressions change over time: from the tables of runs to series, events, people and archives.

>>> from pipeline.trends import load
>>> trends = load(["outputs/demo"])  # doctest: +SKIP
>>> trends.pandas("events").query("au == 'AU12'")  # doctest: +SKIP
>>> trends["series"]  # doctest: +SKIP
pyarrow.Table ...

`pipeline.trends.schemas` says what every table and column means; `docs/trends.md` answers three questions with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import writing
from pipeline.trends import archive as many
from pipeline.trends import events, people
from pipeline.trends.options import Options
from pipeline.trends.read import EMOTION_COLUMNS, Archive, read
from pipeline.trends.schemas import SCHEMAS
from pipeline.trends.series import Track, tracks
from pipeline.vocabulary import AUS, EMOTIONS

__all__ = ["SCHEMAS", "Options", "Trends", "load"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Trends:
    """The tables of one analysis.

    Attributes:
        tables: name to Arrow table, as in `SCHEMAS`.
        options: what was asked for.
        grid_s: seconds between two values of a series.
        notes: what a reader of the results must know.
    """

    tables: dict[str, pa.Table]
    options: Options
    grid_s: float
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> pa.Table:
        """One table, as Arrow."""
        return self.tables[name]

    def pandas(self, name: str) -> pd.DataFrame:
        """One table, as pandas."""
        return self.tables[name].to_pandas()

    def save(self, folder: Path | str) -> None:
        """Write every table as `<name>.parquet` and `<name>.csv`.

        Raises:
            SettingsError: when the folder cannot be written.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, table in self.tables.items():
                pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
                pyarrow.csv.write_csv(table, folder / f"{name}.csv")


def load(
    folders: Sequence[Path | str],
    options: Options | None = None,
    groups: Path | str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Trends:
    """Analyse the runs in some folders, all together.

    Args:
        folders: of `focalface run`; unfinished ones count with the videos they have finished.
        options: the choices; the defaults without.
        groups: a CSV with the header `video,group`.
        progress: told what is being done.

    Raises:
        SettingsError: see `pipeline.trends.read.read`.

    >>> trends = load(["outputs/demo"])  # doctest: +SKIP
    >>> trends.pandas("events")[["au", "start_s", "end_s"]]  # doctest: +SKIP
    """
    options = options or Options()
    progress("reading the tables")
    archive = read(folders, options, groups)
    found = _Found(archive, options)
    for number, track in enumerate(tracks(archive, options), 1):
        progress(f"person {number}")
        found.add(track)
    progress("comparing videos")
    return Trends(found.tables(), options, archive.grid_s, archive.notes)


class _Found:
    """Collects what the tracks give, and turns it into tables."""

    def __init__(self, archive: Archive, options: Options) -> None:
        self.options = options
        self.videos = archive.videos.set_index("video_id", drop=False)
        self.rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
        self.series: list[pa.Table] = []

    def add(self, track: Track) -> None:
        """Take in one person."""
        options = self.options
        judged = track.relative if options.relative else track.aus
        active = events.hysteresis(judged, options.on, options.off)
        spells = events.episodes(track)
        video = self.videos.loc[track.video_id]
        whose = {"run": video["run"], "video_id": track.video_id, "track_id": track.track_id}
        found = {
            "events": events.au_events(track, judged, active),
            "episodes": spells,
            "transitions": events.transitions(spells),
            "people": [{"path": video["path"], **people.person(track, options)}],
            "person_aus": people.person_aus(track, active, judged),
            "moments": people.moments(track),
            "cooccurrence": people.cooccurrence(active, ~track.gap),
            "changes": many.track_changes(track),
        }
        for name, rows in found.items():
            self.rows[name] += [whose | row for row in rows]
        self.series.append(_series(track, whose))

    def tables(self) -> dict[str, pa.Table]:
        """Every table of `SCHEMAS`."""
        persons, units = (pd.DataFrame(self.rows[name], columns=SCHEMAS[name].names) for name in ("people", "person_aus"))
        self.rows["videos"] = self._videos(persons)
        by_video = pd.DataFrame(many.by_video(self.videos, persons, units), columns=SCHEMAS["by_video"].names)
        by_day = pd.DataFrame(many.means(by_video, "day"), columns=SCHEMAS["by_day"].names)
        later = {
            "by_group": many.means(by_video, "group"),
            "comparisons": many.compare(by_video),
            "changes_by_day": many.day_changes(by_day),
        }
        self.rows |= later | {"by_video": by_video.to_dict("records"), "by_day": by_day.to_dict("records")}
        tables = {name: _table(rows, SCHEMAS[name]) for name, rows in self.rows.items()}
        tables["series"] = pa.concat_tables([SCHEMAS["series"].empty_table(), *self.series])
        return tables

    def _videos(self, persons: pd.DataFrame) -> list[Row]:
        seen = persons.groupby("video_id")["seen_s"].agg(["size", "sum"]).reindex(self.videos.index).fillna(0)
        return self.videos.assign(people=seen["size"].astype(int), seen_s=seen["sum"].astype(float)).to_dict("records")


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows to Arrow; what is missing, None or NaN becomes null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _series(track: Track, whose: Row) -> pa.Table:
    """A track's rows of the series table."""
    schema, size = SCHEMAS["series"], len(track.gap)
    lead = np.array([*EMOTIONS, None], object)[events.leading(track)]
    columns: dict[str, Any] = {name: [value] * size for name, value in whose.items()}
    columns |= {"time_s": track.times, "gap": track.gap, "emotion": lead, "age": track.ages[:, 0]}
    columns["frame_index"] = pa.array(track.frames, pa.int64(), mask=track.frames < 0)
    columns |= dict(zip(AUS, track.aus.T, strict=True)) | dict(zip(EMOTION_COLUMNS, track.emotions.T, strict=True))
    columns |= dict(zip([f"{au}_rel" for au in AUS], track.relative.T, strict=True))
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type, from_pandas=True) for field in schema], schema=schema)
