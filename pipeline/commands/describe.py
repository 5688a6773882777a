"""`focalface describe`: the faces of one picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.commands.checks import check_checkpoint, check_detector
from pipeline.commands.options import Adapter, Debug, Device, Engine, Finder, MinFace, Model, Sentences, check_picture
from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import SettingsError, writing
from pipeline.settings import load_settings, parse_box, parse_regions
from pipeline.vocabulary import REGIONS, UNIT


def describe(
    image: Annotated[Path, typer.Argument(help="A picture file.")],
    region: Annotated[list[str] | None, typer.Option(help="Region names, with commas; repeatable.", show_default="face")] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: this rectangle of the picture instead.")] = None,
    in_turn: Annotated[bool, typer.Option("--in-turn", help="Ask the regions of a face as one conversation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of faces.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write an annotated picture here.")] = None,
    detector: Finder = None,
    min_face: MinFace = None,
    model: Model = None,
    adapter: Adapter = None,
    sentences: Sentences = None,
    engine: Engine = None,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Describe every face of a picture, or one rectangle of it.

    Example: focalface describe family.jpg --region eyes,mouth --save described.png
    """
    options = {
        "detect.detector": detector,
        "detect.min_face": min_face,
        "describe.model": model,
        "describe.adapter": adapter,
        "describe.sentences": sentences,
        "describe.engine": engine,
        "describe.device": device,
    }
    settings = load_settings(options=options)
    asked = _regions(region or ["face"])
    place = _box(box)
    if save:
        check_picture("--save", save)

    from pipeline.video.images import load_image

    pixels = load_image(image)
    check_detector(settings.detect.detector)
    check_checkpoint(settings.describe.model, settings.describe.adapter)

    from pipeline.execution.images import clip_box, describe_image

    if place is not None:
        clipped = clip_box(place, pixels.shape[1], pixels.shape[0])
        if clipped != place:
            inside = ",".join(f"{value:g}" for value in clipped)
            print(f"focalface: the box reaches beyond the picture; clipped to {inside}", file=sys.stderr)
        place = clipped
    with without_gc():
        from pipeline.describe.backends import load_describer
        from pipeline.faces.detectors import load_detector

        finder = load_detector(settings.detect.detector, min_face=settings.detect.min_face)
        describer = load_describer(**settings.describe.model_dump())
    faces = describe_image(pixels, asked, place, detector=finder, describer=describer, in_turn=in_turn)
    if save and faces:
        from pipeline.execution.preview import annotate

        with writing(save):
            annotate(pixels, faces).save(save)
    if as_json:
        print(json.dumps([face.as_dict() for face in faces], indent=2))
        return
    if not faces:
        print(f"No face found in {image}.")
    for number, face in enumerate(faces, 1):
        _print_face(number, face)
    if save and faces:
        print(f"picture  {save}")


def _regions(names: list[str]) -> tuple[str, ...]:
    """Regions to ask of a picture.

    Raises:
        SettingsError: when a name is not one.
    """
    try:
        joined = parse_regions(",".join(names))
    except ValueError as error:
        raise SettingsError(f"--region: {error}") from error
    if joined == "auto":
        raise SettingsError("--region: auto needs movement, so a video; for a picture name regions, or all")
    return REGIONS if joined == "all" else tuple(joined.split(","))


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    try:
        return parse_box(text)
    except ValueError as error:
        raise SettingsError(f"--box: {error}") from error


def _print_face(number: int, face: Any) -> None:
    console = Console()
    where = ",".join(f"{value:.0f}" for value in face.box)
    console.print(f"[bold]Face {number}[/]  box {where}  score {face.score:.2f}", highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    for region in face.regions:
        answer = region.answer
        units = ", ".join(f"{au} {UNIT[au].name} {answer.au_scores[au]:.2f}" for au in answer.aus) or "none active"
        first, *others = sorted(answer.emotion_scores.items(), key=lambda item: -item[1])[:3]
        rest = ", ".join(f"{name} {score:.2f}" for name, score in others)
        table.add_row(f"[cyan]{region.region}[/]", answer.description)
        table.add_row("", f"[dim]action units[/] {units}")
        table.add_row("", f"[dim]emotion[/] {first[0]} {first[1]:.2f} ({rest})")
        table.add_row("", f"[dim]age[/] {answer.age:.0f} ({answer.age_low:.0f} to {answer.age_high:.0f})")
    console.print(table, highlight=False)
