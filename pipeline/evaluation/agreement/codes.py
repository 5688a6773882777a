"""What people coded: labels with times and intensities, in one form for every kind of file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.vocabulary import EMOTION_WORDS

CODED = "coded"
"""Name of a tier, column or code that says which stretches were coded at all."""

INTENSITY_LETTERS = "ABCDE"
"""The five grades of FACS, from trace to maximum: intensities 1 to 5."""

MAX_INTENSITY = 5.0

Span = tuple[float, float]
"""Start and end in seconds; the end lies just outside."""

_UNIT = re.compile(r"(?:AU|ACTION UNIT)?[\s_-]*[LRUTB]?0*(\d{1,2})([A-E])?", re.IGNORECASE)
_SPACED = re.compile(r"\b(AU|action unit)[\s_-]+(?=[LRUTB]?\d)", re.IGNORECASE)
_SYNONYMS = {
    "anger": ("furious",),
    "disgust": (),
    "fear": ("afraid", "scared"),
    "happiness": ("joy", "joyful"),
    "neutral": (),
    "sadness": (),
    "surprise": (),
}
_BLINKS = ("blink", "blinks", "blinking")
_EMOTION_OF = {word: name for name in EMOTION_WORDS for word in (*EMOTION_WORDS[name], *_SYNONYMS[name])}


@dataclass(frozen=True)
class Code:
    """One stretch that a person gave one label.

    Attributes:
        label: an action unit (`AU12`), an emotion, `CODED`, or the text of the file where it is none of these.
        onset_s, offset_s: its times in seconds, on the clock of `Coding`.
        intensity: FACS intensity, 0 (absent) to 5; None where only presence was coded.
    """

    label: str
    onset_s: float
    offset_s: float
    intensity: float | None = None


@dataclass(frozen=True)
class Coding:
    """What one file says about one person in one video.

    Attributes:
        file: that it comes from.
        video: the video as the file names it; None where it names none.
        person: the participant as the file names them; None where it names none.
        track: the number of the run's track that the file names; None where it names none.
        media_clock: whether times count from the start of the media file, and not from the first picture.
        codes: in order of onset.
        labels: what was coded for, whether or not it ever occurred.
        spans: where it was coded; None where the file does not say.
        uncoded: stretches of single labels that were not coded, although the rest was.
    """

    file: Path
    video: str | None
    person: str | None
    track: int | None
    media_clock: bool
    codes: tuple[Code, ...]
    labels: frozenset[str]
    spans: tuple[Span, ...] | None = None
    uncoded: tuple[Code, ...] = ()


def is_unit(label: str) -> bool:
    """Whether a label is an action unit."""
    return bool(re.fullmatch(r"AU\d\d", label))


def parse_label(text: str) -> tuple[str, float | None] | None:
    """The label and intensity of one code; None where it is neither an action unit nor an emotion.

    Sides (L, R, U for unilateral, T, B) are read and left out: focalface has one score for both sides.

    >>> parse_label("AU 12C"), parse_label("R4"), parse_label("Happy"), parse_label("blink"), parse_label("gaze")
    (('AU12', 3.0), ('AU04', None), ('happiness', None), ('AU45', None), None)
    """
    word = text.strip()
    if word.lower() == CODED:
        return CODED, None
    if word.lower() in _BLINKS:
        return "AU45", None
    if match := _UNIT.fullmatch(word):
        grade = match[2]
        return f"AU{int(match[1]):02}", float(INTENSITY_LETTERS.index(grade.upper()) + 1) if grade else None
    name = re.sub(r"^(?:emotion|emo|expression)[\s_:.-]+", "", word.lower())
    return (_EMOTION_OF[name], None) if name in _EMOTION_OF else None


def parse_labels(text: str) -> list[tuple[str, float | None]] | None:
    """The labels of a combination as FACS coders write it; None where a part of it is no label.

    >>> parse_labels("1+2C+AU25")
    [('AU01', None), ('AU02', 3.0), ('AU25', None)]
    """
    whole = parse_label(text)
    parts = [whole] if whole else [parse_label(part) for part in re.split(r"[+,;/\s]+", _SPACED.sub(r"\1", text.strip())) if part]
    return [part for part in parts if part] if parts and all(parts) else None


def parse_intensity(text: str) -> float | None:
    """An intensity from 0 to 5, or a grade from A to E; None where it is neither.

    >>> parse_intensity("C"), parse_intensity("2.5"), parse_intensity("strong")
    (3.0, 2.5, None)
    """
    word = text.strip()
    if len(word) == 1 and word.upper() in INTENSITY_LETTERS:
        return float(INTENSITY_LETTERS.index(word.upper()) + 1)
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 <= value <= MAX_INTENSITY else None


def codes_of(label: tuple[str, float | None] | None, text: str, onset_s: float, offset_s: float) -> list[Code]:
    """The codes of one annotation.

    Args:
        label: what the tier or column stands for; None where the text itself names the labels.
        text: the annotation's own. Beside a label it is an intensity, a grade, a label again, or a remark.
        onset_s, offset_s: its times.
    """
    text = text.strip()
    if label is not None:
        intensity = parse_intensity(text) if text else None
        again = parse_label(text) if text and intensity is None else None
        return [Code(label[0], onset_s, offset_s, intensity if intensity is not None else again[1] if again else label[1])]
    found = parse_labels(text) if text else None
    if found is None:
        return [Code(text or "(no text)", onset_s, offset_s)]
    return [Code(name, onset_s, offset_s, intensity) for name, intensity in found]


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans without overlaps, in order; those that touch are joined.

    >>> union([(2, 3), (0, 1), (1, 1.5)])
    [(0, 1.5), (2, 3)]
    """
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + 1e-9:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        elif end > start:
            joined.append((start, end))
    return joined


def without(spans: Sequence[Span], holes: Iterable[Span]) -> list[Span]:
    """What is left of spans outside of holes.

    >>> without([(0, 10)], [(2, 3), (9, 12)])
    [(0, 2), (3, 9)]
    """
    left = union(spans)
    for start, end in union(holes):
        left = [part for a, b in left for part in ((a, min(b, start)), (max(a, end), b)) if part[1] > part[0]]
    return left
