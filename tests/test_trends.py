"""Series made by hand, of which every event, baseline, transition and moment is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.trends.events import au_events, blinks, episodes, hysteresis, transitions
from pipeline.trends.options import Options
from pipeline.trends.people import cooccurrence, moments, person, pooled_age
from pipeline.trends.series import Track, baseline, smooth, stretches, weighted_median
from pipeline.vocabulary import AUS, EMOTIONS

NAN = np.nan
AU12, AU25, AU43 = (AUS.index(au) for au in ("AU12", "AU25", "AU43"))
HAPPY, NEUTRAL, SAD = (EMOTIONS.index(name) for name in ("happiness", "neutral", "sadness"))


def track(
    scores: dict[int, list[float]], felt: list[int | None] | None = None, grid_s: float = 1.0, first: int = 0, age: float = 30.0
) -> Track:
    """A person with the given AU scores (NaN in gaps) and leading emotions (None in gaps); all else unknown or 30 years old."""
    size = len(next(iter(scores.values())))
    aus = np.full((size, len(AUS)), NAN)
    for column, values in scores.items():
        aus[:, column] = values
    gap = ~np.isfinite(aus).any(axis=1)
    emotions = np.full((size, len(EMOTIONS)), NAN)
    for cell, lead in enumerate(felt or [None if hole else NEUTRAL for hole in gap]):
        if lead is not None:
            emotions[cell] = 0.05
            emotions[cell, lead] = 0.7
    base, basis = baseline(aus, emotions[:, NEUTRAL])
    ages = np.where(gap[:, None], NAN, [age, age - 8, age + 12])
    frames = np.where(gap, -1, np.arange(size) * 10)
    texts = np.array([None if hole else f"cell {cell}" for cell, hole in enumerate(gap)], object)
    return Track("v", 1, first, grid_s, gap, aus, emotions, aus, emotions, ages, frames, texts, base, basis)


def test_an_event_begins_at_on_and_ends_under_off() -> None:
    #         0    1    2    3    4    5    6    7    8    9
    values = [0.1, 0.4, 0.6, 0.9, 0.4, 0.4, 0.2, 0.4, 0.49, 0.0]
    one = track({AU12: values}, grid_s=0.5, first=4)
    (event,) = au_events(one, one.aus, hysteresis(one.aus, 0.5, 0.35))
    assert event["au"] == "AU12"
    assert (event["onset_s"], event["offset_s"], event["duration_s"]) == (3.0, 5.0, 2.0)  # cells 2 to 5; cell 0 starts at 2 s
    assert event["apex_s"] == 3.75 and event["apex_frame"] == 30  # the middle of cell 3
    assert event["peak"] == 0.9 and event["mean"] == pytest.approx((0.6 + 0.9 + 0.4 + 0.4) / 4)
    assert not event["censored_start"] and not event["censored_end"]


def test_events_end_at_gaps_and_say_so() -> None:
    one = track({AU12: [0.9, 0.9, NAN, 0.4, 0.9, NAN, NAN, 0.2, 0.8]})
    found = au_events(one, one.aus, hysteresis(one.aus, 0.5, 0.35))
    assert [(e["onset_s"], e["offset_s"], e["censored_start"], e["censored_end"]) for e in found] == [
        (0.0, 2.0, True, True),
        (4.0, 5.0, False, True),  # 0.4 after a gap is not known to be within an event
        (8.0, 9.0, False, True),
    ]


def test_hysteresis_is_the_plain_loop() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((500, 3))
    values[rng.random(500) < 0.1] = NAN
    expected = np.zeros(values.shape, bool)
    for column in range(3):
        on = False
        for cell, value in enumerate(values[:, column]):
            on = bool(value >= 0.35) if on else bool(value >= 0.7)
            expected[cell, column] = on
    assert (hysteresis(values, 0.7, 0.35) == expected).all()


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
    assert smooth(parabola, "savgol", 5) == pytest.approx(parabola)  # of its own order
    steps = smooth(np.array([0.0, 1.0, 1.0, 1.0]), "ema", 3)
    assert steps == pytest.approx(1 - np.exp(-np.arange(4) / 3))  # the answer to a step with time constant 3
    assert smooth(np.array([0.3, 0.9]), "savgol", 5).tolist() == [0.3, 0.9]  # too short for a parabola: as it is


def test_baseline_of_neutral_moments() -> None:
    scores = np.array([[0.2], [0.2], [0.22], [0.9], [0.95], [0.9], [NAN]])
    neutral = np.array([1.0, 1.0, 1.0, 0.0, 0.1, 0.0, NAN])
    values, basis = baseline(scores, neutral)
    assert basis == "neutral" and values.tolist() == [0.2]


def test_baseline_of_one_who_is_never_neutral() -> None:
    scores, neutral = np.linspace(0, 1, 11)[:, None], np.zeros(11)
    values, basis = baseline(scores, neutral)
    assert basis == "low" and values == pytest.approx([0.2])
    values, basis = baseline(scores[:9], neutral[:9])  # too little seen to say
    assert basis is None and np.isnan(values).all()


def test_weighted_median_is_the_median_of_repeated_values() -> None:
    rng = np.random.default_rng(0)
    values, counts = rng.random(30), rng.integers(0, 4, 30)
    repeated = np.repeat(values, counts)
    assert weighted_median(values, counts) == np.sort(repeated)[(len(repeated) - 1) // 2]


def test_a_baseline_makes_scores_comparable_between_people() -> None:
    """One whose resting face scores 0.45, another's 0.05, both rise by 0.4: the same relative event, though only one reaches 0.5."""
    rest, rise = [0.0] * 6, [0.4, 0.4]
    people = [track({AU12: [level + value for value in [*rest, *rise, *rest]]}) for level in (0.45, 0.05)]
    found = [au_events(one, one.relative, hysteresis(one.relative, 0.3, 0.2)) for one in people]
    assert [[(e["onset_s"], e["offset_s"]) for e in events] for events in found] == [[(6.0, 8.0)], [(6.0, 8.0)]]


def test_episodes_and_transitions() -> None:
    lead = [NEUTRAL, NEUTRAL, HAPPY, NEUTRAL, HAPPY, None, SAD, SAD, NEUTRAL, SAD]
    one = track({AU12: [NAN if item is None else 0.1 for item in lead]}, lead)
    found = episodes(one)
    assert [(e["emotion"], e["onset_s"], e["duration_s"]) for e in found] == [
        ("neutral", 0, 2),
        ("happiness", 2, 1),
        ("neutral", 3, 1),
        ("happiness", 4, 1),
        ("sadness", 6, 2),
        ("neutral", 8, 1),
        ("sadness", 9, 1),
    ]
    assert [(e["censored_start"], e["censored_end"]) for e in found] == [
        (True, False), *[(False, False)] * 2, (False, True), (True, False), (False, False), (False, True)
    ]  # fmt: skip
    assert [(t["from_emotion"], t["to_emotion"], t["count"], t["probability"]) for t in transitions(found)] == [
        ("happiness", "neutral", 1, 1.0),  # not happiness to sadness: a gap lies between
        ("neutral", "happiness", 2, pytest.approx(2 / 3)),
        ("neutral", "sadness", 1, pytest.approx(1 / 3)),
        ("sadness", "neutral", 1, 1.0),
    ]


def eyes(closed: list[tuple[int, int]], size: int, grid_s: float) -> Track:
    scores = np.full(size, 0.05)
    for begin, end in closed:
        scores[begin:end] = 0.9
    return track({AU43: scores.tolist()}, grid_s=grid_s)


def test_blinks_on_a_fine_grid() -> None:
    """30 s at 10 values a second: three blinks of 0.2 s, one closure of 2 s, one blink cut by the end."""
    found = blinks(eyes([(20, 22), (100, 102), (200, 202), (230, 250), (298, 300)], 300, 0.1), 0.5, 0.35)
    assert found["blinks"] == 3 and found["blinks_per_min"] == pytest.approx(6.0)
    assert found["eyes_closed_share"] == pytest.approx(28 / 300)
    assert found["blink_note"] is None


def test_blinks_on_coarser_grids_say_what_they_are_worth() -> None:
    note = blinks(eyes([(20, 21)], 100, 0.25), 0.5, 0.35)
    assert note["blinks"] == 1 and note["blink_note"].startswith("underestimated")
    note = blinks(eyes([(2, 4)], 100, 1.0), 0.5, 0.35)
    assert note["blinks"] is None and note["blinks_per_min"] is None and "cannot show blinks" in note["blink_note"]
    assert note["eyes_closed_share"] == pytest.approx(0.02)  # the share does not hang on short closures being met
    note = blinks(eyes([(2, 4)], 50, 0.1), 0.5, 0.35)
    assert note["blinks"] is None and "5.0 s only" in note["blink_note"]
    assert blinks(track({AU12: [0.1] * 200}, grid_s=0.1), 0.5, 0.35)["blink_note"].startswith("no AU43")


def test_one_age_of_equal_windows_is_theirs() -> None:
    assert pooled_age(np.array([[30.0, 22.0, 42.0]] * 7)) == pytest.approx((30, 22, 42), abs=1e-3)
    assert pooled_age(np.full((4, 3), NAN)) is None


def test_age_is_the_mixture_and_does_not_jump() -> None:
    ages = np.array([[30.0, 25.0, 36.0]] * 17 + [[70.0, 60.0, 82.0]] * 3)
    middle, low, high = pooled_age(ages) or (0, 0, 0)
    assert 30 < middle < 32  # three wild windows of twenty; their mean would say 36
    rng = np.random.default_rng(0)  # and the mixture by drawing from it
    half = np.abs(rng.normal(size=400_000))
    chosen = ages[rng.integers(0, 20, half.size)].T
    up = rng.random(half.size) < 0.5
    drawn = np.where(
        up, chosen[0] + half * (chosen[2] - chosen[0]) / norm.ppf(0.9), chosen[0] - half * (chosen[0] - chosen[1]) / norm.ppf(0.9)
    )
    assert (low, middle, high) == pytest.approx(np.quantile(drawn, (0.1, 0.5, 0.9)), abs=0.1)


def test_shares_and_gaps_of_a_person() -> None:
    lead = [NEUTRAL, None, HAPPY, HAPPY, None, None, SAD]
    row = person(track({AU12: [NAN if item is None else 0.1 for item in lead]}, lead, first=10), Options())
    assert (row["first_s"], row["last_s"], row["seen_s"], row["gaps"]) == (10.0, 17.0, 4.0, 2)
    assert (row["share_neutral"], row["share_happiness"], row["share_sadness"], row["share_fear"]) == (0.25, 0.5, 0.25, 0)
    assert row["emotion"] == "happiness" and row["age"] == pytest.approx(30, abs=1e-3)


def test_the_grimace_is_the_unusual_moment() -> None:
    scores = [0.1] * 20
    scores[12] = 0.9
    found = moments(track({AU12: scores, AU25: [0.2] * 20}))
    unusual = [row for row in found if row["kind"] == "unusual"]
    assert [(row["time_s"], row["frame_index"], row["description"]) for row in unusual] == [(12.0, 120, "cell 12")]
    assert unusual[0]["because"] == "AU12 +0.80"
    assert [row["rank"] for row in found if row["kind"] == "typical"] == [1, 2, 3]


def test_cooccurrence_is_the_correlation() -> None:
    rng = np.random.default_rng(1)
    active = np.zeros((200, len(AUS)), bool)
    active[:, AU12] = rng.random(200) < 0.4
    active[:, AU25] = active[:, AU12] ^ (rng.random(200) < 0.2)
    seen = rng.random(200) < 0.9
    (row,) = cooccurrence(active, seen)
    a, b = active[seen, AU12], active[seen, AU25]
    assert row["phi"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert row["jaccard"] == pytest.approx((a & b).sum() / (a | b).sum())
    active[:, AU12] = True
    (row,) = cooccurrence(active, seen)
    assert row["phi"] is None


def test_stretches() -> None:
    assert stretches(np.zeros(3, bool)) == []
    assert stretches(np.array([True, False, True, True])) == [slice(0, 1), slice(2, 4)]
