"""`focalface eval`: measuring a describer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.table import Table

from pipeline.commands.options import Adapter, Debug, Device, Model
from pipeline.errors import SettingsError
from pipeline.settings import load_settings


def evaluate(
    faces: Annotated[Path, typer.Argument(metavar="FACES.parquet", help="Labelled faces.")],
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first so many faces.")] = None,
    model: Model = None,
    adapter: Adapter = None,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Measure a model on labelled faces: emotions, action units and age of the whole face; locality and consistency of regions.

    Example: focalface eval val.parquet --model nano --json outputs/nano.json
    """
    options = {"describe.model": model, "describe.adapter": adapter, "describe.device": device}
    settings = load_settings(options=options).describe
    from pipeline.describe import load_describer
    from pipeline.evaluate import evaluate as measure

    describer = load_describer(settings.model, adapter=settings.adapter, device=settings.device, batch_size=64)
    with RichProgress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("faces", total=None)
        figures = measure(describer, faces, limit, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        try:
            as_json.parent.mkdir(parents=True, exist_ok=True)
            as_json.write_text(json.dumps(figures, indent=1) + "\n")
        except OSError as error:
            raise SettingsError(f"cannot write {as_json}: {error.strerror}") from error
    table = Table("figure", "value", box=None)
    for name, value in figures.items():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{name} {part}".strip(), "none" if number is None else f"{number:.4g}")
    Console().print(table, highlight=False)
