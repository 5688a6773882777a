"""Statistics over videos, and changes of level."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.trends.changes import change_points, track_changes
from pipeline.trends.measures import SUMMARISED
from pipeline.trends.statistics import bootstrap, by_video, compare, interval
from pipeline.vocabulary import EMOTIONS
from tests.support.trends import series_of


def long_table(groups: dict[str, np.ndarray]) -> pd.DataFrame:
    """by_video rows of (videos, measures) values."""
    return pd.DataFrame(
        [
            {"video_id": f"{group}{video}", "group": group, "measure": f"m{measure}", "value": value}
            for group, values in groups.items()
            for (video, measure), value in np.ndenumerate(values)
        ]
    )


def test_bootstrap_intervals_are_scipys() -> None:
    values = np.random.default_rng(0).gamma(2, size=(40, 2))
    ends = interval(bootstrap(values), np.array([40, 40]))
    for column in range(2):
        expected = stats.bootstrap((values[:, column],), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        assert ends[column] == pytest.approx([expected.low, expected.high], abs=0.03)
    values[5:, 1] = np.nan  # known of five videos, then of four
    assert np.isfinite(interval(bootstrap(values), np.isfinite(values).sum(axis=0))).all()
    values[4, 1] = np.nan
    assert np.isnan(interval(bootstrap(values), np.isfinite(values).sum(axis=0))[1]).all()


def test_comparisons_and_their_correction() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(12, 20)), rng.normal(size=(15, 20))
    b[:, 7] += 3
    found = pd.DataFrame(compare(long_table({"a": a, "b": b})))
    assert len(found) == 20
    assert found["measure"].iloc[0] == "m7"
    assert (found["p_corrected"] < 0.05).sum() == 1
    first = found.iloc[0]
    assert first["low"] < 3 < first["high"]
    assert first["difference"] == pytest.approx(b[:, 7].mean() - a[:, 7].mean())
    for row in found.itertuples():
        x, y = a[:, int(row.measure[1:])], b[:, int(row.measure[1:])]
        assert row.cliffs_delta == pytest.approx(sum(np.sign(right - left) for left, right in product(x, y)) / 180)
        assert row.p == pytest.approx(stats.mannwhitneyu(x, y).pvalue)
    p = np.sort(found["p"])  # the step-up rule of Benjamini and Hochberg, from its definition
    assert np.sort(found["p_corrected"]) == pytest.approx([min(p[j] * 20 / (j + 1) for j in range(i, 20)) for i in range(20)])


def test_small_groups_with_ties_get_the_exact_p() -> None:
    found = compare(long_table({"a": np.zeros((4, 1)), "b": np.ones((4, 1))}))[0]
    assert found["p"] == pytest.approx(2 / 70)  # 70 ways to choose four of eight
    assert found["cliffs_delta"] == 1
    assert np.isnan(found["low"])  # four videos have no bootstrap interval
    assert compare(long_table({"a": np.zeros((4, 1)), "b": np.zeros((4, 1))}))[0]["p"] is None  # nothing to test
    alone = compare(long_table({"a": np.zeros((4, 1)), "b": np.ones((1, 1))}))[0]
    assert alone["p"] is None
    assert alone["p_corrected"] is None


def test_measures_that_never_vary_do_not_weaken_the_others() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(8, 1)), rng.normal(1.5, size=(8, 1))
    (alone,) = compare(long_table({"a": a, "b": b}))
    among = compare(long_table({"a": np.hstack([a, np.zeros((8, 30))]), "b": np.hstack([b, np.zeros((8, 30))])}))
    assert among[0]["p_corrected"] == alone["p_corrected"]
    assert [row["p_corrected"] for row in among[1:]] == [None] * 30


def test_a_video_is_weighted_by_the_time_its_tracks_are_seen_and_has_no_rate_from_a_few_seconds() -> None:
    def track(video: str, number: int, seen_s: float, valence: float | None) -> dict[str, object]:
        shares = {f"share_{name}": float(name == "neutral") for name in EMOTIONS}
        about = dict.fromkeys([measure.name for measure in SUMMARISED]) | {"eyes_closed_share": 0.0, "blinks": 1, "age": 30.0}
        return {"video_id": video, "track_id": number, "seen_s": seen_s, **shares, **about, "valence": valence}

    tracks = pd.DataFrame([track("a", 1, 12.0, 0.4), track("a", 2, 4.0, 0.0), track("b", 1, 0.8, None)])
    units = pd.DataFrame(
        [{"video_id": v, "track_id": t, "au": "AU12", "active_share": 0.5, "events": 2} for v, t in (("a", 1), ("a", 2), ("b", 1))]
    )
    videos = pd.DataFrame({"video_id": ["a", "b", "c"], "group": None}).set_index("video_id", drop=False)
    rows = pd.DataFrame(by_video(videos, tracks, units))
    values = {video: part.set_index("measure")["value"].to_dict() for video, part in rows.groupby("video_id")}
    assert values["a"]["valence"] == pytest.approx((12 * 0.4 + 4 * 0.0) / 16)
    assert values["a"]["rate_AU12"] == pytest.approx(4 / 16 * 60)
    assert values["a"]["rate_blinks"] == pytest.approx(2 / 16 * 60)
    assert values["b"]["active_AU12"] == pytest.approx(0.5)
    assert not {"rate_AU12", "rate_blinks", "valence", "head_speed"} & set(values["b"])
    assert "c" not in values


def test_change_points_in_noise_and_in_steps() -> None:
    rng = np.random.default_rng(4)
    drift = np.zeros((400, 8))
    for point in range(1, 400):  # a face changes slowly: each second resembles the last
        drift[point] = 0.8 * drift[point - 1] + rng.normal(0, 0.05, 8)
    assert change_points(drift) == []
    drift[150:, 2] += 0.5
    drift[300:, 5] -= 0.5
    found = change_points(drift)
    assert len(found) == 2
    assert found == pytest.approx([150, 300], abs=2)
    assert change_points(np.zeros((100, 3))) == []
    assert change_points(np.repeat([[0.1], [0.9]], 50, axis=0)) == [50]
    assert change_points(drift[:15]) == []


@pytest.mark.parametrize("per_second", [1, 10])
def test_a_change_of_level_is_listed_with_what_shifts_whatever_the_rate(per_second: int) -> None:
    rng = np.random.default_rng(0)
    size = 160 * per_second
    scores = 0.2 + 0.5 * (np.arange(size) >= 80 * per_second) + rng.uniform(-0.05, 0.05, size)
    scores[75 * per_second : 80 * per_second] = np.nan
    series = series_of({"AU12": scores.tolist()}, step_s=1 / per_second, per_frame=per_second > 1)
    (change,) = track_changes(series)
    assert (change["at_s"], change["at_gap"], change["measure"]) == (80.0, True, "AU12")
    assert (change["before"], change["after"]) == pytest.approx((0.2, 0.7), abs=0.02)
    assert track_changes(series_of({"AU12": [0.1] * 25 + [0.9] * 25}, step_s=1 / per_second, per_frame=per_second > 1)) == []  # too short
