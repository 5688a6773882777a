"""What happens in a series: AU events, blinks, emotion episodes and the steps between them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.trends.series import Track, stretches
from pipeline.vocabulary import AUS, EMOTIONS

BLINK_SURE_S = 0.1
"""A blink takes 0.1 to 0.4 s, so a value every 0.1 s meets each. On a coarser grid some fall between two values."""

BLINK_MOST_S = 0.4
"""On a grid coarser than the longest blink most are missed and long closures pass for blinks: no rate is given."""

BLINK_LONGEST_S = 0.5
"""A longer closure is no blink. Higher takes slow closures in."""

BLINK_LEAST_SEEN_S = 10.0
"""A rate is given for people seen at least so long; over less, one blink more or fewer decides it."""

Row = dict[str, Any]


def hysteresis(values: np.ndarray, on: float, off: float) -> np.ndarray:
    """Whether each cell of (T, ...) values is inside an event: from reaching `on` until falling under `off`. A gap (NaN) ends one."""
    mark = np.where(values >= on, 1, np.where(values >= off, -1, 0))  # NaN compares false: 0
    mark[:1] = np.maximum(mark[:1], 0)
    place = np.arange(len(mark)).reshape(-1, *[1] * (mark.ndim - 1))
    decided = np.maximum.accumulate(np.where(mark >= 0, place, 0), axis=0)
    return np.take_along_axis(mark, decided, axis=0) == 1


def span(track: Track, part: slice, values: np.ndarray) -> Row:
    """What events and episodes have in common: times, height, and whether a gap or an end of the track cuts them.

    Args:
        track: whose time.
        part: its cells.
        values: (T,) what was judged.
    """
    begin, end = part.start, part.stop
    return {
        "onset_s": float(track.time(begin)),
        "offset_s": float(track.time(end)),
        "duration_s": round((end - begin) * track.grid_s, 6),
        "peak": float(values[part].max()),
        "mean": float(values[part].mean()),
        "censored_start": bool(begin == 0 or not np.isfinite(values[begin - 1])),
        "censored_end": bool(end == len(values) or not np.isfinite(values[end])),
    }


def au_events(track: Track, values: np.ndarray, active: np.ndarray) -> list[Row]:
    """Events of every AU, in order of AU and time.

    Args:
        track: whose.
        values: (T, 22) the scores that were judged.
        active: (T, 22) of `hysteresis`.
    """
    rows = []
    for column in np.flatnonzero(active.any(axis=0)):
        for part in stretches(active[:, column]):
            apex = part.start + int(np.argmax(values[part, column]))
            times = span(track, part, values[:, column])
            apex_s = float(track.time(apex + 0.5))
            rows.append({"au": AUS[column], **times, "apex_s": apex_s, "apex_frame": int(track.frames[apex])})
    return rows


def blinks(track: Track, on: float, off: float) -> Row:
    """Blinks from AU43, never smoothed, with what they can be trusted for.

    Returns:
        `eyes_closed_share`, `blinks`, `blinks_per_min`, `blink_note`; None for what the series cannot say.
    """
    closed = track.raw[:, AUS.index("AU43")]
    shut = hysteresis(closed, on, off)
    none: Row = {"eyes_closed_share": None, "blinks": None, "blinks_per_min": None}
    if not np.isfinite(closed).any():
        return none | {"blink_note": "no AU43: the model or the region cannot show it"}
    share = {"eyes_closed_share": float(shut.sum() / np.isfinite(closed).sum())}
    grid_s, seen_s = track.grid_s, track.seen * track.grid_s
    if grid_s > BLINK_MOST_S:
        return none | share | {"blink_note": f"a value every {grid_s:g} s cannot show blinks; run with --window {BLINK_SURE_S:g}"}
    if seen_s < BLINK_LEAST_SEEN_S:
        return none | share | {"blink_note": f"seen for {seen_s:.1f} s only; a rate needs {BLINK_LEAST_SEEN_S:g} s"}
    spans = [span(track, part, closed) for part in stretches(shut)]
    whole = [one for one in spans if not (one["censored_start"] or one["censored_end"])]
    count = sum(one["duration_s"] <= BLINK_LONGEST_S + 1e-6 for one in whole)
    note = f"underestimated: a value every {grid_s:g} s misses short blinks" if grid_s > BLINK_SURE_S + 1e-6 else None
    return share | {"blinks": count, "blinks_per_min": count / track.minutes, "blink_note": note}


def leading(track: Track) -> np.ndarray:
    """(T,) the most probable emotion's place in `EMOTIONS`; -1 in gaps."""
    known = np.isfinite(track.emotions).all(axis=1)
    return np.where(known, np.argmax(np.where(known[:, None], track.emotions, 0.0), axis=1), -1)


def episodes(track: Track) -> list[Row]:
    """Stretches in which one emotion leads throughout, in order of time."""
    lead = leading(track)
    edges = [0, *(np.flatnonzero(np.diff(lead)) + 1).tolist(), len(lead)]
    rows = []
    for begin, end in pairwise(edges):
        if lead[begin] >= 0:
            values = track.emotions[:, lead[begin]]
            rows.append({"emotion": EMOTIONS[lead[begin]], **span(track, slice(begin, end), values)})
    return rows


def transitions(episodes: list[Row]) -> list[Row]:
    """How often each emotion gave way to each other: between episodes that touch, so never across a gap.

    Args:
        episodes: of one track, in order.
    """
    pairs = Counter(
        (before["emotion"], after["emotion"])
        for before, after in pairwise(episodes)
        if not before["censored_end"] and not after["censored_start"]
    )
    left = Counter[str]()
    for (source, _), count in pairs.items():
        left[source] += count
    return [
        {"from_emotion": source, "to_emotion": target, "count": count, "probability": count / left[source]}
        for (source, target), count in sorted(pairs.items())
    ]
