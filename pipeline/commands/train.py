"""`focalface train`: train a checkpoint or a LoRA adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Adapter, Debug
from pipeline.settings import parse_assignments


def train(
    configs: Annotated[list[Path], typer.Argument(metavar="STAGE.yaml...", help="Settings of the stages, in training order.")],
    data: Annotated[Path, typer.Option(help="Dataset folder, as `focalface dataset build` writes it.")],
    out: Annotated[Path, typer.Option(help="Output folder; each stage gets a folder in it.")],
    model: Annotated[str | None, typer.Option(help="Checkpoint that the first stage starts from.", show_default="a new nano")] = None,
    adapter: Adapter = None,
    inherit: Annotated[
        str | None, typer.Option(help="Earlier nano whose weights a new one starts with, where its vocabulary has changed.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=64, help="Use at most this many faces of each split.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of all stage files; repeatable.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train in stages, each starting from the one before. Run the same command again to resume.

    Example: focalface train configs/train/[0-9]-*.yaml --data outputs/faces --out outputs/train

    Example: focalface train configs/train/lora/*.yaml --data outputs/faces --out outputs/lora --model Qwen/Qwen2.5-VL-3B-Instruct
    """
    from pipeline.training.preconditions import check_preconditions
    from pipeline.training.stage_settings import load_stage

    changes = parse_assignments(sets or (), "KEY=VALUE")
    stages = [load_stage(path, changes) for path in configs]
    start = Path(adapter) if adapter else None
    check_preconditions(stages, data, out, model, start, limit, inherit)

    from pipeline.training.run_stages import train as run_stages

    folder = run_stages(stages, data, out, model, start, limit, lambda line: print(line, flush=True), inherit)
    print(f"result  {folder}")
