"""Sentences say exactly what their fields say, whatever the wording; and the vocabulary reads them back."""

from __future__ import annotations

import random

import pytest

from pipeline.vocabulary import ACTION_UNITS, AUS, EMOTIONS, ActionUnit, claims
from pipeline.wording import agrees, compose


@pytest.mark.parametrize("seed", range(300))
def test_every_wording_claims_its_fields_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    aus = sorted(chance.sample(AUS, chance.randint(0, 8)))
    emotion, age = chance.choice(EMOTIONS), chance.randint(0, 100)
    sentence = compose(aus, emotion, age, chance)
    assert agrees(sentence, aus, emotion, age), sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")


def test_a_false_claim_is_noticed() -> None:
    sentence = compose(["AU12"], "happiness", 30)
    assert not agrees(sentence, ["AU12", "AU25"], "happiness", 30)
    assert not agrees(sentence, [], "happiness", 30)
    assert not agrees(sentence, ["AU12"], "sadness", 30)
    assert not agrees(sentence, ["AU12"], "happiness", 31)


@pytest.mark.parametrize("unit", ACTION_UNITS, ids=lambda unit: unit.code)
def test_each_clause_belongs_to_one_action_unit(unit: ActionUnit) -> None:
    for clause in unit.clauses:
        assert claims(f"Here {clause}.").aus == {unit.code}
