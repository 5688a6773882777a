"""What happens in a series made by hand: events, blinks, episodes, derived measures, moments, ages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.describe.active_units import hysteresis
from pipeline.trends import measures
from pipeline.trends.ages import ages_by_track, pooled_age
from pipeline.trends.events import au_events, episodes, transitions
from pipeline.trends.eyes import blinks, eye_summary
from pipeline.trends.series import Series
from pipeline.trends.tracks import cooccurrence, moments, track_aus, track_summary
from pipeline.vocabulary import AUS, EMOTIONS
from tests.support.trends import described, series_of, steady

NAN = np.nan
AU12, AU25 = AUS.index("AU12"), AUS.index("AU25")


def test_an_event_begins_at_the_threshold_and_ends_below_the_lower_one() -> None:
    #         0    1    2    3    4    5    6    7    8    9
    values = [0.1, 0.4, 0.6, 0.9, 0.4, 0.4, 0.2, 0.4, 0.49, 0.0]
    series = series_of({"AU12": values}, step_s=0.5, first_s=2.0)
    (event,) = au_events(series, series.scores, hysteresis(series.scores, 0.5, 0.35))
    assert event["au"] == "AU12"
    assert (event["onset_s"], event["offset_s"], event["duration_s"]) == (3.0, 5.0, 2.0)  # samples 2 to 5; sample 0 starts at 2 s
    assert (event["apex_s"], event["apex_frame"]) == (3.75, 30)  # the middle of cell 3
    assert event["peak"] == 0.9
    assert event["mean"] == pytest.approx((0.6 + 0.9 + 0.4 + 0.4) / 4)
    assert not event["censored_start"]
    assert not event["censored_end"]


def test_events_of_frames_have_the_frames_times() -> None:
    series = series_of({"AU12": [0.1, 0.6, 0.9, 0.1]}, step_s=0.04, per_frame=True)
    (event,) = au_events(series, series.scores, hysteresis(series.scores, 0.5, 0.35))
    assert (event["onset_s"], event["apex_s"], event["offset_s"]) == (0.04, 0.08, 0.12)


def test_events_end_at_gaps_and_say_so() -> None:
    series = series_of({"AU12": [0.9, 0.9, NAN, 0.4, 0.9, NAN, NAN, 0.2, 0.8]})
    found = au_events(series, series.scores, hysteresis(series.scores, 0.5, 0.35))
    assert [(e["onset_s"], e["offset_s"], e["censored_start"], e["censored_end"]) for e in found] == [
        (0.0, 2.0, True, True),
        (4.0, 5.0, False, True),  # 0.4 after a gap is not known to be inside an event
        (8.0, 9.0, False, True),
    ]


def test_hysteresis_is_the_plain_loop_with_thresholds_of_each_column() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((500, 3))
    values[rng.random(500) < 0.1] = NAN
    on, off = np.array([0.7, 0.5, 0.9]), np.array([0.35, 0.5, 0.1])
    expected = np.zeros(values.shape, bool)
    for column in range(3):
        inside = False
        for row, value in enumerate(values[:, column]):
            inside = bool(value >= off[column]) if inside else bool(value >= on[column])
            expected[row, column] = inside
    assert (hysteresis(values, on, off) == expected).all()


def test_a_baseline_makes_scores_comparable_between_people() -> None:
    """A resting face that scores 0.45 and one that scores 0.05 both rise by 0.4: the same relative event, though only one reaches 0.5."""
    rest, rise = [0.0] * 6, [0.4, 0.4]
    tracks = [series_of({"AU12": [level + value for value in [*rest, *rise, *rest]]}) for level in (0.45, 0.05)]
    found = [au_events(one, one.relative, hysteresis(one.relative, 0.3, 0.2)) for one in tracks]
    assert [[(e["onset_s"], e["offset_s"]) for e in events] for events in found] == [[(6.0, 8.0)], [(6.0, 8.0)]]


def test_episodes_and_transitions() -> None:
    lead = ["neutral", "neutral", "happiness", "neutral", "happiness", None, "sadness", "sadness", "neutral", "sadness"]
    series = series_of({"AU12": [NAN if item is None else 0.1 for item in lead]}, lead)
    found = episodes(series)
    assert [(e["emotion"], e["onset_s"], e["duration_s"]) for e in found] == [
        ("neutral", 0, 2),
        ("happiness", 2, 1),
        ("neutral", 3, 1),
        ("happiness", 4, 1),
        ("sadness", 6, 2),
        ("neutral", 8, 1),
        ("sadness", 9, 1),
    ]
    cut = [(e["censored_start"], e["censored_end"]) for e in found]
    assert cut == [(True, False), *[(False, False)] * 2, (False, True), (True, False), (False, False), (False, True)]
    assert [(t["from_emotion"], t["to_emotion"], t["count"], t["probability"]) for t in transitions(found)] == [
        ("happiness", "neutral", 1, 1.0),  # not happiness to sadness: a gap lies between
        ("neutral", "happiness", 2, pytest.approx(2 / 3)),
        ("neutral", "sadness", 1, pytest.approx(1 / 3)),
        ("sadness", "neutral", 1, 1.0),
    ]


def test_emotions_of_about_the_same_probability_do_not_take_turns() -> None:
    series = series_of({"AU12": [0.1] * 6}, ["neutral"] * 6)
    series.emotions[:, EMOTIONS.index("neutral")] = [0.45, 0.39, 0.45, 0.39, 0.30, 0.30]
    series.emotions[:, EMOTIONS.index("sadness")] = [0.35, 0.45, 0.35, 0.45, 0.50, 0.38]
    found = [(e["emotion"], e["onset_s"], e["offset_s"]) for e in episodes(series)]
    assert found == [("neutral", 0, 4), ("sadness", 4, 6)]


def eyes(closures: list[tuple[int, int]], size: int, step_s: float, score: float = 0.9) -> Series:
    scores = np.full(size, 0.05)
    for begin, end in closures:
        scores[begin:end] = score
    return series_of({"AU43": scores.tolist()}, step_s=step_s, per_frame=True)


def summary(series: Series) -> dict[str, object]:
    return eye_summary(series, blinks(series, 0.5), 0.5, 0.7)


def test_blinks_in_a_series_of_frames() -> None:
    """30 s at 25 frames a second: blinks of 1, 3 and 12 frames, closures of 13 frames and of 2 s, one cut by the end."""
    series = eyes([(50, 51), (250, 253), (400, 412), (500, 513), (575, 625), (747, 750)], 750, 0.04)
    found = blinks(series, 0.5)
    assert [(one["onset_s"], one["offset_s"]) for one in found] == [(2.0, 2.04), (10.0, 10.12), (16.0, 16.48)]
    about = summary(series)
    assert about["blinks"] == 3
    assert about["blinks_per_min"] == pytest.approx(6.0)
    assert about["eyes_closed_share"] == pytest.approx((1 + 3 + 12 + 13 + 50 + 3) / 750)
    assert about["blink_note"] is None


def test_a_fast_blink_may_stay_below_the_threshold_and_half_closed_lids_do_not_count() -> None:
    assert len(blinks(eyes([(50, 51)], 750, 0.04, score=0.4), 0.5)) == 1
    assert blinks(eyes([(50, 51)], 750, 0.04, score=0.2), 0.5) == []


def test_a_blink_beside_a_gap_does_not_count() -> None:
    scores = [0.05] * 100
    scores[30:32], scores[32:40], scores[70:72] = [0.9] * 2, [NAN] * 8, [0.9] * 2
    assert [one["onset_s"] for one in blinks(series_of({"AU43": scores}, step_s=0.04, per_frame=True), 0.5)] == [2.8]


def test_coarser_series_say_what_their_blinks_are_worth() -> None:
    about = summary(eyes([(20, 21)], 100, 0.25))
    assert about["blinks"] == 1
    assert str(about["blink_note"]).startswith("underestimated")
    about = summary(eyes([(2, 4)], 100, 1.0))
    assert (about["blinks"], about["blinks_per_min"]) == (None, None)
    assert "cannot show blinks" in str(about["blink_note"])
    assert about["eyes_closed_share"] == pytest.approx(0.02)  # the share does not need short closures
    about = summary(eyes([(20, 22)], 100, 0.04))
    assert (about["blinks"], about["blinks_per_min"]) == (1, None)
    assert "4.0 s only" in str(about["blink_note"])
    assert str(summary(series_of({"AU12": [0.1] * 200}, step_s=0.1))["blink_note"]).startswith("AU43 is not known")


def test_no_rate_comes_from_a_few_seconds() -> None:
    for seconds, rate in ((1.0, None), (20.0, 3.0)):
        series = series_of({"AU12": [0.9] + [0.1] * (int(seconds * 10) - 1)}, step_s=0.1)
        (row,) = track_aus(series, hysteresis(series.scores, 0.5, 0.35), series.scores, np.full(len(AUS), 0.5))
        assert row["events"] == 1
        assert row["events_per_min"] == rate
        assert (row["rate_note"] is None) == (rate is not None)


def test_valence_is_happiness_less_the_strongest_negative_emotion() -> None:
    series = series_of({"AU12": [0.5] * 3}, ["happiness", "sadness", "surprise"])
    assert measures.valence(series) == pytest.approx([0.7 - 0.05, 0.05 - 0.7, 0.0])


def test_arousal_is_the_mean_of_the_five_largest_rises_over_the_last_minute() -> None:
    rng = np.random.default_rng(0)
    names = ["AU01", "AU02", "AU04", "AU05", "AU07", "AU12", "AU16", "AU43"]  # AU16 does not count
    scores = {au: rng.random(200) for au in names}
    found = measures.arousal(series_of({au: column.tolist() for au, column in scores.items()}))
    counted = np.stack([1 - column if au == "AU43" else column for au, column in scores.items() if au != "AU16"], axis=1)
    for second in (0, 10, 150):
        last_minute = counted[max(0, second - 59) : second + 1]
        rise = np.maximum(counted[second] - last_minute.mean(axis=0), 0)
        assert found[second] == pytest.approx(np.sort(rise)[-5:].mean())
    assert np.isnan(measures.arousal(series_of({"AU01": [0.5] * 9}))).all()  # fewer than five known


def test_intensities_take_the_place_of_scores_where_the_model_gives_them() -> None:
    series = series_of({"AU01": [0.9, 0.9, 0.1], "AU12": [0.4] * 3}, AU01_intensity=[1.0, 3.0, 0.0])
    assert measures.expressiveness(series).tolist() == pytest.approx([0.3, 0.5, 0.2])
    (event,) = [one for one in au_events(series, series.scores, hysteresis(series.scores, 0.5, 0.35)) if one["au"] == "AU01"]
    assert event["peak_intensity"] == 3.0
    first, second = track_aus(series, hysteresis(series.scores, 0.5, 0.35), series.scores, np.full(len(AUS), 0.5))
    assert first["mean_intensity"] == pytest.approx(4 / 3)
    assert second["mean_intensity"] is None


def test_expressiveness_leaves_closed_eyes_out() -> None:
    series = series_of({"AU01": [0.2, NAN], "AU12": [0.4, NAN], "AU43": [1.0, NAN]})
    assert measures.expressiveness(series).tolist() == pytest.approx([0.3])


def test_head_speed_is_degrees_a_second_within_a_stretch() -> None:
    angle = (np.arange(12) * 3.0).tolist()
    scores = [0.1] * 6 + [NAN] + [0.1] * 5
    series = series_of({"AU12": scores}, step_s=0.1, per_frame=True, yaw=angle, pitch=[a / 3 * 4 for a in angle], roll=[0.0] * 12)
    found = measures.head_speed(series)
    assert np.isnan(found[[0, 6, 7]]).all()  # the first sample of each stretch has none before it
    assert found[2:5] == pytest.approx(50.0)  # 3 and 4 degrees in a tenth of a second
    row = track_summary(series, None, measures.derive(series))
    assert 25 < row["head_speed"] <= 50
    assert np.isnan(measures.head_speed(series_of({"AU12": [0.1] * 4}))).all()  # windows have no angles


def test_one_age_of_equal_windows_is_theirs() -> None:
    assert pooled_age(np.array([[30.0, 22.0, 42.0]] * 7)) == pytest.approx((30, 22, 42), abs=1e-3)
    assert pooled_age(np.full((4, 3), NAN)) is None


def test_age_is_the_mixture_and_does_not_jump() -> None:
    ages = np.array([[30.0, 25.0, 36.0]] * 17 + [[70.0, 60.0, 82.0]] * 3)
    middle, low, high = pooled_age(ages) or (0, 0, 0)
    assert 30 < middle < 32  # three wrong windows of twenty; their mean would be 36
    rng = np.random.default_rng(0)  # and the mixture by drawing from it
    half = np.abs(rng.normal(size=400_000))
    chosen = ages[rng.integers(0, 20, half.size)].T
    up, z90 = rng.random(half.size) < 0.5, norm.ppf(0.9)
    drawn = np.where(up, chosen[0] + half * (chosen[2] - chosen[0]) / z90, chosen[0] - half * (chosen[0] - chosen[1]) / z90)
    assert (low, middle, high) == pytest.approx(np.quantile(drawn, (0.1, 0.5, 0.9)), abs=0.1)


def test_the_age_of_a_track_comes_from_its_rows_about_the_whole_face() -> None:
    import pyarrow as pa

    mouth = described("v", 1, steady(4), region="mouth", age=60.0, age_low=50.0, age_high=70.0)
    rows = pa.concat_tables([described("v", 1, steady(4)), mouth, described("v", 2, steady(3), region="mouth"), described("v", 3, {})])
    found = ages_by_track(rows)
    assert sorted(found) == [1, 2]
    assert found[1] == pytest.approx((30, 22, 42), abs=1e-3)
    assert found[2] == pytest.approx((30, 22, 42), abs=1e-3)  # without a row about the face, from all rows


def test_shares_and_gaps_of_a_track() -> None:
    lead = ["neutral", None, "happiness", "happiness", None, None, "sadness"]
    series = series_of({"AU12": [NAN if item is None else 0.1 for item in lead]}, lead, first_s=10)
    row = track_summary(series, pooled_age(np.array([[30.0, 22.0, 42.0]])), measures.derive(series))
    assert (row["first_s"], row["last_s"], row["seen_s"], row["gaps"]) == (10.0, 17.0, 4.0, 2)
    assert (row["share_neutral"], row["share_happiness"], row["share_sadness"], row["share_fear"]) == (0.25, 0.5, 0.25, 0)
    assert row["emotion"] == "happiness"
    assert row["age"] == pytest.approx(30, abs=1e-3)
    assert row["valence"] == pytest.approx((0.65 + 0.65 - 0.65 + 0.0) / 4)


def test_the_grimace_is_the_unusual_moment() -> None:
    scores = [0.1] * 20
    scores[12] = 0.9
    found = moments(series_of({"AU12": scores, "AU25": [0.2] * 20}))
    unusual = [row for row in found if row["kind"] == "unusual"]
    assert [(row["time_s"], row["frame_index"]) for row in unusual] == [(12.5, 120)]
    assert unusual[0]["because"] == "AU12 +0.80"
    typical = [row for row in found if row["kind"] == "typical"]
    assert [row["rank"] for row in typical] == [1, 2, 3]
    times = sorted(row["time_s"] for row in typical)
    assert min(np.diff(times)) >= 3


def test_cooccurrence_is_the_correlation() -> None:
    rng = np.random.default_rng(1)
    active = np.zeros((200, len(AUS)), bool)
    active[:, AU12] = rng.random(200) < 0.4
    active[:, AU25] = active[:, AU12] ^ (rng.random(200) < 0.2)
    times = rng.integers(1, 4, 200)  # seconds that each sample stands for: the same as that many samples of a second
    a, b = np.repeat(active[:, AU12], times), np.repeat(active[:, AU25], times)
    (row,) = cooccurrence(active, times.astype(float))
    assert row["phi"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert row["jaccard"] == pytest.approx((a & b).sum() / (a | b).sum())
    active[:, AU12] = True
    (row,) = cooccurrence(active, times.astype(float))
    assert row["phi"] is None
