"""Sentences say exactly what their fields say, whatever the wording; and the vocabulary reads them back."""

from __future__ import annotations

import random
import re

import pytest

from pipeline.describe.claims import SLIGHTLY, STRONGLY, Claims, claims, grade
from pipeline.describe.sentences import agrees, compose, speaks_of_region_first
from pipeline.evaluation.sentence_reader import read_sentence
from pipeline.vocabulary import ACTION_UNITS, AUS, COMBINATIONS, CUSTOM_BOX, EMOTIONS, REGIONS, WHOLE_FACE, ActionUnit, Combination


@pytest.mark.parametrize("seed", range(60))
def test_every_wording_claims_its_fields_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        aus = sorted(chance.sample(AUS, chance.randint(0, 8))) if chance.random() < 0.8 else None
        emotion = chance.choice([*EMOTIONS, None])
        age = chance.choice([None, chance.randint(0, 100)])
        empty = not aus and chance.random() < 0.3
        region = chance.choice([*REGIONS, CUSTOM_BOX])
        sentence = compose(aus, emotion, age, chance, region=region, empty=empty)
        assert agrees(sentence, aus, emotion, age), sentence
        if empty or aus is not None or emotion or age is not None:
            assert sentence[0].isupper() and sentence.endswith("."), sentence
            assert region == WHOLE_FACE or (aus is None and not empty) or speaks_of_region_first(sentence), sentence
            assert "{" not in sentence and "  " not in sentence and "here here" not in sentence.lower(), sentence
        else:
            assert sentence == ""


def test_the_plain_wording() -> None:
    """What an answer falls back to stays as it is: tables of earlier runs hold it."""
    assert compose([], "neutral", 30) == "The region is at rest, in keeping with a neutral look at an apparent age of 30."
    plain = "The inner brows are raised, the lip corners are pulled up and the lips are parted, in keeping with happiness "
    assert compose(["AU01", "AU12", "AU25"], "happiness", 31) == plain + "at an apparent age of 31."


@pytest.mark.parametrize(
    ("region", "aus", "empty", "begins"),
    [
        ("mouth", ["AU12"], False, "The lip corners are pulled up"),
        ("chin", [], False, "The chin is at rest"),
        ("left_eye", [], False, "The left eye is at rest"),
        ("brows", [], False, "The brows are at rest"),
        ("nose", [], True, "No action of the face can be read in the nose"),
        ("box", [], False, "The region is at rest"),
        ("box", [], True, "No action of the face shows in this box"),
    ],
)
def test_the_plain_wording_of_a_region_begins_with_the_region(region: str, aus: list[str], empty: bool, begins: str) -> None:
    assert compose(aus, "happiness", 31, region=region, empty=empty) == f"{begins}; the face as a whole looks happy and about 31 years old."


def test_wordings_of_earlier_versions_still_read_back() -> None:
    """Sentences of tables that version 0.1 wrote."""
    for sentence, aus, face_first in (
        ("The face looks happy and about 31 years old, but no action can be seen in this box.", [], True),
        ("The region is at rest, in keeping with happiness at an apparent age of 31.", [], False),
        ("The lip corners are pulled up; happiness at about 31.", ["AU12"], False),
        ("The face looks happy and about 31 years old: the lip corners are raised.", ["AU12"], True),
        ("The face looks happy and about 31 years old.", [], True),
    ):
        assert agrees(sentence, aus, "happiness", 31), sentence
        assert speaks_of_region_first(sentence) is not face_first, sentence


def test_what_is_not_known_is_left_out() -> None:
    assert compose(["AU12"], None, None) == "The lip corners are pulled up."
    assert compose(["AU12"], "anger", None) == "The lip corners are pulled up, in keeping with anger."
    assert compose(["AU12"], None, 40) == "The lip corners are pulled up, at an apparent age of 40."
    assert compose(None, "anger", 40) == "The face looks angry and about 40 years old."
    assert compose(None, None, None) == ""


def test_an_empty_box_says_so_and_still_knows_the_face() -> None:
    for seed in range(50):
        sentence = compose([], "fear", 20, random.Random(seed), empty=True)
        assert "action" in sentence and claims(sentence) == Claims(frozenset(), frozenset(["fear"]), frozenset([20]))
        assert "action" in compose(None, None, None, random.Random(seed), empty=True)


def test_no_emotion_is_read_off_a_face_at_rest_or_a_neutral_one() -> None:
    for seed in range(300):
        for aus, emotion in (([], "anger"), (["AU04"], "neutral")):
            sentence = compose(aus, emotion, 30, random.Random(seed))
            assert "which" not in sentence and ":" not in sentence, sentence


def test_there_are_many_wordings() -> None:
    sentences = {compose([], "anger", 30, random.Random(seed)) for seed in range(2000)}
    assert len(sentences) >= 40
    active = {compose(["AU04"], "anger", 30, random.Random(seed)) for seed in range(2000)}
    assert len(active) >= 36


def test_a_baby_is_one_year_old() -> None:
    sentences = [compose([], "surprise", 1, random.Random(seed)) for seed in range(200)]
    assert any("1 year" in sentence for sentence in sentences)
    assert not any("1 years" in sentence for sentence in sentences)


def test_a_false_claim_is_noticed() -> None:
    sentence = compose(["AU12"], "happiness", 30)
    assert not agrees(sentence, ["AU12", "AU25"], "happiness", 30)
    assert not agrees(sentence, [], "happiness", 30)
    assert not agrees(sentence, None, "happiness", 30)
    assert not agrees(sentence, ["AU12"], "sadness", 30)
    assert not agrees(sentence, ["AU12"], None, 30)
    assert not agrees(sentence, ["AU12"], "happiness", 31)
    assert not agrees(sentence, ["AU12"], "happiness", None)
    assert not agrees(compose(["AU12"], None, None), ["AU12"], "happiness", 30)


@pytest.mark.parametrize("unit", ACTION_UNITS, ids=lambda unit: unit.code)
def test_each_clause_belongs_to_one_action_unit(unit: ActionUnit) -> None:
    for clause in unit.clauses:
        assert claims(f"Here {clause}.").aus == {unit.code}


@pytest.mark.parametrize("seed", range(20))
def test_grades_are_said_and_read_back(seed: int) -> None:
    """Each graded unit is said with its grade in every wording; a sentence with another grade, or without one, does not agree."""
    chance = random.Random(seed)
    for _ in range(30):
        aus = sorted(chance.sample(AUS, chance.randint(1, 5)))
        intensities = {au: chance.uniform(0.5, 5) for au in aus if chance.random() < 0.7}
        region = chance.choice([*REGIONS, CUSTOM_BOX])
        sentence = compose(aus, "sadness", 40, chance, region=region, intensities=intensities)
        assert agrees(sentence, aus, "sadness", 40, intensities), sentence
        assert read_sentence(sentence).aus == set(aus), sentence
        assert region == WHOLE_FACE or speaks_of_region_first(sentence), sentence
        if words := [au for au in intensities if grade(intensities[au])]:
            assert not agrees(sentence, aus, "sadness", 40, intensities | {words[0]: 2.0}), sentence
            without = re.sub(rf" ({SLIGHTLY}|{STRONGLY})\b", "", sentence)
            assert not agrees(without, aus, "sadness", 40, intensities), sentence
            assert agrees(without, aus, "sadness", 40), sentence


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_combination_is_named_where_all_of_its_units_are_active(combination: Combination) -> None:
    units = combination.units
    sentence = compose(units, "neutral", 40)
    assert combination.name in sentence and agrees(sentence, units, "neutral", 40)
    assert read_sentence(sentence).aus == set(units)
    assert not agrees(sentence, units[1:], "neutral", 40)
    assert not agrees(f"The face shows {combination.name}, looks neutral and about 40 years old.", units[1:], "neutral", 40)
    for missing in units:
        assert combination.name not in compose([unit for unit in units if unit != missing], "neutral", 40)
    unnamed = sentence.replace(f" in {combination.name}", "")
    assert unnamed != sentence and agrees(unnamed, units, "neutral", 40), "a sentence may say the units alone"
