"""`focalface train`: making a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Adapter, Debug
from pipeline.settings import parse_assignments


def train(
    configs: Annotated[list[Path], typer.Argument(metavar="STAGE.yaml...", help="Trainings, in their order.")],
    data: Annotated[Path, typer.Option(help="A dataset folder, as `focalface dataset build` writes it.")],
    out: Annotated[Path, typer.Option(help="Folder for the trainings, one in it for each.")],
    model: Annotated[str | None, typer.Option(help="Checkpoint the first stage starts from.", show_default="a new nano")] = None,
    adapter: Adapter = None,
    limit: Annotated[int | None, typer.Option(min=64, help="Use only so many faces.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of all these files; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Train in stages, each starting from the one before. Stopped at any moment, the same command goes on.

    Example: focalface train configs/train/[0-9]-*.yaml --data outputs/faces --out outputs/train

    Example: focalface train configs/train/lora/*.yaml --data outputs/faces --out outputs/lora --model Qwen/Qwen2.5-VL-3B-Instruct
    """
    from pipeline.training.programme import train as run_trainings
    from pipeline.training.stages import load_training

    changes = parse_assignments(sets or (), "KEY=VALUE")
    trainings = [load_training(path, changes) for path in configs]
    folder = run_trainings(trainings, data, out, model, Path(adapter) if adapter else None, limit, lambda line: print(line, flush=True))
    print(f"result  {folder}")
