"""Recognition: action units, emotion and age against the labels. Formulas stand in docs/benchmark.md too.

Counts are kept by face, so that every figure can be resampled (`pipeline.evaluation.bootstrap`); tests hold them against scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import Figure, mean, ratio, summed
from pipeline.vocabulary import EMOTIONS

ECE_BINS = 15
"""Bins of equal width over the confidence in [0, 1]; more bins see finer faults and more noise."""

AGE_TOLERANCE = 5.0
"""Years within which an age counts as right."""


def recognition_figures(table: AnswerTable) -> dict[str, Figure]:
    """All recognition figures: units, emotion and age on whole-face answers, units by region on the others."""
    whole = table.of_kinds("face")
    return {**_units(whole), **_average_precision(whole), **_emotion(whole), **_age(whole), **_units_by_region(table)}


def _counts(table: AnswerTable) -> np.ndarray:
    """(N, 3, U): hits, false alarms and misses of each unit on each face, over what the labels know; active is what the box can show."""
    known, gold, said = (table.unit_matrix(which) for which in ("known", "gold", "said"))
    return table.sum_by_face(np.stack([gold & said, ~gold & said & known, gold & ~said], 1))


def _precision(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return ratio(hits, hits + alarms, 0.0)


def _recall(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return ratio(hits, hits + misses, 0.0)


def _f1(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return ratio(2 * hits, 2 * hits + alarms + misses, 0.0)


def _units(table: AnswerTable) -> dict[str, Figure]:
    """`au_precision`, `au_recall`, `au_f1` of each unit (0 where nothing is to divide), their means and their micro forms.

    precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN); a mean weighs all units alike, micro adds up the
    counts first.
    """
    counts = _counts(table)
    flat, units = counts.reshape(len(counts), -1), len(table.units)

    def figure(formula: Callable[..., np.ndarray], unit: int | None, micro: bool = False) -> Figure:
        def value(sums: np.ndarray) -> np.ndarray:
            split = sums.reshape(3, units, -1)
            if micro:
                return formula(*split.sum(1))
            return formula(*split).mean(0) if unit is None else formula(*split[:, unit])

        return summed(flat, value)

    figures: dict[str, Figure] = {}
    for name, formula in (("au_precision", _precision), ("au_recall", _recall), ("au_f1", _f1)) if units else ():
        figures |= {f"{name}/{au}": figure(formula, i) for i, au in enumerate(table.units)}
        figures |= {f"{name}_mean": figure(formula, None), f"{name}_micro": figure(formula, None, micro=True)}
    return figures


def _units_by_region(table: AnswerTable) -> dict[str, Figure]:
    """Micro F1 of the units of a box: `region_au_f1` on named regions, `box_au_f1` on random boxes, `au_f1_by_region`.

    A unit that is active on the face but that the box cannot show is a false alarm here.
    """

    def micro(part: AnswerTable) -> Figure:
        return summed(_counts(part).sum(2), lambda sums: _f1(*sums))

    named = table.of_kinds("region", "other")
    by_name = {
        region: AnswerTable([row for row in named.rows if row.question.region == region], table.face_index, table.units)
        for region in dict.fromkeys(row.question.region for row in named.rows if set(row.question.visible) & set(table.units))
    }
    figures = {"region_au_f1": micro(table.of_kinds("region"))}
    if (boxes := table.of_kinds("random")).rows:
        figures["box_au_f1"] = micro(boxes)
    return figures | {f"au_f1_by_region/{region}": micro(part) for region, part in sorted(by_name.items())}


def _average_precision(table: AnswerTable) -> dict[str, Figure]:
    """`au_ap` of each unit and `au_ap_mean`: AP = sum over falling thresholds of (recall gained) * precision; none without scores."""
    figures: dict[str, Figure] = {}
    for au in table.units:
        judged = [(face, row) for face, row in zip(table.row_faces, table.rows, strict=True) if au in row.question.visible]
        if any(au in row.answer.au_scores for _, row in judged):
            scores = np.array([row.answer.au_scores.get(au, 0.0) for _, row in judged])
            gold = np.array([au in row.question.aus for _, row in judged])
            figures[f"au_ap/{au}"] = _ap(np.array([face for face, _ in judged]), scores, gold)
    parts = list(figures.values())
    return figures | ({"au_ap_mean": lambda weights: np.mean([part(weights) for part in parts], axis=0)} if parts else {})


def _ap(face: np.ndarray, scores: np.ndarray, gold: np.ndarray) -> Figure:
    """Average precision of (M,) scores against (M,) gold; rows of equal score enter together."""
    order = np.argsort(-scores, kind="stable")
    face, scores, gold = face[order], scores[order], gold[order]
    first = np.flatnonzero(np.r_[True, np.diff(scores) != 0])  # where a new score begins
    holds = np.logical_or.reduceat(gold, first)  # only scores that some active face has gain recall
    ends = np.r_[first[1:], len(scores)][holds]
    cuts = np.unique(np.r_[0, ends, first[holds]])
    cuts = cuts[cuts < len(scores)]

    def value(weights: np.ndarray) -> np.ndarray:
        if not len(ends):
            return np.zeros(weights.shape[1])
        rows = weights[face]  # (M, R)
        seen = np.cumsum(np.add.reduceat(rows, cuts), 0)
        hits = np.cumsum(np.add.reduceat(rows * gold[:, None], cuts), 0)
        at = np.searchsorted(cuts, ends) - 1  # the stretch that ends there
        gained = np.diff(hits[at], axis=0, prepend=0)
        return ratio((gained * ratio(hits[at], seen[at], 0.0)).sum(0), hits[-1], 0.0)

    return value


def _emotion(table: AnswerTable) -> dict[str, Figure]:
    """`emotion_accuracy` and `emotion_macro_f1` by source, and `emotion_ece`, over faces with one of the seven emotions as label.

    Macro F1 is the mean of the F1 of those emotions that occur among the labels. ECE is the expected calibration error (Guo et al. 2017,
    "On Calibration of Modern Neural Networks"): with `ECE_BINS` bins of equal width over the highest probability, the sum over bins of
    (share of faces in it) * |accuracy - mean confidence|.
    """
    figures: dict[str, Figure] = {}
    matrix = confusion(table)
    for source in sorted({row.question.source for row in table.rows if row.question.emotion}):
        part = matrix * np.array([row.question.source == source for row in table.rows])[:, None, None]
        flat = table.sum_by_face(part.reshape(len(part), -1))
        figures[f"emotion_accuracy/{source}"] = summed(flat, _accuracy)
        figures[f"emotion_macro_f1/{source}"] = summed(flat, _macro_f1)
    bins = reliability(table)
    if bins is not None:
        figures["emotion_ece"] = summed(table.sum_by_face(bins.reshape(len(bins), -1)), _ece)
    return figures


def confusion(table: AnswerTable) -> np.ndarray:
    """(M, 7, 7): a one at each row's gold and answered emotion, over `EMOTIONS`; nothing where the gold is unlabelled."""
    index = {name: i for i, name in enumerate(EMOTIONS)}
    matrix = np.zeros((len(table.rows), len(EMOTIONS), len(EMOTIONS)))
    for i, row in enumerate(table.rows):
        if row.question.emotion is not None:
            matrix[i, index[row.question.emotion], index[row.answer.emotion]] = 1
    return matrix


def reliability(table: AnswerTable) -> np.ndarray | None:
    """(M, 3, ECE_BINS): each row's count, confidence and hit in the bin of its highest probability; None where there are none."""
    bins, some = np.zeros((len(table.rows), 3, ECE_BINS)), False
    for i, row in enumerate(table.rows):
        if row.question.emotion is not None and row.answer.emotion_scores:
            some = True
            confidence = max(row.answer.emotion_scores.values())
            place = min(int(confidence * ECE_BINS), ECE_BINS - 1)
            bins[i, :, place] = 1, confidence, row.answer.emotion == row.question.emotion
    return bins if some else None


def _accuracy(sums: np.ndarray) -> np.ndarray:
    side = len(EMOTIONS)
    return ratio(sums.reshape(side, side, -1)[range(side), range(side)].sum(0), sums.sum(0))


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    side = len(EMOTIONS)
    matrix = sums.reshape(side, side, -1)
    gold, said, hits = matrix.sum(1), matrix.sum(0), matrix[range(side), range(side)]
    return ratio((ratio(2 * hits, gold + said, 0.0) * (gold > 0)).sum(0), (gold > 0).sum(0))


def _ece(sums: np.ndarray) -> np.ndarray:
    count, confidence, hits = sums.reshape(3, ECE_BINS, -1)
    return ratio(np.abs(hits - confidence).sum(0), count.sum(0))


def _age(table: AnswerTable) -> dict[str, Figure]:
    """`age_mae`: mean of |answer - label| in years; `age_within_5`: share at most `AGE_TOLERANCE` years off; over labelled faces."""
    labelled = np.array([row.question.age is not None for row in table.rows], bool)
    off = np.array([abs(row.answer.age - row.question.age) if row.question.age is not None else 0.0 for row in table.rows])
    count = table.sum_by_face(labelled)
    return {
        "age_mae": mean(table.sum_by_face(off), count),
        "age_within_5": mean(table.sum_by_face(labelled & (off <= AGE_TOLERANCE)), count),
    }
