"""Dense supervision: one linear head predicts everything that is labelled about a face, all at once.

A small transformer needs much data, and the words of a description carry few bits about a picture. So emotion, the labelled action units,
the age distribution and all blendshapes supervise nano's vision tower directly: first without the language model, later beside it.
The teacher (`pipeline.training.teacher`) learns from the same labels and sets part of the targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.training.labelled_faces import UNKNOWN, LabelledFaces
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

AGES = 101
"""Ages 0 to 100, one bin per year."""

AGE_SPREAD = 3.0
"""Standard deviation in years of an age target: neighbouring years are nearly right. Wider is less sharp, narrower needs more data."""

LOSS_WEIGHTS = {"au": 4.0, "blendshapes": 4.0, "emotion": 1.0, "age": 0.5}
"""Weights of the parts of the loss; with them the gradients of the four parts are of about one size."""


@dataclass(frozen=True)
class Labels:
    """Labels of B faces.

    Attributes:
        emotion: (B, 7) float32, target probabilities.
        emotion_weight: (B,) float32, weight of the emotion in the loss; 0 for a face without an emotion label.
        age: (B,) float32 years, NaN without a label.
        aus, aus_known: (B, 16) float32, 0 or 1.
        blendshapes: (B, shapes) float32, NaN without a label.
    """

    emotion: torch.Tensor
    emotion_weight: torch.Tensor
    age: torch.Tensor
    aus: torch.Tensor
    aus_known: torch.Tensor
    blendshapes: torch.Tensor


@dataclass(frozen=True)
class DenseLogits:
    """Logits of a dense head for B faces: emotion (B, 7), AUs (B, 16), age (B, 101), blendshapes (B, shapes)."""

    emotion: torch.Tensor
    aus: torch.Tensor
    age: torch.Tensor
    blendshapes: torch.Tensor


def output_sizes(blendshapes: int) -> list[int]:
    """Number of logits in each part of `DenseLogits`.

    >>> output_sizes(52)
    [7, 16, 101, 52]
    """
    return [len(EMOTIONS), len(AUS_LABELLED), AGES, blendshapes]


class DenseHead(nn.Module):
    """One linear layer over all merged tokens of a vision tower.

    Args:
        tokens, width: shape of the tower's output for one face.
        blendshapes: number of blendshapes in the labels.
    """

    def __init__(self, tokens: int, width: int, blendshapes: int) -> None:
        super().__init__()
        self.sizes = output_sizes(blendshapes)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(tokens * width, sum(self.sizes))
        nn.init.normal_(self.head.weight, std=0.005)

    def forward(self, face_tokens: torch.Tensor) -> DenseLogits:
        """(B, tokens, width) -> logits of all labels."""
        return DenseLogits(*self.head(self.drop(self.norm(face_tokens).flatten(1))).float().split(self.sizes, -1))


def age_targets(age: torch.Tensor) -> torch.Tensor:
    """(N,) years -> (N, 101) probabilities: a discretised normal distribution around each age.

    Gao et al. 2017, "Deep label distribution learning with label ambiguity".

    >>> age_targets(torch.tensor([30.0])).argmax().item()
    30
    """
    years = torch.arange(AGES, dtype=torch.float32, device=age.device)
    return torch.softmax(-((years - age[:, None]) ** 2) / (2 * AGE_SPREAD**2), -1)


def emotion_weights(faces: LabelledFaces, power: float) -> np.ndarray:
    """(N,) float32 weight of each face's emotion in the loss: (mean count / count of the emotion) ** `power`; 0 without a label.

    Counts are taken within each source, because sources differ in what is rare: anger and fear are every fifth label of FER2013, but
    every fiftieth of the web pictures.
    """
    weights = np.zeros(len(faces), np.float32)
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (faces.emotion != UNKNOWN)
        counts = np.bincount(faces.emotion[rows], minlength=len(EMOTIONS)).clip(1)
        weights[rows] = ((counts.mean() / counts) ** power)[faces.emotion[rows]]
    return weights


def emotion_targets(emotion: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(B,) indices into `EMOTIONS` (or UNKNOWN) -> (B, 7) probabilities: 1 - `smoothing` for the label, `smoothing` spread over all."""
    count = len(EMOTIONS)
    return F.one_hot(emotion.clamp(min=0), count) * (1 - smoothing) + smoothing / count


def emotion_loss(scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of (B, 7) logits or log-probabilities with target probabilities; 0 where all weights are 0."""
    return (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum().clamp(min=1e-6)


def age_loss(scores: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (B, 101) logits or log-probabilities with `age_targets`; 0 where no age is known."""
    known = ~age.isnan()
    return F.cross_entropy(scores[known], age_targets(age[known])) if bool(known.any()) else scores.sum() * 0


def supervised_loss(logits: DenseLogits, labels: Labels) -> torch.Tensor:
    """Loss of dense logits against the labels; missing labels contribute nothing."""
    per_unit = F.binary_cross_entropy_with_logits(logits.aus, labels.aus, reduction="none")
    loss = LOSS_WEIGHTS["au"] * (per_unit * labels.aus_known).sum() / labels.aus_known.sum().clamp(min=1)
    known = ~labels.blendshapes.isnan()
    if known.any():
        shapes = F.binary_cross_entropy_with_logits(logits.blendshapes[known], labels.blendshapes[known])
        loss = loss + LOSS_WEIGHTS["blendshapes"] * shapes
    loss = loss + LOSS_WEIGHTS["emotion"] * emotion_loss(logits.emotion, labels.emotion, labels.emotion_weight)
    return loss + LOSS_WEIGHTS["age"] * age_loss(logits.age, labels.age)


def distillation_loss(logits: DenseLogits, teacher: DenseLogits) -> torch.Tensor:
    """Cross-entropy with the teacher's probabilities (Hinton et al. 2015, at temperature 1), with the usual weights of the parts."""
    return (
        LOSS_WEIGHTS["au"] * F.binary_cross_entropy_with_logits(logits.aus, teacher.aus.sigmoid())
        + LOSS_WEIGHTS["blendshapes"] * F.binary_cross_entropy_with_logits(logits.blendshapes, teacher.blendshapes.sigmoid())
        + LOSS_WEIGHTS["emotion"] * F.cross_entropy(logits.emotion, teacher.emotion.softmax(-1))
        + LOSS_WEIGHTS["age"] * F.cross_entropy(logits.age, teacher.age.softmax(-1))
    )
