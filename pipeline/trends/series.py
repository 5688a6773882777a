"""The time series of one track: samples in order, gaps kept as gaps, smoothed within stretches, with the track's own baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from pipeline.trends.options import Options
from pipeline.vocabulary import AUS, EMOTIONS

EMOTION_COLUMNS = tuple(f"emotion_{name}" for name in EMOTIONS)
INTENSITY_COLUMNS = tuple(f"{au}_intensity" for au in AUS)
HEAD = ("yaw", "pitch", "roll")
"""Angles of the head in degrees, as in the faces table."""
VALUES = (*AUS, *EMOTION_COLUMNS, "age", *INTENSITY_COLUMNS, *HEAD)
"""Measured columns of a sample, in the order of `Samples.values`."""

MIN_COVERAGE = 0.5
"""A grid cell of which samples cover less than this share is a gap. Higher makes more gaps; lower lets a glimpse stand for a whole cell."""

MIN_NEUTRAL_S = 3.0
"""The baseline comes from neutral moments if the time, weighted by the probability of neutral, sums to this. Higher asks for more."""

MIN_LOW_S = 10.0
"""Otherwise the baseline comes from low scores, if the track is seen for at least this long: less says little of a habit."""

LOW_QUANTILE = 0.2
"""Quantile of the low scores. Lower counts more of the usual face as an expression."""

MAX_INTENSITY = 5.0
"""FACS intensity E, the highest of five."""

NEUTRAL = EMOTIONS.index("neutral")
_TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class Samples:
    """Measurements of one track in order of time: one per sampled frame, per window, or per grid cell.

    Attributes:
        start_s, end_s: (T,) the span that each sample stands for; spans may touch and never overlap.
        frame_index: (T,) the frame that was measured; -1 in gaps.
        values: (T, len(VALUES)) measurements; NaN where unknown.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    frame_index: np.ndarray
    values: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """(T,) whether no AU and no emotion is known."""
        return ~np.isfinite(self.values[:, : len(AUS) + len(EMOTIONS)]).any(axis=1)

    def take(self, rows: np.ndarray | slice) -> Samples:
        """Some of the samples."""
        return Samples(self.start_s[rows], self.end_s[rows], self.frame_index[rows], self.values[rows])


@dataclass(frozen=True)
class Series:
    """The series of one track: T samples from the first to the last known one, with a sample of NaN for every gap between them.

    Attributes:
        video_id, track_id: identify the track.
        start_s, end_s: (T,) the span of each sample in seconds; each begins where the one before ends.
        frame_index: (T,) the measured frame of the stream; -1 in gaps.
        gap: (T,) whether nothing is known; all measurements there are NaN.
        raw_scores, raw_emotions: (T, A) AU scores and (T, 7) emotion probabilities, as measured.
        scores, emotions: the same, smoothed; each row of emotions sums to 1.
        age: (T,) median age in years, as measured.
        intensity: (T, A) FACS intensities from 0 to 5, smoothed; NaN where the model gives none.
        head: (T, 3) yaw, pitch and roll in degrees, as measured; NaN in series of windows.
        baseline: (A,) estimated scores of the neutral face; NaN where unknown.
        baseline_basis: where the baseline comes from: `neutral`, `low` or None.
        per_frame: whether samples are single frames, so that a sample's time is its start; else it is its middle.
    """

    video_id: str
    track_id: int
    start_s: np.ndarray
    end_s: np.ndarray
    frame_index: np.ndarray
    gap: np.ndarray
    raw_scores: np.ndarray
    raw_emotions: np.ndarray
    scores: np.ndarray
    emotions: np.ndarray
    age: np.ndarray
    intensity: np.ndarray
    head: np.ndarray
    baseline: np.ndarray
    baseline_basis: str | None
    per_frame: bool

    @property
    def duration_s(self) -> np.ndarray:
        """(T,) seconds that each sample stands for."""
        return self.end_s - self.start_s

    @property
    def time_s(self) -> np.ndarray:
        """(T,) the instant that each sample stands for: a frame's own time, the middle of a cell."""
        return self.start_s if self.per_frame else np.round((self.start_s + self.end_s) / 2, 6)

    @property
    def relative(self) -> np.ndarray:
        """(T, A) smoothed scores above the baseline."""
        return self.scores - self.baseline

    @property
    def seen_s(self) -> float:
        """Seconds in samples that are not gaps."""
        return round(float(self.duration_s[~self.gap].sum()), 6)

    @property
    def step_s(self) -> float:
        """Usual time from one sample to the next."""
        return round(float(np.median(self.duration_s[~self.gap])), 6)


def stretches(inside: np.ndarray) -> list[slice]:
    """The runs of true values in a (T,) boolean array.

    >>> stretches(np.array([True, True, False, True]))
    [slice(0, 2, None), slice(3, 4, None)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(np.int8), [0])))).tolist()
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def smooth(values: np.ndarray, method: str, width: int) -> np.ndarray:
    """Smooth a (T,) series of scores in [0, 1]. Each stretch between gaps (NaN) is smoothed by itself.

    Args:
        values: scores, NaN in gaps.
        method: one of `pipeline.trends.options.SMOOTHINGS`. `savgol` is the quadratic filter of Savitzky and Golay (1964), `ema` the
            exponential moving average whose newest value weighs 1 - exp(-1 / width).
        width: in values, odd but for `ema`. `savgol` narrows in shorter stretches.

    >>> smooth(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), "median", 3).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if method == "none" or width < 2:
        return values
    result = values.copy()
    for part in stretches(np.isfinite(values)):
        known = values[part]
        if method == "median":
            result[part] = median_filter(known, width, mode="nearest")
        elif method == "ema":
            result[part] = pd.Series(known).ewm(alpha=1 - np.exp(-1 / width), adjust=False).mean()
        elif (fitting := min(width, len(known) - (len(known) % 2 == 0))) > 2:
            result[part] = np.clip(savgol_filter(known, fitting, 2), 0, 1)
    return result


def baseline(scores: np.ndarray, neutral: np.ndarray, duration_s: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Estimate the AU scores of a person's neutral face from a series in which nobody was asked to look neutral.

    `neutral`: each AU's weighted median; a sample weighs its duration times the probability of neutral. Needs `MIN_NEUTRAL_S` of weight.
    `low`: otherwise each AU's `LOW_QUANTILE`, weighted by duration; it assumes that the AU rests for a fifth of the time. Needs
    `MIN_LOW_S`. Otherwise there is no baseline: two seconds of a smile do not tell what the face is at rest.

    Subtracting a person's own neutral estimate follows Baltrusaitis, Mahmoud and Robinson (2015, "Cross-dataset learning and
    person-specific normalisation for automatic action unit detection"); OpenFace takes the median of all frames for it, whatever the
    expression.

    Args:
        scores: (T, A), NaN in gaps and for unknown AUs.
        neutral: (T,) probability of neutral, NaN in gaps.
        duration_s: (T,) seconds that each sample stands for.

    Returns:
        (A,) baselines, NaN where unknown, and the basis.
    """
    result = np.full(scores.shape[1], np.nan)
    usable = np.isfinite(neutral)
    if usable.any() and (neutral[usable] * duration_s[usable]).sum() >= MIN_NEUTRAL_S - _TIME_TOLERANCE_S:
        basis, quantile, weights = "neutral", 0.5, duration_s * neutral
    elif duration_s[usable].sum() >= MIN_LOW_S - _TIME_TOLERANCE_S:
        basis, quantile, weights = "low", LOW_QUANTILE, duration_s
    else:
        return result, None
    for column in range(scores.shape[1]):
        known = usable & np.isfinite(scores[:, column])
        if weights[known].sum() > 0:
            result[column] = np.quantile(scores[known, column], quantile, weights=weights[known], method="inverted_cdf")
    return result, basis


def to_grid(samples: Samples, grid_s: float) -> Samples:
    """Average samples on a regular grid: cell k spans [k * grid_s, (k + 1) * grid_s), each value weighted by its overlap with the cell.

    Cells that known samples cover by less than `MIN_COVERAGE` are left out. `frame_index` is that of the sample with the most overlap.
    """
    samples = samples.take(~samples.gap)
    first = np.floor(samples.start_s / grid_s + _TIME_TOLERANCE_S).astype(np.int64)
    last = np.maximum(first + 1, np.ceil(samples.end_s / grid_s - _TIME_TOLERANCE_S).astype(np.int64))
    counts = last - first
    rows = np.repeat(np.arange(len(first)), counts)
    cells = first[rows] + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    overlap = np.minimum(samples.end_s[rows], (cells + 1) * grid_s) - np.maximum(samples.start_s[rows], cells * grid_s)
    overlap = np.maximum(overlap, 0.0)
    numbers, place = np.unique(cells, return_inverse=True)
    coverage = np.bincount(place, overlap) / grid_s
    best = np.lexsort((-overlap, place))  # of every cell, the sample with the most overlap first
    best = rows[best[np.unique(place[best], return_index=True)[1]]] if len(rows) else rows
    values = np.full((len(numbers), samples.values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        measured = samples.values[rows, column]
        known = np.isfinite(measured)
        weight = np.bincount(place, overlap * known, len(numbers))
        total = np.bincount(place, np.where(known, measured, 0.0) * overlap, len(numbers))
        values[:, column] = np.divide(total, weight, out=values[:, column].copy(), where=weight > 0)
    kept = coverage >= MIN_COVERAGE - _TIME_TOLERANCE_S
    start_s, end_s = np.round(numbers * grid_s, 6), np.round((numbers + 1) * grid_s, 6)
    return Samples(start_s, end_s, samples.frame_index[best], values).take(kept)


def with_gaps(samples: Samples, grid_s: float | None = None) -> Samples:
    """Put a sample of NaN into every hole between samples; on a grid, one for every missing cell."""
    holes = np.flatnonzero(samples.start_s[1:] - samples.end_s[:-1] > _TIME_TOLERANCE_S)
    starts, ends, places = [], [], []
    for hole in holes:
        begin, end = samples.end_s[hole], samples.start_s[hole + 1]
        cells = 1 if grid_s is None else round((end - begin) / grid_s)
        edges = np.round(np.linspace(begin, end, cells + 1), 6)
        starts.append(edges[:-1])
        ends.append(edges[1:])
        places += [hole + 1] * cells
    if not places:
        return samples
    missing = np.full((len(places), samples.values.shape[1]), np.nan)
    return Samples(
        np.insert(samples.start_s, places, np.concatenate(starts)),
        np.insert(samples.end_s, places, np.concatenate(ends)),
        np.insert(samples.frame_index, places, -1),
        np.insert(samples.values, places, missing, axis=0),
    )


def track_series(video_id: str, track_id: int, samples: Samples, options: Options, grid_s: float | None) -> Series | None:
    """Make the series of one track.

    Args:
        video_id, track_id: identify the track.
        samples: its measurements, in order.
        options: smoothing.
        grid_s: seconds a cell; None leaves the samples as they are.

    Returns:
        The series; None if nothing is known of the track.
    """
    if grid_s is not None:
        samples = to_grid(samples, grid_s)
    known = np.flatnonzero(~samples.gap)
    if not len(known):
        return None
    samples = with_gaps(samples.take(slice(known[0], known[-1] + 1)), grid_s)
    gap = samples.gap
    samples.values[gap] = np.nan
    aus, emotions, age, intensity, head = np.split(samples.values, np.cumsum([len(AUS), len(EMOTIONS), 1, len(AUS)]), axis=1)
    duration_s = samples.end_s - samples.start_s
    width = options.width(float(np.median(duration_s[~gap])))
    base, basis = baseline(aus, emotions[:, NEUTRAL], duration_s)
    return Series(
        video_id=video_id,
        track_id=track_id,
        start_s=samples.start_s,
        end_s=samples.end_s,
        frame_index=np.where(gap, -1, samples.frame_index),
        gap=gap,
        raw_scores=aus,
        raw_emotions=emotions,
        scores=_smoothed(aus, options.smooth, width),
        emotions=_normalised(_smoothed(emotions, options.smooth, width), emotions),
        age=age[:, 0],
        intensity=_smoothed(intensity / MAX_INTENSITY, options.smooth, width) * MAX_INTENSITY,
        head=head,
        baseline=base,
        baseline_basis=basis,
        per_frame=grid_s is None,
    )


def _smoothed(values: np.ndarray, method: str, width: int) -> np.ndarray:
    columns: list[Any] = [smooth(column, method, width) if np.isfinite(column).any() else column for column in values.T]
    return np.column_stack(columns)


def _normalised(smoothed: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Rows that sum to 1; the measured row where all smoothed ones are 0, as separate medians can be."""
    total = smoothed.sum(axis=1, keepdims=True)
    return np.where(total > 0, smoothed / np.where(total > 0, total, 1), measured)
