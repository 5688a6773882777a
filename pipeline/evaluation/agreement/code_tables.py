"""Codes from CSV: a row for each code, or a row for each frame.

Events have a label and times: `video, au, onset, offset` and, as far as known, `track` or `person` and `intensity` (BIDS `onset`,
`duration`, `trial_type` too). Frames have a time or a number and a column for each label. Datavyu's exports of cells count milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from pipeline.errors import FocalfaceError
from pipeline.evaluation.agreement.codes import CODED, Code, Coding, Span, codes_of, parse_intensity, parse_label
from pipeline.evaluation.agreement.elan import coded_spans
from pipeline.storage.tables import Table

_NAMES = {
    "video": ("video", "path", "file", "filename", "media"),
    "track": ("track", "track_id"),
    "person": ("person", "person_id", "participant", "subject", "name"),
    "label": ("au", "code", "label", "event", "emotion", "behavior", "behaviour", "trial_type"),
    "onset": ("onset", "start", "begin"),
    "offset": ("offset", "end", "stop"),
    "duration": ("duration",),
    "time": ("time", "timestamp"),
    "frame": ("frame_index", "frame", "framenum"),
    "intensity": ("intensity", "grade", "level"),
}
_UNITS = {"": 1.0, "_s": 1.0, "_sec": 1.0, "_ms": 0.001}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_FRAME_LABEL = re.compile(r"_(?:c|r|intensity|present|code)$", re.IGNORECASE)
_DATAVYU_COLUMN = re.compile(r"(.+)\.(\w+)")
_USUAL_GAP = 1.5
"""A frame without a row lies between two rows that are this many usual steps apart."""

Key = tuple[str | None, str | None, int | None]
FrameClock = Callable[[str | None, float], float | None]
"""The time in seconds of a frame's number in a video, as far as the run knows."""


@dataclass
class _Gathered:
    codes: list[Code] = field(default_factory=list)
    uncoded: list[Code] = field(default_factory=list)
    spans: list[Span] | None = None


def read_code_table(file: Path, table: Table, frame_time: FrameClock) -> list[Coding]:
    """The codings of a CSV table, one for each video and person.

    Args:
        file: that the table comes from.
        table: its rows.
        frame_time: places frames that the table has no times of.

    Raises:
        FocalfaceError: the columns are of no known kind, or a row cannot be read; rows are named by their line.
    """
    places = _places(table.columns)
    cells = {match[1] for name in table.columns if (match := _DATAVYU_COLUMN.fullmatch(name)) and match[2] == "onset"}
    if cells:
        return [_datavyu_cells(file, table, sorted(cells))]
    if "label" in places and "onset" in places:
        return _codings(file, *_events(table, places))
    named = {name: label for name in table.columns if name not in places.values() and (label := _frame_label(name))}
    if "time" in places or "frame" in places:
        if not named and "label" not in places:
            raise FocalfaceError(f"has frames, but no column named for an action unit or an emotion; its header is {_head(table)}")
        return _codings(file, *_frames(table, places, named, frame_time))
    needed = "needs the columns au (or code), onset and offset, or a time and a column for each unit"
    raise FocalfaceError(f"{needed}; its header is {_head(table)}")


def _head(table: Table) -> str:
    return ", ".join(table.columns[:8]) or "nothing"


def _places(columns: Sequence[str]) -> dict[str, str]:
    """What each kind of column is called in this table; the first name of a kind wins. Times know their unit by their name's end."""
    lowered = {name.lower().replace(" ", "_"): name for name in columns}
    found = {}
    for kind, names in _NAMES.items():
        for name in (f"{name}{unit}" for name in names for unit in _UNITS):
            if name in lowered and kind not in found:
                found[kind] = lowered[name]
    if "ordinal" in lowered:  # Datavyu's cells: milliseconds
        found["datavyu"] = lowered["ordinal"]
    return found


def _unit(name: str, datavyu: bool) -> float:
    if datavyu or name.lower().endswith("_ms"):
        return 0.001
    return 1.0


def _frame_label(column: str) -> tuple[str, str] | None:
    """The label of a column with a value in each frame, and whether its numbers grade (`r`) or only mark (`c`) it."""
    name = _FRAME_LABEL.sub("", column.strip())
    label = parse_label(name)
    if label is None or name.isdigit():
        return None
    ending = column.strip()[len(name) :].lower()
    return label[0], "c" if ending in ("_c", "_present") else "r"


def _seconds(text: str, unit: float, line: int) -> float:
    if match := _CLOCK.fullmatch(text.strip()):
        return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
    try:
        return float(text) * unit
    except ValueError:
        raise FocalfaceError(f"line {line}: {text!r} is no time in seconds, nor h:mm:ss") from None


def _key(row: Mapping[str, str], places: Mapping[str, str], line: int) -> Key:
    track = row[places["track"]].strip() if "track" in places else ""
    if track and not track.isdigit():
        raise FocalfaceError(f"line {line}: {track!r} is no track number; put names of people into a column person")
    video, person = (row[places[kind]] or None if kind in places else None for kind in ("video", "person"))
    return video, person, int(track) if track else None


def _events(table: Table, places: Mapping[str, str]) -> tuple[dict[Key, _Gathered], frozenset[str]]:
    end = places.get("offset") or places.get("duration")
    if end is None:
        raise FocalfaceError(f"needs a column offset (or duration) beside the onset; its header is {_head(table)}")
    gathered: dict[Key, _Gathered] = {}
    datavyu = "datavyu" in places
    for line, row in table.rows():
        own = gathered.setdefault(_key(row, places, line), _Gathered())
        onset_s = _seconds(row[places["onset"]], _unit(places["onset"], datavyu), line)
        offset_s = _seconds(row[end], _unit(end, datavyu), line) + (0.0 if "offset" in places else onset_s)
        if offset_s < onset_s:
            raise FocalfaceError(f"line {line}: it ends at {offset_s:g} s, before it begins at {onset_s:g} s")
        text = row[places["label"]]
        grade = row[places["intensity"]] if "intensity" in places else ""
        intensity = parse_intensity(grade) if grade else None
        if grade and intensity is None:
            raise FocalfaceError(f"line {line}: {grade!r} is no intensity from 0 to 5, nor a grade from A to E")
        for code in codes_of(None, text, onset_s, offset_s):
            own.codes.append(code if intensity is None else Code(code.label, onset_s, offset_s, intensity))
    for own in gathered.values():
        spans = coded_spans(own.codes)
        own.spans = None if spans is None else list(spans)
    return gathered, frozenset(code.label for own in gathered.values() for code in own.codes)


def _frames(
    table: Table, places: Mapping[str, str], named: Mapping[str, tuple[str, str]], frame_time: FrameClock
) -> tuple[dict[Key, _Gathered], frozenset[str]]:
    """Rows of frames as codes: neighbouring rows of one value are one code, from half a step before the first to half a step after the
    last."""
    rows: dict[Key, list[tuple[float, dict[str, str]]]] = {}
    for line, row in table.rows():
        key = _key(row, places, line)
        rows.setdefault(key, []).append((_frame_s(row, places, key[0], frame_time, line), row))
    gathered = {}
    labels = {label for label, _ in named.values()}
    for key, own in rows.items():
        own.sort(key=lambda pair: pair[0])
        times = [time_s for time_s, _ in own]
        step = median(b - a for a, b in pairwise(times)) if len(times) > 1 else 0.04
        found = _Gathered(spans=[])
        for place, (time_s, row) in enumerate(own):
            before = times[place - 1] if place else time_s - step
            after = times[place + 1] if place + 1 < len(times) else time_s + step
            start = (time_s + before) / 2 if time_s - before <= _USUAL_GAP * step else time_s - step / 2
            end = (time_s + after) / 2 if after - time_s <= _USUAL_GAP * step else time_s + step / 2
            assert found.spans is not None
            found.spans.append((start, end))
            for name, (label, kind) in named.items():
                _add(found, label, kind, row[name], start, end)
            if "label" in places:
                text = row[places["label"]]
                found.codes += codes_of(None, text, start, end) if text else []
        found.codes, found.uncoded = _joined(found.codes), _joined(found.uncoded)
        labels |= {code.label for code in found.codes}
        gathered[key] = found
    return gathered, frozenset(labels)


def _frame_s(row: Mapping[str, str], places: Mapping[str, str], video: str | None, frame_time: FrameClock, line: int) -> float:
    if "time" in places:
        return _seconds(row[places["time"]], _unit(places["time"], False), line)
    text = row[places["frame"]]
    if not re.fullmatch(r"\d+(?:\.0*)?", text):
        raise FocalfaceError(f"line {line}: {text!r} is no number of a frame")
    time_s = frame_time(video, float(text))
    if time_s is None:
        what = f"frame {text} of {video or 'its video'}"
        raise FocalfaceError(f"line {line}: the run does not tell when {what} is; give the times in a column time")
    return time_s


def _add(found: _Gathered, label: str, kind: str, text: str, start: float, end: float) -> None:
    """A cell of a frame: empty is not coded, 0 is absent, another number is an intensity or, in a column of presence, present."""
    value = parse_intensity(text)
    if not text or (value is None and text.lower() in ("nan", "na", "n/a", "null", "none", "9")):
        found.uncoded.append(Code(label, start, end))
    elif value is None and text.lower() in ("false", "no", "absent"):
        found.codes.append(Code(label, start, end, 0.0))
    else:
        found.codes.append(Code(label, start, end, None if kind == "c" and value else value))


def _joined(codes: Sequence[Code]) -> list[Code]:
    """Codes of one label and intensity that touch become one."""
    last: dict[str, int] = {}
    joined: list[Code] = []
    for code in codes:
        place = last.get(code.label)
        before = joined[place] if place is not None else None
        if before and before.intensity == code.intensity and abs(before.offset_s - code.onset_s) < 1e-6:
            joined[last[code.label]] = Code(code.label, before.onset_s, code.offset_s, code.intensity)
        else:
            last[code.label] = len(joined)
            joined.append(code)
    return joined


def _codings(file: Path, gathered: Mapping[Key, _Gathered], labels: frozenset[str]) -> list[Coding]:
    return [
        Coding(
            file=file,
            video=video,
            person=person,
            track=track,
            media_clock=False,
            codes=tuple(sorted(own.codes, key=lambda code: code.onset_s)),
            labels=labels - {CODED},
            spans=None if own.spans is None else tuple(own.spans),
            uncoded=tuple(own.uncoded),
        )
        for (video, person, track), own in gathered.items()
    ]


def _datavyu_cells(file: Path, table: Table, columns: list[str]) -> Coding:
    """A table with `NAME.onset`, `NAME.offset` and `NAME.code` for each column of Datavyu, in milliseconds; a row holds a cell of each."""
    codes: list[Code] = []
    for line, row in table.rows():
        for name in columns:
            onset, offset = row[f"{name}.onset"], row.get(f"{name}.offset", "")
            if not onset:
                continue
            start, end = _seconds(onset, 0.001, line), _seconds(offset, 0.001, line)
            values = [
                text
                for column, text in row.items()
                if text and (match := _DATAVYU_COLUMN.fullmatch(column)) and match[1] == name
                if match[2] not in ("ordinal", "onset", "offset")
            ]
            label = parse_label(name)
            texts = [text for text in values if parse_intensity(text) is not None or parse_label(text)][:1] or [""] if label else values
            codes += [code for text in texts for code in codes_of(label, text, start, end)]
    codes.sort(key=lambda code: code.onset_s)
    labels = {code.label for code in codes} | {label[0] for name in columns if (label := parse_label(name))}
    return Coding(file, None, None, None, True, tuple(codes), frozenset(labels - {CODED}), coded_spans(codes))
