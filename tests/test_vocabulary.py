"""The words of the product agree with one another."""

from __future__ import annotations

import re
from itertools import product

import pytest

from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import (
    ACTION_UNITS,
    AUS,
    AUS_LABELLED,
    CUSTOM_BOX,
    EMOTION_WORDS,
    EMOTIONS,
    JOINED_REGIONS,
    REGION_AUS,
    REGIONS,
    SINGLE_REGIONS,
    claims,
    region_aus,
    visible_aus,
)

PY_FEAT_AUS = "01 02 04 05 06 07 09 10 11 12 14 15 17 20 23 24 25 26 28 43"
NANO_AUS = "01 02 04 05 07 10 12 15 16 17 18 20 24 25 26 43"


def test_the_units_are_those_of_the_tables() -> None:
    both = sorted({*PY_FEAT_AUS.split(), *NANO_AUS.split()})
    assert tuple(f"AU{number}" for number in both) == AUS
    assert tuple(f"AU{number}" for number in NANO_AUS.split()) == AUS_LABELLED


def test_areas_lie_in_the_crop() -> None:
    for unit in ACTION_UNITS:
        for x0, y0, x1, y1 in unit.areas:
            assert 0 <= x0 < x1 <= CROP_SIZE and 0 <= y0 < y1 <= CROP_SIZE, unit.code


def test_every_clause_claims_its_own_unit_and_no_other() -> None:
    for unit in ACTION_UNITS:
        for clause in unit.clauses:
            said = claims(f"In this picture {clause}, it seems.")
            assert said.aus == {unit.code}, clause
            assert not said.emotions, clause


def test_clauses_of_two_units_in_one_sentence_are_both_read() -> None:
    for one, other in product(ACTION_UNITS, ACTION_UNITS):
        sentence = f"{one.clauses[0].capitalize()} and {other.clauses[-1]}."
        assert claims(sentence).aus == {one.code, other.code}, sentence


def test_emotion_words_and_ages_are_read_back() -> None:
    assert tuple(EMOTION_WORDS) == EMOTIONS
    for emotion, words in EMOTION_WORDS.items():
        for word in words:
            assert claims(f"A face that looks {word}, about 34 years old.").emotions == {emotion}
    assert claims("about 34, between 20 and 48").ages == {20, 34, 48}
    assert claims("AU12 is not an age").ages == frozenset()


def test_regions_and_their_units() -> None:
    assert tuple(REGION_AUS) != () and set(REGION_AUS) == set(REGIONS)
    for region, units in REGION_AUS.items():
        assert units and tuple(code for code in AUS if code in units) == units, region
    for joined, sides in JOINED_REGIONS.items():
        assert set(sides) < set(SINGLE_REGIONS)
        assert all(REGION_AUS[side] == REGION_AUS[joined] for side in sides)
    assert set().union(*(REGION_AUS[region] for region in REGIONS)) == set(AUS)
    assert CUSTOM_BOX not in REGIONS


def test_any_other_box_shows_what_it_holds_enough_of() -> None:
    assert visible_aus((0, 0, CROP_SIZE, CROP_SIZE)) == AUS
    assert visible_aus((0, 0, 4, 4)) == ()
    lower = visible_aus((30, 66, 82, 110))
    assert "AU12" in lower and "AU25" in lower and "AU01" not in lower and "AU43" not in lower
    assert region_aus(CUSTOM_BOX, (30, 66, 82, 110)) == lower
    assert region_aus("mouth", (0, 0, 4, 4)) == REGION_AUS["mouth"]


@pytest.mark.parametrize("code", AUS)
def test_one_side_is_enough(code: str) -> None:
    unit = next(unit for unit in ACTION_UNITS if unit.code == code)
    assert all(code in visible_aus(area) for area in unit.areas)
    assert re.fullmatch(r"AU\d\d", code)
