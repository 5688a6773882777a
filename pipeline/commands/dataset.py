"""`focalface dataset`: the region-level dataset that a model is trained on."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Debug, check_image_name
from pipeline.errors import SettingsError, writing
from pipeline.execution.progress import Steps

if TYPE_CHECKING:
    from pipeline.dataset.boxes import Counts

app = typer.Typer(no_args_is_help=True, help="Build and show the region-level dataset that a model is trained on.")

SKIPPED_SHOWN = 5
"""Skipped rows that are named on stderr; `dataset.json` names more."""


@app.command("build")
def build_dataset(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Parquet files, or folders of pictures with a CSV.")],
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet or CSV of labels, joined to the pictures by image_id.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only this many rows of each source.")] = None,
    boxes: Annotated[str | None, typer.Option(metavar="KIND=N,...", help="Boxes of each kind in a face, as random=8,empty=0.")] = None,
    emotions: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Names for the numbers 0, 1, 2 ... of an emotion column.")
    ] = None,
    active: Annotated[float, typer.Option(min=0, max=5, help="Intensity (0 to 5) from which an action unit counts as active.")] = 2.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in the folder.")] = False,
    debug: Debug = False,
) -> None:
    """Turn labelled faces into a dataset of boxes, each with its action units, emotion, age and sentence.

    Example: focalface dataset build faces.parquet web.parquet --labels web-labels.parquet --out outputs/regions
    """
    from pipeline.dataset.labels import LabelOptions
    from pipeline.dataset.preconditions import open_sources

    counts = _counts(boxes)
    options = LabelOptions(tuple(name.strip() for name in emotions.split(",")) if emotions else (), active)
    open_sources(sources, out, options, labels, overwrite)  # a wrong path is answered before OpenCV is imported
    from pipeline.dataset.build import build

    began = time.monotonic()
    with Steps() as steps:
        info = build(
            sources,
            out,
            seed=seed,
            counts=counts,
            options=options,
            labels=labels,
            limit=limit,
            overwrite=overwrite,
            progress=partial(steps.say, "faces"),
        )
    elapsed = time.monotonic() - began
    for text in info["warnings"]:
        print(f"focalface: {text}", file=sys.stderr)
    for item in info["skipped_first"][:SKIPPED_SHOWN]:
        print(f"focalface: skipped {item['row']}: {item['reason']}", file=sys.stderr)
    if info["skipped"] > SKIPPED_SHOWN:
        print(f"focalface: skipped {info['skipped']} rows in all; {out / 'dataset.json'} says why", file=sys.stderr)
    faces = 0
    for split, counted in info["counts"].items():
        here = sum(counted["faces"].values())
        faces += here
        print(f"{split:<8} {here} faces, {sum(counted['kinds'].values())} boxes, {sum(counted['dialogues'].values())} dialogues")
    print(f"dataset  {out}   {elapsed:.0f} s, {faces / elapsed:.0f} faces/s")


@app.command("show")
def show_dataset(
    folder: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder of `focalface dataset build`.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write.", show_default="DATASET/sheet.png")] = None,
    count: Annotated[int, typer.Option(min=1, max=300, help="Number of faces.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed that picks the faces and their boxes.")] = 0,
    debug: Debug = False,
) -> None:
    """Draw a contact sheet: faces of a dataset with some of their boxes and sentences.

    Example: focalface dataset show outputs/regions --count 12 --out sheet.png
    """
    from pipeline.dataset.card import SHEET, contact_sheet

    out = out or folder / SHEET
    check_image_name("--out", out)
    sheet = contact_sheet(folder, count, seed)
    with writing(out):
        sheet.save(out)
    print(f"picture  {out}")


def _counts(text: str | None) -> Counts:
    """Counts of boxes, those of `--boxes` changed.

    Raises:
        SettingsError: a part is not KIND=N.
    """
    from dataclasses import fields, replace

    from pipeline.dataset.boxes import Counts

    known = [field.name for field in fields(Counts)]
    values = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, _, value = part.strip().partition("=")
        if name not in known or not value.isdecimal():
            raise SettingsError(f"--boxes: {part.strip()!r} is not KIND=N; kinds are {', '.join(known)}")
        values[name] = int(value)
    return replace(Counts(), **values)
