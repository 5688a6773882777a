"""Figures as functions of face weights, and their bootstrap intervals.

A weight says how often a face counts. A figure maps (N, R) weights of N faces in R resamples to R values; with all weights 1 it is the
figure itself. Almost all figures are functions of sums over faces (counts of hits and misses, for example), so that a thousand resamples
cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)

Figure = Callable[[np.ndarray], np.ndarray]
"""(N, R) weights of the faces to (R,) values; NaN where there is nothing to measure."""

RESAMPLES = 1000
"""Number of resamples; more steadies the ends of the intervals in the third digit."""

CONFIDENCE = 0.95
"""Share of resamples inside an interval."""

SEED = 20260100
"""Seed of the resamples, so that two runs agree."""


def ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """`above / below`, and `empty` where `below` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(below.shape, empty), where=below > 0)


def summed(parts: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> Figure:
    """A figure that is a function of sums over faces.

    Args:
        parts: (N, K), the contribution of each face to K sums.
        value: (K, R) sums to (R,) values.
    """
    return lambda weights: value(parts.T @ weights)


def mean(total: np.ndarray, count: np.ndarray) -> Figure:
    """The mean of values; face n has `count[n]` of them with the sum `total[n]`."""
    return summed(np.stack([total, count], 1).astype(np.float64), lambda sums: ratio(sums[0], sums[1]))


def per_face(faces: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of (M, ...) values over the faces that they belong to: (count, ...)."""
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, faces, values)
    return sums


def measure(figures: Mapping[Name, Figure], faces: int) -> dict[Name, float]:
    """The value of each figure over all faces; NaN where there is nothing to measure."""
    once = np.ones((faces, 1))
    return {name: float(figure(once)[0]) for name, figure in figures.items()}


def intervals(figures: Mapping[Name, Figure], faces: int, resamples: int = RESAMPLES, seed: int = SEED) -> dict[Name, tuple[float, float]]:
    """Percentile bootstrap over faces (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13).

    Faces are drawn with replacement, each with all its answers, since these are not independent of each other.

    Returns:
        The ends of the 95% interval of each figure; NaN where no resample has anything to measure.
    """
    drawn = np.random.default_rng(seed).multinomial(faces, np.full(faces, 1 / faces), size=resamples)
    weights = np.ascontiguousarray(drawn.T, np.float64)  # [N, R]
    tail = (1 - CONFIDENCE) / 2
    ends: dict[Name, tuple[float, float]] = {}
    for name, figure in figures.items():
        values = figure(weights)
        low, high = np.quantile(values[~np.isnan(values)], [tail, 1 - tail]) if not np.isnan(values).all() else (np.nan, np.nan)
        ends[name] = float(low), float(high)
    return ends
