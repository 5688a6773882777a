"""The benchmark's figures: hand-made answers whose right value is known, and scikit-learn's values on many random ones."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from pipeline.describe.claims import claims
from pipeline.describe.sentences import compose
from pipeline.evaluation.answer_table import AnswerTable, index_faces
from pipeline.evaluation.baselines import from_labels, majority, random_box, whole_face
from pipeline.evaluation.bootstrap import intervals, mean, measure
from pipeline.evaluation.conversation import conversation_figures
from pipeline.evaluation.groups import group_figures
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.questions import Question, nudged
from pipeline.evaluation.questions import random_box as draw_box
from pipeline.evaluation.recognition import recognition_figures
from pipeline.evaluation.region_metrics import region_classes, region_figures
from pipeline.evaluation.scoring import references
from pipeline.records import Answer
from pipeline.vocabulary import AUS, CUSTOM_BOX, EMOTIONS, REGION_AUS, REGIONS, WHOLE_FACE, Box, compatible, region_aus

KNOWN = tuple(f"AU{number}" for number in ["01", "02", "04", "05", "07", "10", "12", "15", "16", "17", "18", "20", "24", "25", "26", "43"])
"""What the labels know in these tests."""

BOX: Box = (0.0, 0.0, 112.0, 112.0)


def row(
    face: str = "a",
    kind: str = "face",
    region: str = WHOLE_FACE,
    *,
    gold: str = "",
    said: str = "",
    emotions: tuple[str | None, str] = ("neutral", "neutral"),
    ages: tuple[float | None, float] = (30.0, 30.0),
    sentence: str | None = None,
    box: Box = BOX,
    source: str = "web",
    scores: dict[str, float] | None = None,
    sure: float = 1.0,
    interval: tuple[float, float] | None = None,
    **labels: Any,
) -> Prediction:
    """A question with its answer; action units as "AU01 AU02", emotions and ages as (gold, said), `labels` as fields of Question."""
    visible = tuple(au for au in region_aus(region, box) if au in KNOWN)
    active = frozenset(visible) & frozenset(gold.split())
    question = Question(face, source, kind, region, box, box, KNOWN, visible, active, emotions[0], ages[0], **labels)
    named = tuple(said.split())
    chances = {name: sure if name == emotions[1] else (1 - sure) / 6 for name in EMOTIONS}
    text = compose(named, emotions[1], round(ages[1])) if sentence is None else sentence
    low, high = interval or (None, None)
    return Prediction(question, Answer(scores or {}, named, chances, emotions[1], ages[1], low, high, text))


def figures(*rows: Prediction, units: tuple[str, ...] = KNOWN) -> dict[str, float]:
    face_index = index_faces(rows)
    table = AnswerTable(rows, face_index, units)
    return measure({**recognition_figures(table), **region_figures(table), **conversation_figures(table)}, len(face_index))


def many(count: int = 240, seed: int = 3) -> list[Prediction]:
    """Random gold labels with answers that are right now and then: whole faces, and all further questions of each second face."""
    chance = np.random.default_rng(seed)
    named = [name for name in REGIONS if name != WHOLE_FACE]
    rows = []
    for i in range(count):
        gold = " ".join(compatible({au: chance.random() for au in KNOWN if chance.random() < 0.35}))
        emotions = (EMOTIONS[k] if (k := int(chance.integers(8))) < 7 else None, str(chance.choice(EMOTIONS)))
        ages = (float(chance.integers(10, 80)) if i % 3 else None, float(chance.integers(10, 80)))
        rest = {
            "gold": gold,
            "emotions": emotions,
            "ages": ages,
            "source": ["web", "fer2013"][i % 2],
            "sure": float(chance.uniform(0.2, 1)),
        }
        first = named[i % 13]
        other = str(chance.choice([name for name in named if not set(REGION_AUS[name]) & set(REGION_AUS[first])]))
        asked = [("face", WHOLE_FACE, BOX), ("region", first, BOX)]
        if i % 2 == 0:
            asked += [("nudged", first, BOX), ("other", other, BOX), ("random", CUSTOM_BOX, (20.0, 60.0, 90.0, 110.0))]
        for kind, region, box in asked:
            scores = {au: round(float(chance.random() * 0.6 + 0.4 * (au in gold)), 1) for au in KNOWN}
            said = " ".join(au for au in KNOWN if scores[au] > 0.6)
            rows.append(row(f"f{i}", kind, region, said=said, box=box, scores=scores, **rest))  # type: ignore[arg-type]
    return rows


def test_intensities_are_compared_by_correlation_and_error() -> None:
    """Against NumPy's correlation and the ICC(3,1) of Shrout and Fleiss's formulas, spelled out; a face without a label does not count."""
    chance = np.random.default_rng(8)
    gold = chance.uniform(0, 5, 40)
    said = (0.7 * gold + chance.normal(0.3, 0.5, 40)).clip(0, 5)
    rows = [
        with_intensities(row(f"f{i}", au_intensities={"AU12": g, "AU04": 1.0}), {"AU12": s, "AU04": 0.5})
        for i, (g, s) in enumerate(zip(gold, said, strict=True))
    ]
    rows += [with_intensities(row("no label"), {"AU12": 5.0}), row("no answer", au_intensities={"AU12": 0.0})]
    found = figures(*rows, units=("AU04", "AU12", "AU25"))
    assert found["au_intensity_r_by_unit/AU12"] == pytest.approx(np.corrcoef(gold, said)[0, 1])
    assert found["au_intensity_mae_by_unit/AU12"] == pytest.approx(np.abs(gold - said).mean())
    both = np.stack([gold, said], 1)
    between = 2 * ((both.mean(1) - both.mean()) ** 2).sum() / 39
    residual = ((both - both.mean(1, keepdims=True) - both.mean(0) + both.mean()) ** 2).sum() / 39
    assert found["au_intensity_icc_by_unit/AU12"] == pytest.approx((between - residual) / (between + residual))
    assert np.isnan(found["au_intensity_r_by_unit/AU04"]), "it does not vary"
    assert found["au_intensity_r"] == pytest.approx(found["au_intensity_r_by_unit/AU12"])
    assert found["au_intensity_mae"] == pytest.approx((found["au_intensity_mae_by_unit/AU12"] + 0.5) / 2)
    assert "au_intensity_r" not in figures(row("a", said="AU12")), "a model without intensities has no such figures"


def with_intensities(prediction: Prediction, intensities: dict[str, float]) -> Prediction:
    return Prediction(prediction.question, replace(prediction.answer, au_intensities=intensities))


def test_action_units_by_hand() -> None:
    """AU12: one hit, one false alarm, two misses. AU25: one hit and nothing else."""
    found = figures(
        row("a", gold="AU12 AU25", said="AU12 AU25"),
        row("b", gold="", said="AU12"),
        row("c", gold="AU12", said=""),
        row("d", gold="AU12", said=""),
        units=("AU12", "AU25"),
    )
    assert found["au_precision/AU12"] == 1 / 2 and found["au_recall/AU12"] == 1 / 3 and found["au_f1/AU12"] == pytest.approx(0.4)
    assert found["au_f1/AU25"] == 1
    assert found["au_f1_mean"] == pytest.approx(0.7)
    assert found["au_f1_micro"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))


def test_recognition_is_that_of_scikit_learn() -> None:
    rows = many()
    found = figures(*rows)
    whole = [r for r in rows if r.question.kind == "face"]
    gold = np.array([[au in r.question.aus for au in KNOWN] for r in whole])
    said = np.array([[au in r.answer.aus for au in KNOWN] for r in whole])
    scores = np.array([[r.answer.au_scores[au] for au in KNOWN] for r in whole])
    for average, suffix in (("macro", "mean"), ("micro", "micro")):
        expected = metrics.precision_recall_fscore_support(gold, said, average=average)
        assert [found[f"au_{name}_{suffix}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    for i, au in enumerate(KNOWN):
        assert found[f"au_f1/{au}"] == pytest.approx(metrics.f1_score(gold[:, i], said[:, i]))
        assert found[f"au_ap/{au}"] == pytest.approx(metrics.average_precision_score(gold[:, i], scores[:, i]))  # many equal scores
    assert found["au_ap_mean"] == pytest.approx(metrics.average_precision_score(gold, scores))
    for source in ("web", "fer2013"):
        pairs = [(r.question.emotion, r.answer.emotion) for r in whole if r.question.source == source and r.question.emotion]
        true, answered = zip(*pairs, strict=True)
        assert found[f"emotion_accuracy/{source}"] == pytest.approx(metrics.accuracy_score(true, answered))
        expected = metrics.f1_score(true, answered, labels=sorted(set(true)), average="macro")
        assert found[f"emotion_macro_f1/{source}"] == pytest.approx(expected)
    aged = [(r.question.age, r.answer.age) for r in whole if r.question.age is not None]
    assert found["age_mae"] == pytest.approx(metrics.mean_absolute_error(*zip(*aged, strict=True)))


def test_macro_f1_is_over_the_emotions_that_occur() -> None:
    found = figures(*[row(str(i), emotions=pair) for i, pair in enumerate([("fear", "fear"), ("anger", "disgust"), (None, "anger")])])
    assert found["emotion_accuracy/web"] == 1 / 2
    assert found["emotion_macro_f1/web"] == 1 / 2


def test_calibration_by_hand() -> None:
    """In one bin two answers at 0.9, one right: off by 0.4; in another two at 0.5, both right: off by 0.5; halves of all."""
    pairs = [("fear", 0.9), ("anger", 0.9), ("fear", 0.5), ("fear", 0.5)]
    found = figures(*[row(str(i), emotions=(gold, "fear"), sure=sure) for i, (gold, sure) in enumerate(pairs)])
    assert found["emotion_ece"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    assert figures(*[row(str(i)) for i in range(3)])["emotion_ece"] == 0


def test_ages_by_hand() -> None:
    found = figures(row("a", ages=(30, 35)), row("b", ages=(30, 20)), row("c", ages=(None, 90)), row("d", ages=(40, 40.5)))
    assert found["age_mae"] == pytest.approx(15.5 / 3)
    assert found["age_within_5"] == pytest.approx(2 / 3)


def test_coverage_of_the_age_interval_by_hand() -> None:
    """Two of three intervals hold the age, one of them at its very end; the fourth answer gives no interval."""
    found = figures(
        row("a", ages=(30, 35), interval=(30, 40)),
        row("b", ages=(30, 20), interval=(18, 22)),
        row("c", ages=(40, 45), interval=(20, 60)),
        row("d", ages=(40, 45)),
        row("e", ages=(None, 45), interval=(20, 60), age_guess=38.0),
    )
    assert found["age_coverage"] == pytest.approx(2 / 3)
    assert found["age_mae"] == pytest.approx((5 + 10 + 5 + 5) / 4), "a guess is not a recorded age"
    assert found["age_guess_mae"] == 7
    assert "age_coverage" not in figures(row())


def test_agreement_with_votes_by_hand() -> None:
    """Annotators: 0.7 fear and 0.3 surprise. The answer is surprise with 0.5; all other emotions share the rest."""
    votes = tuple({"fear": 0.7, "surprise": 0.3}.get(name, 0.0) for name in EMOTIONS)
    found = figures(row("a", emotions=(None, "surprise"), sure=0.5, emotion_votes=votes), row("b", emotions=("fear", "fear")))
    assert found["emotion_vote_share/web"] == pytest.approx(0.3)
    assert found["emotion_vote_share_best/web"] == pytest.approx(0.7)
    assert found["emotion_vote_kl/web"] == pytest.approx(0.7 * math.log(0.7 / (0.5 / 6)) + 0.3 * math.log(0.3 / 0.5))
    exact = figures(row("a", emotions=(None, "fear"), emotion_votes=tuple(float(name == "fear") for name in EMOTIONS)))
    assert exact["emotion_vote_kl/web"] == pytest.approx(0, abs=1e-3)


def test_excluded_pairs_by_hand() -> None:
    """AU24 presses the lips together and goes with neither AU25 nor AU26, which go together. Random boxes are not counted."""
    found = figures(
        row("a", said="AU24 AU25 AU26"), row("a", "region", "mouth", said="AU24 AU25"), row("a", "random", CUSTOM_BOX, said="AU24 AU25")
    )
    assert found["excluded_pairs"] == 3
    assert figures(row(said="AU12 AU25"))["excluded_pairs"] == 0


def test_conversations_by_hand() -> None:
    """Asked alone every region is right; in turn the fourth one is missed on face a. Face b lacks its conversation."""
    regions = ("eyes", "brows", "chin", "mouth")
    units = ("AU07", "AU04", "AU17", "AU12")
    rows = []
    for turn, (region, au) in enumerate(zip(regions, units, strict=True), 1):
        rows += [row("a", f"apart{turn}", region, gold=au, said=au), row("a", f"turn{turn}", region, gold=au, said=au if turn < 4 else "")]
        rows += [row("b", f"apart{turn}", region, gold=au, said="")]
    found = figures(row("a"), row("b"), *rows)
    assert [found[f"in_turn_f1/{turn}"] for turn in range(1, 5)] == [1, 1, 1, 0]
    assert [found[f"apart_f1/{turn}"] for turn in range(1, 5)] == [1, 1, 1, 1]
    assert found["in_turn_loss"] == 1
    assert "in_turn_loss" not in figures(row("a"))


def test_groups_by_hand() -> None:
    """Thirty men are 2 years off, thirty women 4; two of unknown sex and one other count for nothing in the worst group."""
    faces = [row(f"m{i}", ages=(30, 32), attributes={"sex": "male"}) for i in range(30)]
    faces += [row(f"f{i}", ages=(30, 34), attributes={"sex": "female"}) for i in range(30)]
    faces += [row("x", ages=(30, 90), attributes={"sex": "other"}), row("y", attributes={"sex": None})]
    found = group_figures(AnswerTable(faces, index_faces(faces), KNOWN), "sex", resamples=20)
    assert found.faces == {"female": 30, "male": 30, "other": 1}
    assert {name: values["age_mae"] for name, values in found.values.items()} == {
        "female": (4, 4, 4),
        "male": (2, 2, 2),
        "other": (60, 60, 60),
    }
    assert found.worst()["age_mae"] == {"group": "female", "value": 4, "mean": 3}
    assert found.worst()["emotion_accuracy/web"]["value"] == 1


def test_numbers_are_grouped_by_bands() -> None:
    ages = [row(f"{i}", attributes={"age": age}) for i, age in enumerate([4.0, 9.0, 25.0, None, 81.0])]
    assert group_figures(AnswerTable(ages, index_faces(ages), KNOWN), "age", 5).faces == {
        "0 to 9": 2,
        "20 to 29": 1,
        "70 and over": 1,
    }
    yaws = [row(f"{i}", attributes={"yaw": float(i)}) for i in range(-20, 20)]
    assert list(group_figures(AnswerTable(yaws, index_faces(yaws), KNOWN), "yaw", 5).faces.values()) == [10, 10, 10, 10]


def test_without_labels_there_is_no_figure() -> None:
    found = figures(row(emotions=(None, "fear"), ages=(None, 30)))
    assert np.isnan(found["age_mae"]) and np.isnan(found["faithfulness/precision"])
    assert not any(name.startswith("emotion") for name in found)
    assert not any(name.startswith("au_ap") for name in found), "no scores were given"


def test_units_of_a_region_by_hand() -> None:
    """A unit of the face that the box cannot show is a false alarm in that box."""
    found = figures(
        row("a"),
        row("a", "region", "mouth", gold="AU12 AU04", said="AU12 AU04"),
        row("a", "random", CUSTOM_BOX, said="AU12", box=(0, 0, 9, 9)),
    )
    assert found["region_au_f1"] == found["au_f1_by_region/mouth"] == pytest.approx(2 / 3)
    assert found["box_au_f1"] == 0


def test_locality_by_hand() -> None:
    eyes = row("a", "region", "eyes", said="AU07 AU12", sentence="The lids are tightened, the chin is raised and the jaw hangs open.")
    boxes = row("a", "random", CUSTOM_BOX, said="AU12", box=(30, 70, 80, 90))
    found = figures(row("a", said="AU12"), eyes, boxes)
    assert found["locality_violations"] == 1 / 2
    assert found["locality_sentences"] == pytest.approx(2 / 3)
    assert found["locality_boxes"] == 0
    assert figures(row("a"), row("a", "region", "nose"))["locality_violations"] == 0


def test_faithfulness_by_hand() -> None:
    """True: AU12, sadness, the age (4 years off). False: AU25, anger. Left out: AU17. The box shows no brows, and AU28 has no label."""
    sentence = (
        "The lip corners are raised, the lips are parted and sucked in; the brows are knitted: sad or angry, at 34; the lips are rolled in."
    )
    found = figures(row("a", "region", "mouth", gold="AU12 AU17", emotions=("sadness", "fear"), ages=(30, 3), sentence=sentence))
    assert found["faithfulness/precision"] == pytest.approx(3 / 5)
    assert found["faithfulness/recall"] == pytest.approx(3 / 4)
    assert found["faithfulness/f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert found["faithfulness_aus/precision"] == found["faithfulness_aus/recall"] == 1 / 2


def test_faithfulness_of_a_sentence_that_says_nothing() -> None:
    found = figures(row("a", gold="AU12", sentence="A face."))
    assert np.isnan(found["faithfulness/precision"])
    assert found["faithfulness/recall"] == 0


def test_consistency_by_hand() -> None:
    rows = [
        row("a", said="AU12"),
        row("a", "region", "mouth", said="AU12", sentence="The lips are parted; neutral, 30."),
        row("b"),
        row("c"),
    ]
    found = figures(*rows)
    assert found["consistency"] == found["consistency_final"] == 3 / 4
    assert "sentences_replaced" not in found, "the answers do not keep what the model wrote"


def test_consistency_judges_what_the_model_wrote_before_the_replacement() -> None:
    """One of four answers keeps no sentence of the model's; one was replaced rightly, one although it was right in other words."""

    def answered(face: str, own: str | None) -> Prediction:
        given = row(face, said="AU12")
        return dataclasses.replace(given, answer=dataclasses.replace(given.answer, own_sentence=own))

    right = row("x", said="AU12").answer.description
    found = figures(
        answered("a", right), answered("b", "A frown; neutral, 30."), answered("c", "A smile; neutral, 30."), answered("d", None)
    )
    assert found["consistency"] == 3 / 4
    assert found["consistency_final"] == 1
    assert found["sentences_replaced"] == pytest.approx(2 / 3)


def test_regions_that_share_units_count_as_one() -> None:
    classes = region_classes()
    assert set(classes) == set(REGIONS) - {WHOLE_FACE}
    groups = {frozenset(name for name in classes if classes[name] == group) for group in classes.values()}
    assert frozenset({"brows", "left_brow", "right_brow", "forehead"}) in groups
    assert frozenset({"mouth", "chin"}) in groups
    assert frozenset({"nose"}) in groups
    for one, other in itertools.combinations(classes, 2):
        assert (classes[one] == classes[other]) >= bool(set(region_aus(one, BOX)) & set(region_aus(other, BOX)))


@pytest.mark.parametrize(("telling", "accuracy"), [(True, 1.0), (False, 0.5)])
def test_discrimination_by_hand(telling: bool, accuracy: float) -> None:
    """Sentences that name the region's action tell it; one sentence for all tells nothing. Where nothing is active nothing counts."""
    rows = [row("none", "region", "chin", sentence="The eyes are closed.")]
    for i, (region, au) in enumerate([("eyes", "AU43"), ("mouth", "AU12")] * 6):
        rows.append(row(f"f{i}", "region", region, gold=au, said=au if telling else "", sentence=None if telling else "A face."))
    found = figures(*rows)
    assert found["discrimination/accuracy"] == accuracy
    assert found["discrimination/chance"] == 0.5
    assert found["discrimination/score"] == 2 * accuracy - 1


def test_perturbation_by_hand() -> None:
    """Face a: one of two units stays and the age goes (1/2 + 1 + 0) / 3. Face b: all stays. The eyes differ wholly on a, and half on b;
    on c nothing is active, so only its staying counts."""
    rows = [
        row("a", "region", "mouth", gold="AU12", said="AU12 AU25"),
        row("a", "nudged", "mouth", gold="AU12", said="AU12", ages=(30, 36)),
        row("a", "other", "eyes", said="AU43"),
        row("b", "region", "mouth", said="AU12"),
        row("b", "nudged", "mouth", said="AU12", ages=(30, 35)),
        row("b", "other", "eyes", gold="AU43", said="AU12 AU43"),
        row("c", "region", "mouth"),
        row("c", "nudged", "mouth"),
        row("c", "other", "eyes"),
    ]
    found = figures(*rows)
    assert found["perturbation/stability"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["perturbation/sensitivity"] == pytest.approx((1 + 0.5) / 2)
    stay, change = found["perturbation/stability"], found["perturbation/sensitivity"]
    assert found["perturbation/combined"] == pytest.approx(2 * stay * change / (stay + change))


BETTER_LOW = ("emotion_ece", "excluded_pairs", "age_mae", "locality_violations", "locality_sentences", "locality_boxes")


def test_a_perfect_describer_is_perfect() -> None:
    for name, value in figures(*from_labels(many())).items():
        if name != "discrimination/chance":
            assert value == pytest.approx(0 if name in BETTER_LOW else 1), name


def test_a_shuffled_describer_is_at_chance() -> None:
    """Right answers given to the wrong faces: each figure is near what guessing by the labels' shares gives."""
    rows = from_labels(many(1200))
    whole = [r for r in rows if r.question.kind == "face"]
    order = np.random.default_rng(0).permutation(len(whole))
    found = figures(*[dataclasses.replace(r, answer=whole[i].answer) for r, i in zip(whole, order, strict=True)])
    share = np.mean([[au in r.question.aus for au in KNOWN] for r in whole])
    assert found["au_f1_mean"] == pytest.approx(share, abs=0.03)
    assert found["au_ap_mean"] == pytest.approx(share, abs=0.03)
    assert found["emotion_accuracy/web"] == pytest.approx(1 / 7, abs=0.05)
    ages = np.array([r.question.age for r in whole if r.question.age is not None])
    assert found["age_mae"] == pytest.approx(np.abs(ages[:, None] - ages).mean(), rel=0.15)  # unlabelled ones answer 30
    regions = [r for r in rows if r.question.kind == "region"]
    mixed = figures(*[dataclasses.replace(r, answer=regions[i].answer) for r, i in zip(regions, order, strict=True)])
    assert abs(mixed["discrimination/score"]) < 0.1


def test_every_figure_of_a_resample_is_that_of_the_resampled_faces() -> None:
    """Weights do what writing a face's rows down as often would do."""
    rows = many(60)
    face_index = index_faces(rows)
    times = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60))
    table = AnswerTable(rows, face_index, KNOWN)
    weighed = {name: float(f(times[:, None].astype(float))[0]) for name, f in recognition_figures(table).items()}
    weighed |= {
        name: float(f(times[:, None].astype(float))[0]) for name, f in region_figures(table).items() if "discrimination" not in name
    }
    again = [
        dataclasses.replace(r, question=dataclasses.replace(r.question, image_id=f"{r.question.image_id} {copy}"))
        for r in rows
        for copy in range(times[face_index[r.question.image_id]])
    ]
    written = figures(*again)
    assert weighed == pytest.approx({name: written[name] for name in weighed}, nan_ok=True)


def test_intervals_are_those_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(10, 2, 400)
    figure = mean(values, np.ones(400))
    found = intervals({"mean": figure}, 400, resamples=4000)
    low, high = found["mean"]
    half = 1.96 * values.std() / 20
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.03)
    assert found == intervals({"mean": figure}, 400, resamples=4000)


def test_intervals_where_there_is_nothing_to_measure() -> None:
    nothing = mean(np.zeros(3), np.zeros(3))
    assert np.isnan(measure({"x": nothing}, 3)["x"])
    assert np.isnan(intervals({"x": nothing}, 3, resamples=10)["x"]).all()
    assert intervals({"x": mean(np.ones(1), np.ones(1))}, 1, resamples=10) == {"x": (1.0, 1.0)}


def test_baselines_by_hand() -> None:
    rows = [
        row("a", gold="AU12 AU25", emotions=("fear", "anger"), ages=(20, 9), said="AU04"),
        row("a", "region", "eyes", emotions=("fear", "anger"), ages=(20, 9), said="AU07"),
        row("a", "random", CUSTOM_BOX, emotions=("fear", "anger"), ages=(20, 9), said="AU05", box=(1, 1, 9, 9)),
        row("b", gold="AU12", emotions=("fear", "anger"), ages=(30, 9)),
        row("c", gold="AU12", emotions=("anger", "anger"), ages=(70, 9)),
    ]
    most = majority(rows)
    assert [r.answer.aus for r in most] == [("AU12",), (), (), ("AU12",), ("AU12",)]
    assert {(r.answer.emotion, r.answer.age) for r in most} == {("fear", 30.0)}
    assert most[0].answer.au_scores["AU25"] == pytest.approx(1 / 3)
    assert [r.answer.aus for r in whole_face(rows)] == [("AU04",)] * 3 + [()] * 2
    assert [(r.question.kind, r.answer.aus) for r in random_box(rows)] == [("face", ("AU05",)), ("region", ("AU05",))]


def test_majority_without_labels() -> None:
    (only,) = majority([row(emotions=(None, "fear"), ages=(None, 3))])
    assert only.answer.aus == ()
    assert sum(only.answer.emotion_scores.values()) == pytest.approx(1)


def test_references_say_what_the_labels_say() -> None:
    texts = references(row("a", "region", "mouth", gold="AU12", emotions=("fear", "anger"), ages=(30.4, 9)).question)
    assert len(set(texts)) > 1
    assert {claims(text) for text in texts} == {claims(compose(("AU12",), "fear", 30))}
    assert texts == references(row("a", "region", "mouth", gold="AU12", emotions=("fear", "anger"), ages=(30.4, 9)).question)
    assert not any(claims(text).ages or claims(text).emotions for text in references(row(emotions=(None, "fear"), ages=(None, 9)).question))
    assert references(row("a", "region", "nose", emotions=(None, "fear"), ages=(None, 9)).question) == [], "its unit has no label"


def test_moved_and_random_boxes_stay_where_they_belong() -> None:
    chance = random.Random(0)
    for _ in range(200):
        x0, y0, x1, y1 = nudged((2, 90, 30, 111), chance)
        assert x0 >= 0 and y1 <= 112 and (x1 - x0, y1 - y0) == pytest.approx((28, 21))
        assert abs(x0 - 2) <= 2.8 and abs(y0 - 90) <= 2.1
        x0, y0, x1, y1 = draw_box((10, 5, 100, 40), chance)
        assert x0 >= 10 and x1 <= 100 and y0 >= 5 and y1 <= 40
        assert 16 <= x1 - x0 <= 64 and 16 <= y1 - y0 <= 35


def test_every_unit_has_a_name_in_the_schema() -> None:
    from pipeline.evaluation.schemas import PREDICTIONS

    assert set(AUS) <= set(PREDICTIONS.names)
    assert all(field.metadata[b"meaning"] for field in PREDICTIONS)
