"""What a training is told: one YAML file a training, as in `configs/train`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.dataset.boxes import KINDS
from pipeline.errors import SettingsError
from pipeline.settings import fault_text

Share = Annotated[float, Field(ge=0, le=1)]


class _Training(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Names the training and its folder.")
    samples: int = Field(gt=0, description="Faces to see, each drawn and changed anew; more learn more.")
    batch: int = Field(64, gt=1, description="Faces a step; more give a steadier direction and fewer steps.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest rate; it rises to it and falls to zero.")
    rare: float = Field(
        0.35, ge=0, le=1, description="Power of an emotion's inverse frequency in its weight: 0 serves accuracy, 1 counts all the same."
    )
    smoothing: Share = Field(0.1, description="Share of an emotion's target that is spread over all: FER2013's labels are noisy.")
    coarse: Share = Field(0.25, description="Share of the faces made coarse, as FER2013's and small ones are.")
    seed: int = Field(0, ge=0, description="Of all randomness, together with the name.")
    save_every: int = Field(200, gt=0, description="Steps between states on the disk, so at most so many are done again after a kill.")

    @property
    def draws(self) -> int:
        """Seed of what is drawn; it hangs on the name too: short stages that drew alike would all see the first faces of one order."""
        return zlib.crc32(f"{self.name} {self.seed}".encode())


class DenseTraining(_Training):
    """A network that learns faces densely, before the stages: the `teacher`, or nano's vision `tower`."""

    network: Literal["teacher", "tower"]


class FocalStage(_Training):
    """One stage of focal training of a Qwen2.5-VL."""

    boxes: dict[str, float] = Field(description="How often each kind of box is asked about.")
    boxes_per_face: int = Field(2, gt=0, description="Boxes asked of a face outside of dialogues; each costs a branch, not a look.")
    asked: Share = Field(1.0, description="Share of steps in which the language model is asked at all; in others the tower learns alone.")
    write: Share = Field(0.34, description="Share of steps in which words are practised; they are easy to learn and cost as much as a box.")
    practice: Share = Field(0.5, description="Share of written answers with fields drawn at random, so that rare ones get practice too.")
    dialogue: Share = Field(0.0, description="Share of faces whose boxes are asked in turn, seeing the answers before.")
    turns: int = Field(3, gt=1, description="Longest dialogue.")
    nothing: Share = Field(0.0, description="Weight of units that a box cannot show, taught as not active there.")
    dense: float = Field(0.0, ge=0, description="Weight of the dense head beside the language model; 0 for none.")
    taught: Share = Field(0.0, description="Share of the targets that the teacher sets, instead of the labels.")
    tower_rate: float = Field(3e-4, ge=0, description="Rate of the vision tower; 0 keeps it as it is.")
    tune: Literal["full", "lora"] = Field("full", description="All weights, or low-rank adapters on them.")
    rank: int = Field(16, gt=0, description="Of the adapters; more can change more and weigh more.")

    @field_validator("boxes")
    @classmethod
    def _known_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := set(value) - set(KINDS):
            raise ValueError(f"unknown kind {', '.join(sorted(unknown))}; kinds are {', '.join(KINDS)}")
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("wants at least one kind with a share above 0")
        return value


Training = DenseTraining | FocalStage


def load_training(path: Path, changes: dict[str, Any] | None = None) -> Training:
    """Read one training's file.

    Args:
        changes: keys to set otherwise than the file does.

    Raises:
        SettingsError: naming the file, the key and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: wants keys and values, as the files in configs/train")
    values |= changes or {}
    kind = DenseTraining if "network" in values else FocalStage
    try:
        return kind(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"{path}: {key}: {fault_text(fault)}; keys are {', '.join(kind.model_fields)}") from error
