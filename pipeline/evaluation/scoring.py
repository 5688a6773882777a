"""Scoring a describer's predictions beside the baselines: from the table of predictions to figures with intervals."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.describe.sentences import compose
from pipeline.evaluation.answer_table import AnswerTable, index_faces
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.bootstrap import RESAMPLES, SEED, Figure, intervals, measure, summed
from pipeline.evaluation.conversation import conversation_figures
from pipeline.evaluation.face_files import LabelOrigin
from pipeline.evaluation.groups import GroupFigures, group_figures
from pipeline.evaluation.judge.endpoint import NO_ENDPOINT
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.questions import APART, IN_TURN, NEEDED, Question
from pipeline.evaluation.recognition import confusion, recognition_figures, reliability
from pipeline.evaluation.region_metrics import region_figures
from pipeline.evaluation.text_metrics import FABA_AUS, pool, rege, text_scores
from pipeline.vocabulary import EMOTIONS, region_aus

REFERENCES = 5
"""Reference sentences for an answer; more forgive more ways to say it, and take longer."""

TEXT_FACES = 1000
"""Faces whose sentences are compared with references, the same for all describers; more narrow the intervals and take longer."""

WITHOUT_TEXT = ("random_box",)
"""Baselines without text figures: they answer fewer faces, and figures such as CIDEr depend on which."""

DIGITS = 6
"""Decimal digits of the figures as written: fewer than the last bits, which the order of a sum may change."""

MODEL = "model"
"""Name of the column of the describer itself."""

BY_NAME = ("emotion_accuracy", "emotion_macro_f1", "au_precision", "au_recall", "au_f1", "au_ap", "au_f1_by_region")
"""Figures that are mappings even when they are empty."""

ALWAYS = ("au_f1_mean", "au_intensity_r", "age_coverage", "sentences_replaced", "in_turn_loss")
"""Figures that are listed as null where there is nothing to measure."""


@dataclass
class Scores:
    """Answers and figures of a describer or a baseline.

    Attributes:
        table: the answers.
        values: figures by name, `a/b` for b of a; NaN where there is nothing to measure.
        ends: ends of their 95% intervals.
    """

    table: AnswerTable
    values: dict[str, float]
    ends: dict[str, tuple[float, float]]


@dataclass
class Evaluation:
    """A describer and its baselines on one file of faces.

    Attributes:
        predictions: what was scored.
        columns: `MODEL` and the names of `BASELINES` to their scores.
        origin: where the labels come from.
        groups: figures of the describer by group, one for each column that was asked for.
        text_missing: why a text figure is missing, by name.
        signatures: what exactly the other text figures are.
        judge: the judge's figures, or why there are none.
    """

    predictions: Predictions
    columns: dict[str, Scores] = field(default_factory=dict)
    origin: LabelOrigin = field(default_factory=LabelOrigin)
    groups: list[GroupFigures] = field(default_factory=list)
    text_missing: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    judge: dict[str, Any] = field(default_factory=lambda: {"skipped": NO_ENDPOINT})

    @property
    def table(self) -> AnswerTable:
        """The describer's own answers."""
        return self.columns[MODEL].table

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data; the same in every run but for `regions_per_second`."""
        own = self.columns[MODEL]
        whole = self.table.of_kinds("face")
        binned = reliability(whole)
        bins = None if binned is None else binned.sum(0).round(DIGITS).tolist()
        kinds, matrix = Counter(row.question.kind for row in self.table.rows), confusion(whole).astype(int)
        return {
            "model": self.predictions.model,
            "faces": self.table.faces,
            "questions": dict(kinds),
            "label_origin": asdict(self.origin),
            "regions_per_second": self.predictions.regions_per_second,
            **_nested(own.values),
            "emotion_confusion": {
                "labels": list(EMOTIONS),
                "counts": {
                    source: matrix[[row.question.source == source for row in whole.rows]].sum(0).tolist()
                    for source in sorted({row.question.source for row in whole.rows})
                },
            },
            "emotion_reliability": bins and dict(zip(("count", "confidence", "hits"), bins, strict=True)),
            "by": {group.column: _grouped(group) for group in self.groups},
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
    nested: dict[str, Any] = {name: {} for name in BY_NAME} | dict.fromkeys(ALWAYS)
    for name, value in figures.items():
        head, _, rest = name.partition("/")
        if rest:
            nested.setdefault(head, {})[rest] = _plain(value)
        else:
            nested[head] = _plain(value)
    return nested


def _grouped(group: GroupFigures) -> dict[str, Any]:
    """The figures of one column's groups as plain data."""
    groups: dict[str, Any] = {}
    for name, figures in group.values.items():
        values = _nested_plain({key: value for key, (value, _, _) in figures.items()})
        ends = _nested_plain({key: (low, high) for key, (_, low, high) in figures.items()})
        groups[name] = {"faces": group.faces[name], **values, "confidence_intervals": ends}
    worst = {key: found | {"value": _plain(found["value"]), "mean": _plain(found["mean"])} for key, found in group.worst().items()}
    return {"groups": groups, "worst": worst}


def _nested_plain(figures: Mapping[str, float | tuple[float, float]]) -> dict[str, Any]:
    return {name: value for name, value in _nested(figures).items() if value not in (None, {})}


def evaluate(
    predictions: Predictions,
    resamples: int = RESAMPLES,
    sentence_model: Path | None = None,
    bert_model: Path | None = None,
    by: Sequence[str] = (),
    origin: LabelOrigin | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Score predictions, and the baselines made from them.

    Args:
        predictions: questions and answers.
        resamples: of the bootstrap.
        sentence_model, bert_model: see `pipeline.evaluation.text_metrics.text_scores`.
        by: columns to split the describer's figures by; the questions keep their values (`Question.attributes`).
        origin: where the labels come from, for the report.
        progress: called with the name of each step.
    """
    face_index = index_faces(predictions.rows)
    known = {au for row in predictions.rows for au in row.question.visible}
    units = tuple(au for au in predictions.units if au in known)
    evaluation = Evaluation(predictions, origin=origin or LabelOrigin())
    tables = {MODEL: AnswerTable(predictions.rows, face_index, units)}
    alone = [row for row in predictions.rows if row.question.kind not in (*APART, *IN_TURN)]
    tables |= {name: AnswerTable(rows, face_index, units) for name, make in BASELINES.items() if (rows := make(alone))}
    figures: dict[tuple[str, str], Figure] = {}
    for column, table in tables.items():
        progress(f"scoring {column}")
        texts, points = _text(table, evaluation, sentence_model, bert_model) if column not in WITHOUT_TEXT else ({}, {})
        own = {**recognition_figures(table), **region_figures(table), **conversation_figures(table), **texts}
        figures |= {(column, name): figure for name, figure in own.items()}
        evaluation.columns[column] = Scores(table, measure(own, len(face_index)) | points, {})
    progress("intervals")
    for (column, name), ends in intervals(figures, len(face_index), resamples).items():
        evaluation.columns[column].ends[name] = ends
    for column in by:
        progress(f"figures by {column}")
        evaluation.groups.append(group_figures(tables[MODEL], column, resamples))
    return evaluation


def _text(
    table: AnswerTable, evaluation: Evaluation, sentence_model: Path | None, bert_model: Path | None
) -> tuple[dict[str, Figure], dict[str, float]]:
    """Text figures of whole faces and named regions of `TEXT_FACES` faces, `text/...`; `rege/...` of their whole faces, without interval.

    What was computed, and what could not be, is noted in the evaluation.
    """
    drawn = set(random.Random(SEED).sample(list(table.face_index), min(TEXT_FACES, table.faces)))
    asked = [(row, references(row.question)) for row in table.of_kinds(*NEEDED).rows if row.question.image_id in drawn]
    part = AnswerTable([row for row, texts in asked if texts], table.face_index, table.units)
    scores = text_scores([row.answer.description for row in part.rows], [texts for _, texts in asked if texts], sentence_model, bert_model)
    evaluation.text_missing |= scores.missing
    evaluation.signatures |= scores.signatures
    figures = {f"text/{name}": summed(part.sum_by_face(parts), partial(pool, name)) for name, parts in scores.parts.items()}
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
            [au for au in FABA_AUS if au in table.units],
        )
        points |= {f"rege/{name}": np.nan if value is None else value for name, value in found.items()}
    return figures, points


def references(question: Question) -> list[str]:
    """Reference sentences for a question: `REFERENCES` wordings of what its labels say, the same in every run.

    What is unlabelled is left out; without any label there is no reference.
    """
    chance = random.Random(f"{question.image_id} {question.kind}")
    shown = bool(region_aus(question.region, question.box))
    aus = [au for au in question.visible if au in question.aus] if question.visible else None
    age = None if question.age is None else round(question.age)
    sentences = [compose(aus, question.emotion, age, chance, region=question.region, empty=not shown) for _ in range(REFERENCES)]
    return [sentence for sentence in sentences if sentence]
