"""Validation figures at the end of a stage."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn

from pipeline.training.augmentation import centre_crops
from pipeline.training.batches import first_box_questions
from pipeline.training.conversation_trees import ConversationLayout
from pipeline.training.dense_supervision import AGES
from pipeline.training.labelled_faces import UNKNOWN, LabelledFaces
from pipeline.training.objectives import FocalObjective
from pipeline.vocabulary import AUS_LABELLED

BOX_KINDS = ("whole", "named", "jittered", "random", "empty")
"""Kinds of boxes that `validate_focal` asks about, one box of each kind per face."""


def recognition_figures(faces: LabelledFaces, emotion: np.ndarray, aus: np.ndarray, age: np.ndarray) -> dict[str, float]:
    """Emotion accuracy and macro-F1 per source, mean AU F1, mean absolute age error in years.

    Args:
        emotion: (N,) predicted indices into `EMOTIONS`.
        aus: (N, 16) bool, predicted over `AUS_LABELLED`.
        age: (N,) predicted years.
    """
    figures = {}
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        if rows.any():
            figures[f"emotion_accuracy_{source}"] = float((emotion == faces.emotion)[rows].mean())
            figures[f"emotion_macro_f1_{source}"] = float(
                f1_score(faces.emotion[rows], emotion[rows], labels=np.unique(faces.emotion[rows]), average="macro", zero_division=0)
            )
    figures["au_f1_mean"] = float(np.mean([f1_score(faces.aus[:, i], aus[:, i], zero_division=0) for i in range(aus.shape[1])]))
    known = ~np.isnan(faces.age)
    if known.any():
        figures["age_mae"] = float(np.abs(age - faces.age)[known].mean())
    return figures


@torch.no_grad()
def validate_dense(network: nn.Module, faces: LabelledFaces, batch: int = 256) -> dict[str, float]:
    """`recognition_figures` of a dense network on unchanged faces."""
    network.eval()
    parts = [network(centre_crops(torch.from_numpy(faces.pixels[start : start + batch]))) for start in range(0, len(faces), batch)]
    emotion, aus, age = (torch.cat([getattr(part, name) for part in parts]) for name in ("emotion", "aus", "age"))
    return recognition_figures(faces, emotion.argmax(-1).numpy(), (aus > 0).numpy(), _expected_years(age))


@torch.no_grad()
def validate_focal(
    objective: FocalObjective, faces: LabelledFaces, layout: ConversationLayout, batch: int = 64
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the language model's own answers about each kind of box, without the describer's rules.

    Returns:
        (figures, thresholds). The figures: `recognition_figures` of the whole face; for each kind of box `au_f1_<kind>`, the F1 over all
        its (box, AU) pairs, where the truth is an AU that is active and visible in the box; `unsupported`, the share of predicted AUs that
        their box cannot show. The thresholds: for each AU the probability that gives the best F1 on the whole faces; the figures use them.
    """
    objective.eval()
    emotions, ages, units, boxes_asked = [], [], [], []
    for start in range(0, len(faces), batch):
        rows = np.arange(start, min(start + batch, len(faces)))
        questions, boxes = first_box_questions(faces, rows, BOX_KINDS, layout)
        crops = centre_crops(torch.from_numpy(faces.pixels[rows]))
        scores, _ = objective.answer(objective.face_tokens(crops), questions)
        *each, emotion, age = scores
        emotions.append(emotion)
        ages.append(age)
        probabilities = torch.zeros(len(boxes), len(AUS_LABELLED))
        for score, column in zip(each, objective.label_columns, strict=True):
            if column is not None:
                probabilities[:, column] = score[:, 0].exp()
        units.append(probabilities)
        boxes_asked.append(boxes)
    kinds = len(BOX_KINDS)
    all_units, boxes = torch.cat(units).numpy(), np.concatenate(boxes_asked)
    thresholds = np.array([_best_threshold(all_units[::kinds, i], faces.aus[:, i]) for i in range(all_units.shape[1])])
    predicted = all_units >= thresholds  # [T, 16]
    visible = faces.visible[boxes]
    truth = visible & faces.aus[np.repeat(np.arange(len(faces)), kinds)]
    whole = slice(0, None, kinds)
    emotion, age = torch.cat(emotions)[whole], torch.cat(ages)[whole]
    figures = recognition_figures(faces, emotion.argmax(-1).numpy(), predicted[whole], _expected_years(age))
    for number, kind in enumerate(BOX_KINDS):
        own, right = predicted[number::kinds], truth[number::kinds]
        if right.any():
            figures[f"au_f1_{kind}"] = float(2 * (own & right).sum() / (own.sum() + right.sum()))
    figures["unsupported"] = float((predicted & ~visible).sum() / max(1, predicted.sum()))
    return figures, {au: round(float(threshold), 2) for au, threshold in zip(AUS_LABELLED, thresholds, strict=True)}


def _best_threshold(scores: np.ndarray, truth: np.ndarray, low: float = 0.2, high: float = 0.8) -> float:
    """Threshold with the best F1; the bounds keep it from fitting a few faces."""
    grid = np.linspace(low, high, 61)
    predicted = scores[:, None] >= grid  # [N, thresholds]
    f1 = 2 * (predicted & truth[:, None]).sum(0) / np.maximum(1, predicted.sum(0) + truth.sum())
    return float(grid[int(f1.argmax())])


def _expected_years(logits: torch.Tensor) -> np.ndarray:
    """(N, 101) logits -> (N,) expected years."""
    return (logits.float().softmax(-1) @ torch.arange(AGES, dtype=torch.float32)).numpy()
