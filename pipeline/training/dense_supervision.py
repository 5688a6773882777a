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

from pipeline.describe.grammar import LEVEL_CHOICES
from pipeline.training.labelled_faces import UNKNOWN, LabelledFaces
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

AGES = 101
"""Ages 0 to 100, one bin per year."""

AGE_SPREAD = 3.0
"""Standard deviation in years of the target of a recorded age: neighbouring years are nearly right. Wider is less sharp, narrower needs
more data."""

GUESS_SPREAD = 6.0
"""Standard deviation in years of the target of an age that another model guessed: about that model's own error."""

GUESS_WEIGHT = 0.3
"""Weight of a guessed age in the loss against a recorded one: more would draw ages towards the guesser's own errors."""

LOSS_WEIGHTS = {"au": 4.0, "blendshapes": 4.0, "emotion": 1.0, "age": 0.5}
"""Weights of the parts of the loss; with them the gradients of the four parts are of about one size."""

LEVELS = len(LEVEL_CHOICES)
"""Levels of an AU's intensity: 0 (not active), then FACS' A to E as 1 to 5."""


@dataclass(frozen=True)
class Labels:
    """Labels of B faces.

    Attributes:
        emotion: (B, 7) float32, target probabilities.
        emotion_weight: (B,) float32, weight of the emotion in the loss; 0 for a face without an emotion label.
        age: (B,) float32 recorded years, NaN without a label.
        age_guess: (B,) float32 years that another model estimated, NaN without.
        au_probability: (B, A) float32, probability that each AU is active, NaN where unknown.
        au_intensity: (B, A) float32, 0 to 5, NaN where unknown.
        blendshapes: (B, shapes) float32, NaN without a label.
    """

    emotion: torch.Tensor
    emotion_weight: torch.Tensor
    age: torch.Tensor
    age_guess: torch.Tensor
    au_probability: torch.Tensor
    au_intensity: torch.Tensor
    blendshapes: torch.Tensor


@dataclass(frozen=True)
class DenseLogits:
    """Logits of a dense head for B faces: emotion (B, 7), levels of each AU (B, A, 6), age (B, 101), blendshapes (B, shapes)."""

    emotion: torch.Tensor
    aus: torch.Tensor
    age: torch.Tensor
    blendshapes: torch.Tensor


def output_sizes(blendshapes: int) -> list[int]:
    """Number of logits in each part of `DenseLogits`.

    >>> output_sizes(52)
    [7, 150, 101, 52]
    """
    return [len(EMOTIONS), len(AUS_LABELLED) * LEVELS, AGES, blendshapes]


def split_logits(values: torch.Tensor, sizes: list[int]) -> DenseLogits:
    """(B, sum of `sizes`) outputs of a head -> its parts, in float32."""
    emotion, aus, age, blendshapes = values.float().split(sizes, -1)
    return DenseLogits(emotion, aus.unflatten(-1, (-1, LEVELS)), age, blendshapes)


def active_probability(levels: torch.Tensor) -> torch.Tensor:
    """(..., 6) level logits or log-probabilities -> (...) probability that the AU is active: of any level but 0."""
    return 1 - levels.softmax(-1)[..., 0]


def expected_intensity(levels: torch.Tensor) -> torch.Tensor:
    """(..., 6) level logits or log-probabilities -> (...) expected intensity, 0 to 5."""
    return levels.softmax(-1) @ torch.arange(LEVELS, dtype=levels.dtype, device=levels.device)


def level_targets(probability: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
    """The level distribution whose probability of being active is `probability` and whose expectation is `intensity`.

    Level 0 has the probability of not being active. The rest lies on the two levels around the mean intensity of the active case,
    `intensity / probability`, which is kept within 1 and 5. Without an intensity the rest lies on no level in particular: the result is
    then NaN there but for level 0 (`level_loss` takes it as it is).

    Args:
        probability, intensity: (...) floats.

    Returns:
        (..., 6).

    >>> level_targets(torch.tensor([0.5]), torch.tensor([1.25]))
    tensor([[0.5000, 0.0000, 0.2500, 0.2500, 0.0000, 0.0000]])
    """
    active = (intensity / probability.clamp(min=1e-6)).clamp(1, LEVELS - 1)
    steps = torch.arange(1, LEVELS, dtype=active.dtype, device=active.device)
    shares = (1 - (active[..., None] - steps).abs()).clamp(min=0)
    return torch.cat([1 - probability[..., None], probability[..., None] * shares], -1)


def level_loss(levels: torch.Tensor, probability: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
    """(..., 6) level logits or log-probabilities and (...) labels -> (...) cross-entropy; where the intensity is unknown, that of being
    active alone, and 0 where the probability is unknown."""
    logs = levels.log_softmax(-1)
    known, graded = ~probability.isnan(), ~intensity.isnan()
    probability = probability.nan_to_num()
    full = -(level_targets(probability, intensity.nan_to_num()) * logs).sum(-1)
    activity = -((1 - probability) * logs[..., 0] + probability * logs[..., 1:].logsumexp(-1))
    return torch.where(graded, full, activity) * known


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
        return split_logits(self.head(self.drop(self.norm(face_tokens).flatten(1))), self.sizes)


def age_targets(age: torch.Tensor, spread: float = AGE_SPREAD) -> torch.Tensor:
    """(N,) years -> (N, 101) probabilities: a discretised normal distribution around each age.

    Gao et al. 2017, "Deep label distribution learning with label ambiguity".

    >>> age_targets(torch.tensor([30.0])).argmax().item()
    30
    """
    years = torch.arange(AGES, dtype=torch.float32, device=age.device)
    return torch.softmax(-((years - age[:, None]) ** 2) / (2 * spread**2), -1)


def emotion_weights(faces: LabelledFaces, power: float) -> np.ndarray:
    """(N,) float32 weight of each face's emotion in the loss: (mean count / count of the emotion) ** `power`; 0 without a label.

    The emotion of a face with votes is the one with most of them.

    Counts are taken within each source, because sources differ in what is rare: anger and fear are every fifth label of FER2013, but
    every fiftieth of the web pictures.
    """
    weights = np.zeros(len(faces), np.float32)
    emotion = faces.majority
    for source in np.unique(faces.source):
        rows = (faces.source == source) & (emotion != UNKNOWN)
        counts = np.bincount(emotion[rows], minlength=len(EMOTIONS)).clip(1)
        weights[rows] = ((counts.mean() / counts) ** power)[emotion[rows]]
    return weights


def emotion_targets(emotion: torch.Tensor, votes: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Target probabilities (B, 7): the shares of the annotators' votes, or else 1 - `smoothing` for the label and `smoothing` spread over
    all.

    Args:
        emotion: (B,) indices into `EMOTIONS`, or UNKNOWN.
        votes: (B, 7), NaN without votes.
    """
    count = len(EMOTIONS)
    single = F.one_hot(emotion.clamp(min=0), count) * (1 - smoothing) + smoothing / count
    return torch.where(votes.isnan(), single, votes)


def emotion_loss(scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of (B, 7) logits or log-probabilities with target probabilities; 0 where all weights are 0."""
    return (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum().clamp(min=1e-6)


def age_loss(scores: torch.Tensor, age: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of (B, 101) logits or log-probabilities with `age_targets`: recorded ages count 1, guessed ones
    `GUESS_WEIGHT`; 0 where neither is known."""
    recorded, guessed = ~age.isnan(), age.isnan() & ~guess.isnan()
    target = torch.where(recorded[:, None], age_targets(age.nan_to_num()), age_targets(guess.nan_to_num(), GUESS_SPREAD))
    weight = recorded.float() + GUESS_WEIGHT * guessed.float()
    return (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum().clamp(min=1e-6)


def supervised_loss(logits: DenseLogits, labels: Labels) -> torch.Tensor:
    """Loss of dense logits against the labels; missing labels contribute nothing."""
    per_unit = level_loss(logits.aus, labels.au_probability, labels.au_intensity)
    loss = LOSS_WEIGHTS["au"] * per_unit.sum() / (~labels.au_probability.isnan()).sum().clamp(min=1)
    known = ~labels.blendshapes.isnan()
    if known.any():
        shapes = F.binary_cross_entropy_with_logits(logits.blendshapes[known], labels.blendshapes[known])
        loss = loss + LOSS_WEIGHTS["blendshapes"] * shapes
    loss = loss + LOSS_WEIGHTS["emotion"] * emotion_loss(logits.emotion, labels.emotion, labels.emotion_weight)
    return loss + LOSS_WEIGHTS["age"] * age_loss(logits.age, labels.age, labels.age_guess)


def distillation_loss(logits: DenseLogits, teacher: DenseLogits) -> torch.Tensor:
    """Cross-entropy with the teacher's probabilities (Hinton et al. 2015, at temperature 1), with the usual weights of the parts."""
    return (
        LOSS_WEIGHTS["au"] * F.cross_entropy(logits.aus.flatten(0, 1), teacher.aus.softmax(-1).flatten(0, 1))
        + LOSS_WEIGHTS["blendshapes"] * F.binary_cross_entropy_with_logits(logits.blendshapes, teacher.blendshapes.sigmoid())
        + LOSS_WEIGHTS["emotion"] * F.cross_entropy(logits.emotion, teacher.emotion.softmax(-1))
        + LOSS_WEIGHTS["age"] * F.cross_entropy(logits.age, teacher.age.softmax(-1))
    )
