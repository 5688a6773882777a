"""From what a model reads in a box to an answer's fields: active action units, emotion and age.

Every backend hands its readings to `decide`, so that the same probabilities give the same answer whichever backend read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np

from pipeline.describe.grammar import LEVEL_CHOICES
from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTIONS, UNIT, compatible, mirrored_au, region_aus

YEARS = 101
"""Length of an age distribution: 0 to 100 years."""

AGE_SHARES = (0.1, 0.5, 0.9)
"""Shares of the age distribution below an answer's `age_low`, `age` and `age_high`."""


@dataclass(frozen=True)
class Fields:
    """What a model reads in one box. A backend gives probabilities where it has them; else the values that the model states.

    Attributes:
        au_scores: probability of each action unit that it was asked about.
        au_intensities: expected intensity, 0 to 5, of units whose levels it gives.
        emotion_scores: (7,) probabilities in the order of `pipeline.vocabulary.EMOTIONS`.
        age_scores: (101,) probabilities of 0 to 100 years.
        aus: action units that the model states to be active without a probability.
        emotion: the emotion that it states, used if there are no `emotion_scores`.
        age: the age in years that it states, used if there are no `age_scores`.
    """

    au_scores: Mapping[str, float] = field(default_factory=dict)
    emotion_scores: np.ndarray | None = None
    age_scores: np.ndarray | None = None
    aus: tuple[str, ...] = ()
    emotion: str = ""
    age: float = nan
    au_intensities: Mapping[str, float] = field(default_factory=dict)


def unit_readings(aus: Sequence[str], answers: Sequence[np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores and intensities from the probabilities of the action units' slots.

    Args:
        aus: the units.
        answers: for each of them the probabilities of its slot's choices: of yes and no, or of the levels 0 to 5
            (`pipeline.describe.grammar.Grammar.au_levels`).

    Returns:
        (score, intensity) by unit. A score is the probability of yes, or of all levels but 0. An intensity is the expected level; a unit
        that is answered by yes or no, or whose intensity FACS does not score, has none.

    >>> unit_readings(["AU12"], [np.array([0.5, 0.0, 0.25, 0.25, 0.0, 0.0])])
    ({'AU12': 0.5}, {'AU12': 1.25})
    """
    scores: dict[str, float] = {}
    intensities: dict[str, float] = {}
    for au, answer in zip(aus, answers, strict=True):
        levels = len(answer) == len(LEVEL_CHOICES)
        scores[au] = float(1 - answer[0]) if levels else float(answer[0])
        if levels and UNIT[au].graded:
            intensities[au] = float(answer @ np.arange(len(answer)))
    return scores, intensities


def mean_fields(one: Fields, mirrored: Fields) -> Fields:
    """The mean of the readings of a face and of its mirror image, which both have all probabilities.

    >>> plain = Fields({"AU61": 0.8, "AU62": 0.0}, np.eye(7)[3], np.eye(101)[31])
    >>> mirrored = Fields({"AU61": 0.1, "AU62": 0.6}, np.eye(7)[3], np.eye(101)[31])
    >>> dict(mean_fields(plain, mirrored).au_scores)
    {'AU61': 0.7, 'AU62': 0.05}
    """
    assert one.emotion_scores is not None and mirrored.emotion_scores is not None
    assert one.age_scores is not None and mirrored.age_scores is not None

    def means(own: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        return {au: (value + other.get(mirrored_au(au), value)) / 2 for au, value in own.items()}

    return Fields(
        means(one.au_scores, mirrored.au_scores),
        (one.emotion_scores + mirrored.emotion_scores) / 2,
        (one.age_scores + mirrored.age_scores) / 2,
        au_intensities=means(one.au_intensities, mirrored.au_intensities),
    )


def sharpened(distribution: np.ndarray, temperature: float) -> np.ndarray:
    """A distribution raised to the power of 1 / `temperature`: narrower where that is below 1.

    >>> sharpened(np.array([0.2, 0.8]), 0.5).round(2).tolist()
    [0.06, 0.94]

    Args:
        distribution: (..., n) probabilities.
        temperature: above 0.

    Returns:
        (..., n) probabilities.
    """
    if temperature == 1.0:
        return distribution
    raised = (distribution / distribution.max(-1, keepdims=True)) ** (1 / temperature)
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def decide(fields: Fields, request: Request, thresholds: Mapping[str, float], age_temperature: float = 1.0) -> Answer:
    """Decide the fields of an answer; its sentence is left empty.

    An action unit is active if its score reaches its threshold. Of two active units that exclude each other
    (`pipeline.vocabulary.EXCLUSIONS`) the one stands that prevails (`pipeline.vocabulary.PREVAILING`), else the one whose score lies
    further above its threshold, as a share of the way from the threshold to 1. A unit that the model states without a score counts as just
    at its threshold. Scores stay as the model gave them.

    Args:
        fields: of the model.
        request: what was asked; units that its box cannot show are left out.
        thresholds: score from which each unit is active.
        age_temperature: of the age distribution (`pipeline.describe.grammar.Grammar`).

    >>> box = Request(np.zeros((112, 112, 3), np.uint8), (36, 70, 76, 93), "mouth")
    >>> read = Fields({"AU24": 0.6, "AU25": 0.9}, np.eye(7)[3], np.eye(101)[31])
    >>> decide(read, box, {"AU24": 0.5, "AU25": 0.5}).aus
    ('AU25',)
    """
    can_show = region_aus(request.region, request.box)
    scores = {au: score for au, score in fields.au_scores.items() if au in can_show}
    margins = {au: 0.0 for au in fields.aus if au in can_show}
    margins |= {au: (score - thresholds[au]) / max(1 - thresholds[au], 1e-9) for au, score in scores.items() if score >= thresholds[au]}
    emotion, emotion_scores = fields.emotion, dict[str, float]()
    if fields.emotion_scores is not None:
        emotion = EMOTIONS[int(fields.emotion_scores.argmax())]
        shares = fields.emotion_scores / fields.emotion_scores.sum()
        emotion_scores = {name: float(score) for name, score in zip(EMOTIONS, shares, strict=True)}
    age, low, high = fields.age, None, None
    if fields.age_scores is not None:
        ages = sharpened(fields.age_scores, age_temperature)
        low, age, high = (percentile(ages, share) for share in AGE_SHARES)
    return Answer(
        au_scores=scores,
        aus=compatible(margins),
        emotion_scores=emotion_scores,
        emotion=emotion,
        age=age,
        age_low=low,
        age_high=high,
        description="",
        au_intensities={au: value for au, value in fields.au_intensities.items() if au in can_show},
    )


def percentile(distribution: np.ndarray, share: float) -> float:
    """The age below which `share` of a distribution over years lies.

    >>> percentile(np.eye(101)[31], 0.5)
    31.0
    """
    below = distribution.cumsum() / distribution.sum()
    return float(np.minimum(np.searchsorted(below, share), len(distribution) - 1))
