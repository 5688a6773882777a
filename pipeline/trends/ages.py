"""One age per track, from the ages that were estimated for its windows. The report and the trends both take it from here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.vocabulary import WHOLE_FACE

Z90 = 1.2815515655446004
"""The 90th percentile of the standard normal distribution."""

MIN_HALF_WIDTH = 1.0
"""Least distance in years from a window's median to its 10th and 90th percentile; keeps the pooled distribution smooth."""


class Age(NamedTuple):
    """An apparent age in years with its 10th and 90th percentile."""

    median: float
    low: float
    high: float


def pooled_age(ages: np.ndarray) -> Age | None:
    """Pool the age estimates of many windows: quantiles of the equal mixture of their distributions.

    Each window's distribution is taken as two half normals that meet at its median and pass through its 10th and 90th percentile (a
    split normal with equal mass on both sides). The pool is their mean, the linear opinion pool of Stone (1961, Annals of Mathematical
    Statistics 32). A few wrong windows hardly move its median, and its width holds both the uncertainty within the windows and the
    disagreement between them. The width does not shrink with more windows, because the windows share the model's errors.

    Args:
        ages: (N, 3) median, 10th and 90th percentile in years; rows with NaN are left out.

    Returns:
        The pooled age; None without any row.

    >>> pooled_age(np.array([[30.0, 22.0, 42.0], [30.0, 22.0, 42.0]]))
    Age(median=30.0, low=22.0, high=42.0)
    """
    known = ages[np.isfinite(ages).all(axis=1)]
    if not len(known):
        return None
    from scipy.optimize import brentq
    from scipy.special import ndtr

    middle, low, high = known.T
    below, above = np.maximum(middle - low, MIN_HALF_WIDTH) / Z90, np.maximum(high - middle, MIN_HALF_WIDTH) / Z90
    youngest, oldest = float((middle - 9 * below).min()), float((middle + 9 * above).max())

    def excess(age: float, share: float) -> float:
        distance = age - middle
        return float(ndtr(distance / np.where(distance < 0, below, above)).mean()) - share

    return Age(*(round(float(brentq(excess, youngest, oldest, args=(share,), xtol=1e-4)), 3) for share in (0.5, 0.1, 0.9)))


def track_age(regions: np.ndarray, ages: np.ndarray) -> Age | None:
    """The age of a track, from its rows about the whole face; from all of its rows where none is about the whole face.

    Args:
        regions: (N,) the `region` column of the track's descriptions.
        ages: (N, 3) their `age`, `age_low` and `age_high`.
    """
    whole = regions == WHOLE_FACE
    return pooled_age(ages[whole] if whole.any() else ages)


def ages_by_track(descriptions: pa.Table) -> dict[int, Age]:
    """The age of every track of one video.

    Args:
        descriptions: rows of the descriptions table with `track_id`, `region`, `age`, `age_low` and `age_high`.

    Returns:
        track_id to age; a track without any known age is left out.
    """
    tracks = descriptions["track_id"].to_numpy()
    regions = descriptions["region"].to_numpy()
    ages = np.column_stack([pc.cast(descriptions[name], pa.float64()).to_numpy() for name in ("age", "age_low", "age_high")])
    found = {int(track): track_age(regions[tracks == track], ages[tracks == track]) for track in np.unique(tracks)}
    return {track: age for track, age in found.items() if age is not None}
