"""The command `focalface`. What is heavy (torch, Ray) is imported by the command that needs it, so that `--help` is quick."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as RichProgress
from rich.table import Table

from pipeline import __version__
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.settings import Settings, load_settings, parse_box, parse_regions
from pipeline.vocabulary import REGIONS, UNIT

app = typer.Typer(name="focalface", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_DEFAULTS = Settings()


def _setting(help: str, default: object, *names: str) -> Any:
    """An option that stands for a setting: None where it is not given, its default said in the help."""
    return typer.Option(*names, help=help, show_default=str(default))


Debug = Annotated[bool, typer.Option("--debug", help="On an error, show where in the program it arose.")]
Model = Annotated[str | None, _setting("nano, a checkpoint's folder or a hub id.", _DEFAULTS.describe.model)]
Adapter = Annotated[str | None, typer.Option(help="Folder of a LoRA adapter to put on the model.")]
Device = Annotated[str | None, _setting("auto, cpu, cuda or cuda:N.", _DEFAULTS.describe.device)]
Finder = Annotated[str | None, _setting("auto, centerface, insightface or a path.", _DEFAULTS.detect.detector, "--detector")]
MinFace = Annotated[int | None, _setting("Height in pixels of the smallest face sought.", _DEFAULTS.detect.min_face)]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"focalface {__version__}")
        raise typer.Exit


@app.callback()
def focalface(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")] = False,
) -> None:
    """Turn video into tables and words about faces: what each region of each face is doing, moment by moment."""


@app.command("run")
def run_command(
    inputs: Annotated[list[str], typer.Argument(metavar="VIDEO_OR_FOLDER_OR_GLOB...", help="Files, folders, patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    fps: Annotated[float | None, _setting("Frames a second to look at.", _DEFAULTS.video.fps)] = None,
    window: Annotated[float | None, _setting("Seconds that a description stands for.", _DEFAULTS.select.window)] = None,
    regions: Annotated[str | None, _setting("auto, all, or names: eyes,mouth.", _DEFAULTS.select.regions)] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: this rectangle of the frame instead.")] = None,
    detector: Finder = None,
    min_face: MinFace = None,
    detect_every: Annotated[int | None, _setting("Detect on every k-th of these frames.", _DEFAULTS.detect.every)] = None,
    model: Model = None,
    adapter: Adapter = None,
    device: Device = None,
    batch_size: Annotated[int | None, _setting("Regions described together.", _DEFAULTS.describe.batch_size)] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings, as configs/default.yaml.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Any setting; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Describe the faces of videos, into a folder of tables. Stopped at any moment, the same command goes on.

    Example: focalface run holiday.mp4 archive/ --out outputs/holiday --regions eyes,mouth
    """
    from pipeline.run import run

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
    folder = run(inputs, out, load_settings(config, sets or (), options), overwrite)
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


@app.command()
def describe(
    image: Annotated[Path, typer.Argument(help="A picture file.")],
    region: Annotated[list[str] | None, typer.Option(help="Region names, with commas; repeatable.", show_default="face")] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: this rectangle of the picture instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of faces.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write an annotated picture here.")] = None,
    detector: Finder = None,
    min_face: MinFace = None,
    model: Model = None,
    adapter: Adapter = None,
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
        "describe.device": device,
    }
    settings = load_settings(options=options)
    asked = _regions(region or ["face"])
    place = _box(box)
    if save and save.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
        raise SettingsError(f"--save takes a .png, .jpg or .webp file, not {save}")

    from pipeline.picture import clip_box, describe_picture, load_image

    pixels = load_image(image)
    if place is not None:
        clipped = clip_box(place, pixels.shape[1], pixels.shape[0])
        if clipped != place:
            inside = ",".join(f"{value:g}" for value in clipped)
            print(f"focalface: the box reaches beyond the picture; clipped to {inside}", file=sys.stderr)
        place = clipped
    from pipeline.describe import load_describer
    from pipeline.detect import load_detector

    eyes = load_detector(settings.detect.detector, min_face=settings.detect.min_face)
    words = load_describer(settings.describe.model, adapter=settings.describe.adapter, device=settings.describe.device)
    faces = describe_picture(pixels, eyes, words, asked, place)
    if save and faces:
        from pipeline.draw import annotate

        try:
            annotate(pixels, faces).save(save)
        except OSError as error:
            raise SettingsError(f"cannot write {save}: {error.strerror}") from error
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


@app.command()
def models(debug: Debug = False) -> None:
    """List the checkpoints that come with focalface and what they know.

    Example: focalface models
    """
    from pipeline.checkpoints import embedded
    from pipeline.grammar import Grammar

    console = Console()
    for name, folder in embedded().items():
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
        known = Grammar.load(folder).aus
        console.print(f"[bold]{escape(name)}[/]  {size:.1f} MB  {escape(str(folder))}", soft_wrap=True, highlight=False)
        console.print(f"  emotions, age, and {len(known)} action units: {', '.join(known)}", highlight=False)
    console.print("Any other Qwen2.5-VL checkpoint: --model FOLDER or --model HUB/ID, with --adapter FOLDER for a LoRA adapter.")


@app.command("eval")
def evaluate_command(
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
    from pipeline.evaluate import evaluate

    describer = load_describer(settings.model, adapter=settings.adapter, device=settings.device, batch_size=64)
    with RichProgress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("faces", total=None)
        figures = evaluate(describer, faces, limit, lambda done, total: bar.update(task, completed=done, total=total))
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


@app.command()
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 when it did its work, 2 with one line on stderr when it could not, 130 when interrupted.

    Args:
        arguments: those of the process by default.
    """
    words = sys.argv[1:] if arguments is None else [*arguments]
    fault: BaseException | None = None
    message = ""
    try:
        code = app(words, standalone_mode=False) or 0
        if code == INTERRUPTED:
            message = "stopped; the same command goes on where it was"
    except typer.TyperException as error:
        fault, code, message = error, error.exit_code, error.format_message()
    except FocalfaceError as error:
        fault, code, message = error, 2, str(error)
    except Exception as error:  # a fault of the program's own
        fault, code, message = error, 1, f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"
    if fault and "--debug" in words:
        traceback.print_exception(fault)
    if message:
        print(f"focalface: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
