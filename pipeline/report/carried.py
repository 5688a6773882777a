"""What each window says of each person: one row a (track, window), which every frame of the window carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import SettingsError, VideoError, VideoErrorKind
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, file_mark
from pipeline.vocabulary import AUS, CUSTOM_BOX, EMOTIONS, REGIONS

_KEYS = ("track_id", "window_index")
_SINGLE = ("start_s", "end_s", "frame_index", "region")
_LOOK = ("emotion", *(f"emotion_{name}" for name in EMOTIONS), "age", "age_low", "age_high", "description")


def active(au: str) -> str:
    """Name of the column that says whether an action unit is active."""
    return f"{au}_active"


def table_file(run: RunFolder, table: str, video_id: str) -> pq.ParquetFile | None:
    """One video's file of a table, to be read in batches; None where there is none.

    Raises:
        SettingsError: when it is not a file of that table.
    """
    file, shared = run.file(table, video_id)
    if not file.exists():
        return None
    try:
        if shared:  # with other small videos: its rows as a file of their own, in memory
            pq.write_table(run.read(table, video_id=video_id), own := pa.BufferOutputStream())
        parquet = pq.ParquetFile(own.getvalue() if shared else file)
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"{file} cannot be read ({str(error).splitlines()[0]}): do that video again") from error
    if missing := sorted(set(TABLES[table].names) - set(parquet.schema_arrow.names)):
        raise SettingsError(f"{file} is no {table} table of this version: it lacks {', '.join(missing)}")
    return parquet


def video_row(run: RunFolder, video_id: str) -> dict[str, Any]:
    """A row of the videos table.

    Raises:
        SettingsError: the run does not hold the video.
        VideoError: the run could not read the video, so that there is nothing to report of it.
    """
    parquet = table_file(run, "videos", video_id)
    rows = parquet.read().to_pylist() if parquet else []
    if not rows:
        raise SettingsError(f"{run.path} holds no video {video_id}: its videos table lists what it does")
    if rows[0]["status"] == "failed":
        reason = f"{rows[0]['path']} failed in the run, so there is nothing to export: {rows[0]['error']}"
        raise VideoError(VideoErrorKind.FAILED_RUN, reason)
    return dict(rows[0])


def video_file(run: RunFolder, row: dict[str, Any]) -> Path:
    """The video of a row of the videos table, as the run saw it.

    Raises:
        VideoError: it is gone or has changed.
    """
    path = Path(row["path"])
    if not path.is_file():
        raise VideoError(VideoErrorKind.MISSING, f"{path} is needed, but is no longer there: put it back, or run on its new place")
    seen = run.mark(row["video_id"])
    if seen and file_mark(path) != seen:
        reason = f"{path} has changed since the run, so that its frames may not fit the tables: run again"
        raise VideoError(VideoErrorKind.CHANGED, reason)
    return path


def carried(run: RunFolder, video_id: str) -> pa.Table:
    """What the windows of one video say, a row a (track, window), sorted.

    The whole face speaks wherever it was described and knows; what it does not know (an action unit that is null) is taken from the
    first region that does, in the order of `pipeline.vocabulary.REGIONS`. One voice in all windows keeps a series free of jumps that only
    tell which regions happened to be looked at. Memory grows with the number of windows, not of frames.

    Returns:
        `track_id`, `window_index`, `start_s`, `end_s`; `region` and `frame_index` of the row that spoke first, with its emotion, age
        and sentence; each action unit's score and whether it is active (`active`), null where no region knows it.
    """
    parquet = table_file(run, "descriptions", video_id)
    rows = parquet.read() if parquet else TABLES["descriptions"].empty_table()
    order = (*REGIONS, CUSTOM_BOX)
    rank = [order.index(region) if region in order else len(order) for region in rows["region"].to_pylist()]
    listed = [set(codes or ()) for codes in rows["aus"].to_pylist()]
    columns: dict[str, Any] = {name: rows[name] for name in (*_KEYS, *_SINGLE, *_LOOK)} | {"rank": pa.array(rank, pa.int32())}
    for au in AUS:
        scores = pc.if_else(pc.is_nan(rows[au]), None, rows[au])
        is_listed = pa.array([au in codes for codes in listed], pa.bool_())
        columns |= {au: scores, active(au): pc.if_else(pc.is_valid(scores), is_listed, None)}
    sorted_rows = pa.table(columns).sort_by([(name, "ascending") for name in (*_KEYS, "rank")])
    wanted = (*_SINGLE, *_LOOK, *AUS, *map(active, AUS))
    first = sorted_rows.group_by(list(_KEYS), use_threads=False).aggregate([(name, "first") for name in wanted])  # first that is not null
    return first.rename_columns([name.removesuffix("_first") for name in first.column_names])


def carrier(windows: pa.Table, tracks: np.ndarray, times_s: np.ndarray, window_s: float) -> pa.Array:
    """The row of `carried` that each (track, time) carries; null where its window was not described.

    Args:
        windows: from `carried`.
        tracks: (N,) track ids.
        times_s: (N,) seconds.
        window_s: seconds of a window of the run.
    """
    keys = _key(windows["track_id"].to_numpy(), windows["window_index"].to_numpy())
    wanted = _key(tracks, np.floor(times_s / window_s))
    at = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), bool)
    inside = at < len(keys)
    found[inside] = keys[at[inside]] == wanted[inside]
    return pa.array(at, pa.int64(), mask=~found)


def _key(tracks: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Both numbers in one that sorts as the two do; windows stay below 2**32."""
    return np.asarray(tracks, np.int64) * 2**32 + np.asarray(windows, np.int64)


def window_seconds(run: RunFolder) -> float:
    """Seconds of a window of the run.

    Raises:
        SettingsError: when run.json does not say.
    """
    try:
        return float(run.info["settings"]["select"]["window"])
    except (KeyError, TypeError, ValueError):
        raise SettingsError(f"{run.path / 'run.json'} does not say how long a window was (settings.select.window)") from None
