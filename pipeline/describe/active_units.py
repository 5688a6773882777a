"""Which action units are active in a series of scores: one rule for everything that is said about time."""

from __future__ import annotations

import numpy as np

from pipeline.vocabulary import AUS, EXCLUSIONS, compatible

HOLD = 0.7
"""An event ends where the score falls below this share of the threshold. Lower joins events that a dip would separate."""


def hysteresis(values: np.ndarray, on: np.ndarray | float, off: np.ndarray | float) -> np.ndarray:
    """Whether each sample is inside an event: from reaching `on` until falling below `off`. A gap (NaN) ends an event.

    Two thresholds keep a score that trembles about one of them from making many events (a Schmitt trigger; Canny 1986 uses the same for
    edges). FACS has no counterpart: its coders mark onset and offset by eye.

    Args:
        values: (T, ...) scores.
        on, off: thresholds that broadcast to one row of `values`; `off` is at most `on`.

    >>> hysteresis(np.array([0.1, 0.6, 0.4, 0.3]), 0.5, 0.35).tolist()
    [False, True, True, False]
    """
    mark = np.where(values >= on, 1, np.where(values >= off, -1, 0))  # 1 starts, 0 ends, -1 continues; NaN compares false: 0
    mark[:1] = np.maximum(mark[:1], 0)
    place = np.arange(len(mark)).reshape(-1, *[1] * (mark.ndim - 1))
    decided = np.maximum.accumulate(np.where(mark >= 0, place, 0), axis=0)
    return np.take_along_axis(mark, decided, axis=0) == 1


def active_aus(values: np.ndarray, thresholds: np.ndarray, hold: float) -> np.ndarray:
    """Whether each AU is active in each sample: inside an event, and not excluded by another AU.

    Of two AUs inside an event that exclude each other (`pipeline.vocabulary.EXCLUSIONS`), the one stands that prevails
    (`pipeline.vocabulary.PREVAILING`), else the one whose score lies further above its threshold, as a share of the way from the threshold
    to 1. Without smoothing and with `hold` 1 this is the `aus` column of a run.

    Args:
        values: (T, A) scores, NaN in gaps.
        thresholds: (A,) scores at which events begin.
        hold: share of the threshold below which an event ends.

    Returns:
        (T, A) booleans.
    """
    active = hysteresis(values, thresholds, thresholds * hold)
    pairs = [pair for pair in EXCLUSIONS if pair <= set(AUS)]
    columns = sorted({AUS.index(au) for pair in pairs for au in pair})
    conflict = np.zeros(len(values), bool)
    for one, other in pairs:
        conflict |= active[:, AUS.index(one)] & active[:, AUS.index(other)]
    for row in np.flatnonzero(conflict).tolist():
        inside = [column for column in columns if active[row, column]]
        margins = {AUS[column]: float((values[row, column] - thresholds[column]) / max(1 - thresholds[column], 1e-9)) for column in inside}
        standing = compatible(margins)
        active[row, inside] = [AUS[column] in standing for column in inside]
    return active
