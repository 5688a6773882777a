"""What is trained: a network that reads faces densely, or a Qwen2.5-VL that answers about boxes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.describe.checkpoints import Checkpoint
from pipeline.describe.prefill import decode, embed_with_images, encode_images
from pipeline.describe.prefix import Prefix
from pipeline.describe.slots import Slot, log_probabilities
from pipeline.training.augment import to_crops
from pipeline.training.conversation import Layout
from pipeline.training.dense import (
    AGES,
    WEIGHTS,
    DenseHead,
    Labels,
    Reading,
    age_loss,
    emotion_loss,
    labelled_loss,
    recognition,
    taught_loss,
)
from pipeline.training.draws import plain_questions
from pipeline.training.faces import Faces
from pipeline.training.fit import Learner
from pipeline.training.stages import FocalStage
from pipeline.vocabulary import AUS_LABELLED

SENTENCE = 0.5
"""Share of the written words in the loss."""

BALANCE = 4.0
"""At most so many times does an active unit count against an inactive one; the share is the square root of the odds, half way to
balance, as F1 rewards finding rare units and accuracy does not."""


class DenseLearner(Learner):
    """A dense network against the labels.

    Args:
        network: (B, 112, 112) crops -> `Reading`.
        rate: learning rate.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        super().__init__()
        self.network = network
        self._rate = rate

    def rates(self) -> dict[str, float]:
        return {"": self._rate}

    def forward(self, crops: torch.Tensor, known: Mapping[str, torch.Tensor], mirrored: Any = None) -> dict[str, torch.Tensor]:
        return {"dense": labelled_loss(self.network(crops), Labels(**known))}


class FocalLearner(Learner):
    """A Qwen2.5-VL against labels and teacher: its slots, its words, and a dense head beside it.

    Args:
        checkpoint: its model is trained in place.
        slots: the grammar's, as `Layout.slots`.
        prefix: the layout's.
        stage: weights and rates.
        prevalence: (16,) how often each unit is active.
        head: a dense head on the vision tower, or None.
        teacher: crops -> `Reading`, or None.
    """

    _positive: torch.Tensor

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: Sequence[Slot],
        prefix: Prefix,
        stage: FocalStage,
        prevalence: torch.Tensor,
        head: DenseHead | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.head = head
        self._core: tuple[Any, ...] = (
            checkpoint.model.get_base_model() if hasattr(checkpoint.model, "get_base_model") else checkpoint.model,
        )
        self._teacher = (teacher,)  # in a tuple, as no part of what is trained and kept
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._prefix, self._stage = prefix, stage
        self._slots = tuple(slots)
        columns = {au: i for i, au in enumerate(AUS_LABELLED)}
        self.columns: list[int | None] = [columns.get(au) for au in checkpoint.grammar.aus]
        self.register_buffer("_positive", ((1 - prevalence) / prevalence).sqrt().clamp(1, BALANCE), persistent=False)

    def rates(self) -> dict[str, float]:
        tower = "model.base_model.model.model.visual" if hasattr(self.model, "get_base_model") else "model.model.visual"
        return {"": self._stage.learning_rate, tower: self._stage.tower_rate, "head": self._stage.tower_rate or self._stage.learning_rate}

    def see(self, crops: torch.Tensor) -> torch.Tensor:
        """(B, 112, 112) grey, 0 to 255 -> (B, tokens, D), the picture's tokens for the language model."""
        (core,) = self._core
        images = crops.unsqueeze(1)
        side = self._prefix.side
        if side != crops.shape[-1]:
            images = F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255)
        return encode_images(core, images.expand(-1, 3, -1, -1), self._mean, self._std)

    def answer(self, seen: torch.Tensor, asked: Mapping[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Read what was asked.

        Returns:
            (for each slot of the grammar (T, choices) log-probabilities, (B * S, D) hidden states).
        """
        (core,) = self._core
        weight = core.lm_head.weight
        embeds = embed_with_images(core, asked["ids"], self._prefix, seen)
        hidden = decode(core, embeds, asked["positions"], asked["mask"].unsqueeze(1)).flatten(0, 1)
        scores = []
        for slot, looks in zip(self._slots, asked["looks"], strict=True):
            read = hidden[looks]  # [T, looks, D]
            scores.append(log_probabilities(slot, [F.linear(read[:, i], weight[list(ids)]) for i, ids in enumerate(slot.children)]))
        return scores, hidden

    def forward(self, crops: torch.Tensor, known: Mapping[str, torch.Tensor], asked: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
        labels, stage = Labels(**known), self._stage
        (teacher,) = self._teacher
        lesson = None
        if teacher is not None and stage.taught:
            with torch.no_grad():
                lesson = teacher.to(crops.device).eval()(crops)
        tower = torch.enable_grad() if stage.tower_rate else torch.no_grad()
        with tower:
            seen = self.see(crops)
        losses = {}
        if self.head is not None and stage.dense:
            reading = self.head(seen)
            own = labelled_loss(reading, labels)
            losses["dense"] = stage.dense * (own if lesson is None else torch.lerp(own, taught_loss(reading, lesson), stage.taught))
        if asked is not None:
            losses |= self._answer_losses(seen, asked, labels, lesson)
        return losses

    def _answer_losses(
        self, seen: torch.Tensor, asked: Mapping[str, Any], labels: Labels, lesson: Reading | None
    ) -> dict[str, torch.Tensor]:
        scores, hidden = self.answer(seen, asked)
        *units, emotion, age = scores
        row, visible, share = asked["row"], asked["visible"].float(), self._stage.taught
        place = self.columns
        yes = torch.stack([score[:, 0] for score, column in zip(units, place, strict=True) if column is not None], -1)  # [T, 16]
        no = torch.stack([score[:, 1] for score, column in zip(units, place, strict=True) if column is not None], -1)
        columns = [column for column in place if column is not None]
        visible = visible[:, columns]
        target = labels.aus[row][:, columns] * visible
        per_unit = -(self._positive[columns] * target * yes + (1 - target) * no)
        if lesson is not None:
            taught = lesson.aus[row][:, columns].sigmoid() * visible
            per_unit = torch.lerp(per_unit, -(taught * yes + (1 - taught) * no), share)
        weight = labels.aus_known[row][:, columns] * (visible + (1 - visible) * self._stage.nothing)
        losses = {"au": WEIGHTS["au"] * (per_unit * weight).sum() / weight.sum().clamp(min=1)}

        opens = asked["opens"]  # later turns of a dialogue have read emotion and age already
        row, emotion, age = row[opens], emotion[opens], age[opens]
        by_label = emotion_loss(emotion, labels.emotion[row], labels.emotion_weight[row])
        losses["emotion"] = WEIGHTS["emotion"] * _taught_choice(emotion, by_label, lesson.emotion[row] if lesson else None, share)
        by_label = age_loss(age, labels.age[row])
        losses["age"] = WEIGHTS["age"] * _taught_choice(age, by_label, lesson.age[row] if lesson else None, share)
        written = asked["written"]
        if len(written):
            (core,) = self._core
            logits = F.linear(hidden[written - 1], core.lm_head.weight).float()
            losses["sentence"] = SENTENCE * F.cross_entropy(logits, asked["ids"].flatten()[written])
        return losses


def _taught_choice(scores: torch.Tensor, own: torch.Tensor, lesson: torch.Tensor | None, share: float) -> torch.Tensor:
    return own if lesson is None else torch.lerp(own, F.cross_entropy(scores, lesson.softmax(-1)), share)


@torch.no_grad()
def measure_dense(network: nn.Module, faces: Faces, batch: int = 256) -> dict[str, float]:
    """`recognition` by a dense network's reading of unchanged faces."""
    network.eval()
    parts = [network(to_crops(torch.from_numpy(faces.pixels[start : start + batch]), None)) for start in range(0, len(faces), batch)]
    emotion, aus, age = (torch.cat([getattr(part, name) for part in parts]) for name in ("emotion", "aus", "age"))
    return recognition(faces, emotion.argmax(-1).numpy(), (aus > 0).numpy(), _years(age))


KINDS_MEASURED = ("whole", "named", "jittered", "random", "empty")


@torch.no_grad()
def measure_focal(learner: FocalLearner, faces: Faces, layout: Layout, batch: int = 64) -> tuple[dict[str, float], dict[str, float]]:
    """What the language model itself says of each kind of box, before the engine's rules.

    Returns:
        (figures, thresholds). The figures: `recognition` of the whole face; for each kind `au_f1_<kind>`, the F1 over all its (box, unit)
        pairs of units active and visible there; and `unsupported`, the share of units named that their box cannot show. The thresholds:
        for each unit the probability from which calling it active gives the best F1 on the whole faces; the figures use them.
    """
    learner.eval()
    emotions, ages, units, kept = [], [], [], []
    for start in range(0, len(faces), batch):
        rows = np.arange(start, min(start + batch, len(faces)))
        asked, boxes = plain_questions(faces, rows, KINDS_MEASURED, layout)
        scores, _ = learner.answer(learner.see(to_crops(torch.from_numpy(faces.pixels[rows]), None)), asked)
        *each, emotion, age = scores
        emotions.append(emotion)
        ages.append(age)
        active = torch.zeros(len(boxes), len(AUS_LABELLED))
        for score, column in zip(each, learner.columns, strict=True):
            if column is not None:
                active[:, column] = score[:, 0].exp()
        units.append(active)
        kept.append(boxes)
    kinds = len(KINDS_MEASURED)
    scores_of, boxes = torch.cat(units).numpy(), np.concatenate(kept)
    cuts = np.array([_best_cut(scores_of[::kinds, i], faces.aus[:, i]) for i in range(scores_of.shape[1])])
    named = scores_of >= cuts  # [T, 16]
    visible = faces.visible[boxes]
    gold = visible & faces.aus[np.repeat(np.arange(len(faces)), kinds)]
    whole = slice(0, None, kinds)
    result = recognition(faces, torch.cat(emotions)[whole].argmax(-1).numpy(), named[whole], _years(torch.cat(ages)[whole]))
    for number, kind in enumerate(KINDS_MEASURED):
        said, right = named[number::kinds], gold[number::kinds]
        if right.any():
            result[f"au_f1_{kind}"] = float(2 * (said & right).sum() / (said.sum() + right.sum()))
    result["unsupported"] = float((named & ~visible).sum() / max(1, named.sum()))
    return result, {au: round(float(cut), 2) for au, cut in zip(AUS_LABELLED, cuts, strict=True)}


def _best_cut(scores: np.ndarray, gold: np.ndarray, low: float = 0.2, high: float = 0.8) -> float:
    """Where to cut probabilities for the best F1, within bounds that keep a threshold from chasing a few faces."""
    grid = np.linspace(low, high, 61)
    named = scores[:, None] >= grid  # [N, cuts]
    f1 = 2 * (named & gold[:, None]).sum(0) / np.maximum(1, named.sum(0) + gold.sum())
    return float(grid[int(f1.argmax())])


def _years(logits: torch.Tensor) -> np.ndarray:
    """(N, 101) logits -> (N,) expected years."""
    return (logits.float().softmax(-1) @ torch.arange(AGES, dtype=torch.float32)).numpy()
