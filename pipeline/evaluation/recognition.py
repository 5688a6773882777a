"""Figures of recognition: action units, emotion and age against the labels.

The formulas are in docs/benchmark.md as well. All figures are functions of face weights (`pipeline.evaluation.bootstrap`), which
scikit-learn's are not; tests compare their values with scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from scipy.special import rel_entr

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import Figure, mean, ratio, summed
from pipeline.evaluation.intensity import intensity_figures
from pipeline.vocabulary import EMOTIONS, excludes

ECE_BINS = 15
"""Bins of equal width over the confidence in [0, 1]; more bins show finer errors and more noise."""

AGE_TOLERANCE = 5.0
"""Error in years up to which an age counts as right."""

LEAST_PROBABILITY = 1e-4
"""Least answered probability of an emotion in its divergence from votes: a single answer of 0 would otherwise make the mean infinite."""


def recognition_figures(table: AnswerTable) -> dict[str, Figure]:
    """All recognition figures: units, emotion and age on whole-face answers, units by region on the others."""
    whole = table.of_kinds("face")
    return {
        **_units(whole),
        **_average_precision(whole),
        **intensity_figures(whole),
        **_emotion(whole),
        **_votes(whole),
        **_age(whole),
        **_units_by_region(table),
        **_excluded_pairs(table),
    }


def count_units(table: AnswerTable) -> np.ndarray:
    """(N, 3, U): hits, false alarms and misses of each unit on each face, over the units that the labels know.

    A unit counts as active if it is active on the face and the box can show it.
    """
    known, gold, said = (table.unit_matrix(which) for which in ("known", "gold", "said"))
    return table.sum_by_face(np.stack([gold & said, ~gold & said & known, gold & ~said], 1))


def _precision(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return ratio(hits, hits + alarms, 0.0)


def _recall(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return ratio(hits, hits + misses, 0.0)


def f1(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN); 0 where there is nothing to divide."""
    return ratio(2 * hits, 2 * hits + alarms + misses, 0.0)


def _units(table: AnswerTable) -> dict[str, Figure]:
    """`au_precision`, `au_recall`, `au_f1` of each unit (0 where there is nothing to divide), their means and their micro forms.

    precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN); a mean weighs all units alike, the micro form
    sums the counts first.
    """
    counts = count_units(table)
    flat, units = counts.reshape(len(counts), -1), len(table.units)

    def figure(formula: Callable[..., np.ndarray], unit: int | None, micro: bool = False) -> Figure:
        def value(sums: np.ndarray) -> np.ndarray:
            split = sums.reshape(3, units, -1)
            if micro:
                return formula(*split.sum(1))
            return formula(*split).mean(0) if unit is None else formula(*split[:, unit])

        return summed(flat, value)

    figures: dict[str, Figure] = {}
    for name, formula in (("au_precision", _precision), ("au_recall", _recall), ("au_f1", f1)) if units else ():
        figures |= {f"{name}/{au}": figure(formula, i) for i, au in enumerate(table.units)}
        figures |= {f"{name}_mean": figure(formula, None), f"{name}_micro": figure(formula, None, micro=True)}
    return figures


def _units_by_region(table: AnswerTable) -> dict[str, Figure]:
    """Micro F1 of the units of a box: `region_au_f1` on named regions, `box_au_f1` on random boxes, `au_f1_by_region`.

    A unit that is active on the face but that the box cannot show is a false alarm here.
    """

    def micro(part: AnswerTable) -> Figure:
        return summed(count_units(part).sum(2), lambda sums: f1(*sums))

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
    """`au_ap` of each unit and `au_ap_mean`: AP = sum over falling thresholds of (recall gained) * precision; absent without scores."""
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
    """Average precision of (M,) scores against (M,) labels; rows of equal score enter together."""
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
    """`emotion_accuracy` and `emotion_macro_f1` by source, and `emotion_ece`, over faces labelled with one of the seven emotions.

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
    """(M, 7, 7) over `EMOTIONS`: a one at the labelled and answered emotion of each row; zeros for an unlabelled row."""
    index = {name: i for i, name in enumerate(EMOTIONS)}
    matrix = np.zeros((len(table.rows), len(EMOTIONS), len(EMOTIONS)))
    for i, row in enumerate(table.rows):
        if row.question.emotion is not None:
            matrix[i, index[row.question.emotion], index[row.answer.emotion]] = 1
    return matrix


def reliability(table: AnswerTable) -> np.ndarray | None:
    """(M, 3, ECE_BINS): count, confidence and hit of each row in the bin of its highest probability; None without probabilities."""
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


def _votes(table: AnswerTable) -> dict[str, Figure]:
    """Agreement with the votes of annotators, by source, over faces with votes.

    `emotion_vote_kl`: mean Kullback-Leibler divergence of the answered distribution from the votes, sum of v ln(v / p), in nats; answered
    probabilities are at least `LEAST_PROBABILITY`. `emotion_vote_share`: mean share of the annotators who chose the answered emotion.
    `emotion_vote_share_best`: the same for always answering the emotion with the most votes, the highest share possible.
    """
    figures: dict[str, Figure] = {}
    for source in sorted({row.question.source for row in table.rows if row.question.emotion_votes}):
        rows = [row for row in table.rows if row.question.emotion_votes and row.question.source == source]
        part = AnswerTable(rows, table.face_index, table.units)
        votes = np.array([row.question.emotion_votes for row in rows], np.float64)
        count = part.sum_by_face(np.ones(len(rows)))
        chosen = votes[range(len(rows)), [EMOTIONS.index(row.answer.emotion) for row in rows]]
        figures[f"emotion_vote_share/{source}"] = mean(part.sum_by_face(chosen), count)
        figures[f"emotion_vote_share_best/{source}"] = mean(part.sum_by_face(votes.max(1)), count)
        if all(row.answer.emotion_scores for row in rows):
            answered = np.array([[row.answer.emotion_scores[name] for name in EMOTIONS] for row in rows]).clip(LEAST_PROBABILITY)
            divergence = rel_entr(votes, answered / answered.sum(1, keepdims=True)).sum(1)
            figures[f"emotion_vote_kl/{source}"] = mean(part.sum_by_face(divergence), count)
    return figures


def _age(table: AnswerTable) -> dict[str, Figure]:
    """Ages, over faces with a recorded age.

    `age_mae`: mean of |answer - label| in years. `age_within_5`: share at most `AGE_TOLERANCE` years off. `age_coverage`: share of labels
    within the answered interval (10th to 90th percentile), of answers that give one; 0.8 is right. `age_guess_mae`: mean of
    |answer - guess| where another model's estimate is all there is.
    """
    figures: dict[str, Figure] = {}
    recorded = [row for row in table.rows if row.question.age is not None]
    part = AnswerTable(recorded, table.face_index, table.units)
    off = np.array([abs(row.answer.age - row.question.age) for row in recorded if row.question.age is not None])
    count = part.sum_by_face(np.ones(len(recorded)))
    figures["age_mae"] = mean(part.sum_by_face(off), count)
    figures["age_within_5"] = mean(part.sum_by_face(off <= AGE_TOLERANCE), count)
    bounded = [row for row in recorded if row.answer.age_low is not None and row.answer.age_high is not None]
    if bounded:
        part = AnswerTable(bounded, table.face_index, table.units)
        inside = [(row.answer.age_low or 0.0) <= (row.question.age or 0.0) <= (row.answer.age_high or 0.0) for row in bounded]
        figures["age_coverage"] = mean(part.sum_by_face(np.array(inside)), part.sum_by_face(np.ones(len(bounded))))
    guessed = [row for row in table.rows if row.question.age is None and row.question.age_guess is not None]
    if guessed:
        part = AnswerTable(guessed, table.face_index, table.units)
        off = np.array([abs(row.answer.age - (row.question.age_guess or 0.0)) for row in guessed])
        figures["age_guess_mae"] = mean(part.sum_by_face(off), part.sum_by_face(np.ones(len(guessed))))
    return figures


def _excluded_pairs(table: AnswerTable) -> dict[str, Figure]:
    """`excluded_pairs`: pairs of action units that exclude each other (`pipeline.vocabulary.EXCLUSIONS`) and are both answered as active,
    counted over whole faces and named regions."""
    part = table.of_kinds("face", "region")
    pairs = [sum(excludes(a, b) for a, b in combinations(row.answer.aus, 2)) for row in part.rows]
    return {"excluded_pairs": summed(part.sum_by_face(np.array(pairs))[:, None], lambda sums: sums[0])}
