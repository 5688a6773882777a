"""Figures of region-level quality: locality, faithfulness, consistency, discrimination and perturbation.

The formulas are in docs/benchmark.md as well. All figures are functions of face weights (`pipeline.evaluation.bootstrap`).
"""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import MultinomialNB

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import Figure, mean, ratio, summed
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.recognition import AGE_TOLERANCE
from pipeline.evaluation.sentence_reader import says_fields
from pipeline.records import Answer
from pipeline.vocabulary import REGION_AUS, REGIONS, WHOLE_FACE, region_aus

FOLDS = 5
"""Folds of the cross-validation of discrimination; more folds train on more sentences and take longer."""


def region_figures(table: AnswerTable) -> dict[str, Figure]:
    """All region figures."""
    return {**_locality(table), **_faithfulness(table), **_consistency(table), **_discrimination(table), **_perturbation(table)}


def _locality(table: AnswerTable) -> dict[str, Figure]:
    """Share of named action units that their box cannot show (`vocabulary.region_aus`); 0 where none is named.

    `locality_violations`: in the field `aus` of named regions. `locality_sentences`: in their sentences. `locality_boxes`: in the field, on
    random boxes.
    """

    def share(part: AnswerTable, named: list[frozenset[str]]) -> Figure:
        can = [set(region_aus(row.question.region, row.question.box)) for row in part.rows]
        outside = part.sum_by_face(np.array([len(units - box) for units, box in zip(named, can, strict=True)]))
        parts = np.stack([outside, part.sum_by_face(np.array([len(units) for units in named]))], 1)
        return summed(parts, lambda sums: ratio(sums[0], sums[1], 0.0))

    regions, boxes = table.of_kinds("region"), table.of_kinds("random")
    figures = {
        "locality_violations": share(regions, [frozenset(row.answer.aus) for row in regions.rows]),
        "locality_sentences": share(regions, [said.aus for said in regions.readings()]),
    }
    return figures | ({"locality_boxes": share(boxes, [frozenset(row.answer.aus) for row in boxes.rows])} if boxes.rows else {})


def _facts(row: Prediction, said_units: frozenset[str], said_emotions: frozenset[str], said_ages: frozenset[int]) -> np.ndarray:
    """(2, 3): true claims, false claims and omissions of a sentence; row 0 of action units, row 1 of all facts."""
    q = row.question
    judged = said_units & frozenset(q.visible)
    units = np.array([len(judged & q.aus), len(judged - q.aus), len(q.aus - judged)])
    rest = np.zeros(3, np.int64)
    for gold, claimed, right in (
        (q.emotion, said_emotions, [emotion for emotion in said_emotions if emotion == q.emotion]),
        (q.age, said_ages, [age for age in said_ages if q.age is not None and abs(age - q.age) <= AGE_TOLERANCE]),
    ):
        if gold is not None:
            rest += [len(right), len(claimed) - len(right), not right]
    return np.stack([units, units + rest])


def _faithfulness(table: AnswerTable) -> dict[str, Figure]:
    """Facts of the sentences against the labels, on whole faces and named regions.

    A sentence's facts are the action units, emotions and ages that its words claim (`sentence_reader`). A claim is true when the labels
    have it (an age: within `AGE_TOLERANCE` years) and false when they contradict it; claims that the box cannot show (`_locality` counts
    them) or that the labels do not know are not judged. precision = true / (true + false); recall = true / (true + gold facts left
    out); F1 is their harmonic mean. `faithfulness` is over all facts, `faithfulness_aus` over action units alone.
    """
    part = table.of_kinds("face", "region")
    facts = [_facts(row, said.aus, said.emotions, said.ages) for row, said in zip(part.rows, part.readings(), strict=True)]
    counts = part.sum_by_face(np.array(facts).reshape(len(facts), 2, 3))
    figures: dict[str, Figure] = {}
    for i, name in ((1, "faithfulness"), (0, "faithfulness_aus")):
        figures[f"{name}/precision"] = summed(counts[:, i], lambda s: ratio(s[0], s[0] + s[1]))
        figures[f"{name}/recall"] = summed(counts[:, i], lambda s: ratio(s[0], s[0] + s[2]))
        figures[f"{name}/f1"] = summed(counts[:, i], lambda s: ratio(2 * s[0], 2 * s[0] + s[1] + s[2]))
    return figures


def _consistency(table: AnswerTable) -> dict[str, Figure]:
    """Do the model's own sentences say what its fields say? On whole faces and named regions.

    `consistency`: share of the sentences that the model wrote itself, before any check or replacement, that claim exactly the answer's
    action units, emotion and age (rounded to years). Where an answer does not keep the model's own sentence, its `description` is judged.
    `consistency_final`: the same share of the sentences given out. `sentences_replaced`: share of the model's sentences that were given out
    in another wording. The judge is `sentence_reader`, which shares nothing with the check that replaces sentences.
    """
    part = table.of_kinds("face", "region")
    answers = [row.answer for row in part.rows]
    kept = np.array([a.own_sentence is not None for a in answers], bool)

    def agree(sentences: list[str]) -> Figure:
        right = [says_fields(sentence, a.aus, a.emotion, a.age) for sentence, a in zip(sentences, answers, strict=True)]
        return mean(part.sum_by_face(np.array(right)), part.sum_by_face(np.ones(len(right))))

    final = [a.description for a in answers]
    own = [a.description if a.own_sentence is None else a.own_sentence for a in answers]
    figures = {"consistency": agree(own), "consistency_final": agree(final)}
    if kept.any():
        replaced = kept & np.array([a != b for a, b in zip(own, final, strict=True)])
        figures["sentences_replaced"] = mean(part.sum_by_face(replaced), part.sum_by_face(kept))
    return figures


def region_classes() -> dict[str, str]:
    """Region name -> class for discrimination. Regions that share an action unit cannot be told apart and form one class."""
    groups: list[tuple[list[str], set[str]]] = []
    for region in REGIONS:
        if region == WHOLE_FACE:
            continue
        names, units = [region], set(REGION_AUS[region])
        for group in [group for group in groups if group[1] & units]:
            groups.remove(group)
            names, units = group[0] + names, group[1] | units
        groups.append((names, units))
    return {name: names[0] for names, _ in groups for name in names}


_CLASS = region_classes()


def _discrimination(table: AnswerTable) -> dict[str, Figure]:
    """Does the sentence tell which region of the face it is about?

    A multinomial naive Bayes classifier with equal priors, on counts of words and pairs of words, is trained on the sentences of named
    regions and guesses the class (`region_classes`) of the others, in `FOLDS`-fold cross-validation with all sentences of a face in one
    fold. Only boxes with an active unit among their labels count: the others cannot be told apart.
    `discrimination/accuracy` is balanced: the mean over classes of the share guessed. `discrimination/chance` is 1 / classes.
    `discrimination/score` = (accuracy - chance) / (1 - chance): 1 if sentences always tell, 0 if they never do.
    """
    part = table.of_kinds("region", "other")
    part = AnswerTable([row for row in part.rows if row.question.aus], table.face_index, table.units)
    names = np.array([_CLASS[row.question.region] for row in part.rows])
    classes, groups = np.unique(names), part.row_faces
    folds = min(FOLDS, len(np.unique(groups)))
    if len(classes) < 2 or folds < 2:
        return {}
    right = np.zeros(len(names), bool)
    marked = [f"start {row.answer.description}" for row in part.rows]  # pairs then include the first word, and an empty sentence has a word
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b").fit_transform(marked)
    for train, test in GroupKFold(folds).split(words, names, groups):
        right[test] = MultinomialNB(fit_prior=False).fit(words[train], names[train]).predict(words[test]) == names[test]
    member = names[:, None] == classes
    counts = part.sum_by_face(np.concatenate([member & right[:, None], member], 1))
    chance = 1 / len(classes)

    def accuracy(sums: np.ndarray) -> np.ndarray:
        hits, count = np.split(sums, 2)
        return ratio(ratio(hits, count, 0.0).sum(0), (count > 0).sum(0))

    return {
        "discrimination/accuracy": summed(counts, accuracy),
        "discrimination/chance": lambda weights: np.full(weights.shape[1], chance),
        "discrimination/score": summed(counts, lambda sums: (accuracy(sums) - chance) / (1 - chance)),
    }


def jaccard(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """|both| / |either|; 1 where both are empty."""
    either = set(a) | set(b)
    return len(set(a) & set(b)) / len(either) if either else 1.0


def agreement(a: Answer, b: Answer) -> float:
    """Agreement of two answers: mean of the Jaccard index of units, same emotion (0 or 1), ages within `AGE_TOLERANCE` (0 or 1)."""
    return (jaccard(a.aus, b.aus) + (a.emotion == b.emotion) + (abs(a.age - b.age) <= AGE_TOLERANCE)) / 3


def _perturbation(table: AnswerTable) -> dict[str, Figure]:
    """Does the answer stay when the box moves a little, and change when it moves to another region?

    `perturbation/stability`: mean `agreement` of a region's answer with that for the nudged box. `perturbation/sensitivity`: mean of
    1 - Jaccard index of the units answered for a region and for another one that shares no unit with it, over faces where the labels
    have an active unit in either (so that the right value is 1). `perturbation/combined`: their harmonic mean, which is low for a describer
    that always says the same and for one that answers at random.
    """
    near, far = table.pairs("region", "nudged"), table.pairs("region", "other")
    if not near or not far:
        return {}
    sums = np.zeros((table.faces, 4))
    for face, a, b in near:
        sums[face, :2] += agreement(a.answer, b.answer), 1
    for face, a, b in far:
        if a.question.aus | b.question.aus:
            sums[face, 2:] += 1 - jaccard(a.answer.aus, b.answer.aus), 1

    def combined(s: np.ndarray) -> np.ndarray:
        stay, change = ratio(s[0], s[1]), ratio(s[2], s[3])
        return ratio(2 * stay * change, stay + change, 0.0)

    return {
        "perturbation/stability": summed(sums, lambda s: ratio(s[0], s[1])),
        "perturbation/sensitivity": summed(sums, lambda s: ratio(s[2], s[3])),
        "perturbation/combined": summed(sums, combined),
    }
