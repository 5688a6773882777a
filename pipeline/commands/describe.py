"""`focalface describe`: the faces of images."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.checks import check_checkpoint, check_detector, check_inputs
from pipeline.commands.options import (
    IMAGE_FORMATS,
    Adapter,
    Area,
    Backend,
    Debug,
    Detector,
    Device,
    Endpoint,
    MinFace,
    MinReadable,
    Model,
    Sentences,
    check_image_name,
    choice,
)
from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import SettingsError, writing
from pipeline.settings import load_settings, parse_box, parse_regions
from pipeline.vocabulary import REGIONS, UNIT, Box

if TYPE_CHECKING:
    from pipeline.execution.images import DescribedFace, DescribedImage

TABLE_SUFFIXES = (".csv", ".parquet", ".json")


def describe(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IMAGE_OR_FOLDER_OR_GLOB...", help="Image files, folders and patterns; URLs of these.")
    ],
    region: Annotated[list[str] | None, typer.Option(help="Region names, with commas; repeatable.", show_default="face")] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: describe this rectangle of the image instead.")] = None,
    area: Area = None,
    largest: Annotated[int | None, typer.Option("--largest", metavar="N", help="Only the N largest faces of an image.")] = None,
    in_turn: Annotated[bool, typer.Option("--in-turn", help="Ask about the regions of a face as one conversation.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a table: FILE.csv, FILE.parquet or FILE.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the annotated image here; for several images, a folder.")] = None,
    detector: Detector = None,
    min_face: MinFace = None,
    min_readable: MinReadable = None,
    model: Model = None,
    adapter: Adapter = None,
    sentences: Sentences = None,
    backend: Backend = None,
    endpoint: Endpoint = None,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Describe every face of one or more images.

    An image that cannot be read fails alone; the command fails when all images do.

    Example: focalface describe photos/ --region eyes,mouth --out faces.csv
    """
    options = {
        "detect.detector": detector,
        "detect.min_face": min_face,
        "describe.min_readable": min_readable,
        "describe.model": model,
        "describe.adapter": adapter,
        "describe.sentences": sentences,
        "describe.backend": backend,
        "describe.endpoint": endpoint,
        "describe.device": device,
    }
    settings = load_settings(options=options)
    regions, place, some = _regions(region or ["face"]), _box(box), choice(None, None, area, largest)
    if out and out.suffix.lower() not in TABLE_SUFFIXES:
        raise SettingsError(f"--out takes a {', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]} file, not {out}")

    check_inputs(inputs)
    check_detector(settings.detect.detector)
    check_checkpoint(settings.describe)

    from pipeline.storage.inputs import find_images

    paths = find_images(inputs)
    single = paths == inputs and len(paths) == 1
    if save and single:
        check_image_name("--save", save)
    elif save and (save.suffix.lower() in IMAGE_FORMATS or save.is_file()):
        raise SettingsError(f"--save takes a folder for several images, not {save}")

    if single:  # a mistake is reported before anything heavy is imported
        from pipeline.video.images import load_image

        pixels = load_image(paths[0])

    from pipeline.execution.images import DescribedImage, clip_box, describe_image, describe_images

    if single and place is not None:
        clipped = clip_box(place, pixels.shape[1], pixels.shape[0])
        if clipped != place:
            inside = ",".join(f"{value:g}" for value in clipped)
            print(f"focalface: the box reaches beyond the image; clipped to {inside}", file=sys.stderr)
        place = clipped
    with without_gc():
        from pipeline.describe.backends import load_describer
        from pipeline.execution.executors import threads_for
        from pipeline.faces.detectors import load_detector

        finder = load_detector(settings.detect.detector, min_face=settings.detect.min_face)
        describer = load_describer(**settings.describe.load_options(), threads=threads_for(processes=1))
    asked: dict[str, Any] = {
        "detector": finder,
        "describer": describer,
        "in_turn": in_turn,
        "min_readable": settings.describe.min_readable,
        "area": some.area,
        "largest": some.largest,
    }
    found: Iterator[DescribedImage]
    if single:
        faces = describe_image(pixels, regions, place, **asked)
        found = iter([DescribedImage(paths[0], tuple(faces), pixels)])
    else:
        found = describe_images(paths, regions, place, **asked)
    images = _each(found, len(paths), None if as_json or out else _print_one if single else _print_image, _saver(save, single))
    if out:
        from pipeline.execution.image_table import write_images

        with writing(out):
            write_images(images, out, describer.name)
    if as_json:
        from pipeline.execution.image_table import image_data

        data = [image_data(image) for image in images]
        print(json.dumps(data[0]["faces"] if single else data, indent=2))
    else:
        _print_summary(images, single, out, save)
    if all(image.error is not None for image in images):
        raise typer.Exit(1)


def _each(
    found: Iterator[DescribedImage],
    count: int,
    show: Callable[[DescribedImage], None] | None,
    write: Callable[[DescribedImage], None] | None,
) -> list[DescribedImage]:
    """Show and write each image when it is ready; returns all of them without their pixels."""
    from pipeline.execution.progress import Steps

    images = []
    with Steps() as steps:
        for image in found:
            if image.error is not None:
                print(f"focalface: {image.error}", file=sys.stderr, flush=True)
            if show:
                show(image)
            if write:
                write(image)
            images.append(replace(image, pixels=None))
            if count > 1:
                steps.say("describing", len(images), count)
    return images


def _saver(save: Path | None, single: bool) -> Callable[[DescribedImage], None] | None:
    """A function that writes an annotated image, under its own name where there are several."""
    if save is None:
        return None
    from pipeline.execution.preview import annotate

    names: Counter[str] = Counter()

    def write(image: DescribedImage) -> None:
        if image.pixels is None or not image.faces:
            return
        name = os.path.splitext(os.path.basename(image.path))[0]
        names[name] += 1
        file = save if single else save / f"{name}{f'-{names[name]}' if names[name] > 1 else ''}.png"
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            annotate(image.pixels, image.faces).save(file)

    return write


def _regions(names: list[str]) -> tuple[str, ...]:
    """Regions to describe.

    Raises:
        SettingsError: when a name is not a region's.
    """
    try:
        joined = parse_regions(",".join(names))
    except ValueError as error:
        raise SettingsError(f"--region: {error}") from error
    if joined == "auto":
        raise SettingsError("--region: auto needs movement, and so a video; for an image name regions, or all")
    return REGIONS if joined == "all" else tuple(joined.split(","))


def _box(text: str | None) -> Box | None:
    try:
        return parse_box(text)
    except ValueError as error:
        raise SettingsError(f"--box: {error}") from error


def _print_image(image: DescribedImage) -> None:
    """Print one of several images under its path."""
    if image.error is None:
        print(image.path)
        _print_one(image)


def _print_one(image: DescribedImage) -> None:
    if not image.faces:
        print(f"No face found in {image.path}.")
    for number, face in enumerate(image.faces, 1):
        _print_face(number, face)


def _print_face(number: int, face: DescribedFace) -> None:
    console = Console()
    where = ",".join(f"{value:.0f}" for value in face.box)
    console.print(f"[bold]Face {number}[/]  box {where}  score {face.score:.2f}  readable {face.readable:.2f}", highlight=False)
    if face.unreadable is not None:
        console.print(f"  not readable: {face.unreadable}; --min-readable 0 reads it all the same", highlight=False)
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    for region in face.regions:
        answer = region.answer
        units = ", ".join(f"{au} {UNIT[au].name}{_score(answer.au_scores.get(au))}" for au in answer.aus) or "none active"
        others = sorted(answer.emotion_scores.items(), key=lambda item: -item[1])[1:3]
        rest = ", ".join(f"{name}{_score(score)}" for name, score in others)
        span = "" if answer.age_low is None else f" ({answer.age_low:.0f} to {answer.age_high:.0f})"
        table.add_row(f"[cyan]{region.region}[/]", escape(answer.description))
        table.add_row("", f"[dim]action units[/] {units}")
        emotion = f"{answer.emotion}{_score(answer.emotion_scores.get(answer.emotion))}"
        table.add_row("", f"[dim]emotion[/] {emotion}" + (f" ({rest})" if rest else ""))
        table.add_row("", f"[dim]age[/] {answer.age:.0f}{span}")
    console.print(table, highlight=False)


def _print_summary(images: Sequence[DescribedImage], single: bool, out: Path | None, save: Path | None) -> None:
    """Print how many images had faces, and what was written."""
    found = Counter(image.status for image in images)
    if not single:
        print(f"images   {len(images)}: {found['ok']} with faces, {found['no_faces']} without, {found['failed']} failed")
    if out:
        print(f"table    {out}")
    if save and found["ok"]:
        print(f"{'image ' if single else 'folder'}   {save}")


def _score(score: float | None) -> str:
    """A score behind a name; nothing where the model gives none."""
    return "" if score is None else f" {score:.2f}"
