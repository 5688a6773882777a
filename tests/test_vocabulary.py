"""The words of the product agree with one another."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest

import pipeline.vocabulary
from pipeline.describe.claims import claims
from pipeline.faces.alignment import CROP_SIZE, TEMPLATE
from pipeline.records import Alignment
from pipeline.regions.placement import place_regions
from pipeline.vocabulary import (
    ACTION_UNITS,
    AUS,
    AUS_LABELLED,
    CROP_WIDTH,
    CUSTOM_BOX,
    EMOTION_WORDS,
    EMOTIONS,
    EXCLUSIONS,
    JOINED_REGIONS,
    NEIGHBOURS,
    PREVAILING,
    REGION_AUS,
    REGIONS,
    SINGLE_REGIONS,
    compatible,
    excludes,
    region_area,
    region_aus,
    visible_aus,
)

PY_FEAT_AUS = "01 02 04 05 06 07 09 10 11 12 14 15 17 20 23 24 25 26 28 43"
LABELLED_AUS = "01 02 04 05 06 07 09 10 12 15 16 17 18 20 23 24 25 26 27 28 43 61 62 63 64"


def test_the_units_are_those_of_the_tables() -> None:
    both = sorted({*PY_FEAT_AUS.split(), *LABELLED_AUS.split()})
    assert tuple(f"AU{number}" for number in both) == AUS
    assert tuple(f"AU{number}" for number in LABELLED_AUS.split()) == AUS_LABELLED


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


def test_the_area_of_a_region_is_where_the_template_face_has_it() -> None:
    assert CROP_WIDTH == CROP_SIZE
    for name, box in place_regions(TEMPLATE, Alignment(np.eye(2, 3))).items():
        assert region_area(name) == pytest.approx(box, abs=0.06), name


def test_neighbours_are_regions_of_auto() -> None:
    for name, pulled in NEIGHBOURS.items():
        assert name in REGIONS and name not in pulled
        assert set(pulled) <= set(NEIGHBOURS)


def test_units_that_exclude_each_other_never_stand_together() -> None:
    assert excludes("AU24", "AU25") and excludes("AU43", "AU05") and not excludes("AU25", "AU26")
    assert all(len(pair) == 2 and reason for pair, reason in EXCLUSIONS.items())
    chance = np.random.default_rng(0)
    for _ in range(300):
        margins = {au: float(chance.integers(0, 6)) / 5 for au in AUS if chance.random() < 0.5}
        standing = compatible(margins)
        assert list(standing) == [au for au in AUS if au in standing]
        assert not any(excludes(*pair) for pair in combinations(standing, 2))
        for au in set(margins) - set(standing):
            beaten = any(code in margins and au in others for code, others in PREVAILING.items())
            assert beaten or any(excludes(au, other) and margins[other] >= margins[au] for other in margins), "only a rival removes a unit"


def test_the_surer_of_two_units_stands_whatever_their_order() -> None:
    for names in permutations(("AU12", "AU24", "AU25")):
        assert compatible({name: {"AU12": 0.1, "AU24": 0.2, "AU25": 0.3}[name] for name in names}) == ("AU12", "AU25")
    assert compatible({"AU24": 0.5, "AU25": 0.5, "AU26": 0.1}) == ("AU26",), "of two equally sure ones neither"
    assert compatible({"AU26": 0.9, "AU27": 0.1}) == ("AU27",), "a stretched mouth is more than a dropped jaw"


ADDED = r"""
import sys, types
source = open({path!r}).read()
unit = 'ActionUnit("AU22", "lip funneler", ((44, 74, 68, 88),), ("the lips are funneled",), labelled=True),'
edges = ((2, 0, 0, 0, 0), (-15, 0, 0, 0, 0), (-2, 0, 0, 0, 0), (-4, 0, 0, 0, 0))
region = f'Region("philtrum", (44, 64, 68, 78), Placement((3,), (4,), {{edges}})),'
for name, entry in (("ACTION_UNITS", unit), ("_REGIONS", region)):
    at = source.index("\n)", source.index("\n" + name + ": "))
    source = source[:at] + "\n    " + entry + source[at:]
module = types.ModuleType("pipeline.vocabulary")
sys.modules["pipeline.vocabulary"] = module
exec(compile(source, "vocabulary.py", "exec"), module.__dict__)

import numpy as np
from pipeline.describe.grammar import Grammar
from pipeline.describe.sentences import agrees, compose
from pipeline.faces.alignment import TEMPLATE
from pipeline.records import Alignment
from pipeline.regions.placement import place_regions
from pipeline.schemas import DESCRIPTIONS
from pipeline.settings import parse_regions

assert "AU22" in DESCRIPTIONS.names and "AU22" in Grammar().aus
assert "AU22" in module.REGION_AUS["mouth"] and "AU22" in module.AUS_LABELLED
assert agrees(compose(["AU12", "AU22"], "fear", 30), ["AU12", "AU22"], "fear", 30)
box = place_regions(TEMPLATE, Alignment(np.eye(2, 3)))["philtrum"]
assert abs(box[0] - 40) < 4 and parse_regions("philtrum") == "philtrum" and "AU10" in module.REGION_AUS["philtrum"]
"""


def test_an_action_unit_and_a_region_are_added_in_one_place_each() -> None:
    """One entry each in the vocabulary: columns, questions, sentences, regions and exclusions follow."""
    code = ADDED.format(path=str(Path(pipeline.vocabulary.__file__)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
