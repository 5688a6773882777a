"""Where the level of a long series changes: within a track, or from day to day."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import ruptures
from scipy.special import ndtri

from pipeline.trends.events import Row
from pipeline.trends.series import VALUES, Samples, Series, to_grid
from pipeline.vocabulary import AUS, EMOTIONS

POINT_S = 1.0
"""Scores of single frames are averaged to one point a second before the search."""

MIN_POINTS = 60
"""Points of the shortest track in which changes of level are searched for."""

MIN_DAYS = 20
"""The same for days."""

MIN_LEVEL = 10
"""Points of the shortest level. Lower finds shorter levels, and more of them by chance. Levels of days have half of it."""

MOST_POINTS = 4000
"""A longer series is averaged down to this many points first; the search takes the square of it."""

CHANCE = 0.01
"""About the share of series without changes in which one is found anyway. Lower finds fewer and stronger changes."""

STEP_SHARE = 0.03
"""Share of the differences between neighbouring points that may be changes and are left out of the noise. Higher finds more changes."""

MAX_CORRELATION = 0.97
"""Highest correlation assumed between neighbouring points; a series that drifts more slowly counts as a series of changes."""

NOISE_FLOOR = 0.02
"""Series that move less than this from point to point count as moving this much, so that no change in the third digit is found."""

_STILL = 1e-12  # variance below which a measure does not move at all, but for rounding

MIN_SHIFT = 0.15
"""A change is listed with the measures that shift by at least this; if none does, with the one that shifts most."""


def change_points(values: np.ndarray, shortest: int = MIN_LEVEL) -> list[int]:
    """Find where the level of a series changes: the first points of new levels.

    PELT (Killick, Fearnhead and Eckley 2012) for shifts of the mean in all measures together. Its unit is the long-run standard
    deviation of the noise: for AR(1) noise, var(x[t+1] - x[t]) = 2 s^2 (1 - r) and var(x[t+2] - x[t]) = 2 s^2 (1 - r^2), which give r
    (the median over measures) and s sqrt((1 + r) / (1 - r)). So slow drift of a face is not taken for a change, and rare steps hardly
    affect the estimate. The penalty is what the best of N places gains by chance: a chi-square with as many degrees of freedom as
    measures, bounded as by Laurent and Massart (2000).

    Args:
        values: (N, measures), all finite.
        shortest: points of the shortest level.
    """
    count, width = values.shape
    if count < 2 * shortest or not width:
        return []
    near, far = _trimmed_variance(values[1:] - values[:-1]), _trimmed_variance(values[2:] - values[:-2])
    moving = near > _STILL
    correlation = np.clip(np.median(far[moving] / near[moving]) - 1, 0, MAX_CORRELATION) if moving.any() else 0.0
    noise = np.sqrt(np.maximum(near, NOISE_FLOOR**2) / 2 * (1 + correlation)) / (1 - correlation)
    search = ruptures.KernelCPD(kernel="linear", min_size=shortest).fit(values / noise)
    rarity = np.log(count / CHANCE)
    return [int(point) for point in search.predict(pen=width + 2 * np.sqrt(width * rarity) + 2 * rarity)[:-1]]


def _trimmed_variance(differences: np.ndarray) -> np.ndarray:
    """(measures,) mean squares of (N, measures) without the `STEP_SHARE` largest, scaled to be unbiased for normal differences."""
    squares = np.sort(differences**2, axis=0)[: int(len(differences) * (1 - STEP_SHARE))]
    cut = ndtri(1 - STEP_SHARE / 2)
    return squares.mean(axis=0) / (1 - 2 * cut * np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi) / (1 - STEP_SHARE))


def _shifts(values: np.ndarray, points: list[int], names: list[str]) -> list[tuple[int, list[Row]]]:
    """Each change with the measures that shift, the largest shift first."""
    edges = [0, *points, len(values)]
    levels = [values[begin:end].mean(axis=0) for begin, end in pairwise(edges)]
    found = []
    for number, point in enumerate(points):
        before, after = levels[number], levels[number + 1]
        size = np.abs(after - before)
        columns = [column for column in np.argsort(-size, kind="stable") if size[column] >= min(MIN_SHIFT, size.max())]
        found.append((point, [{"measure": names[item], "before": float(before[item]), "after": float(after[item])} for item in columns]))
    return found


def track_changes(series: Series) -> list[Row]:
    """Changes of level in the unsmoothed AU scores and emotions of a track; none in tracks of fewer than `MIN_POINTS` points."""
    measured = np.column_stack([series.raw_scores, series.raw_emotions])
    if series.per_frame:
        padding = np.full((len(measured), len(VALUES) - measured.shape[1]), np.nan)
        samples = to_grid(Samples(series.start_s, series.end_s, series.frame_index, np.column_stack([measured, padding])), POINT_S)
        start_s, measured = samples.start_s, samples.values[:, : measured.shape[1]]
    else:
        start_s = series.start_s
    known = np.isfinite(measured).any(axis=0)
    names = [name for name, keep in zip([*AUS, *EMOTIONS], known, strict=True) if keep]
    complete = np.isfinite(measured[:, known]).all(axis=1)
    start_s, measured = start_s[complete], measured[complete][:, known]
    if len(measured) < MIN_POINTS or not names:
        return []
    size = -(-len(measured) // MOST_POINTS)
    first = np.arange(0, len(measured), size)
    points = np.add.reduceat(measured, first, axis=0) / np.diff([*first, len(measured)])[:, None]
    step_s = float(np.median(np.diff(start_s)))
    rows: list[Row] = []
    for point, shifts in _shifts(points, change_points(points), names):
        row = first[point]
        where = {"at_s": float(start_s[row]), "at_gap": bool(start_s[row] - start_s[row - 1] > 1.5 * step_s)}
        rows += [where | shift for shift in shifts]
    return rows


def day_changes(by_day: pd.DataFrame) -> list[Row]:
    """Changes of level from day to day in the shares of emotions; none in fewer than `MIN_DAYS` days."""
    shares = by_day[by_day["measure"].str.startswith("share_")]
    wide = shares.pivot(index="day", columns="measure", values="mean").dropna().sort_index()
    if len(wide) < MIN_DAYS:
        return []
    values = wide.to_numpy(float)
    found = _shifts(values, change_points(values, MIN_LEVEL // 2), list(wide.columns))
    return [{"day": wide.index[point]} | shift for point, shifts in found for shift in shifts]
