"""Dense learning: everything that is known of a face, read off a network by one linear head at once.

A small transformer is data-hungry, and the words of a description carry few bits of a picture. So emotion, the labelled action units, age
as a distribution and all blendshapes supervise nano's vision tower directly, before the language model sees a face and beside it
later. A convolutional teacher (`pipeline.training.teacher`) learns from the same labels and passes on what it found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import nn

from pipeline.training.faces import UNKNOWN, Faces
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

AGES = 101
"""Ages 0 to 100, one bin a year."""

AGE_SPREAD = 3.0
"""Years; an age is taught as a bell of this width, as neighbouring years are nearly right. Wider costs sharpness, narrower data."""

WEIGHTS = {"au": 4.0, "blendshapes": 4.0, "emotion": 1.0, "age": 0.5}
"""Shares of the parts in the loss; they bring the gradients of the four to about one size."""


@dataclass(frozen=True)
class Labels:
    """What is known of B faces.

    Attributes:
        emotion: (B, 7) float32, what to answer, in shares of 1.
        emotion_weight: (B,) float32, how much it counts; 0 without one.
        age: (B,) float32, NaN without one.
        aus, aus_known: (B, 16) float32, 0 or 1.
        blendshapes: (B, shapes) float32, NaN without them.
    """

    emotion: torch.Tensor
    emotion_weight: torch.Tensor
    age: torch.Tensor
    aus: torch.Tensor
    aus_known: torch.Tensor
    blendshapes: torch.Tensor


@dataclass(frozen=True)
class Reading:
    """Logits of a dense head over B faces: emotion (B, 7), AUs (B, 16), age (B, 101), blendshapes (B, shapes)."""

    emotion: torch.Tensor
    aus: torch.Tensor
    age: torch.Tensor
    blendshapes: torch.Tensor


def sizes(blendshapes: int) -> list[int]:
    """How many numbers each part of a `Reading` has."""
    return [len(EMOTIONS), len(AUS_LABELLED), AGES, blendshapes]


class DenseHead(nn.Module):
    """One linear layer over all merged tokens of a vision tower.

    Args:
        tokens, width: of the tower's output.
        blendshapes: how many there are.
    """

    def __init__(self, tokens: int, width: int, blendshapes: int) -> None:
        super().__init__()
        self.sizes = sizes(blendshapes)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(tokens * width, sum(self.sizes))
        nn.init.normal_(self.head.weight, std=0.005)

    def forward(self, seen: torch.Tensor) -> Reading:
        """(B, tokens, width) -> their reading."""
        return Reading(*self.head(self.drop(self.norm(seen).flatten(1))).float().split(self.sizes, -1))


def age_targets(age: torch.Tensor) -> torch.Tensor:
    """(N,) years -> (N, 101): a bell around each age.

    Gao et al. 2017, "Deep label distribution learning with label ambiguity".
    """
    years = torch.arange(AGES, dtype=torch.float32, device=age.device)
    return torch.softmax(-((years - age[:, None]) ** 2) / (2 * AGE_SPREAD**2), -1)


def emotion_weights(faces: Faces, rare: float) -> np.ndarray:
    """(N,) float32 weight of each face's emotion in the loss: its frequency in its own source, to the power of minus `rare`.

    By source, as what is rare differs: every fifth labelled face of FER2013 is angry or afraid, of the web pictures every fiftieth.
    """
    weights = np.zeros(len(faces), np.float32)
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        counts = np.bincount(faces.emotion[rows], minlength=len(EMOTIONS)).clip(1)
        weights[rows] = ((counts.mean() / counts) ** rare)[faces.emotion[rows]]
    return weights


def emotion_targets(emotion: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(B,) indexes into `EMOTIONS`, or UNKNOWN, -> (B, 7) shares: all but `smoothing` for the label, that spread over all seven."""
    count = len(EMOTIONS)
    return F.one_hot(emotion.clamp(min=0), count) * (1 - smoothing) + smoothing / count


def emotion_loss(scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of (B, 7) logits or log-probabilities with target shares; 0 where nothing has weight."""
    return (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum().clamp(min=1e-6)


def age_loss(scores: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (B, 101) logits or log-probabilities with `age_targets`; 0 where no age is known."""
    known = ~age.isnan()
    return F.cross_entropy(scores[known], age_targets(age[known])) if bool(known.any()) else scores.sum() * 0


def labelled_loss(reading: Reading, labels: Labels) -> torch.Tensor:
    """How far a reading is from the labels; what is not labelled counts nothing."""
    per_unit = F.binary_cross_entropy_with_logits(reading.aus, labels.aus, reduction="none")
    loss = WEIGHTS["au"] * (per_unit * labels.aus_known).sum() / labels.aus_known.sum().clamp(min=1)
    shaped = ~labels.blendshapes.isnan()
    if shaped.any():
        loss = loss + WEIGHTS["blendshapes"] * F.binary_cross_entropy_with_logits(reading.blendshapes[shaped], labels.blendshapes[shaped])
    loss = loss + WEIGHTS["emotion"] * emotion_loss(reading.emotion, labels.emotion, labels.emotion_weight)
    return loss + WEIGHTS["age"] * age_loss(reading.age, labels.age)


def taught_loss(reading: Reading, teacher: Reading) -> torch.Tensor:
    """How far a reading is from the teacher's probabilities (Hinton et al. 2015, at temperature 1), in the parts' usual weights."""
    return (
        WEIGHTS["au"] * F.binary_cross_entropy_with_logits(reading.aus, teacher.aus.sigmoid())
        + WEIGHTS["blendshapes"] * F.binary_cross_entropy_with_logits(reading.blendshapes, teacher.blendshapes.sigmoid())
        + WEIGHTS["emotion"] * F.cross_entropy(reading.emotion, teacher.emotion.softmax(-1))
        + WEIGHTS["age"] * F.cross_entropy(reading.age, teacher.age.softmax(-1))
    )


def recognition(faces: Faces, emotion: np.ndarray, aus: np.ndarray, age: np.ndarray) -> dict[str, float]:
    """Emotion accuracy and macro-F1 by source, mean AU F1, age error in years.

    Args:
        emotion: (N,) indexes into `EMOTIONS`.
        aus: (N, 16) bool.
        age: (N,) years.
    """
    result = {}
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        if rows.any():
            result[f"emotion_accuracy_{source}"] = float((emotion == faces.emotion)[rows].mean())
            result[f"emotion_macro_f1_{source}"] = float(
                f1_score(faces.emotion[rows], emotion[rows], labels=np.unique(faces.emotion[rows]), average="macro", zero_division=0)
            )
    result["au_f1_mean"] = float(np.mean([f1_score(faces.aus[:, i], aus[:, i], zero_division=0) for i in range(aus.shape[1])]))
    known = ~np.isnan(faces.age)
    if known.any():
        result["age_mae"] = float(np.abs(age - faces.age)[known].mean())
    return result
