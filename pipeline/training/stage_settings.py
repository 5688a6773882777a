"""Settings of one training stage: one YAML file per stage, as in `configs/train`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.dataset.boxes import KINDS
from pipeline.errors import SettingsError
from pipeline.settings import fault_text

Share = Annotated[float, Field(ge=0, le=1)]


class _StageSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Name of the stage and of its folder.")
    samples: int = Field(gt=0, description="Faces seen, each one changed anew every time; more learn more. With `patience`, the most.")
    batch: int = Field(64, gt=1, description="Faces per step; more give steadier gradients and fewer steps.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate; it warms up, then falls to zero.")
    rare_emotion_power: float = Field(
        0.35, ge=0, le=1, description="An emotion's weight is its inverse frequency to this power: 0 favours accuracy, 1 macro-F1."
    )
    label_smoothing: Share = Field(0.1, description="Share of an emotion's target spread over all emotions: FER2013's labels are noisy.")
    low_resolution: Share = Field(0.25, description="Share of the faces scaled down and up again, like FER2013's and other small faces.")
    seed: int = Field(0, ge=0, description="Seed of all randomness, together with the name.")
    save_every: int = Field(200, gt=0, description="Steps between saved states; a killed training repeats at most this many.")

    teacher_share: Share = Field(0.0, description="Share of the targets set by the teacher instead of the labels.")
    patience: int = Field(0, ge=0, description="Checks without a rise after which the rate falls and the stage ends; 0: no checks.")
    check_every: int = Field(20_000, gt=0, description="Faces between two checks; fewer cost more time.")
    cool_down: Share = Field(0.2, description="Share of the stage, at its end, in which the rate falls; for stages with `patience`.")

    @property
    def sampling_seed(self) -> int:
        """Seed of the sample order and of augmentation. It depends on the name: with one seed, short stages would see the same faces."""
        return zlib.crc32(f"{self.name} {self.seed}".encode())


class DenseStage(_StageSettings):
    """Trains a network on all labels at once, without the language model: the `teacher`, or nano's vision `tower`."""

    network: Literal["teacher", "tower"]

    @model_validator(mode="after")
    def _learns_from_another(self) -> DenseStage:
        if self.network == "teacher" and self.teacher_share:
            raise ValueError("teacher_share: the teacher has no teacher")
        return self


class FocalStage(_StageSettings):
    """Trains a Qwen2.5-VL on questions about boxes."""

    boxes: dict[str, float] = Field(description="Relative frequency of each kind of box.")
    boxes_per_face: int = Field(2, gt=0, description="Boxes asked per face outside dialogues; they share one vision pass.")
    question_share: Share = Field(1.0, description="Share of steps that ask the language model; the other steps train the tower alone.")
    sentence_share: Share = Field(0.34, description="Share of steps that practise sentences; they are easy to learn and cost a box each.")
    random_field_share: Share = Field(0.5, description="Share of sentences about random fields, so that rare fields are practised too.")
    dialogue_share: Share = Field(
        0.0, description="Share of question steps in which boxes are asked in turn, each turn seeing the answers before it."
    )
    max_turns: int = Field(3, gt=1, description="Turns of the longest dialogue.")
    invisible_au_weight: Share = Field(0.0, description="Weight of AUs that a box cannot show, taught as inactive.")
    dense_weight: float = Field(0.0, ge=0, description="Weight of the dense head on the vision tower; 0 trains none.")
    tower_learning_rate: float = Field(3e-4, ge=0, description="Peak learning rate of the vision tower; 0 freezes it.")
    tune: Literal["full", "lora"] = Field("full", description="Train all weights, or low-rank adapters.")
    lora_rank: int = Field(16, gt=0, description="Rank of the adapters; a higher rank can change more and takes more memory.")

    @field_validator("boxes")
    @classmethod
    def _known_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := set(value) - set(KINDS):
            raise ValueError(f"unknown kind {', '.join(sorted(unknown))}; kinds are {', '.join(KINDS)}")
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("needs at least one kind with a share above 0")
        return value


Stage = DenseStage | FocalStage


def load_stage(path: Path, changes: dict[str, Any] | None = None) -> Stage:
    """Read the settings of one stage.

    Args:
        path: a YAML file.
        changes: keys that override the file.

    Raises:
        SettingsError: names the file, the key and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: must hold keys and values, like the files in configs/train")
    values |= changes or {}
    kind = DenseStage if "network" in values else FocalStage
    try:
        return kind(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"{path}: {key}: {fault_text(fault)}; keys are {', '.join(kind.model_fields)}") from error
