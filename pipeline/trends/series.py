"""Regular time series per person: gaps stay gaps, smoothing has a name, and each person has an own neutral baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import lfilter, savgol_filter

from pipeline.trends.options import Options
from pipeline.trends.read import EMOTION_COLUMNS, Archive
from pipeline.vocabulary import AUS, EMOTIONS

MIN_COVERAGE = 0.5
"""A cell of which windows cover less than this is a gap. Higher makes more gaps; lower lets a short glimpse stand for a whole cell."""

MIN_NEUTRAL_CELLS = 3.0
"""The baseline comes from neutral moments when the probabilities of neutral sum to this. Higher asks for more evidence."""

MIN_LOW_CELLS = 10
"""Otherwise it comes from the low scores, of a person seen in at least so many cells: fewer say little of a habit."""

LOW_QUANTILE = 0.2
"""Where the low scores lie. Lower calls more of the usual face an expression."""

NEUTRAL = EMOTIONS.index("neutral")


@dataclass(frozen=True)
class Track:
    """One person's series: T cells in a row, from the first described to the last.

    Attributes:
        video_id, track_id: whose.
        first: number of the first cell.
        grid_s: seconds a cell.
        gap: (T,) whether nothing is known; all values there are NaN.
        raw, felt: (T, 22) AU scores and (T, 7) probabilities of emotions, as on the grid.
        aus, emotions: the same, smoothed; each row of emotions sums to 1.
        ages: (T, 3) median, 10th and 90th percentile in years.
        frames: (T,) described frame of the stream; -1 in gaps.
        texts: (T,) sentences.
        baselines: (22,) NaN where unknown.
        basis: what the baselines stand on: `neutral`, `low` or none.
    """

    video_id: str
    track_id: int
    first: int
    grid_s: float
    gap: np.ndarray
    raw: np.ndarray
    felt: np.ndarray
    aus: np.ndarray
    emotions: np.ndarray
    ages: np.ndarray
    frames: np.ndarray
    texts: np.ndarray
    baselines: np.ndarray
    basis: str | None

    @property
    def times(self) -> np.ndarray:
        """(T,) starts of the cells in seconds."""
        return self.time(np.arange(len(self.gap)))

    def time(self, cell: Any) -> Any:
        """Seconds at which cells, counted from the first, start: one or an array, to the microsecond."""
        return np.round((self.first + np.asarray(cell)) * self.grid_s, 6)

    @property
    def relative(self) -> np.ndarray:
        """(T, 22) scores above the baseline."""
        return self.aus - self.baselines

    @property
    def seen(self) -> int:
        """Cells that are no gap."""
        return int((~self.gap).sum())

    @property
    def minutes(self) -> float:
        """Seen time."""
        return self.seen * self.grid_s / 60


def stretches(inside: np.ndarray) -> list[slice]:
    """The runs of true in a (T,) boolean array.

    >>> stretches(np.array([True, True, False, True]))
    [slice(0, 2, None), slice(3, 4, None)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(np.int8), [0])))).tolist()
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def smooth(values: np.ndarray, method: str, cells: int) -> np.ndarray:
    """A smoothed (T,) series of scores in [0, 1]. Each stretch between gaps (NaN) is smoothed by itself.

    Args:
        values: with NaN in gaps.
        method: of `pipeline.trends.options.SMOOTHINGS`.
        cells: width, odd but for `ema`, whose weight of the newest value is 1 - exp(-1 / cells). `savgol` narrows in shorter stretches.
    """
    if method == "none" or cells < 2:
        return values
    result = values.copy()
    for part in stretches(np.isfinite(values)):
        known = values[part]
        if method == "median":
            result[part] = median_filter(known, cells, mode="nearest")
        elif method == "ema":
            weight = 1 - np.exp(-1 / cells)
            result[part] = lfilter([weight], [1, weight - 1], known, zi=known[:1] * (1 - weight))[0]
        elif (width := min(cells, len(known) - (len(known) % 2 == 0))) > 2:
            result[part] = np.clip(savgol_filter(known, width, 2), 0, 1)
    return result


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The lowest of (N,) values at which at least half of the weight lies at or below."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def baseline(scores: np.ndarray, neutral: np.ndarray) -> tuple[np.ndarray, str | None]:
    """What a person's neutral face scores: an estimate, since nobody asked the person to look neutral.

    `neutral`: the median of each AU's scores, a moment counting as much as neutral is probable in it, where those probabilities sum to
    `MIN_NEUTRAL_CELLS`. `low`: else the `LOW_QUANTILE` of the scores, where there are `MIN_LOW_CELLS`; it takes the person to rest that AU
    for a fifth of the time. Else nothing: two seconds of a smile do not tell what the face is at rest.

    Args:
        scores: (T, A) with NaN in gaps and for AUs that are not known.
        neutral: (T,) probability of neutral, NaN in gaps.

    Returns:
        (A,) baselines, NaN where unknown, and the basis.
    """
    result = np.full(scores.shape[1], np.nan)
    usable = np.isfinite(neutral)
    if usable.sum() and neutral[usable].sum() >= MIN_NEUTRAL_CELLS:
        basis = "neutral"
    elif usable.sum() >= MIN_LOW_CELLS:
        basis = "low"
    else:
        return result, None
    for column in range(scores.shape[1]):
        known = usable & np.isfinite(scores[:, column])
        if known.any():
            values = scores[known, column]
            result[column] = weighted_median(values, neutral[known]) if basis == "neutral" else np.quantile(values, LOW_QUANTILE)
    return result, basis


def tracks(archive: Archive, options: Options) -> Iterator[Track]:
    """Every person of the archive, by video and track."""
    cells = archive.cells
    width = options.cells(archive.grid_s)
    aus, emotions, ages = (
        cells[list(names)].to_numpy(float, na_value=np.nan) for names in (AUS, EMOTION_COLUMNS, ("age", "age_low", "age_high"))
    )
    numbers, coverage = cells["cell"].to_numpy(np.int64), cells["coverage"].to_numpy(float)
    frames, texts = cells["frame_index"].to_numpy(float, na_value=-1), cells["description"].to_numpy(object)
    keys = cells[["video_id", "track_id"]]
    starts = np.flatnonzero((keys != keys.shift()).any(axis=1).to_numpy())
    for start, stop in zip(starts, [*starts[1:], len(cells)], strict=False):
        rows = np.arange(start, stop)[coverage[start:stop] >= MIN_COVERAGE - 1e-6]
        if not len(rows):
            continue
        first, size = int(numbers[rows[0]]), int(numbers[rows[-1]] - numbers[rows[0]] + 1)
        places = numbers[rows] - first
        gap = np.ones(size, bool)
        gap[places] = False

        def spread(values: np.ndarray, places: np.ndarray = places, rows: np.ndarray = rows, size: int = size) -> np.ndarray:
            filled = np.full((size, values.shape[1]), np.nan)
            filled[places] = values[rows]
            return filled

        raw, felt = spread(aus), spread(emotions)
        base, basis = baseline(raw, felt[:, NEUTRAL])
        known = np.isfinite(raw).any(axis=0)
        scores = raw.copy()
        for column in np.flatnonzero(known):
            scores[:, column] = smooth(raw[:, column], options.smooth, width)
        even = np.column_stack([smooth(felt[:, column], options.smooth, width) for column in range(len(EMOTIONS))])
        total = even.sum(axis=1, keepdims=True)
        even = np.where(total > 0, even / np.where(total > 0, total, 1), felt)  # medians apart can all be 0
        shown, said = np.full(size, -1, np.int64), np.full(size, None, object)
        shown[places], said[places] = frames[rows], texts[rows]
        video, track = keys.iloc[start]
        yield Track(
            video, int(track), first, archive.grid_s, gap, raw, felt, scores, even, spread(ages), shown, said, base, basis
        )  # fmt: skip
