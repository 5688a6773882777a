"""What changes within a window, as sentences: from the scores of every sampled frame of a track.

A unit begins where its smoothed score reaches its threshold and ends where it falls below `HOLD` times it, as in trends. What is shorter
than `LEAST_S`, smaller than `LEAST_SIZE`, or cut off by the face's coming or going is no change that a sentence tells of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from pipeline.describe.active_units import HOLD, active_aus
from pipeline.vocabulary import AUS, UNIT

LEAST_S = 0.3
"""Shortest stretch of a unit. Lower tells of twitches, and of noise."""

LEAST_REST_S = 0.2
"""Shortest rest between two stretches; a shorter one is a dip in one of them. Lower tells of dips as ends; higher joins blinks."""

LEAST_SIZE = 0.25
"""Least difference between the mean scores before and after a change. Lower tells of a score that trembles about its threshold."""

AROUND_S = 1.0
"""Seconds before and after a change of which the scores are compared."""

MOST = 3
"""Most units that the sentences of one window tell of, the largest changes first."""

_MEDIAN = 3
_GAP = 2.5
"""Usual steps from one frame to the next that make a gap."""


@dataclass(frozen=True)
class Event:
    """One stretch in which a unit is active.

    Attributes:
        au: the unit.
        start_s, end_s: time of its first frame, and of the first frame after it.
        rise, fall: by how much the score changes there; None where the event is cut off, or the change is too small to tell of.
    """

    au: str
    start_s: float
    end_s: float
    rise: float | None
    fall: float | None


@dataclass(frozen=True)
class Change:
    """What a window's sentence says of one unit.

    Attributes:
        au: the unit.
        start_s: when it begins; None where it is there before the window.
        end_s: when it ends; None where it stays beyond the window.
        size: the difference in score.
    """

    au: str
    start_s: float | None
    end_s: float | None
    size: float


def track_events(time_s: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> list[Event]:
    """The events of a track that are long enough to tell of.

    Args:
        time_s: (T,) of its faces, ascending.
        scores: (T, A) over `AUS`; NaN where unknown.
        thresholds: (A,) scores from which units are active; NaN for units that the model does not know.
    """
    known = np.isfinite(scores).any(axis=1)
    time_s, scores = time_s[known], scores[known]
    if len(time_s) < 2:
        return []
    steps = np.diff(time_s)
    breaks = np.flatnonzero(steps > _GAP * np.median(steps)) + 1
    events: list[Event] = []
    for part in np.split(np.arange(len(time_s)), breaks):
        events += _stretch_events(time_s[part], scores[part], thresholds)
    return events


def _stretch_events(time_s: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> list[Event]:
    """The events of a stretch without gaps."""
    smooth = median_filter(scores, (_MEDIAN, 1), mode="nearest")
    active = active_aus(smooth, thresholds, HOLD)
    events = []
    for column in np.flatnonzero(active.any(axis=0) & np.isfinite(scores).all(axis=0)):
        for first, after in _runs(_without_short(time_s, active[:, column])):
            start_s, end_s = float(time_s[first]), float(time_s[min(after, len(time_s) - 1)])
            values = scores[:, column].astype(np.float64)
            rise = _difference(time_s, values, first) if start_s - time_s[0] >= LEAST_S else None
            fall = _difference(time_s, values, after) if after < len(time_s) and time_s[-1] - end_s >= LEAST_S else None
            rise = rise if rise is not None and rise >= LEAST_SIZE else None
            fall = -fall if fall is not None and -fall >= LEAST_SIZE else None
            events.append(Event(AUS[column], start_s, end_s, rise, fall))
    return events


def _difference(time_s: np.ndarray, values: np.ndarray, place: int) -> float:
    """Mean of the values in the second from a place on, less the mean in the second before it."""
    before = values[:place][time_s[:place] >= time_s[place] - AROUND_S]
    after = values[place:][time_s[place:] < time_s[place] + AROUND_S]
    return float(after.mean() - before.mean())


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First place of each run of true values, and the place after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _without_short(time_s: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Activity without rests shorter than `LEAST_REST_S`, then without events shorter than `LEAST_S`."""
    active = active.copy()
    last = len(active) - 1
    for value, least_s in ((False, LEAST_REST_S), (True, LEAST_S)):
        for first, after in _runs(active == value):
            inner = value or (first > 0 and after <= last)
            if inner and time_s[min(after, last)] - time_s[first] < least_s - 1e-6:
                active[first:after] = not value
    return active


def window_changes(events: Sequence[Event], start_s: float, end_s: float, units: Collection[str]) -> list[Change]:
    """What changes in a window, in order of time.

    A unit that begins in the window is told of there, with its end where that comes within the window or at once. A unit that begins and
    ends more than once, as the lips of a person who talks, is not told of.

    Args:
        events: of the track, from `track_events`.
        start_s, end_s: the window.
        units: of which the sentences may tell.
    """
    found: list[Change] = []
    for au in units:
        own = [event for event in events if event.au == au]
        begun = [event for event in own if start_s <= event.start_s < end_s]
        ended = [event for event in own if event.start_s < start_s <= event.end_s < end_s]
        if len(begun) + len(ended) != 1:
            continue
        if begun and begun[0].rise is not None:
            event, brief = begun[0], begun[0].end_s < end_s or begun[0].end_s - begun[0].start_s < 2 * LEAST_S
            if not brief or event.fall is not None:
                found.append(Change(au, event.start_s, event.end_s if brief else None, event.rise or 0.0))
        elif ended and ended[0].fall is not None and ended[0].end_s - ended[0].start_s >= 2 * LEAST_S:
            found.append(Change(au, None, ended[0].end_s, ended[0].fall))
    largest = sorted(found, key=lambda change: -change.size)[:MOST]
    return sorted(largest, key=lambda change: (_when(change), AUS.index(change.au)))


def _when(change: Change) -> float:
    return change.start_s if change.start_s is not None else change.end_s or 0.0


def change_sentences(changes: Sequence[Change]) -> str | None:
    """The sentences of a window; None where nothing changes.

    >>> change_sentences([Change("AU12", 3.21, None, 0.5), Change("AU43", 3.5, 3.9, 0.4)])
    'From second 3.2 on the lip corners are pulled up. From second 3.5 to second 3.9 the eyes are closed.'
    """
    groups: dict[tuple[str | None, str | None], list[str]] = {}
    for change in changes:
        times = tuple(None if time_s is None else f"{time_s:.1f}" for time_s in (change.start_s, change.end_s))
        groups.setdefault((times[0], times[1]), []).append(UNIT[change.au].clauses[0])
    sentences = []
    for (start, end), clauses in groups.items():
        what = ", ".join(clauses[:-1]) + " and " + clauses[-1] if len(clauses) > 1 else clauses[0]
        if start is None:
            sentences.append(f"Until second {end} {what}, then no longer.")
        else:
            sentences.append(f"From second {start} {'on' if end is None else f'to second {end}'} {what}.")
    return " ".join(sentences) or None
