"""`focalface run`: describe the faces of videos."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.checks import check_checkpoint, check_detector, check_inputs, check_output_folder
from pipeline.commands.options import (
    DEFAULTS,
    Adapter,
    Area,
    Backend,
    Debug,
    Detector,
    Device,
    Endpoint,
    From,
    Largest,
    MinFace,
    MinReadable,
    Model,
    Sentences,
    To,
    setting,
)
from pipeline.describe.heavy_imports import without_gc
from pipeline.settings import Settings, load_settings
from pipeline.vocabulary import UNIT

if TYPE_CHECKING:
    from pipeline.execution.planning import Plan
    from pipeline.storage.run_folder import RunFolder

PREVIEW = "preview.png"

LEAST_SHARE = 0.005
"""Share of the work from which the summary names a stage. A smaller share names stages that hardly count."""

_SETTINGS = {
    "fps": "video.fps",
    "from_": "video.from_s",
    "to": "video.to_s",
    "area": "detect.area",
    "largest": "select.largest",
    "detector": "detect.detector",
    "min_face": "detect.min_face",
    "detect_every": "detect.every",
    "window": "select.window",
    "regions": "select.regions",
    "box": "select.box",
    "min_readable": "describe.min_readable",
    "model": "describe.model",
    "adapter": "describe.adapter",
    "sentences": "describe.sentences",
    "backend": "describe.backend",
    "endpoint": "describe.endpoint",
    "device": "describe.device",
    "batch_size": "describe.batch_size",
}
"""Options and the settings that they change."""


def _frames_per_second(text: str) -> str | float:
    """A number, or `all` for every frame.

    Raises:
        typer.BadParameter: when the text is neither.
    """
    if text in ("all", "null"):
        return "all"
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor all") from None


def _every(text: str) -> str | int:
    """A whole number, or `auto`.

    Raises:
        typer.BadParameter: when the text is neither.
    """
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor auto") from None


def run(
    inputs: Annotated[
        list[str], typer.Argument(metavar="VIDEO_OR_FOLDER_OR_GLOB...", help="Files, folders and patterns; or their URLs, as s3://...")
    ],
    out: Annotated[str, typer.Option(help="Folder for the results, or its URL.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again where the folder holds a run.")] = False,
    fps: Annotated[
        str | None,
        typer.Option(
            parser=_frames_per_second,
            metavar="NUMBER|all",
            help="Frames to sample per second of video; all for every frame.",
            show_default=f"{DEFAULTS.video.fps:g}",
        ),
    ] = None,
    per_frame: Annotated[bool, typer.Option("--per-frame", help="Give scores in every frame: --fps all and describe.frames=all.")] = False,
    from_: From = None,
    to: To = None,
    window: Annotated[float | None, setting("Seconds that one description covers.", DEFAULTS.select.window)] = None,
    regions: Annotated[str | None, setting("auto, all, or names: eyes,mouth.", DEFAULTS.select.regions)] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1: describe this rectangle of the frame instead.")] = None,
    detector: Detector = None,
    min_face: MinFace = None,
    min_readable: MinReadable = None,
    area: Area = None,
    largest: Largest = None,
    detect_every: Annotated[
        str | None,
        typer.Option(
            parser=_every,
            metavar="NUMBER|auto",
            help="Search every k-th sampled frame whole, others where faces are known; auto: two a second.",
            show_default="auto",
        ),
    ] = None,
    model: Model = None,
    adapter: Adapter = None,
    sentences: Sentences = None,
    backend: Backend = None,
    endpoint: Endpoint = None,
    device: Device = None,
    batch_size: Annotated[int | None, setting("Regions described together.", DEFAULTS.describe.batch_size)] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, such as configs/default.yaml.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Change any setting; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done, and do nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log each finished video and its result on stderr.")] = False,
    debug: Debug = False,
) -> None:
    """Describe the faces of videos, and write the results as tables.

    Run the same command again to resume a run that was stopped. A file that cannot be read fails alone; the command exits with 1 when all
    files fail.

    Example: focalface run holiday.mp4 archive/ --out outputs/holiday --from 1:30 --to 2:00
    """
    settings = settings_of(locals())
    check_inputs(inputs)
    check_output_folder(out)
    if settings.execution.address is None:  # on a cluster, the nodes have the checkpoint and the detector
        check_detector(settings.detect.detector)
        check_checkpoint(settings.describe)
    with without_gc():
        from pipeline.execution.planning import plan
        from pipeline.execution.run import run as run_pipeline
        from pipeline.storage.remote import Mirror

    if verbose:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("focalface").setLevel(logging.INFO)
    with Mirror(out) as place:
        if dry_run:
            _print_plan(plan(inputs, place.path, settings, overwrite), settings)
            return
        folder = run_pipeline(inputs, place.path, settings, overwrite, place.push)
        _print_summary(folder, place.place)
        statuses = set(folder.read("videos", ["status"])["status"].to_pylist())
    if statuses == {"failed"}:
        print("focalface: every file failed; the reasons are listed above", file=sys.stderr)
        raise typer.Exit(1)


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings that the arguments of `run` ask for.

    Args:
        given: the arguments by name.

    Raises:
        SettingsError: see `load_settings`.
    """
    options = {key: given[option] for option, key in _SETTINGS.items()}
    if given["per_frame"]:
        options = {"describe.frames": "all"} | options | {"video.fps": given["fps"] or "all"}
    return load_settings(given["config"], given["sets"] or (), options)


def _print_plan(plan: Plan, settings: Settings) -> None:
    """Print what a run would do: every video, the number of each kind, what was skipped, and the settings."""
    from pipeline.storage.run_folder import printable

    for video in plan.videos.values():
        print(f"{video.state:<8} {printable(video.path)}")
    found = Counter(video.state for video in plan.videos.values())
    print(f"videos   {len(plan.videos)}: {found['todo']} to do, {found['changed']} changed and to do again, {found['done']} done")
    if plan.skipped:
        kinds = sorted(plan.skipped.items(), key=lambda kind: (-kind[1], kind[0]))
        print(f"skipped  {sum(plan.skipped.values())}: {', '.join(f'{count} {reason}' for reason, count in kinds)}")
    for group, values in settings.model_dump(mode="json").items():
        print(f"{group:<8} {', '.join(f'{key}={json.dumps(value)}' for key, value in values.items())}")


def _print_summary(folder: RunFolder, place: str) -> None:
    """Print what a run found, what took its time, and where the results are."""
    from pipeline.execution.run import counts
    from pipeline.execution.timing import slowest

    console = Console()
    found = counts(folder)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    kinds = [f"{found[status]} {word}" for status, word in (("ok", "with faces"), ("no_faces", "without"), ("failed", "failed"))]
    table.add_row("videos", f"{found['videos']}: {', '.join(kinds)}")
    table.add_row("sampled frames", str(found["sampled_frames"]))
    table.add_row("faces", f"{found['faces']} on {found['tracks']} track{'s' * (found['tracks'] != 1)}")
    table.add_row("descriptions", f"{found['descriptions']} in {found['windows']} windows")
    if found["unreadable_faces"]:
        reasons = Counter(filter(None, folder.read("faces", ["unreadable"])["unreadable"].to_pylist())).most_common()
        why = ", ".join(f"{reason} {count}" for reason, count in reasons)
        windows = f"{found['unreadable_windows']} windows without a readable face"
        table.add_row("not readable", f"{found['unreadable_faces']} faces ({why}); {windows}")
    rows = folder.read("descriptions", ["video_id", "track_id", "window_index", "region", "aus", "emotion"]).to_pylist()
    window = itemgetter("video_id", "track_id", "window_index")
    # The regions of a window show one face: each emotion and action unit counts once a window.
    emotion_of = {window(row): row["emotion"] for row in sorted(rows, key=lambda row: row["region"] == "face")}
    units = {(window(row), f"{au} {UNIT[au].name}") for row in rows for au in row["aus"]}
    for label, names in (
        ("regions", [row["region"] for row in rows]),
        ("emotions", list(emotion_of.values())),
        ("action units", [name for _, name in units]),
    ):
        if names:
            table.add_row(label, ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in Counter(names).most_common(5)))
    timing = folder.info.get("timing", {})
    if shares := slowest(timing.get("stage_seconds", {})):
        table.add_row("time", f"{timing['seconds']:.1f} s at {timing['frames_per_s']:.1f} frames/s; slowest stage: {shares[0][0]}")
        table.add_row("share of work", ", ".join(f"{stage} {share:.0%}" for stage, share in shares if share >= LEAST_SHARE))
    console.print(table)
    for row in folder.read("videos", ["path", "status", "error"]).to_pylist():
        if row["error"]:
            reason = row["error"].removeprefix(f"{row['path']}: ")
            console.print(f"{row['status']}: {escape(row['path'])}: {escape(reason)}", soft_wrap=True, highlight=False)
    console.print(f"tables   {escape(place)}/{{videos,faces,descriptions}}", soft_wrap=True, highlight=False)
    if (folder.path / PREVIEW).exists():
        console.print(f"picture  {escape(place)}/{PREVIEW}", soft_wrap=True, highlight=False)
