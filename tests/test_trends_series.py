"""The series of a track: gaps, grid, smoothing, baseline."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trends.options import Options
from pipeline.trends.rows import frame_ends
from pipeline.trends.series import baseline, smooth, stretches, to_grid, track_series, with_gaps
from pipeline.vocabulary import AUS
from tests.support.trends import RAW, samples_of, series_of

NAN = np.nan
AU12 = AUS.index("AU12")
EVEN = np.ones(20)


@pytest.mark.parametrize("method", ["median", "savgol", "ema"])
def test_smoothing_never_reaches_across_a_gap(method: str) -> None:
    left, right = [0.1, 0.2, 0.9, 0.2, 0.1, 0.3], [0.8, 0.7, 0.8, 0.1, 0.9]
    both = smooth(np.array([*left, NAN, *right]), method, 5)
    assert np.isnan(both[6])
    assert both[:6] == pytest.approx(smooth(np.array(left), method, 5))
    assert both[7:] == pytest.approx(smooth(np.array(right), method, 5))
    assert ((both[np.isfinite(both)] >= 0) & (both[np.isfinite(both)] <= 1)).all()


def test_what_each_smoothing_does() -> None:
    spike = np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    assert smooth(spike, "none", 3).tolist() == spike.tolist()
    assert smooth(spike, "median", 3).tolist() == [0.0] * 5  # shorter than half the width
    parabola = (np.arange(9) - 4.0) ** 2 / 16
    assert smooth(parabola, "savgol", 5) == pytest.approx(parabola)  # of the filter's own order
    steps = smooth(np.array([0.0, 1.0, 1.0, 1.0]), "ema", 3)
    assert steps == pytest.approx(1 - np.exp(-np.arange(4) / 3))  # the step response with time constant 3
    assert smooth(np.array([0.3, 0.9]), "savgol", 5).tolist() == [0.3, 0.9]  # too short for a parabola: unchanged


def test_the_width_of_smoothing_in_seconds_follows_the_step() -> None:
    spike = [0.0] * 40
    spike[20:24] = [1.0] * 4  # 0.4 s at ten values a second
    narrow = series_of({"AU12": spike}, step_s=0.1, per_frame=True, options=Options(width_s=0.5))
    wide = series_of({"AU12": spike}, step_s=0.1, per_frame=True, options=Options(width_s=1.1))
    assert narrow.scores[:, AU12].max() == 1
    assert wide.scores[:, AU12].max() == 0


def test_baseline_of_neutral_moments() -> None:
    scores = np.array([[0.2], [0.2], [0.22], [0.9], [0.95], [0.9], [NAN]])
    neutral = np.array([1.0, 1.0, 1.0, 0.0, 0.1, 0.0, NAN])
    values, basis = baseline(scores, neutral, EVEN[:7])
    assert basis == "neutral"
    assert values.tolist() == [0.2]


def test_baseline_of_a_face_that_is_never_neutral() -> None:
    scores, neutral = np.linspace(0, 1, 11)[:, None], np.zeros(11)
    values, basis = baseline(scores, neutral, EVEN[:11])
    assert basis == "low"
    assert values == pytest.approx([0.2])
    values, basis = baseline(scores[:9], neutral[:9], EVEN[:9])  # seen too briefly
    assert basis is None
    assert np.isnan(values).all()


def test_a_baseline_does_not_depend_on_how_finely_time_is_sampled() -> None:
    rng = np.random.default_rng(0)
    scores, neutral = rng.random((30, 1)), rng.random(30)
    coarse = baseline(scores, neutral, np.ones(30))
    fine = baseline(np.repeat(scores, 24, axis=0), np.repeat(neutral, 24), np.full(720, 1 / 24))
    assert fine[0] == pytest.approx(coarse[0])
    assert fine[1] == coarse[1]
    two_seconds = baseline(np.repeat(scores[:2], 24, axis=0), np.ones(48), np.full(48, 1 / 24))  # many frames, little time
    assert two_seconds[1] is None


def test_a_grid_averages_by_overlap_and_leaves_cells_out_that_are_hardly_covered() -> None:
    samples = samples_of({"AU12": [0.0, 0.1, 0.2, 0.3, NAN, NAN, 0.6, 0.7, 0.8]}, step_s=0.5)
    cells = to_grid(samples, 1.0)
    assert cells.start_s.tolist() == [0, 1, 3, 4]
    assert cells.values[:, AU12] == pytest.approx([0.05, 0.25, 0.65, 0.8])  # the last cell is half covered
    assert with_gaps(cells, 1.0).start_s.tolist() == [0, 1, 2, 3, 4]
    coarse = to_grid(samples, 0.75)
    assert coarse.values[:2, AU12] == pytest.approx([(0.0 * 2 + 0.1) / 3, (0.1 + 0.2 * 2) / 3])
    assert coarse.frame_index[:2].tolist() == [0, 20]  # of the sample with the most overlap


def test_a_series_of_frames_has_one_gap_for_each_hole_and_keeps_the_frames_times() -> None:
    times = np.array([0.0, 0.04, 0.12, 0.16, 1.0, 1.04])
    frames = np.array([0, 1, 3, 4, 25, 26])
    samples = samples_of({"AU12": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    measured = type(samples)(times, frame_ends(times, frames, None), frames, samples.values)
    series = track_series("v", 1, measured, RAW, None)
    assert series is not None
    assert series.start_s.tolist() == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 1.0, 1.04]
    assert series.gap.tolist() == [False, False, True, False, False, True, False, False]  # frame 2 is not there; later a long hole
    assert series.end_s[:-1].tolist() == series.start_s[1:].tolist()
    assert series.seen_s == pytest.approx(6 * 0.04)


def test_sampling_at_an_odd_rate_makes_no_gaps() -> None:
    rate, wanted = 25.0, 10.0
    every = np.arange(250) / rate
    chosen = np.unique([np.flatnonzero(every + 1e-6 >= k / wanted)[0] for k in range(99)])  # the first frame at or after each instant
    ends = frame_ends(every[chosen], chosen, wanted, rate)
    assert ends[:-1].tolist() == pytest.approx(every[chosen][1:].tolist())
    without = np.delete(chosen, 50)
    ends = frame_ends(every[without], without, wanted, rate)
    assert (ends[:-1] < every[without][1:] - 1e-3).nonzero()[0].tolist() == [49]  # one sampled frame without the face: a gap


def test_variable_frame_rate_makes_no_gaps() -> None:
    times = np.cumsum([0.0, *[1 / 30] * 20, *[1 / 5] * 10, *[1 / 30] * 20])
    ends = frame_ends(times, np.arange(51), 24.0, 20.0)  # slower than asked for in the middle: every frame is sampled
    assert ends[:-1] == pytest.approx(times[1:], abs=1e-6)


def test_unreadable_frames_are_gaps_and_a_series_neither_begins_nor_ends_with_one() -> None:
    series = series_of({"AU12": [NAN, 0.1, NAN, 0.3, NAN]}, per_frame=True, age=[20.0] * 5)
    assert series.start_s.tolist() == [1, 2, 3]
    assert series.gap.tolist() == [False, True, False]
    assert np.isnan(series.age[1])
    assert series.frame_index.tolist() == [10, -1, 30]
    assert track_series("v", 1, samples_of({"AU12": [NAN, NAN]}), RAW, None) is None


def test_stretches() -> None:
    assert stretches(np.zeros(3, bool)) == []
    assert stretches(np.array([True, False, True, True])) == [slice(0, 1), slice(2, 4)]
