"""Training objectives: a network together with its losses on a batch.

`DenseObjective` trains a network that predicts all labels of a face. `FocalObjective` trains a Qwen2.5-VL that answers about boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.dataset.labels import ACTIVE_PRESENCE
from pipeline.describe.checkpoints import Checkpoint
from pipeline.describe.prefill import added_to_scores, embed_with_images, encode_images, log_probabilities
from pipeline.describe.prefix import Prefix
from pipeline.describe.slots import Slot
from pipeline.training.dense_supervision import (
    LEVELS,
    LOSS_WEIGHTS,
    DenseHead,
    DenseLogits,
    Labels,
    age_loss,
    distillation_loss,
    emotion_loss,
    level_loss,
    supervised_loss,
)
from pipeline.training.stage_settings import FocalStage
from pipeline.vocabulary import AUS_LABELLED

SENTENCE_WEIGHT = 0.5
"""Weight of the sentences in the loss."""

MAX_POSITIVE_WEIGHT = 4.0
"""Upper limit for the weight of an active AU against an inactive one. The weight is the square root of the odds of being inactive: half way
to balanced classes, because F1 rewards finding rare AUs and accuracy does not."""


class Objective(nn.Module, ABC):
    """What the training loop minimises. `forward(**batch)` returns the parts of the loss: name -> scalar."""

    @abstractmethod
    def learning_rates(self) -> dict[str, float]:
        """Peak learning rate by prefix of the parameter name; the longest matching prefix wins."""

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Everything that training changes: trained parameters and persistent buffers, each tensor once."""
        persistent = set(self.state_dict())
        parameters = {name: value for name, value in self.named_parameters() if value.requires_grad}
        return parameters | {name: value for name, value in self.named_buffers() if name in persistent}


class DenseObjective(Objective):
    """A network that predicts all labels of a face.

    Args:
        network: (B, 3, 112, 112) crops -> `DenseLogits`.
        learning_rate: peak learning rate.
        teacher: crops -> `DenseLogits`, or None.
        teacher_share: share of the targets that the teacher sets.
    """

    def __init__(self, network: nn.Module, learning_rate: float, teacher: nn.Module | None = None, teacher_share: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self._learning_rate, self._share = learning_rate, teacher_share
        self._teacher = (teacher,)  # a tuple hides it from nn.Module: it is neither trained nor saved

    def learning_rates(self) -> dict[str, float]:
        return {"": self._learning_rate}

    def forward(self, crops: torch.Tensor, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = self.network(crops)
        loss = supervised_loss(logits, Labels(**labels))
        taught = ask_teacher(self._teacher[0], self._share, crops)
        return {"dense": loss if taught is None else torch.lerp(loss, distillation_loss(logits, taught), self._share)}


def ask_teacher(teacher: nn.Module | None, share: float, crops: torch.Tensor) -> DenseLogits | None:
    """What a teacher says of a batch; None without one, or if it sets no share of the targets."""
    if teacher is None or not share:
        return None
    with torch.no_grad():
        said: DenseLogits = teacher.to(crops.device).eval()(crops)
    return said


class FocalObjective(Objective):
    """A Qwen2.5-VL that answers about boxes: losses on its slots, its sentences and a dense head on its vision tower.

    Args:
        checkpoint: its model is trained in place.
        slots: the grammar's slots, `ConversationLayout.slots`.
        prefix: the checkpoint's.
        stage: weights and learning rates.
        prevalence: (A,) share of the faces in which each AU is active.
        head: dense head on the vision tower, or None.
        teacher: crops -> `DenseLogits`, or None.

    Attributes:
        label_columns: for each AU of the grammar its column in `AUS_LABELLED`, or None.
    """

    _positive_weight: torch.Tensor

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
        # Tuples hide these modules from nn.Module: the core is part of `model` already, and the teacher is neither trained nor saved.
        self._core: tuple[Any, ...] = (
            checkpoint.model.get_base_model() if hasattr(checkpoint.model, "get_base_model") else checkpoint.model,
        )
        self._teacher = (teacher,)
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._prefix, self._stage = prefix, stage
        self._slots = tuple(slots)
        columns = {au: i for i, au in enumerate(AUS_LABELLED)}
        self.label_columns: list[int | None] = [columns.get(au) for au in checkpoint.grammar.aus]
        self.register_buffer("_positive_weight", ((1 - prevalence) / prevalence).sqrt().clamp(1, MAX_POSITIVE_WEIGHT), persistent=False)

    def learning_rates(self) -> dict[str, float]:
        tower = "model.base_model.model.model.visual" if hasattr(self.model, "get_base_model") else "model.model.visual"
        stage = self._stage
        tower_rate = stage.tower_learning_rate
        return {"": stage.learning_rate, tower: tower_rate, "head": tower_rate or stage.learning_rate}

    def face_tokens(self, crops: torch.Tensor) -> torch.Tensor:
        """(B, 3, 112, 112) RGB, 0 to 255 -> (B, tokens, D), the picture's tokens for the language model."""
        (core,) = self._core
        images = crops
        side = self._prefix.side
        if side != crops.shape[-1]:
            images = F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255)
        return encode_images(core, images, self._mean, self._std)

    def answer(self, face_tokens: torch.Tensor, questions: Mapping[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Read the slots of all turns in one forward pass.

        Args:
            face_tokens: (B, tokens, D).
            questions: as `pipeline.training.batches.FocalCollator` builds them.

        Returns:
            (for each slot of the grammar (T, choices) log-probabilities, (B * S, D) hidden states).
        """
        (core,) = self._core
        weight = core.lm_head.weight
        embeds = embed_with_images(core, questions["ids"], self._prefix, face_tokens)  # [B, S, D]
        mask = added_to_scores(questions["mask"].unsqueeze(1), embeds.dtype)
        hidden = core.model.language_model(
            inputs_embeds=embeds,
            position_ids=questions["positions"],
            attention_mask={"full_attention": mask},
            use_cache=False,
        ).last_hidden_state.flatten(0, 1)
        scores = []
        for slot, indices in zip(self._slots, questions["readout_indices"], strict=True):
            read = hidden[indices]  # [T, readouts, D]
            logits = [F.linear(read[:, i], weight[list(ids)]) for i, ids in enumerate(slot.children)]
            scores.append(log_probabilities(slot, logits))
        return scores, hidden

    def forward(
        self, crops: torch.Tensor, labels: Mapping[str, torch.Tensor], questions: Mapping[str, Any] | None
    ) -> dict[str, torch.Tensor]:
        known, stage = Labels(**labels), self._stage
        taught = ask_teacher(self._teacher[0], stage.teacher_share, crops)
        with torch.enable_grad() if stage.tower_learning_rate else torch.no_grad():
            face_tokens = self.face_tokens(crops)
        losses = {}
        if self.head is not None and stage.dense_weight:
            logits = self.head(face_tokens)
            loss = supervised_loss(logits, known)
            if taught is not None:
                loss = torch.lerp(loss, distillation_loss(logits, taught), stage.teacher_share)
            losses["dense"] = stage.dense_weight * loss
        if questions is not None:
            losses |= self._answer_losses(face_tokens, questions, known, taught)
        return losses

    def _answer_losses(
        self, face_tokens: torch.Tensor, questions: Mapping[str, Any], labels: Labels, taught: DenseLogits | None
    ) -> dict[str, torch.Tensor]:
        scores, hidden = self.answer(face_tokens, questions)
        *units, emotion, age = scores
        face, share = questions["face_of_turn"], self._stage.teacher_share
        losses = {"au": self._au_loss(units, questions["visible"].float(), face, labels, taught)}

        first = questions["first_turns"]  # later turns of a dialogue see emotion and age in the answer before them
        face, emotion, age = face[first], emotion[first], age[first]
        loss = emotion_loss(emotion, labels.emotion[face], labels.emotion_weight[face])
        losses["emotion"] = LOSS_WEIGHTS["emotion"] * _mixed_loss(loss, emotion, taught.emotion[face] if taught else None, share)
        loss = age_loss(age, labels.age[face], labels.age_guess[face])
        losses["age"] = LOSS_WEIGHTS["age"] * _mixed_loss(loss, age, taught.age[face] if taught else None, share)
        targets = questions["target_indices"]
        if len(targets):
            (core,) = self._core
            logits = F.linear(hidden[targets - 1], core.lm_head.weight).float()
            losses["sentence"] = SENTENCE_WEIGHT * F.cross_entropy(logits, questions["ids"].flatten()[targets])
        return losses

    def _au_loss(
        self, units: Sequence[torch.Tensor], visible: torch.Tensor, face: torch.Tensor, labels: Labels, taught: DenseLogits | None
    ) -> torch.Tensor:
        """Weighted cross-entropy of all AU slots. An AU outside the box counts as inactive, with `invisible_au_weight`.

        Args:
            units: for each AU of the grammar (T, choices) log-probabilities: of yes and no, or of the levels 0 to 5.
            visible: (T, A), 1 where the turn's box can show the AU.
            face: (T,) the face of each turn.
        """
        labelled = [(score, column) for score, column in zip(units, self.label_columns, strict=True) if column is not None]
        columns = [column for _, column in labelled]
        scores = torch.stack([score for score, _ in labelled], 1)  # [T, columns, choices]
        graded = scores.shape[-1] == LEVELS
        visible = visible[:, columns]
        probability = labels.au_probability[face][:, columns] * visible
        if graded:
            loss = level_loss(scores, probability, labels.au_intensity[face][:, columns] * visible)
        else:
            sure = (probability > ACTIVE_PRESENCE).float()
            loss = -(self._positive_weight[columns] * sure * scores[..., 0] + (1 - sure) * scores[..., 1])
        if taught is not None:
            levels = taught.aus[face][:, columns].softmax(-1)  # [T, columns, 6]
            if graded:
                outside = F.one_hot(torch.zeros_like(visible, dtype=torch.int64), LEVELS)
                target = torch.where(visible[..., None] > 0, levels, outside.to(levels.dtype))
            else:
                active = (1 - levels[..., 0]) * visible
                target = torch.stack([active, 1 - active], -1)
            loss = torch.lerp(loss, -(target * scores).sum(-1), self._stage.teacher_share)
        known = ~probability.isnan()
        weight = known * (visible + (1 - visible) * self._stage.invisible_au_weight)
        return LOSS_WEIGHTS["au"] * (loss.nan_to_num() * weight).sum() / weight.sum().clamp(min=1)


def _mixed_loss(label_loss: torch.Tensor, scores: torch.Tensor, teacher_logits: torch.Tensor | None, share: float) -> torch.Tensor:
    """`share` of the cross-entropy with the teacher's probabilities, the rest from the labels."""
    if teacher_logits is None:
        return label_loss
    return torch.lerp(label_loss, F.cross_entropy(scores, teacher_logits.softmax(-1)), share)
