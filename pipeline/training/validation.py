"""Validation figures at the end of a stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn

from pipeline.describe.fields import AGE_SHARES, percentile, sharpened
from pipeline.training.augmentation import centre_crops
from pipeline.training.batches import first_box_questions
from pipeline.training.conversation_trees import ConversationLayout
from pipeline.training.dense_supervision import AGES, LEVELS, active_probability, expected_intensity
from pipeline.training.labelled_faces import UNKNOWN, LabelledFaces
from pipeline.training.objectives import FocalObjective
from pipeline.vocabulary import AUS_LABELLED

AGE_SCALE = 20.0
"""Years of error at which age adds nothing to the `score` of `recognition_figures`."""

MOST_OFTEN = 2
"""A threshold names a unit at most this many times as often as it is there. For rare units that are read badly, the best F1 is where they
are named far more often; a wrong unit is worse than a missing one."""

AS_GOOD = 0.02
"""F1 by which a threshold may fall short of the best one, if it names the unit nearer to as often as it is there. On the faces that did not
choose it, nano's F1 stays, and a unit is named 1.03 times as often as it is there (deviation 0.11 among units) instead of 1.11 (0.26)."""

FEWEST_AGES = 30
"""Fewest known ages, in a half of the faces, from which a temperature is chosen; fewer would be fitted by chance."""

TEMPERATURES = np.linspace(0.3, 2.0, 86)
"""Age temperatures that `interval_temperature` chooses from."""

BOX_KINDS = ("whole", "named", "jittered", "random", "empty")
"""Kinds of boxes that `validate_focal` asks about, one box of each kind per face."""


@dataclass(frozen=True)
class Calibration:
    """What turns a model's probabilities into answers, chosen on validation faces; see `pipeline.describe.grammar.Grammar`."""

    thresholds: dict[str, float]
    age_temperature: float


def recognition_figures(
    faces: LabelledFaces, emotion: np.ndarray, scores: np.ndarray, intensity: np.ndarray | None, age: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Emotion accuracy and macro-F1 per source, mean AU F1, intensity correlation, mean absolute age error in years.

    The threshold of an AU is chosen on every second face: of those with nearly the best F1 (`AS_GOOD`), the one that names it most nearly
    as often as it is there. F1 is that of the other faces.

    Args:
        emotion: (N,) predicted indices into `EMOTIONS`.
        scores: (N, A) probability that each AU of `AUS_LABELLED` is active; a column of zeros is an AU that the model does not know.
        intensity: (N, A) predicted intensities, or None.
        age: (N,) predicted years.

    Returns:
        (figures, (A,) thresholds). The figure `score`, by which a stage notices that it no longer learns, is the mean of the emotion
        figures, AU F1, intensity correlation (if there is one) and 1 - age error / 20.
    """
    figures = {}
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        if rows.any():
            figures[f"emotion_accuracy_{source}"] = float((emotion == faces.emotion)[rows].mean())
            figures[f"emotion_macro_f1_{source}"] = float(
                f1_score(faces.emotion[rows], emotion[rows], labels=np.unique(faces.emotion[rows]), average="macro", zero_division=0)
            )
    parts = list(figures.values())
    chosen = np.arange(len(faces)) % 2 == 0
    thresholds, f1 = np.full(scores.shape[1], 0.5), []
    for i in np.flatnonzero(scores.any(0)):
        known = faces.aus_known[:, i]
        thresholds[i] = _best_threshold(scores[known & chosen, i], faces.aus[known & chosen, i])
        others = known & ~chosen
        f1.append(f1_score(faces.aus[others, i], scores[others, i] >= thresholds[i], zero_division=0))
    figures["au_f1_mean"] = float(np.mean(f1))
    if intensity is not None:
        correlations = [_correlation(intensity[:, i], faces.au_intensity[:, i]) for i in range(intensity.shape[1])]
        figures["au_intensity_r"] = float(np.nanmean(correlations)) if not np.isnan(correlations).all() else 0.0
        parts.append(figures["au_intensity_r"])
    parts.append(figures["au_f1_mean"])
    known = ~np.isnan(faces.age)
    if known.any():
        figures["age_mae"] = float(np.abs(age - faces.age)[known].mean())
        parts.append(1 - figures["age_mae"] / AGE_SCALE)
    figures["score"] = float(np.mean(parts))
    return figures, thresholds


def _correlation(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's r over the faces with a label; NaN where one of the two does not vary."""
    known = ~np.isnan(labels)
    if known.sum() < 2 or predicted[known].std() < 1e-9 or labels[known].std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(predicted[known], labels[known])[0, 1])


@torch.no_grad()
def validate_dense(network: nn.Module, faces: LabelledFaces, batch: int = 256) -> dict[str, float]:
    """`recognition_figures` of a dense network on unchanged faces."""
    network.eval()
    parts = [network(centre_crops(torch.from_numpy(faces.pixels[start : start + batch]))) for start in range(0, len(faces), batch)]
    emotion, aus, age = (torch.cat([getattr(part, name) for part in parts]) for name in ("emotion", "aus", "age"))
    levels = aus.float()
    figures, _ = recognition_figures(
        faces, emotion.argmax(-1).numpy(), active_probability(levels).numpy(), expected_intensity(levels).numpy(), _expected_years(age)
    )
    return figures


@torch.no_grad()
def validate_focal(
    objective: FocalObjective, faces: LabelledFaces, layout: ConversationLayout, batch: int = 64
) -> tuple[dict[str, float], Calibration]:
    """Measure the language model's own answers about each kind of box, without the describer's rules.

    Returns:
        (figures, calibration). The figures: `recognition_figures` of the whole face; for each kind of box `au_f1_<kind>`, the F1 over all
        its (box, AU) pairs, where the truth is an AU that is active and visible in the box; `unsupported`, the share of predicted AUs that
        their box cannot show; `age_coverage`, the share of ages within their interval. The calibration: for each AU its threshold, as in
        `recognition_figures`, and the temperature that gives the age interval its share, each on one half of the faces; the figures are of
        the other half, or use them.
    """
    objective.eval()
    emotions, ages, units, intensities, boxes_asked = [], [], [], [], []
    for start in range(0, len(faces), batch):
        rows = np.arange(start, min(start + batch, len(faces)))
        questions, boxes = first_box_questions(faces, rows, BOX_KINDS, layout)
        crops = centre_crops(torch.from_numpy(faces.pixels[rows]))
        scores, _ = objective.answer(objective.face_tokens(crops), questions)
        *each, emotion, age = scores
        emotions.append(emotion)
        ages.append(age)
        probabilities, intensity = torch.zeros(2, len(boxes), len(AUS_LABELLED))
        for score, column in zip(each, objective.label_columns, strict=True):
            if column is not None:
                graded = score.shape[-1] == LEVELS
                probabilities[:, column] = active_probability(score) if graded else score[:, 0].exp()
                intensity[:, column] = expected_intensity(score) if graded else 0
        units.append(probabilities)
        intensities.append(intensity)
        boxes_asked.append(boxes)
    kinds = len(BOX_KINDS)
    all_units, boxes = torch.cat(units).numpy(), np.concatenate(boxes_asked)
    whole = slice(0, None, kinds)
    graded_units = torch.cat(intensities).numpy()[whole]
    emotion, age = torch.cat(emotions)[whole], torch.cat(ages)[whole]
    figures, thresholds = recognition_figures(
        faces, emotion.argmax(-1).numpy(), all_units[whole], graded_units if graded_units.any() else None, _expected_years(age)
    )
    predicted = all_units >= thresholds  # [T, A]
    visible = faces.visible[boxes]
    truth = visible & faces.aus[np.repeat(np.arange(len(faces)), kinds)]
    for number, kind in enumerate(BOX_KINDS):
        own, right = predicted[number::kinds], truth[number::kinds]
        if right.any():
            figures[f"au_f1_{kind}"] = float(2 * (own & right).sum() / (own.sum() + right.sum()))
    figures["unsupported"] = float((predicted & ~visible).sum() / max(1, predicted.sum()))
    temperature, coverage = interval_temperature(age.float().softmax(-1).numpy(), faces.age)
    if coverage is not None:
        figures["age_coverage"] = coverage
    return figures, Calibration({au: round(float(value), 2) for au, value in zip(AUS_LABELLED, thresholds, strict=True)}, temperature)


def interval_temperature(distributions: np.ndarray, ages: np.ndarray) -> tuple[float, float | None]:
    """The temperature with which an age interval holds its share of the ages of every second face, and its share of the others.

    Args:
        distributions: (N, 101) probabilities of 0 to 100 years.
        ages: (N,) recorded years, NaN where unknown.

    Returns:
        The temperature, and the share of the other faces whose age it holds; 1 and None where few ages are known.
    """
    known = np.flatnonzero(~np.isnan(ages))
    chosen, others = known[::2], known[1::2]
    if len(others) < FEWEST_AGES:
        return 1.0, None
    promised = AGE_SHARES[-1] - AGE_SHARES[0]
    missed = [abs(_coverage(sharpened(distributions[chosen], value), ages[chosen]) - promised) for value in TEMPERATURES]
    temperature = round(float(TEMPERATURES[int(np.argmin(missed))]), 2)
    return temperature, _coverage(sharpened(distributions[others], temperature), ages[others])


def _coverage(distributions: np.ndarray, ages: np.ndarray) -> float:
    """Share of the ages within the interval that answers give."""
    ends = np.array([[percentile(row, share) for share in (AGE_SHARES[0], AGE_SHARES[-1])] for row in distributions])
    return float(((ends[:, 0] <= ages) & (ages <= ends[:, 1])).mean())


def _best_threshold(scores: np.ndarray, truth: np.ndarray, low: float = 0.1, high: float = 0.8) -> float:
    """The threshold that names a unit most nearly as often as it is there, of those with nearly the best F1; none that names it far too
    often. The bounds keep it from fitting a few faces."""
    grid = np.linspace(low, high, 71)
    predicted = scores[:, None] >= grid  # [N, thresholds]
    f1 = 2 * (predicted & truth[:, None]).sum(0) / np.maximum(1, predicted.sum(0) + truth.sum())
    often = predicted.sum(0) > MOST_OFTEN * truth.sum()
    if often.all():
        return high
    good = ~often & (f1 >= f1[~often].max() - AS_GOOD)
    off = np.abs(predicted.sum(0) - truth.sum())
    return float(grid[int(np.where(good, off, len(truth) + 1).argmin())])


def _expected_years(logits: torch.Tensor) -> np.ndarray:
    """(N, 101) logits -> (N,) expected years."""
    return (logits.float().softmax(-1) @ torch.arange(AGES, dtype=torch.float32)).numpy()
