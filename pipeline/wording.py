"""Sentences for fields: the one place where fields turn into English, for the training data and as the plain form of an answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipeline.vocabulary import EMOTION_WORDS, UNIT, Claims, claims

_AT_REST = ("the region is at rest", "no action unit stands out", "this part of the face is relaxed")

_PATTERNS = (
    "{clauses}, in keeping with {noun} at an apparent age of {age}.",
    "{clauses}; the look is {adjective} and the apparent age is {age}.",
    "{clauses}, which suggests {noun} on a face of about {age} years.",
    "{clauses}: the face looks {adjective} and about {age} years old.",
    "on a face of about {age} years, {clauses}, which reads as {noun}.",
    "at an apparent age of {age}, {clauses} and the look is {adjective}.",
)

_NEUTRAL_NOUN = "a neutral look"


def compose(aus: Sequence[str], emotion: str, age: int, chance: random.Random | None = None) -> str:
    """One English sentence that says exactly what the fields say.

    Args:
        aus: active action units, in order.
        emotion: one of `pipeline.vocabulary.EMOTIONS`.
        age: in whole years.
        chance: picks among the wordings; None takes the first of each.
    """

    def pick(options: Sequence[str]) -> str:
        return options[0] if chance is None else chance.choice(options)

    parts = [pick(UNIT[au].clauses) for au in aus] or [pick(_AT_REST)]
    clauses = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    noun, adjective = EMOTION_WORDS[emotion]
    if emotion == "neutral":
        noun, adjective = _NEUTRAL_NOUN, "neutral"
    sentence = pick(_PATTERNS).format(clauses=clauses, noun=noun, adjective=adjective, age=age)
    return sentence[0].upper() + sentence[1:]


def agrees(sentence: str, aus: Sequence[str], emotion: str, age: int) -> bool:
    """Whether a sentence claims exactly its own fields: those action units, that emotion, that age, nothing else."""
    return claims(sentence) == Claims(frozenset(aus), frozenset([emotion]), frozenset([age]))
