"""`focalface run`: the main job."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.options import DEFAULTS, Adapter, Debug, Device, Finder, MinFace, Model, setting
from pipeline.settings import load_settings
from pipeline.vocabulary import UNIT


def run(
    inputs: Annotated[list[str], typer.Argument(metavar="VIDEO_OR_FOLDER_OR_GLOB...", help="Files, folders, patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    fps: Annotated[float | None, setting("Frames a second to look at.", DEFAULTS.video.fps)] = None,
    window: Annotated[float | None, setting("Seconds that a description stands for.", DEFAULTS.select.window)] = None,
    regions: Annotated[str | None, setting("auto, all, or names: eyes,mouth.", DEFAULTS.select.regions)] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: this rectangle of the frame instead.")] = None,
    detector: Finder = None,
    min_face: MinFace = None,
    detect_every: Annotated[int | None, setting("Detect on every k-th of these frames.", DEFAULTS.detect.every)] = None,
    model: Model = None,
    adapter: Adapter = None,
    device: Device = None,
    batch_size: Annotated[int | None, setting("Regions described together.", DEFAULTS.describe.batch_size)] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings, as configs/default.yaml.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Any setting; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Describe the faces of videos, into a folder of tables. Stopped at any moment, the same command goes on.

    Example: focalface run holiday.mp4 archive/ --out outputs/holiday --regions eyes,mouth
    """
    from pipeline.run import run as run_pipeline

    options = {
        "video.fps": fps,
        "detect.detector": detector,
        "detect.min_face": min_face,
        "detect.every": detect_every,
        "select.window": window,
        "select.regions": regions,
        "select.box": box,
        "describe.model": model,
        "describe.adapter": adapter,
        "describe.device": device,
        "describe.batch_size": batch_size,
    }
    folder = run_pipeline(inputs, out, load_settings(config, sets or (), options), overwrite)
    _summary(folder)


def _summary(folder: Any) -> None:
    """What a run found, and where it lies."""
    from pipeline.run import counts

    console = Console()
    found = counts(folder)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    kinds = [f"{found[status]} {word}" for status, word in (("ok", "with faces"), ("no_faces", "without"), ("failed", "failed"))]
    table.add_row("videos", f"{found['videos']}: {', '.join(kinds)}")
    table.add_row("frames looked at", str(found["sampled_frames"]))
    table.add_row("faces", f"{found['faces']} on {found['tracks']} track{'s' * (found['tracks'] != 1)}")
    table.add_row("descriptions", f"{found['descriptions']} in {found['windows']} windows")
    rows = folder.read("descriptions", ["region", "aus", "emotion"]).to_pydict()
    for label, names in (
        ("regions", rows["region"]),
        ("emotions", rows["emotion"]),
        ("action units", [f"{au} {UNIT[au].name}" for aus in rows["aus"] for au in aus]),
    ):
        if names:
            table.add_row(label, ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in Counter(names).most_common(5)))
    console.print(table)
    for row in folder.read("videos", ["path", "status", "error"]).to_pylist():
        if row["error"]:
            console.print(f"{row['status']}: {escape(row['path'])}: {escape(row['error'])}", soft_wrap=True, highlight=False)
    console.print(f"tables   {escape(str(folder.path))}/{{videos,faces,descriptions}}", soft_wrap=True, highlight=False)
    picture = folder.path / "preview.png"
    if picture.exists():
        console.print(f"picture  {escape(str(picture))}", soft_wrap=True, highlight=False)
