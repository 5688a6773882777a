"""From what a model reads in a box to an answer's fields: active action units, emotion and age.

Every backend hands its readings to `decide`, so that the same probabilities give the same answer whichever backend read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

import numpy as np

from pipeline.records import Answer, Request
from pipeline.vocabulary import EMOTIONS, compatible, region_aus

YEARS = 101
"""Length of an age distribution: 0 to 100 years."""


@dataclass(frozen=True)
class Fields:
    """What a model reads in one box. A backend gives probabilities where it has them; else the values that the model states.

    Attributes:
        au_scores: probability of each action unit that it was asked about.
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


def mean_fields(one: Fields, other: Fields) -> Fields:
    """The mean of two readings that both have all probabilities, such as of a face and its mirror image."""
    assert one.emotion_scores is not None and other.emotion_scores is not None
    assert one.age_scores is not None and other.age_scores is not None
    return Fields(
        {au: (score + other.au_scores[au]) / 2 for au, score in one.au_scores.items()},
        (one.emotion_scores + other.emotion_scores) / 2,
        (one.age_scores + other.age_scores) / 2,
    )


def decide(fields: Fields, request: Request, thresholds: Mapping[str, float]) -> Answer:
    """Decide the fields of an answer; its sentence is left empty.

    An action unit is active if its score reaches its threshold. Of two active units that exclude each other
    (`pipeline.vocabulary.EXCLUSIONS`) the one stands whose score lies further above its threshold, as a share of the way from the threshold
    to 1. A unit that the model states without a score counts as just at its threshold. Scores stay as the model gave them.

    Args:
        fields: of the model.
        request: what was asked; units that its box cannot show are left out.
        thresholds: score from which each unit is active.

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
        low, age, high = (_percentile(fields.age_scores, share) for share in (0.1, 0.5, 0.9))
    return Answer(
        au_scores=scores,
        aus=compatible(margins),
        emotion_scores=emotion_scores,
        emotion=emotion,
        age=age,
        age_low=low,
        age_high=high,
        description="",
    )


def _percentile(distribution: np.ndarray, share: float) -> float:
    """The age below which `share` of a distribution over years lies."""
    below = distribution.cumsum() / distribution.sum()
    return float(np.minimum(np.searchsorted(below, share), len(distribution) - 1))
