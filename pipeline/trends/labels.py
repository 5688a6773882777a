"""How the figures, the page and the terminal write times, tracks and measures."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pandas as pd

from pipeline.vocabulary import UNIT

_MEASURES = {
    "rate_blinks": "blinks, a minute",
    "head_speed": "head speed, degrees a second",
    "gaze_horizontal": "gaze, horizontal",
    "gaze_vertical": "gaze, vertical",
}


def track_name(path: str, track_id: int, longest: int = 32, who: str = "") -> str:
    """A short name for a track: the file's name, shortened in the middle, and the person, or else the track's number.

    >>> track_name("films/a_rather_long_name.mp4", 2, 12)
    'a_rat…me.mp4 #2'
    """
    name = "".join(sign if sign.isprintable() else "?" for sign in PurePath(path).name)
    short = name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-longest // 2 :]}"
    return f"{short} {who or f'#{track_id}'}"


def who(track: Any) -> str:
    """The person of a row of the tracks table: the name, or else the id; empty where the track is not linked."""
    return text(track.person) or text(track.person_id)


def clock(seconds: float, _: object = None) -> str:
    """Seconds as m:ss or h:mm:ss.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def seen_clock(seconds: float) -> str:
    """How long somebody was seen: as `clock`, with tenths below ten seconds.

    >>> seen_clock(75), seen_clock(0.42)
    ('1:15', '0:00.4')
    """
    return clock(seconds) if seconds >= 9.95 else f"0:{seconds:04.1f}"


def precise_clock(seconds: float) -> str:
    """Seconds as m:ss.ss, for moments.

    >>> precise_clock(75.256)
    '1:15.26'
    """
    hundredths = round(seconds * 100)
    return f"{clock(hundredths // 100)}.{hundredths % 100:02d}"


def measure_name(measure: str) -> str:
    """A measure of the by_video table in words.

    >>> measure_name("rate_AU12")
    'AU12 lip corner puller, a minute'
    """
    kind, _, name = measure.partition("_")
    words = {"share": "{}, share of time", "active": "{}, share of time", "rate": "{}, a minute"}
    if measure in _MEASURES or kind not in words:
        return _MEASURES.get(measure, measure)
    return words[kind].format(f"{name} {UNIT[name].name}" if name in UNIT else name)


def text(value: Any) -> str:
    """A text; empty where it is not known."""
    return "" if value is None or pd.isna(value) else str(value)


def number(value: Any, digits: int = 2) -> str:
    """A number; empty where it is not known."""
    return "" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def plural(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "track"), plural(3, "track")
    ('1 track', '3 tracks')
    """
    return f"{count} {one if count == 1 else several or one + 's'}"
