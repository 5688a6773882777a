"""The folder of one stage: where its files are, and which settings it was started with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import FocalfaceError
from pipeline.storage.atomic import replacing
from pipeline.training.stage_settings import DenseStage, Stage

COMPLETE = "complete"
"""Marker file of a saved state that is completely written."""


@dataclass(frozen=True)
class StageFolder:
    """The files of one stage in `out/<name>`.

    `training.json` (its settings) and `state/` (while it trains); then `network.safetensors` for a dense stage, `checkpoint/` or `adapter/`
    (and `head.safetensors`) for a focal one; `log.parquet`, `curves.png` and, last of all, `figures.json`.
    """

    out: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder."""
        return self.out / self.name

    @property
    def settings(self) -> Path:
        """Settings that the stage was started with."""
        return self.path / "training.json"

    @property
    def states(self) -> Path:
        """Saved states of an unfinished training."""
        return self.path / "state"

    @property
    def figures(self) -> Path:
        """Validation figures; the file exists once the stage is finished."""
        return self.path / "figures.json"

    @property
    def network(self) -> Path:
        """Weights of a dense stage."""
        return self.path / "network.safetensors"

    def result(self, stage: Stage) -> Path:
        """The weights that the stage produces: a file or a folder."""
        if isinstance(stage, DenseStage):
            return self.network
        return self.path / ("adapter" if stage.tune == "lora" else "checkpoint")

    def check_settings(self, wanted: dict[str, Any]) -> None:
        """Refuse a folder whose saved states or results come from other settings.

        A folder without them holds no work, so that a command which failed early can be corrected and repeated.

        Raises:
            FocalfaceError: names the settings that differ.
        """
        if not self.settings.exists() or not (self.figures.exists() or last_state(self.states)):
            return
        found = json.loads(self.settings.read_text())
        if differs := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
            raise FocalfaceError(f"{self.path} holds a training with another {', '.join(differs)}; choose another --out, or remove it")

    def write_settings(self, wanted: dict[str, Any]) -> None:
        """Create the folder and write the settings of the stage."""
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.settings) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1) + "\n")


def last_state(states: Path) -> Path | None:
    """The newest complete state of an unfinished training, or None."""
    complete = [path.parent for path in states.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.partition("-")[2]), default=None)


def identity(stage: Stage, data: Path, model: str | None, limit: int | None, inherit: str | None = None) -> dict[str, Any]:
    """Everything that decides the result of a stage, as JSON data."""
    values = {**stage.model_dump(), "model": str(model), "data": str(data.resolve()), "limit": limit}
    if inherit and model is None and not (isinstance(stage, DenseStage) and stage.network == "teacher"):
        values["inherit"] = inherit
    return json.loads(json.dumps(values))
