"""What a page knows of one video: its tables, as compact columns that a browser opens at once.

The payload is one gzip stream, in base64: the length of a JSON header (four bytes, little-endian), the header, then the columns one
after another, little-endian, as the header's `columns` lists them. Scores are kept to three decimals, times to a millisecond.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.windows import region_order
from pipeline.storage.run_folder import RunFolder
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

PRESENCE_GAP_S = 1.0
"""Seconds without a face after which a person counts as gone; more joins appearances into one."""

MISSING = 65535
"""Stands for null in a column of scores."""

_THOUSANDTHS, _TENTHS, _HUNDREDTHS = 1000, 10, 100


@dataclass(frozen=True)
class VideoData:
    """Everything that a page says of one video, pictures aside.

    Attributes:
        video: the row of the videos table.
        rows: its descriptions by time, person and region, without those that lack a time.
        faces: its rows of the faces table (columns `FACE_COLUMNS`).
    """

    video: dict[str, Any]
    rows: pa.Table
    faces: pa.Table
    _numpy: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """(N,) a description column as numbers, NaN for null."""
        if name not in self._numpy:
            self._numpy[name] = pc.cast(self.rows[name], pa.float64()).to_numpy()
        return self._numpy[name]

    def boxes(self) -> np.ndarray:
        """(N, 4) float64 the described boxes, in pixels of the frame."""
        return boxes_of(self.rows)


FACE_COLUMNS = ("frame_index", "time_s", "track_id", "det_score", "box", "yaw", "pitch", "sharpness")


def boxes_of(table: pa.Table) -> np.ndarray:
    """(N, 4) float64 the `box` column of a table."""
    rows = [box if box is not None else [math.nan] * 4 for box in table["box"].to_pylist()]
    return np.array(rows, np.float64).reshape(-1, 4)


def load_video(run: RunFolder, video: dict[str, Any]) -> VideoData:
    """Read one video's tables.

    Raises:
        SettingsError: when they are damaged.
    """
    rows = run.read("descriptions", video_id=video["video_id"])
    timed = pc.and_(pc.is_finite(rows["start_s"]), pc.and_(pc.is_finite(rows["end_s"]), pc.is_finite(rows["time_s"])))
    rows = rows.filter(timed)  # a null in a filter drops the row
    place = np.lexsort((region_order(rows["region"]), rows["track_id"].to_numpy(), rows["start_s"].to_numpy()))
    return VideoData(video, rows.take(pa.array(place, pa.int64())), run.read("faces", FACE_COLUMNS, video["video_id"]))


def presence(times: np.ndarray, gap_s: float = PRESENCE_GAP_S) -> list[tuple[float, float]]:
    """Stretches of presence from rising times in seconds: a step longer than `gap_s` ends one."""
    if not len(times):
        return []
    breaks = np.flatnonzero(np.diff(times) > gap_s)
    starts, ends = np.append(0, breaks + 1), np.append(breaks, len(times) - 1)
    return [(float(times[start]), float(times[end])) for start, end in zip(starts, ends, strict=True)]


def _people(data: VideoData, pictures: dict[int, int]) -> list[dict[str, Any]]:
    ids, times = data.faces["track_id"].to_numpy(), data.faces["time_s"].to_numpy()
    described = data.column("track_id")
    steps = np.diff(np.unique(times))
    step = float(np.median(steps)) if len(steps) else 0.0
    people = []
    for track in sorted({*ids.tolist(), *described.astype(int).tolist()}):
        seen = times[ids == track] if (ids == track).any() else np.unique(data.column("time_s")[described == track])
        spans = presence(seen[np.isfinite(seen)], max(PRESENCE_GAP_S, 3 * step))
        people.append(
            {
                "id": track,
                "faces": int((ids == track).sum()),
                "spans": [[_ms(start), _ms(end + step)] for start, end in spans],
                "picture": pictures.get(track, -1),
            }
        )
    return people


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _scaled(values: np.ndarray, scale: int) -> np.ndarray:
    """uint16: values times `scale`, rounded; `MISSING` for NaN."""
    whole = np.clip(np.round(np.nan_to_num(values, nan=0.0, posinf=6e4, neginf=0.0) * scale), 0, MISSING - 1)
    return np.where(np.isnan(values), MISSING, whole).astype("<u2")


def _coded(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """uint32 places in a list of the distinct texts, in order of appearance; null as an empty text."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value or "", len(places)) for value in values]
    return np.array(codes, "<u4"), list(places)


def _active(lists: Sequence[Sequence[str] | None]) -> np.ndarray:
    """uint32: bit i set where `AUS[i]` is active."""
    bits = {code: 1 << place for place, code in enumerate(AUS)}
    return np.array([sum(bits.get(code, 0) for code in set(codes or ())) for codes in lists], "<u4")


def pack(data: VideoData, header: dict[str, Any], thumbnails: dict[int, int]) -> str:
    """The payload of a page, in base64.

    Args:
        data: of the video.
        header: what else the page is to know, as plain data.
        thumbnails: track_id to the number of the picture that shows the person best.
    """
    rows, columns = data.rows, {}
    regions, region_names = _coded(rows["region"].to_pylist())
    texts, sentences = _coded(rows["description"].to_pylist())
    models, model_names = _coded(rows["model"].to_pylist())
    emotions = [EMOTIONS.index(name) if name in EMOTIONS else len(EMOTIONS) for name in rows["emotion"].to_pylist()]
    people = _people(data, thumbnails)
    place = {person["id"]: number for number, person in enumerate(people)}
    columns["person"] = np.array([place[int(track)] for track in data.column("track_id")], "<u2")
    for name in ("start_s", "end_s", "time_s"):
        columns[name.replace("_s", "_ms")] = np.clip(np.round(data.column(name) * 1000), 0, 2**32 - 1).astype("<u4")
    columns["frame"] = np.nan_to_num(data.column("frame_index")).clip(0, 2**32 - 1).astype("<u4")
    columns["region"], columns["text"], columns["model"] = regions.astype("<u1"), texts, models.astype("<u1")
    boxes = np.clip(np.round(np.nan_to_num(data.boxes())), -32768, 32767).astype("<i2")
    columns |= {name: boxes[:, side] for side, name in enumerate(("x0", "y0", "x1", "y1"))}
    columns["activity"] = _scaled(data.column("activity"), _HUNDREDTHS)
    columns["active"] = _active(rows["aus"].to_pylist())
    columns["emotion"] = np.array(emotions, "<u1")
    columns |= {f"p_{name}": _scaled(data.column(f"emotion_{name}"), _THOUSANDTHS) for name in EMOTIONS}
    columns |= {name: _scaled(data.column(name), _TENTHS) for name in ("age", "age_low", "age_high")}
    known = [code for code in AUS if rows[code].null_count < rows.num_rows]
    columns |= {code: _scaled(data.column(code), _THOUSANDTHS) for code in known}
    header = header | {
        "video": {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in data.video.items()},
        "people": people,
        "regions": region_names,
        "sentences": sentences,
        "models": model_names,
        "emotions": list(EMOTIONS),
        "aus": list(AUS),
        "knownAus": known,
        "auNames": {code: UNIT[code].name for code in AUS},
        "rows": rows.num_rows,
        "columns": [[name, values.dtype.str[1:]] for name, values in columns.items()],
    }
    return compress(header, columns.values())


def compress(header: dict[str, Any], columns: Any = ()) -> str:
    """A header and columns as base64 of gzip; the same bytes for the same input."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    parts = [len(text).to_bytes(4, "little"), text, *(np.ascontiguousarray(column).tobytes() for column in columns)]
    return base64.b64encode(gzip.compress(b"".join(parts), 9, mtime=0)).decode()
