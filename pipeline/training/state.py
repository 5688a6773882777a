"""What a training carries from step to step: weights, their running average, optimizer, schedule; kept on disk epoch by epoch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

AVERAGING = 0.998
"""Decay of the weights' exponential average, a step; nearer to 1 averages over more steps and lags more behind."""

BETAS = (0.9, 0.98)
"""AdamW's; the second one shorter than its default, as trainings here are."""


class TrainingState:
    """A model in training that can be put down after any epoch and taken up again.

    Attributes:
        average: the averaged model (`average.module`).
        optimizer: AdamW over the groups given.
        epoch: epochs finished.
    """

    def __init__(self, model: nn.Module, groups: list[dict[str, Any]], file: Path, *, steps: int, warm_up: float) -> None:
        """Begin, or go on from `file` where it exists.

        Args:
            model: its weights are replaced by the file's.
            groups: parameter groups with their rates.
            file: written by `save`.
            steps: of the whole training; the rate falls to zero as half a cosine over them.
            warm_up: share of the steps over which the rate rises.
        """
        self.model = model
        self.average: Any = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING))
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, step / (warm_up * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        self.epoch = 0
        self._file = file
        if file.exists():
            kept = torch.load(file, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(kept[name])
            self.epoch = kept["epoch"]

    def step(self, loss: torch.Tensor) -> None:
        """One update of weights and average."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)

    def save(self, epoch: int) -> None:
        """Keep all of it, whole or not at all."""
        self.epoch = epoch
        partial = self._file.with_suffix(".partial")
        torch.save({**{name: part.state_dict() for name, part in self._parts().items()}, "epoch": epoch}, partial)
        partial.replace(self._file)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer, "schedule": self.schedule}
