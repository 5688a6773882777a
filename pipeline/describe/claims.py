"""Reading sentences back: which action units, with which grade, which emotions and ages their words claim.

Only the wordings of `pipeline.describe.sentences` are known here. The benchmark judges free sentences with a reader of its own,
`pipeline.evaluation.sentence_reader`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

from pipeline.vocabulary import ACTION_UNITS, COMBINATIONS, EMOTION_WORDS

SLIGHTLY, STRONGLY = "slightly", "strongly"
GRADE_LEVELS = (1.5, 2.5)
"""Intensities below which a unit is slightly, and from which it is strongly active: FACS' A (a trace), and its C (marked) and more."""


def grade(intensity: float | None) -> str:
    """The word for an intensity from 0 to 5: `slightly`, `strongly`, or "" between them and where it is not known.

    >>> grade(1.1), grade(2.0), grade(3.4), grade(None), grade(float("nan"))
    ('slightly', '', 'strongly', '', '')
    """
    if intensity is None or isnan(intensity) or GRADE_LEVELS[0] <= intensity < GRADE_LEVELS[1]:
        return ""
    return SLIGHTLY if intensity < GRADE_LEVELS[0] else STRONGLY


def graded_clause(clause: str, word: str) -> str:
    """A clause of an action unit with a word of `grade`.

    >>> graded_clause("the lip corners are raised", "slightly"), graded_clause("the jaw hangs open", "strongly")
    ('the lip corners are slightly raised', 'the jaw hangs open strongly')
    """
    if not word:
        return clause
    verb = re.search(r" (?:is|are) ", clause)
    return f"{clause[: verb.end()]}{word} {clause[verb.end() :]}" if verb else f"{clause} {word}"


@dataclass(frozen=True)
class Claims:
    """What a sentence says: action units, emotions and ages that it names, and (action unit, word) of those that it grades."""

    aus: frozenset[str]
    emotions: frozenset[str]
    ages: frozenset[int]
    grades: frozenset[tuple[str, str]] = frozenset()


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))


_SAID = ((unit.code, clause, word) for unit in ACTION_UNITS for clause in unit.clauses for word in ("", SLIGHTLY, STRONGLY))
_CLAUSE_UNIT = {graded_clause(clause, word): (code, word) for code, clause, word in _SAID}
_WORD_EMOTION = {word: emotion for emotion, words in EMOTION_WORDS.items() for word in words}
_CLAUSES = re.compile(rf"\b(?:{_alternatives(_CLAUSE_UNIT)})\b")
_EMOTION_WORDS = re.compile(rf"\b(?:{_alternatives(_WORD_EMOTION)})\b")
_AGES = re.compile(r"\b\d{1,3}\b")


def claims(text: str) -> Claims:
    """Read a description back: which action units (with their grades), emotions and ages its words claim."""
    lowered = text.lower()
    said = [_CLAUSE_UNIT[match] for match in _CLAUSES.findall(lowered)]
    named = [code for one in COMBINATIONS if one.name.lower() in lowered for code in one.units]
    return Claims(
        frozenset([code for code, _ in said] + named),
        frozenset(_WORD_EMOTION[match] for match in _EMOTION_WORDS.findall(lowered)),
        frozenset(int(match) for match in _AGES.findall(lowered)),
        frozenset((code, word) for code, word in said if word),
    )
