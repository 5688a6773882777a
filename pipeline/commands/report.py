"""`focalface report`: pages, frame tables, files for annotation tools and annotated films of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.checks import check_people, check_run_folders
from pipeline.commands.options import Area, Debug, From, Largest, To, choice
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.execution.progress import Steps

MOST_LINES = 20
"""Failures, and notes, that are printed; the index has them all."""


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `focalface run` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default="DIR/report")] = None,
    frames: Annotated[str | None, typer.Option(help="Write per-frame tables: csv, jsonl, parquet; separate several with commas.")] = None,
    columns: Annotated[
        str,
        typer.Option(help="Their layout: focalface, openface, openface-spaces (a space before each name, as OpenFace has it) or pyfeat."),
    ] = "focalface",
    empty_frames: Annotated[
        bool | None, typer.Option("--empty-frames/--no-empty-frames", help="Rows for frames without a face.", show_default="as the tool")
    ] = None,
    elan: Annotated[bool, typer.Option("--elan", help="Write an ELAN file (.eaf) beside each page.")] = False,
    bids: Annotated[bool, typer.Option("--bids", help="Write events (_events.tsv and .json) for a BIDS dataset.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Write annotated films, with their sound.")] = False,
    no_faces: Annotated[bool, typer.Option("--no-faces", help="Leave all pictures out.")] = False,
    blur: Annotated[bool, typer.Option("--blur", help="Make faces in pictures and films unrecognisable.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="VIDEO", help="A file name, path or video_id; repeatable.")] = None,
    people: Annotated[
        Path | None, typer.Option(help="People folder over several runs (focalface people).", show_default="the run's own, if it has one")
    ] = None,
    person: Annotated[list[str] | None, typer.Option(metavar="NAME_OR_ID", help="Report on this person only; repeatable.")] = None,
    from_: From = None,
    to: To = None,
    area: Area = None,
    largest: Largest = None,
    debug: Debug = False,
) -> None:
    """Write a page for each video of a run, and an index of them. They open in a browser from the disk. A second report writes only what
    has changed.

    Action units, emotion and age in the per-frame tables are those of each frame, where the run read every frame (as it does with nano);
    else those of the described frame of each window, repeated in all its frames. NAME.columns.json tells the resolution of every column.

    An output that cannot be written is named here and in the index; all others are written, and the exit code is 2.

    Events, episodes and blinks in ELAN files and BIDS events are those of focalface trends.

    Example: focalface report outputs/demo --frames csv --blur

    Example: focalface report outputs/demo --elan --bids
    """
    if no_faces and blur:
        raise SettingsError("--no-faces leaves out what --blur would blur: give one of them")
    if no_faces and video:
        raise SettingsError("--video shows faces, --no-faces leaves them out: give --blur instead, or one of them")
    formats = _formats(frames, columns, empty_frames)
    some = choice(from_, to, area, largest)
    check_run_folders([folder])
    check_people(people)

    from pipeline.report.build import Outputs, write_report
    from pipeline.report.linked import LinkedRun
    from pipeline.storage.run_folder import printable

    run = LinkedRun(folder, people, person or [], some)
    videos = run.read("videos").to_pylist()
    chosen = _chosen(videos, only or [])
    if run.only:
        chosen = [row for row in chosen if row["video_id"] in run.videos_with()]
    outputs = Outputs("none" if no_faces else "blur" if blur else "show", tuple(formats), columns, empty_frames, video, elan, bids)
    with Steps() as steps:
        made = write_report(run, out or folder / "report", outputs, chosen, steps.say)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"pages    {len(chosen)} video{'s' * (len(chosen) != 1)}, {made.pages} page{'s' * (made.pages != 1)} written")
    console.print(f"report   {escape(str(made.index))}")
    if some.text:
        console.print(f"chosen   {some.text}")
    if made.films_with_faces and outputs.faces != "show":
        console.print(f"note     {made.films_with_faces} annotated films of an earlier report show faces: --video --blur makes them again")
    names = {row["video_id"]: printable(Path(row["path"]).name) for row in videos}
    asked = {row["video_id"] for row in chosen} if video else set()
    for line in [f"{names[key]}: {note}" for key, notes in made.film_notes.items() if key in asked for note in notes][:MOST_LINES]:
        console.print(f"note     {escape(line)}")
    if made.failures:
        lines = [f"{names[key]}, {kind}: {reason}" for key, failed in made.failures.items() for kind, reason in failed.items()]
        for line in lines[:MOST_LINES]:
            console.print(f"failed   {escape(line)}")
        if len(lines) > MOST_LINES:
            console.print(f"         and {len(lines) - MOST_LINES} more, in the index")
        count, all_ = len(made.failures), len(chosen)
        raise FocalfaceError(f"all else is written, but {count} of {all_} videos lack something; {lines[0]}") from made.first_error


def _formats(frames: str | None, columns: str, empty_frames: bool | None) -> list[str]:
    """The formats of the per-frame tables. Their other options are checked too, before any work.

    Raises:
        SettingsError: when one is unknown, or given without `--frames`.
    """
    from pipeline.report.export import FORMATS
    from pipeline.report.layouts import LAYOUTS

    if columns not in LAYOUTS:
        raise SettingsError(f"--columns must be one of {', '.join(LAYOUTS)}, not {columns!r}")
    if frames is None:
        if empty_frames is not None or columns != "focalface":
            raise SettingsError("--columns and --empty-frames are about the per-frame tables: give --frames csv as well")
        return []
    formats = list(dict.fromkeys(name.strip() for name in frames.split(",")))
    for name in formats:
        if name not in FORMATS:
            raise SettingsError(f"--frames takes {', '.join(FORMATS)}, not {name!r}")
    return formats


def _chosen(videos: list[dict[str, Any]], only: list[str]) -> list[dict[str, Any]]:
    """The videos that were asked for, all by default.

    Raises:
        SettingsError: when a name is not of this run.
    """
    if not only:
        return videos
    from difflib import get_close_matches

    chosen: dict[str, dict[str, Any]] = {}
    for name in only:
        found = [row for row in videos if name in (row["video_id"], row["path"], Path(row["path"]).name)]
        found = found or [row for row in videos if Path(row["path"]).resolve() == Path(name).resolve()]
        if not found:
            near = get_close_matches(name, [Path(row["path"]).name for row in videos], 1, cutoff=0.3)
            hint = f"did you mean {near[0]}?" if near else f"it has {len(videos)} videos"
            raise SettingsError(f"--only {name}: no such video in this run; {hint}")
        chosen |= {row["video_id"]: row for row in found}
    return list(chosen.values())
