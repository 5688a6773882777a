"""English sentences for fields: wordings for the training data, and the plain form of an answer.

A field that is not known is left out, so that a sentence never says more than the labels do. A sentence about a region speaks of the region
first and then of the face, as emotion and age are the face's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from pipeline.describe.claims import SLIGHTLY, STRONGLY, Claims, claims, grade, graded_clause
from pipeline.vocabulary import ACTION_UNITS, COMBINATIONS, CUSTOM_BOX, EMOTION_WORDS, REGION, UNIT, WHOLE_FACE

_AT_REST = ("the region is at rest", "no action unit stands out", "nothing moves", "no movement stands out", "all is still")

_NOTHING = (
    "no action of the face shows in this box",
    "this box shows no action of the face",
    "no action can be seen in this box",
    "there is no action to see in this box",
)
"""For a box that can show no action unit at all."""

_FACE_PATTERNS = (
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
"""For the whole face. True of any fields; the first that has the known fields is the plain one."""

_REGION_PATTERNS = (
    "{clauses}; the face as a whole looks {adjective} and about {years} old.",
    "{clauses}; the face as a whole shows {noun} at an apparent age of {age}.",
    "{clauses}, while the face looks {adjective} and about {years} old.",
    "{clauses}; the face around looks {adjective}, at about {years} of age.",
    "here {clauses}, and the face looks {adjective} and about {years} old.",
    "{clauses}; beyond it the face shows {noun} at an apparent age of {age}.",
    "{clauses}; the face as a whole looks {adjective}.",
    "{clauses}, while the face looks {adjective}.",
    "here {clauses}, and the face looks {adjective}.",
    "{clauses}; the face as a whole looks about {years} old.",
    "{clauses}, while the face looks about {years} old.",
    "{clauses}.",
    "here {clauses}.",
    "one sees that {clauses}.",
    *(pattern for pattern in _FACE_PATTERNS if "{clauses}" not in pattern),
)
"""For a region: the region first, the face after it."""

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

_REGION_SIGNS = tuple(pattern for pattern in _SIGNS if pattern.startswith("{clauses}"))

NAMED = 0.7
"""Share of the wordings with a combination of action units that name it."""

_NEUTRAL_NOUN = "a neutral look"

_Known = tuple[bool, bool, bool]


def _by_fields(patterns: Sequence[str]) -> dict[_Known, list[str]]:
    """Patterns by the fields that they speak of: action units, emotion, age."""

    def fields(pattern: str) -> _Known:
        return "{clauses}" in pattern, "{noun}" in pattern or "{adjective}" in pattern, "{age}" in pattern or "{years}" in pattern

    known = [(clauses, emotion, age) for clauses in (True, False) for emotion in (True, False) for age in (True, False)]
    return {fields_known: [pattern for pattern in patterns if fields(pattern) == fields_known] for fields_known in known}


# By whether the whole face is asked about, and whether an emotion may be read off the action.
_FORMS = {
    (True, False): _by_fields(_FACE_PATTERNS),
    (True, True): _by_fields(_FACE_PATTERNS + _SIGNS),
    (False, False): _by_fields(_REGION_PATTERNS),
    (False, True): _by_fields(_REGION_PATTERNS + _REGION_SIGNS),
}


def compose(
    aus: Sequence[str] | None,
    emotion: str | None,
    age: int | None,
    chance: random.Random | None = None,
    *,
    region: str = WHOLE_FACE,
    empty: bool = False,
    intensities: Mapping[str, float] | None = None,
) -> str:
    """One English sentence that says exactly what the fields say.

    Args:
        aus: active action units, in order; none of them means at rest. None: not known, so nothing is said of them.
        emotion: one of `pipeline.vocabulary.EMOTIONS`; None: not known.
        age: in whole years; None: not known.
        chance: picks among the wordings; None takes the first of each.
        region: what the sentence is about, a name of `pipeline.vocabulary.REGIONS` or `box`.
        empty: nothing can be read in the box: say that instead of at rest.
        intensities: 0 to 5, of units that are said with their grade (`pipeline.describe.claims.grade`).

    Returns:
        The sentence; "" where nothing is known.

    >>> compose(["AU12"], "happiness", 31, region="mouth")
    'The lip corners are pulled up; the face as a whole looks happy and about 31 years old.'
    >>> compose(["AU06", "AU12"], None, None)
    'The cheeks are raised and the lip corners are pulled up in a Duchenne smile.'
    """

    def pick(options: Sequence[str]) -> str:
        return options[0] if chance is None else chance.choice(options)

    known = (empty or aus is not None, emotion is not None, age is not None)
    if not any(known):
        return ""
    forms = _FORMS[region == WHOLE_FACE and not empty, bool(aus) and emotion != "neutral"]
    degrees = intensities or {}
    clause = {au: graded_clause(pick(UNIT[au].clauses), grade(degrees.get(au))) for au in aus or ()}
    together = (one for one in COMBINATIONS if set(one.units) <= clause.keys())
    if (named := next(together, None)) and (chance is None or chance.random() < NAMED):
        first, *others = named.units
        clause[first] = f"{_joined([clause[first], *(clause.pop(au) for au in others)])} in {named.name}"
    clauses = _joined(list(clause.values()) or [pick(_without_action(region, empty))])
    noun, adjective = EMOTION_WORDS[emotion] if emotion else ("", "")
    if emotion == "neutral":
        noun, adjective = _NEUTRAL_NOUN, "neutral"
    years = f"{age} year" if age == 1 else f"{age} years"
    sentence = pick(forms[known]).format(clauses=clauses, noun=noun, adjective=adjective, age=age, years=years)
    return sentence[0].upper() + sentence[1:]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _without_action(region: str, empty: bool) -> tuple[str, ...]:
    """Clauses for a region without an active unit."""
    if region in (WHOLE_FACE, CUSTOM_BOX):
        return _NOTHING if empty else _AT_REST
    words = REGION[region].words
    verb = "are" if REGION[region].plural else "is"
    if empty:
        return (f"no action of the face can be read in {words}", *_NOTHING)
    return (f"{words} {verb} at rest", *_AT_REST)


def agrees(
    sentence: str, aus: Sequence[str] | None, emotion: str | None, age: int | None, intensities: Mapping[str, float] | None = None
) -> bool:
    """Whether a sentence claims exactly its own fields: those action units, each with the grade of its intensity, that emotion, that age,
    nothing else.

    A field that is None must not be claimed at all.
    """
    degrees = intensities or {}
    grades = frozenset((au, word) for au in aus or () if (word := grade(degrees.get(au))))
    emotions: frozenset[str] = frozenset() if emotion is None else frozenset([emotion])
    ages: frozenset[int] = frozenset() if age is None else frozenset([age])
    return claims(sentence) == Claims(frozenset(aus or ()), emotions, ages, grades)


_OF_REGION = re.compile(
    "|".join(
        rf"\b{re.escape(clause)}\b"
        for clause in {
            *(graded_clause(clause, word) for unit in ACTION_UNITS for clause in unit.clauses for word in ("", SLIGHTLY, STRONGLY)),
            *(clause for region in (*REGION, CUSTOM_BOX) for empty in (False, True) for clause in _without_action(region, empty)),
        }
    )
)


def speaks_of_region_first(sentence: str) -> bool:
    """Whether a sentence says what a region shows before it names an emotion or an age.

    >>> speaks_of_region_first("The face looks happy, but no action can be seen in this box.")
    False
    """
    lowered = sentence.lower()
    found = _OF_REGION.search(lowered)
    if found is None:
        return False
    before = claims(lowered[: found.start()])
    return not before.emotions and not before.ages


def mirrored_text(sentence: str) -> str:
    """A sentence about a face, said of its mirror image.

    >>> mirrored_text("The left eye is at rest.")
    'The right eye is at rest.'
    """
    return re.sub(r"\b(left|right)\b", lambda found: "right" if found[0] == "left" else "left", sentence)
