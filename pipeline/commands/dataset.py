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

app = typer.Typer(no_args_is_help=True, help="Build and look at the region-level dataset that a model is trained on.")

SKIPPED_SAID = 5
"""Skipped rows that are named on stderr; `dataset.json` names more."""


@app.command("build")
def build_dataset(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Parquet files, or folders of pictures with a CSV.")],
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first so many rows of each source.")] = None,
    boxes: Annotated[str | None, typer.Option(metavar="KIND=N,...", help="Boxes of a kind a face, as random=8,empty=0.")] = None,
    emotions: Annotated[str | None, typer.Option(metavar="NAME,...", help="What 0, 1, 2 ... of an emotion column stand for.")] = None,
    active: Annotated[float, typer.Option(min=0, max=5, help="Intensities of action units (0 to 5) from here on are active.")] = 2.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in the folder.")] = False,
    debug: Debug = False,
) -> None:
    """Turn labelled faces into boxes of every kind, each with its action units, emotion, age and words.

    Example: focalface dataset build ../shared/faces/train-web.parquet my-faces/ --out outputs/regions
    """
    from pipeline.dataset.build import build
    from pipeline.dataset.labels import Labels

    counts = _counts(boxes)
    labels = Labels(tuple(name.strip() for name in emotions.split(",")) if emotions else (), active)
    began = time.monotonic()
    with Steps() as steps:
        told = partial(steps.say, "faces")
        info = build(sources, out, seed=seed, counts=counts, labels=labels, limit=limit, overwrite=overwrite, progress=told)
    elapsed = time.monotonic() - began
    for text in info["warnings"]:
        print(f"focalface: {text}", file=sys.stderr)
    for item in info["skipped_first"][:SKIPPED_SAID]:
        print(f"focalface: skipped {item['row']}: {item['reason']}", file=sys.stderr)
    if info["skipped"] > SKIPPED_SAID:
        print(f"focalface: skipped {info['skipped']} rows in all; {out / 'dataset.json'} says why", file=sys.stderr)
    faces = 0
    for split, counted in info["counts"].items():
        here = sum(counted["faces"].values())
        faces += here
        print(f"{split:<8} {here} faces, {sum(counted['kinds'].values())} boxes, {sum(counted['dialogues'].values())} dialogues")
    print(f"dataset  {out}   {elapsed:.0f} s, {faces / elapsed:.0f} faces/s")


@app.command("show")
def show_dataset(
    folder: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder that `focalface dataset build` made.")],
    out: Annotated[Path | None, typer.Option(help="The picture to write.", show_default="DATASET/sheet.png")] = None,
    count: Annotated[int, typer.Option(min=1, max=300, help="Faces to show.")] = 24,
    seed: Annotated[int, typer.Option(help="Which faces, and which of their boxes.")] = 0,
    debug: Debug = False,
) -> None:
    """Draw a contact sheet: faces of a dataset with some of their boxes and words.

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
    """The numbers of boxes that `--boxes` changes.

    Raises:
        SettingsError: when a part is not KIND=N.
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
