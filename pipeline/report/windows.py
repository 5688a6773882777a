"""What the descriptions say of each track in each window: one row per (track, window), which all frames of the window share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.run_folder import RunFolder
from pipeline.vocabulary import AUS, CUSTOM_BOX, EMOTIONS, REGIONS

_KEYS = ("track_id", "window_index")
_SINGLE = ("start_s", "end_s", "frame_index", "region")
_FACE = ("emotion", *(f"emotion_{name}" for name in EMOTIONS), "age", "age_low", "age_high", "description", "change")
_REGION_ORDER = {name: place for place, name in enumerate((*REGIONS, CUSTOM_BOX))}


def active_column(au: str) -> str:
    """Name of the column that says whether an action unit is active."""
    return f"{au}_active"


def intensity_column(au: str) -> str:
    """Name of the column with an action unit's FACS intensity."""
    return f"{au}_intensity"


def region_order(regions: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(N,) places of region names in `pipeline.vocabulary.REGIONS`, the whole face first; unknown names last."""
    return np.array([_REGION_ORDER.get(name, len(_REGION_ORDER)) for name in regions.to_pylist()], np.int32)


def window_rows(run: RunFolder, video_id: str) -> pa.Table:
    """One row for each (track, window) of a video, sorted.

    Values are those of the whole face where it was described. An action unit that it does not know is taken from the first region that
    does, in the order of `pipeline.vocabulary.REGIONS`. With one source in all windows, a series has no jumps that come only from the
    choice of regions. Memory grows with the number of windows, not of frames.

    Returns:
        `track_id`, `window_index`, `start_s`, `end_s`; `region` and `frame_index` of the first row, with its emotion, age and sentence;
        each action unit's score, intensity and whether it is active (`active_column`), null where no region knows it.

    Raises:
        SettingsError: when the table cannot be read.
    """
    return merge_regions(run.read("descriptions", video_id=video_id))


def merge_regions(rows: pa.Table) -> pa.Table:
    """Rows of the descriptions table of one video as one row per (track, window); see `window_rows`."""
    listed = [set(codes or ()) for codes in rows["aus"].to_pylist()]
    columns: dict[str, Any] = {name: rows[name] for name in (*_KEYS, *_SINGLE, *_FACE)} | {"order": pa.array(region_order(rows["region"]))}
    for au in AUS:
        scores = pc.if_else(pc.is_nan(rows[au]), None, rows[au])
        is_listed = pa.array([au in codes for codes in listed], pa.bool_())
        columns |= {au: scores, active_column(au): pc.if_else(pc.is_valid(scores), is_listed, None)}
        columns[intensity_column(au)] = rows[intensity_column(au)]
    sorted_rows = pa.table(columns).sort_by([(name, "ascending") for name in (*_KEYS, "order")])
    wanted = (*_SINGLE, *_FACE, *AUS, *map(active_column, AUS), *map(intensity_column, AUS))
    # `first` takes the first value that is not null
    first = sorted_rows.group_by(list(_KEYS), use_threads=False).aggregate([(name, "first") for name in wanted])
    return first.rename_columns([name.removesuffix("_first") for name in first.column_names])


def rows_at(windows: pa.Table, tracks: np.ndarray, times_s: np.ndarray, window_s: float) -> pa.Array:
    """The row of `window_rows` for each (track, time); null where that window was not described.

    Args:
        windows: from `window_rows`.
        tracks: (N,) track ids.
        times_s: (N,) seconds.
        window_s: length of the run's windows, in seconds.

    Returns:
        (N,) int64 row numbers.
    """
    keys = _key(windows["track_id"].to_numpy(), windows["window_index"].to_numpy())
    wanted = _key(tracks, np.floor(times_s / window_s))
    at = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), bool)
    inside = at < len(keys)
    found[inside] = keys[at[inside]] == wanted[inside]
    return pa.array(at, pa.int64(), mask=~found)


def _key(tracks: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Both numbers in one that sorts as the pair does; window numbers stay below 2**32."""
    return np.asarray(tracks, np.int64) * 2**32 + np.asarray(windows, np.int64)
