"""Baselines: answers made from the labels, or from the describer's own answers to other questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.describe.sentences import compose
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.questions import Question
from pipeline.records import Answer
from pipeline.vocabulary import AUS, EMOTIONS, region_aus

UNLABELLED_EMOTION, UNLABELLED_AGE = "neutral", 30.0
"""Answer of a baseline where the labels are unknown; such answers are not scored."""


def from_labels(rows: Sequence[Prediction]) -> list[Prediction]:
    """A perfect describer: every question is answered with its labels."""

    def answer(row: Prediction) -> Answer:
        q = row.question
        aus = tuple(au for au in q.visible if au in q.aus)
        emotion, age = q.emotion or UNLABELLED_EMOTION, UNLABELLED_AGE if q.age is None else q.age
        return _answer(q, {au: float(au in q.aus) for au in q.visible}, aus, {name: float(name == emotion) for name in EMOTIONS}, age)

    return [replace(row, answer=answer(row)) for row in rows]


def majority(rows: Sequence[Prediction]) -> list[Prediction]:
    """The most frequent labels for every face: units that most faces have (and the box can show), the most frequent emotion, the median
    age. Scores are the shares among the labels.
    """
    whole = [row.question for row in rows if row.question.kind == "face"]
    known = {au: [au in q.aus for q in whole if au in q.visible] for au in AUS}
    share = {au: float(np.mean(active)) for au, active in known.items() if active}
    emotions = Counter(q.emotion for q in whole if q.emotion)
    total = sum(emotions.values())
    scores = {name: emotions[name] / total if total else 1 / len(EMOTIONS) for name in EMOTIONS}
    ages = [q.age for q in whole if q.age is not None]
    age = float(np.median(ages)) if ages else UNLABELLED_AGE

    def answer(row: Prediction) -> Answer:
        shown = {au: share[au] for au in region_aus(row.question.region, row.question.box) if au in share}
        return _answer(row.question, shown, tuple(au for au, score in shown.items() if score > 0.5), scores, age)

    return [replace(row, answer=answer(row)) for row in rows]


def whole_face(rows: Sequence[Prediction]) -> list[Prediction]:
    """The describer's answer about the whole face, for every box."""
    whole = {row.question.image_id: row.answer for row in rows if row.question.kind == "face"}
    return [replace(row, answer=whole[row.question.image_id]) for row in rows]


def random_box(rows: Sequence[Prediction]) -> list[Prediction]:
    """The describer's answer about a random box instead of the box in question, on the faces that have one."""
    answers = {row.question.image_id: row.answer for row in rows if row.question.kind == "random"}
    kinds = ("face", "region", "other")
    return [
        replace(row, answer=answers[row.question.image_id])
        for row in rows
        if row.question.kind in kinds and row.question.image_id in answers
    ]


BASELINES: dict[str, Callable[[Sequence[Prediction]], list[Prediction]]] = {
    "majority": majority,
    "whole_face": whole_face,
    "random_box": random_box,
}


def _answer(question: Question, au_scores: dict[str, float], aus: tuple[str, ...], emotion_scores: dict[str, float], age: float) -> Answer:
    emotion = max(EMOTIONS, key=lambda name: emotion_scores[name])
    empty = not region_aus(question.region, question.box)
    sentence = compose(aus, emotion, round(age), region=question.region, empty=empty)
    return Answer(au_scores, aus, emotion_scores, emotion, age, None, None, sentence)
