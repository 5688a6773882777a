"""`focalface train`: making a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Debug


def train(
    faces: Annotated[Path, typer.Option(help="Folder of labelled faces: train-web, train-fer2013 and val .parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for the training's states and the checkpoint.")],
    tower_epochs: Annotated[int, typer.Option(min=1, help="Passes over the faces in dense pretraining.")] = 12,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Passes over the faces in tuning.")] = 3,
    limit: Annotated[int | None, typer.Option(min=128, help="Use only the first so many faces of each file.")] = None,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
    debug: Debug = False,
) -> None:
    """Train a nano checkpoint from labelled faces. Stopped at any moment, the same command goes on from the last finished pass.

    Example: focalface train --faces ../shared/faces --out outputs/train
    """
    from pipeline.training.programme import Programme, train_nano

    programme = Programme(tower_epochs=tower_epochs, tune_epochs=tune_epochs, limit=limit, seed=seed)
    folder = train_nano(faces, out, programme, lambda line: print(line, flush=True))
    print(f"checkpoint  {folder}   try: focalface describe PICTURE --model {folder}")
