"""Sentences for fields: the one place where fields turn into English, for the training data and as the plain form of an answer.

A field that is not known is left out of the sentence, so that it never says more than the labels do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipeline.vocabulary import EMOTION_WORDS, UNIT, Claims, claims

_AT_REST = ("the region is at rest", "no action unit stands out", "nothing moves", "no movement stands out", "all is still")

_NOTHING = (
    "no action of the face shows in this box",
    "this box shows no action of the face",
    "no action can be seen in this box",
    "there is no action to see in this box",
)
"""For a box that can show no action unit at all."""

_PATTERNS = (
    "{clauses}, in keeping with {noun} at an apparent age of {age}.",
    "{clauses}; the look is {adjective} and the apparent age is {age}.",
    "at an apparent age of {age}, {clauses} and the look is {adjective}.",
    "{clauses}; the face looks {adjective}, at about {years} of age.",
    "the look is {adjective} and the apparent age is {age}; {clauses}.",
    "with {noun} on a face of about {years}, {clauses}.",
    "on a face that looks {adjective} and about {years} old, {clauses}.",
    "here {clauses}, and the face looks {adjective} and about {years} old.",
    "{clauses}; {noun} at about {age}.",
    "{clauses}, in keeping with {noun}.",
    "{clauses}; the look is {adjective}.",
    "{clauses}; the face looks {adjective}.",
    "here {clauses}, and the face looks {adjective}.",
    "with {noun} on the face, {clauses}.",
    "{clauses}, at an apparent age of {age}.",
    "{clauses}; the apparent age is {age}.",
    "{clauses}; the face looks about {years} old.",
    "on a face of about {years}, {clauses}.",
    "{clauses}.",
    "here {clauses}.",
    "one sees that {clauses}.",
    "the face looks {adjective} and about {years} old.",
    "the look is {adjective} and the apparent age is {age}.",
    "the face shows {noun} at an apparent age of {age}.",
    "the face looks {adjective}.",
    "the look is {adjective}.",
    "the face shows {noun}.",
    "the face looks about {years} old.",
    "the apparent age is {age}.",
)
"""True of any fields; the first that fits is the plain one."""

_SIGNS = (
    "the face looks {adjective}: {clauses}.",
    "{clauses}: the face looks {adjective}.",
    "the face looks {adjective} and about {years} old: {clauses}.",
    "{clauses}: the face looks {adjective} and about {years} old.",
    "{clauses}, which suggests {noun} on a face of about {years}.",
    "on a face of about {years}, {clauses}, which reads as {noun}.",
    "{clauses}, which goes with {noun}; the apparent age is {age}.",
    "{clauses}, which suggests {noun}.",
    "{clauses}, which reads as {noun}.",
)
"""Read an emotion off the action, so they need an active unit and an emotion that is not neutral."""

_ELSEWHERE = (
    "{clauses}; the face as a whole looks {adjective} and about {years} old.",
    "{clauses}, while the face looks {adjective} and about {years} old.",
    "{clauses}; beyond it the face shows {noun} at an apparent age of {age}.",
    "the face looks {adjective} and about {years} old, but {clauses}.",
    "{clauses}; the face as a whole looks {adjective}.",
    "the face looks {adjective}, but {clauses}.",
    "{clauses}; the face as a whole looks about {years} old.",
    "the face looks about {years} old, but {clauses}.",
    "{clauses}.",
)
"""For a box that shows nothing: emotion and age are those of the face around it."""

_NEUTRAL_NOUN = "a neutral look"


def _fitting(patterns: Sequence[str], clauses: bool, emotion: bool, age: bool) -> list[str]:
    """The patterns that speak of just these fields."""

    def speaks(pattern: str) -> tuple[bool, bool, bool]:
        return "{clauses}" in pattern, "{noun}" in pattern or "{adjective}" in pattern, "{age}" in pattern or "{years}" in pattern

    return [pattern for pattern in patterns if speaks(pattern) == (clauses, emotion, age)]


_KNOWN = [(clauses, emotion, age) for clauses in (True, False) for emotion in (True, False) for age in (True, False)]
_FORMS = {known: _fitting(_PATTERNS, *known) for known in _KNOWN}
_SIGN_FORMS = {known: _fitting(_PATTERNS + _SIGNS, *known) for known in _KNOWN}
_EMPTY_FORMS = {known: _fitting(_ELSEWHERE, *known) for known in _KNOWN}


def compose(
    aus: Sequence[str] | None, emotion: str | None, age: int | None, chance: random.Random | None = None, *, empty: bool = False
) -> str:
    """One English sentence that says exactly what the fields say.

    Args:
        aus: active action units, in order; none of them means at rest. None: not known, so nothing is said of them.
        emotion: one of `pipeline.vocabulary.EMOTIONS`; None: not known.
        age: in whole years; None: not known.
        chance: picks among the wordings; None takes the first of each.
        empty: the box can show no action unit: say that instead of at rest.

    Returns:
        The sentence; "" where nothing is known.
    """

    def pick(options: Sequence[str]) -> str:
        return options[0] if chance is None else chance.choice(options)

    known = (empty or aus is not None, emotion is not None, age is not None)
    if not any(known):
        return ""
    forms = _EMPTY_FORMS if empty else _SIGN_FORMS if aus and emotion != "neutral" else _FORMS
    parts = [pick(UNIT[au].clauses) for au in aus or ()] or [pick(_NOTHING if empty else _AT_REST)]
    clauses = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    noun, adjective = EMOTION_WORDS[emotion] if emotion else ("", "")
    if emotion == "neutral":
        noun, adjective = _NEUTRAL_NOUN, "neutral"
    years = f"{age} year" if age == 1 else f"{age} years"
    sentence = pick(forms[known]).format(clauses=clauses, noun=noun, adjective=adjective, age=age, years=years)
    return sentence[0].upper() + sentence[1:]


def agrees(sentence: str, aus: Sequence[str] | None, emotion: str | None, age: int | None) -> bool:
    """Whether a sentence claims exactly its own fields: those action units, that emotion, that age, nothing else.

    A field that is None must not be claimed at all.
    """
    emotions: frozenset[str] = frozenset() if emotion is None else frozenset([emotion])
    ages: frozenset[int] = frozenset() if age is None else frozenset([age])
    return claims(sentence) == Claims(frozenset(aus or ()), emotions, ages)
