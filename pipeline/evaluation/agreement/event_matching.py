"""Events of two codings of one label, matched one to one by their onsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment


def match_onsets(coder: Sequence[float], run: Sequence[float], within_s: float) -> list[tuple[int, int]]:
    """Pairs of events whose onsets lie at most `within_s` apart: as many pairs as possible, and of those choices the one with the smallest
    distances in all.

    Args:
        coder, run: onsets in seconds.
        within_s: largest distance.

    Returns:
        Places in `coder` and in `run`.

    >>> match_onsets([1.0, 5.0], [1.2, 1.6, 9.0], 0.5)
    [(0, 0)]
    """
    if not len(coder) or not len(run):
        return []
    distance = np.abs(np.subtract.outer(np.asarray(coder, float), np.asarray(run, float)))
    allowed = distance <= within_s + 1e-9
    far = (within_s + 1.0) * (min(distance.shape) + 1)  # dearer than any number of allowed pairs
    rows, columns = linear_sum_assignment(np.where(allowed, distance, far))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]
