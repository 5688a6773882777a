"""Scoring a describer's predictions beside the baselines: from the table of predictions to figures with intervals."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.describe.sentences import compose
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.endpoint import NO_ENDPOINT
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.questions import NEEDED, Question
from pipeline.evaluation.recognition import confusion, recognition, reliability
from pipeline.evaluation.regional import regional
from pipeline.evaluation.resampling import RESAMPLES, SEED, Figure, intervals, measure, summed
from pipeline.evaluation.sheet import Sheet, place_of
from pipeline.evaluation.text import FABA_AUS, pool, rege, text_scores
from pipeline.vocabulary import EMOTIONS, region_aus

REFERENCES = 5
"""Reference sentences for an answer; more forgive more ways to say it, and take longer."""

TEXT_FACES = 1000
"""Faces whose sentences are held against references, the same for all describers; more narrow the intervals and take longer."""

WITHOUT_TEXT = ("random_box",)
"""Baselines without text figures: they answer fewer faces, and figures like CIDEr depend on which."""

DIGITS = 6
"""Of the figures as they are written: fewer than the last bits that the order of a sum could turn."""

MODEL = "model"
"""The column of the describer itself."""

BY_NAME = ("emotion_accuracy", "emotion_macro_f1", "au_precision", "au_recall", "au_f1", "au_ap", "au_f1_by_region")
"""Figures that are mappings even when they are empty."""


@dataclass
class Scores:
    """A describer's, or a baseline's, answers and figures.

    Attributes:
        sheet: the answers laid out.
        values: figures by name, `a/b` for b of a; NaN where there is nothing to measure.
        ends: of their intervals.
    """

    sheet: Sheet
    values: dict[str, float]
    ends: dict[str, tuple[float, float]]


@dataclass
class Evaluation:
    """A describer and its baselines on one file of faces.

    Attributes:
        predictions: what was scored.
        columns: `MODEL` and the names of `BASELINES` to their scores.
        text_missing: why a text figure is not there, by name; `signatures`: what the others are, exactly.
        judge: the judge's figures, or why there are none.
    """

    predictions: Predictions
    columns: dict[str, Scores] = field(default_factory=dict)
    text_missing: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    judge: dict[str, Any] = field(default_factory=lambda: {"skipped": NO_ENDPOINT})

    @property
    def sheet(self) -> Sheet:
        """The describer's own answers."""
        return self.columns[MODEL].sheet

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data; the same at every run but for `regions_per_second`."""
        own = self.columns[MODEL]
        whole = self.sheet.of("face")
        binned = reliability(whole)
        bins = None if binned is None else binned.sum(0).round(DIGITS).tolist()
        kinds, matrix = Counter(row.question.kind for row in self.sheet.rows), confusion(whole).astype(int)
        return {
            "model": self.predictions.model,
            "faces": self.sheet.faces,
            "questions": dict(kinds),
            "regions_per_second": self.predictions.regions_per_second,
            "sentences_replaced": self.predictions.replaced,
            **_nested(own.values),
            "emotion_confusion": {
                "labels": list(EMOTIONS),
                "counts": {
                    source: matrix[[row.question.source == source for row in whole.rows]].sum(0).tolist()
                    for source in sorted({row.question.source for row in whole.rows})
                },
            },
            "emotion_reliability": bins and dict(zip(("count", "confidence", "hits"), bins, strict=True)),
            "text_missing": self.text_missing,
            "text_signatures": self.signatures,
            "judge": self.judge,
            "confidence_intervals": _nested(own.ends),
            "baselines": {
                name: {**_nested(column.values), "confidence_intervals": _nested(column.ends)}
                for name, column in self.columns.items()
                if name != MODEL
            },
        }


def _plain(value: float | tuple[float, float]) -> float | list[float | None] | None:
    if isinstance(value, tuple):
        return [None if np.isnan(end) else round(end, DIGITS) for end in value]
    return None if np.isnan(value) else round(value, DIGITS)


def _nested(figures: Mapping[str, float | tuple[float, float]]) -> dict[str, Any]:
    """Figures named `a/b` as mappings, NaN as None."""
    nested: dict[str, Any] = {name: {} for name in BY_NAME}
    for name, value in figures.items():
        head, _, rest = name.partition("/")
        if rest:
            nested.setdefault(head, {})[rest] = _plain(value)
        else:
            nested[head] = _plain(value)
    return {"au_f1_mean": None, **nested}


def evaluate(
    predictions: Predictions,
    resamples: int = RESAMPLES,
    sentence_model: Path | None = None,
    bert_model: Path | None = None,
    say: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Score predictions and the baselines made of them.

    Args:
        resamples: of the bootstrap.
        sentence_model, bert_model: see `pipeline.evaluation.text.text_scores`.
        say: told what is being worked out.
    """
    place = place_of(predictions.rows)
    known = {au for row in predictions.rows for au in row.question.visible}
    units = tuple(au for au in predictions.units if au in known)
    evaluation = Evaluation(predictions)
    sheets = {MODEL: Sheet(predictions.rows, place, units)}
    sheets |= {name: Sheet(rows, place, units) for name, make in BASELINES.items() if (rows := make(predictions.rows))}
    figures: dict[tuple[str, str], Figure] = {}
    for column, sheet in sheets.items():
        say(f"scoring {column}")
        texts, points = _text(sheet, evaluation, sentence_model, bert_model) if column not in WITHOUT_TEXT else ({}, {})
        own = {**recognition(sheet), **regional(sheet), **texts}
        figures |= {(column, name): figure for name, figure in own.items()}
        evaluation.columns[column] = Scores(sheet, measure(own, len(place)) | points, {})
    say("intervals")
    for (column, name), ends in intervals(figures, len(place), resamples).items():
        evaluation.columns[column].ends[name] = ends
    return evaluation


def _text(
    sheet: Sheet, evaluation: Evaluation, sentence_model: Path | None, bert_model: Path | None
) -> tuple[dict[str, Figure], dict[str, float]]:
    """Text figures of whole faces and named regions of `TEXT_FACES` faces, `text/...`; `rege/...` of their whole faces, without interval.

    What could not be worked out, and what was, is noted in the evaluation.
    """
    drawn = set(random.Random(SEED).sample(list(sheet.place), min(TEXT_FACES, sheet.faces)))
    asked = [(row, references(row.question)) for row in sheet.of(*NEEDED).rows if row.question.image_id in drawn]
    part = Sheet([row for row, texts in asked if texts], sheet.place, sheet.units)
    scores = text_scores([row.answer.description for row in part.rows], [texts for _, texts in asked if texts], sentence_model, bert_model)
    evaluation.text_missing |= scores.missing
    evaluation.signatures |= scores.signatures
    figures = {f"text/{name}": summed(part.sum(parts), partial(pool, name)) for name, parts in scores.parts.items()}
    points = {f"text/{name}": np.nan for name in scores.missing}
    if "rouge_l" in scores.per_item:
        whole = [(row, value) for row, value in zip(part.rows, scores.per_item["rouge_l"], strict=True) if row.question.kind == "face"]
        questions, answers = [row.question for row, _ in whole], [row.answer for row, _ in whole]
        found = rege(
            [q.emotion for q in questions],
            [a.emotion for a in answers],
            [q.aus for q in questions],
            [frozenset(a.aus) for a in answers],
            [value for _, value in whole],
            [au for au in FABA_AUS if au in sheet.units],
        )
        points |= {f"rege/{name}": np.nan if value is None else value for name, value in found.items()}
    return figures, points


def references(question: Question) -> list[str]:
    """Reference sentences for a question: `REFERENCES` wordings of what its labels say, the same at every run.

    What is unlabelled is left out; empty where that is everything.
    """
    chance = random.Random(f"{question.image_id} {question.kind}")
    shown = bool(region_aus(question.region, question.box))
    aus = [au for au in question.visible if au in question.aus] if question.visible else None
    age = None if question.age is None else round(question.age)
    sentences = [compose(aus, question.emotion, age, chance, empty=not shown) for _ in range(REFERENCES)]
    return [sentence for sentence in sentences if sentence]
