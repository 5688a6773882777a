"""Series and run folders made by hand, of which every event, baseline and moment is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, empty, video_id
from pipeline.trends.options import Options
from pipeline.trends.series import VALUES, Samples, Series, track_series
from pipeline.vocabulary import AUS, EMOTIONS

DAY_NS = 86_400 * 10**9
RAW = Options(smooth="none")
Cell = tuple[float, str]
"""AU12's score and the most probable emotion."""


def samples_of(
    scores: dict[str, list[float]],
    emotions: list[str | None] | None = None,
    step_s: float = 1.0,
    first_s: float = 0.0,
    **columns: list[float],
) -> Samples:
    """Samples with the given AU scores (NaN in gaps), most probable emotions (None in gaps; neutral by default) and other columns."""
    size = len(next(iter(scores.values())))
    values = np.full((size, len(VALUES)), np.nan)
    for au, column in scores.items():
        values[:, AUS.index(au)] = column
    gap = ~np.isfinite(values).any(axis=1)
    for row, emotion in enumerate(emotions or [None if hole else "neutral" for hole in gap]):
        if emotion is not None:
            values[row, len(AUS) : len(AUS) + len(EMOTIONS)] = 0.05
            values[row, len(AUS) + EMOTIONS.index(emotion)] = 0.7
    for name, column in columns.items():
        values[:, VALUES.index(name)] = column
    start_s = np.round(first_s + np.arange(size) * step_s, 6)
    end_s = np.round(first_s + np.arange(1, size + 1) * step_s, 6)
    return Samples(start_s, end_s, np.arange(size) * 10, values)


def series_of(
    scores: dict[str, list[float]],
    emotions: list[str | None] | None = None,
    step_s: float = 1.0,
    first_s: float = 0.0,
    per_frame: bool = False,
    options: Options = RAW,
    **columns: list[float],
) -> Series:
    """The series of `samples_of`, of single frames or on a grid of `step_s`."""
    samples = samples_of(scores, emotions, step_s, first_s, **columns)
    series = track_series("v", 1, samples, options, None if per_frame else step_s)
    assert series is not None
    return series


def described(key: str, track: int, cells: dict[int, Cell], window_s: float = 1.0, region: str = "face", **columns: Any) -> pa.Table:
    """Rows of the descriptions table of one track: window number to AU12 and emotion; every other AU scores 0.1, the age is 30."""
    return pa.Table.from_pylist(
        [
            {"video_id": key, "track_id": track, "window_index": number, "start_s": number * window_s, "end_s": (number + 1) * window_s}
            | {"frame_index": number * 10, "time_s": (number + 0.3) * window_s, "region": region, "box": [0, 0, 9, 9], "activity": 1.0}
            | dict.fromkeys(AUS, 0.1)
            | {"AU12": score, "aus": [], "emotion": emotion}
            | {f"emotion_{name}": 0.7 if name == emotion else 0.05 for name in EMOTIONS}
            | {"age": 30.0, "age_low": 22.0, "age_high": 42.0, "description": "The lips are <b>parted</b>.", "model": "nano"}
            | columns
            for number, (score, emotion) in cells.items()
        ],
        TABLES["descriptions"],
    )


def make_trend_run(path: Path, videos: dict[str, list[pa.Table]], **info: Any) -> Path:
    """A run folder: file to the descriptions of its tracks, the files a day apart; ids are those of the descriptions, or else hashes.

    `info` goes into run.json.
    """
    folder = RunFolder(path)
    folder.begin({})
    folder.update_info(**({"settings": {}} | info))
    for number, (name, tables) in enumerate(videos.items()):
        found = pa.concat_tables(tables) if tables else empty("descriptions")
        key = found["video_id"][0].as_py() if tables else video_id(name)
        row = {"video_id": key, "path": name, "status": "ok" if tables else "no_faces", "duration_s": 20.0}
        folder.commit(row, empty("faces"), found, f"10-{(18_000 + number) * DAY_NS}")
    folder.finish()
    return path


def steady(count: int, score: float = 0.1, emotion: str = "neutral") -> dict[int, Cell]:
    """The same cell `count` times."""
    return dict.fromkeys(range(count), (score, emotion))
