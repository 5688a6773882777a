"""What happens in a series: AU events, emotion episodes, and the transitions between emotions."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.trends.series import Series, stretches
from pipeline.vocabulary import AUS, EMOTIONS

MIN_RATE_S = 10.0
"""Rates per minute are given for tracks seen for at least this long; in less, one event more or fewer decides the rate."""

TAKEOVER = 0.1
"""An emotion leads until another one is more probable by this. Higher gives fewer and longer episodes; 0 changes with every tie."""

Row = dict[str, Any]


def rate_per_min(count: int, seen_s: float) -> float | None:
    """Events per minute of seen time; None for tracks seen for less than `MIN_RATE_S`.

    >>> rate_per_min(1, 0.8) is None
    True
    >>> rate_per_min(3, 30.0)
    6.0
    """
    return count / seen_s * 60 if seen_s >= MIN_RATE_S - 1e-6 else None


def rate_note(seen_s: float) -> str | None:
    """Why there is no rate."""
    return None if seen_s >= MIN_RATE_S - 1e-6 else f"seen for {seen_s:.1f} s only; a rate needs {MIN_RATE_S:g} s"


def span(series: Series, part: slice, values: np.ndarray) -> Row:
    """The columns that events, blinks and episodes share: times, height, and whether a gap or an end of the track cuts them off.

    Args:
        series: of the track.
        part: the samples inside.
        values: (T,) what was compared with the threshold.
    """
    begin, end = part.start, part.stop
    duration_s = series.duration_s[part]
    return {
        "onset_s": float(series.start_s[begin]),
        "offset_s": float(series.end_s[end - 1]),
        "duration_s": round(float(series.end_s[end - 1] - series.start_s[begin]), 6),
        "peak": float(values[part].max()),
        "mean": float(np.average(values[part], weights=duration_s)),
        "censored_start": bool(begin == 0 or not np.isfinite(values[begin - 1])),
        "censored_end": bool(end == len(values) or not np.isfinite(values[end])),
    }


def apex(series: Series, part: slice, values: np.ndarray) -> Row:
    """Time and frame of the highest value, the first of equal ones."""
    highest = part.start + int(np.argmax(values[part]))
    return {"apex_s": float(series.time_s[highest]), "apex_frame": int(series.frame_index[highest])}


def au_events(series: Series, values: np.ndarray, active: np.ndarray) -> list[Row]:
    """Events of every AU, in order of AU and time.

    Args:
        series: of the track.
        values: (T, A) what was compared with the thresholds.
        active: (T, A) from `hysteresis`.
    """
    return [
        {
            "au": AUS[column],
            **span(series, part, values[:, column]),
            **apex(series, part, values[:, column]),
            "peak_intensity": float(series.intensity[part, column].max()),
        }
        for column in np.flatnonzero(active.any(axis=0))
        for part in stretches(active[:, column])
    ]


def leading(series: Series) -> np.ndarray:
    """(T,) index of the leading emotion in `EMOTIONS`; -1 in gaps.

    The leading emotion is the most probable one, and it leads until another one is more probable by `TAKEOVER`; a gap ends it. So two
    emotions of about the same probability do not take turns from frame to frame.
    """
    known = np.isfinite(series.emotions).all(axis=1)
    highest = np.where(known, np.argmax(np.where(known[:, None], series.emotions, 0.0), axis=1), -1)
    lead = highest.copy()
    for row in range(1, len(lead)):
        before, now = lead[row - 1], highest[row]
        if now >= 0 and before >= 0 and series.emotions[row, now] < series.emotions[row, before] + TAKEOVER:
            lead[row] = before
    return lead


def episodes(series: Series) -> list[Row]:
    """Stretches in which one emotion leads throughout, in order of time."""
    lead = leading(series)
    edges = [0, *(np.flatnonzero(np.diff(lead)) + 1).tolist(), len(lead)]
    return [
        {"emotion": EMOTIONS[lead[begin]], **span(series, slice(begin, end), series.emotions[:, lead[begin]])}
        for begin, end in pairwise(edges)
        if lead[begin] >= 0
    ]


def transitions(episodes: list[Row]) -> list[Row]:
    """How often each emotion gives way to each other one: between episodes that touch, never across a gap.

    The probabilities are the maximum-likelihood estimate of a first-order Markov chain of episodes.

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
