"""The data of a video's page: its tables as compact columns that a browser opens at once.

The payload is one gzip stream, in base64: the length of a JSON header (four bytes, little-endian), the header, then the columns one
after another, little-endian, as the header's `tables` lists them:

    rows      the descriptions: one row per track, window and region
    windows   emotion and age, which belong to the face: one row per track and window
    samples   scores of the whole face in every sampled frame, where the run has them

Scores of rows and windows are kept to three decimals, those of samples to 1/250, times to a millisecond.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.frame_scores import FrameScores, leading_emotions, read_frame_scores
from pipeline.report.inputs import listed_notes
from pipeline.report.linked import persons_in
from pipeline.report.windows import merge_regions, region_order
from pipeline.storage.people_folder import Persons
from pipeline.storage.run_folder import RunFolder
from pipeline.trends.ages import ages_by_track
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

PRESENCE_GAP_S = 1.0
"""Seconds without a face after which a track counts as off screen; more joins appearances into one."""

MISSING = 65535
"""Stands for null in a column of 16 bits."""

SAMPLE_STEPS, SAMPLE_MISSING = 250, 255
"""A sample's score of 1, and null, in a column of eight bits."""

_THOUSANDTHS, _TENTHS, _HUNDREDTHS = 1000, 10, 100
_AGES = ("age", "age_low", "age_high")

FACE_COLUMNS = ("frame_index", "time_s", "track_id", "det_score", "box", "yaw", "pitch", "sharpness", "unreadable")

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class VideoData:
    """All that a page shows of one video but its pictures.

    Attributes:
        video: its row of the videos table.
        rows: its descriptions by time, track and region, without those that have no time.
        faces: its rows of the faces table (columns `FACE_COLUMNS`).
        samples: scores of every sampled frame, or None.
        people: track_id to person_id and name, where people are linked; all rows of a person then hold the person's first track.
    """

    video: dict[str, Any]
    rows: pa.Table
    faces: pa.Table
    samples: FrameScores | None = None
    people: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    _numbers: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """(N,) a description column as numbers, NaN for null."""
        if name not in self._numbers:
            self._numbers[name] = _numbers(self.rows[name])
        return self._numbers[name]

    def boxes(self) -> np.ndarray:
        """(N, 4) float64 the described boxes, in pixels of the frame."""
        return boxes_of(self.rows)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(column, pa.float64()).to_numpy()


def boxes_of(table: pa.Table) -> np.ndarray:
    """(N, 4) float64 the `box` column of a table."""
    rows = [box if box is not None else [math.nan] * 4 for box in table["box"].to_pylist()]
    return np.array(rows, np.float64).reshape(-1, 4)


def load_video(run: RunFolder, video: Mapping[str, Any]) -> VideoData:
    """Read one video's tables.

    Args:
        run: the run folder.
        video: its row of the videos table.

    Raises:
        SettingsError: when they are damaged.
    """
    rows = run.read("descriptions", video_id=video["video_id"])
    timed = pc.and_(pc.is_finite(rows["start_s"]), pc.and_(pc.is_finite(rows["end_s"]), pc.is_finite(rows["time_s"])))
    rows = rows.filter(timed)  # a null in a filter drops the row
    place = np.lexsort((region_order(rows["region"]), rows["track_id"].to_numpy(), rows["start_s"].to_numpy()))
    faces = run.read("faces", FACE_COLUMNS, video["video_id"])
    data = VideoData(dict(video), rows.take(pa.array(place, pa.int64())), faces, read_frame_scores(run, video))
    persons = persons_in(run, video["video_id"])
    return _by_person(data, persons) if persons.of else data


def _by_person(data: VideoData, persons: Persons) -> VideoData:
    """The data with the first track of each person in place of all of the person's tracks."""
    key = data.video["video_id"]

    def leads(tracks: np.ndarray) -> np.ndarray:
        numbers, place = np.unique(tracks, return_inverse=True)
        return np.array([persons.lead(key, int(number)) for number in numbers], np.int64)[place.reshape(-1)]

    def led(table: pa.Table) -> pa.Table:
        at = table.column_names.index("track_id")
        return table.set_column(at, table.schema.field("track_id"), pa.array(leads(table["track_id"].to_numpy()), pa.int32()))

    samples = data.samples
    if samples is not None:
        tracks = leads(samples.track_id)
        order = np.lexsort((samples.frame_index, tracks))
        columns = {name: values[order] for name, values in vars(samples).items()}
        samples = replace(samples, **columns | {"track_id": tracks[order]})
    linked = {(video, track) for video, track in persons.of if video == key}
    people = {persons.lead(video, track): (person := persons.of[video, track], persons.label(person)) for video, track in sorted(linked)}
    rows = led(data.rows)
    place = np.lexsort((region_order(rows["region"]), rows["track_id"].to_numpy(), rows["start_s"].to_numpy()))
    return VideoData(data.video, rows.take(pa.array(place, pa.int64())), led(data.faces), samples, people)


def presence(times: np.ndarray, gap_s: float = PRESENCE_GAP_S) -> list[tuple[float, float]]:
    """Stretches of presence from rising times in seconds: a step longer than `gap_s` ends one.

    >>> presence(np.array([0.0, 0.5, 4.0]))
    [(0.0, 0.5), (4.0, 4.0)]
    """
    if not len(times):
        return []
    breaks = np.flatnonzero(np.diff(times) > gap_s)
    starts, ends = np.append(0, breaks + 1), np.append(breaks, len(times) - 1)
    return [(float(times[start]), float(times[end])) for start, end in zip(starts, ends, strict=True)]


def _tracks(data: VideoData, pictures: Mapping[int, int]) -> list[dict[str, Any]]:
    """What is said of each track as a whole; its age is the trends' one, and so is its leading emotion where every frame was read."""
    ids, times = data.faces["track_id"].to_numpy(), data.faces["time_s"].to_numpy()
    faults = np.array(data.faces["unreadable"].to_pylist(), object)
    described = data.column("track_id")
    steps = np.diff(np.unique(times))
    step = float(np.median(steps)) if len(steps) else 0.0
    ages = ages_by_track(data.rows)
    leads = {track: lead.seconds for track, lead in leading_emotions(data.samples).items()} if data.samples is not None else {}
    tracks = []
    for track in sorted({*ids.tolist(), *described.astype(int).tolist()}):
        seen = times[ids == track] if (ids == track).any() else np.unique(data.column("time_s")[described == track])
        own = ids == track
        spans = presence(seen[np.isfinite(seen)], max(PRESENCE_GAP_S, 3 * step))
        age, felt_s = ages.get(track), leads.get(track)
        tracks.append(
            {
                "id": track,
                "person": data.people.get(track, ("", ""))[0],
                "name": data.people.get(track, ("", ""))[1],
                "faces": int((ids == track).sum()),
                "read": None if data.samples is None else int(np.isfinite(data.samples.emotions[data.samples.of(track)]).all(axis=1).sum()),
                "lead": None if felt_s is None else [EMOTIONS[int(felt_s.argmax())], round(float(felt_s.max() / felt_s.sum()), 4)],
                "spans": [[_ms(start), _ms(end + step)] for start, end in spans],
                "unreadable": [[_ms(start), _ms(end + step), why] for start, end, why in _unreadable(times[own], faults[own])],
                "age": None if age is None else [round(value, 1) for value in age],
                "picture": pictures.get(track, -1),
            }
        )
    return tracks


def _unreadable(times: np.ndarray, faults: np.ndarray) -> list[tuple[float, float, str]]:
    """The stretches of a track in which its face was not readable for one reason: first and last time in seconds, and the reason."""
    found: list[tuple[float, float, str]] = []
    for time_s, fault, before in zip(times.tolist(), faults, [None, *faults[:-1]], strict=True):
        if fault is not None:
            found.append((found.pop()[0] if fault == before else time_s, time_s, fault))
    return found


def unreadable_text(faces: pa.Table) -> str:
    """How many faces were not readable, and why, in a sentence; empty where all were.

    Args:
        faces: rows of the faces table, with `unreadable`.
    """
    faults = Counter(filter(None, faces["unreadable"].to_pylist())).most_common()
    if not faults:
        return ""
    why = ", ".join(f"{fault} {count}" for fault, count in faults)
    return f"{sum(count for _, count in faults)} of {faces.num_rows} faces were not readable ({why}): what they show is unknown."


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _times(seconds: np.ndarray) -> np.ndarray:
    """uint32 milliseconds."""
    return np.clip(np.round(np.nan_to_num(seconds) * 1000), 0, 2**32 - 1).astype("<u4")


def _scaled(values: np.ndarray, scale: int) -> np.ndarray:
    """uint16: values times `scale`, rounded; `MISSING` for NaN."""
    whole = np.clip(np.round(np.nan_to_num(values, nan=0.0, posinf=6e4, neginf=0.0) * scale), 0, MISSING - 1)
    return np.where(np.isnan(values), MISSING, whole).astype("<u2")


def _coded(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """uint32 places in a list of the distinct texts, in order of appearance; null as an empty text."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value or "", len(places)) for value in values]
    return np.array(codes, "<u4"), list(places)


def _bits(flags: np.ndarray) -> np.ndarray:
    """(N,) uint32: bit i set where column i of the (N, A) flags is."""
    return (flags.astype("<u4") << np.arange(flags.shape[1], dtype="<u4")).sum(axis=1, dtype="<u4")


def _active(lists: Sequence[Sequence[str] | None]) -> np.ndarray:
    """(N,) uint32: bit i set where `AUS[i]` is listed."""
    bits = {code: 1 << place for place, code in enumerate(AUS)}
    return np.array([sum(bits.get(code, 0) for code in set(codes or ())) for codes in lists], "<u4")


def _emotion_codes(names: Sequence[str | None]) -> np.ndarray:
    """uint8 places in `EMOTIONS`, their number for an unknown one."""
    places = {name: place for place, name in enumerate(EMOTIONS)}
    return np.array([places.get(name or "", len(EMOTIONS)) for name in names], "<u1")


def pack(data: VideoData, header: Mapping[str, Any], thumbnails: Mapping[int, int]) -> str:
    """The payload of a page, in base64.

    Args:
        data: of the video.
        header: what else the page shows, as plain data.
        thumbnails: track_id to the number of the picture that shows it best.
    """
    tracks = _tracks(data, thumbnails)
    place = {track["id"]: number for number, track in enumerate(tracks)}
    windows = merge_regions(data.rows).sort_by([("start_s", "ascending"), ("track_id", "ascending")])
    sampled = np.isfinite(data.samples.aus).any(axis=0) if data.samples is not None else np.zeros(len(AUS), bool)
    known = [code for number, code in enumerate(AUS) if sampled[number] or data.rows[code].null_count < data.rows.num_rows]
    rows, texts = _row_columns(data, place, windows, known)
    tables = {"rows": rows, "windows": _window_columns(windows, place)}
    if data.samples is not None:
        tables["samples"] = _sample_columns(data.samples, place, known)
    said = [*header.get("said", ()), unreadable_text(data.faces)]
    video = {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in data.video.items()}
    header = {
        **header,
        **texts,
        "video": video,
        "notes": listed_notes(video.get("note")) + [{"kind": "rows", "text": text} for text in said if text],
        "tracks": tracks,
        "emotions": list(EMOTIONS),
        "aus": list(AUS),
        "knownAus": known,
        "auNames": {code: UNIT[code].name for code in AUS},
        "tables": {
            name: {"count": len(next(iter(columns.values()))), "columns": [[key, values.dtype.str[1:]] for key, values in columns.items()]}
            for name, columns in tables.items()
        },
    }
    return compress(header, [column for columns in tables.values() for column in columns.values()])


def _row_columns(
    data: VideoData, place: Mapping[int, int], windows: pa.Table, known: Sequence[str]
) -> tuple[Columns, dict[str, list[str]]]:
    """The descriptions, and the texts that their codes stand for."""
    rows = data.rows
    window = {key: number for number, key in enumerate(_window_keys(windows))}
    columns: Columns = {
        "track": np.array([place[int(track)] for track in data.column("track_id")], "<u2"),
        "window": np.array([window[key] for key in _window_keys(rows)], "<u4"),
        "time_ms": _times(data.column("time_s")),
        "frame": np.nan_to_num(data.column("frame_index")).clip(0, 2**32 - 1).astype("<u4"),
    }
    texts: dict[str, list[str]] = {}
    for name, column, kind in (("region", "region", "<u1"), ("text", "description", "<u4"), ("model", "model", "<u1")):
        codes, values = _coded(with_change(rows) if column == "description" else rows[column].to_pylist())
        columns[name], texts[{"region": "regions", "text": "sentences", "model": "models"}[name]] = codes.astype(kind), values
    boxes = np.clip(np.round(np.nan_to_num(data.boxes())), -32768, 32767).astype("<i2")
    columns |= {name: boxes[:, side] for side, name in enumerate(("x0", "y0", "x1", "y1"))}
    columns["activity"] = _scaled(data.column("activity"), _HUNDREDTHS)
    columns["active"] = _active(rows["aus"].to_pylist())
    return columns | {code: _scaled(data.column(code), _THOUSANDTHS) for code in known}, texts


def with_change(rows: pa.Table) -> list[str]:
    """The sentence of each description, with the sentences about change after it."""
    return [" ".join(filter(None, said)) for said in zip(rows["description"].to_pylist(), rows["change"].to_pylist(), strict=True)]


def _window_keys(table: pa.Table) -> list[tuple[int, int]]:
    """(track_id, window_index) of each row."""
    return list(zip(table["track_id"].to_pylist(), table["window_index"].to_pylist(), strict=True))


def _window_columns(windows: pa.Table, place: Mapping[int, int]) -> Columns:
    """What is said of the face as a whole in each window."""
    columns: Columns = {
        "track": np.array([place[track] for track in windows["track_id"].to_pylist()], "<u2"),
        "start_ms": _times(_numbers(windows["start_s"])),
        "end_ms": _times(_numbers(windows["end_s"])),
        "emotion": _emotion_codes(windows["emotion"].to_pylist()),
    }
    columns |= {f"p_{name}": _scaled(_numbers(windows[f"emotion_{name}"]), _THOUSANDTHS) for name in EMOTIONS}
    return columns | {name: _scaled(_numbers(windows[name]), _TENTHS) for name in _AGES}


def _sample_columns(samples: FrameScores, place: Mapping[int, int], known: Sequence[str]) -> Columns:
    """Scores of every frame, in 1/250."""

    def packed(values: np.ndarray) -> np.ndarray:
        steps = np.round(np.nan_to_num(values) * SAMPLE_STEPS).clip(0, SAMPLE_STEPS)
        return np.where(np.isnan(values), SAMPLE_MISSING, steps).astype("<u1")

    columns: Columns = {
        "track": np.array([place[int(track)] for track in samples.track_id], "<u2"),
        "start_ms": _times(samples.start_s),
        "end_ms": _times(samples.end_s),
        "active": _bits(samples.active),
    }
    columns |= {f"p_{name}": packed(samples.emotions[:, number]) for number, name in enumerate(EMOTIONS)}
    return columns | {code: packed(samples.aus[:, AUS.index(code)]) for code in known}


def compress(header: Mapping[str, Any], columns: Iterable[np.ndarray] = ()) -> str:
    """A header and columns as base64 of gzip; the same bytes for the same input."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    parts = [len(text).to_bytes(4, "little"), text, *(np.ascontiguousarray(column).tobytes() for column in columns)]
    return base64.b64encode(gzip.compress(b"".join(parts), 9, mtime=0)).decode()
