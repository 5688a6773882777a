"""`focalface report`: pages, frame tables and annotated films of a run."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import Debug
from pipeline.errors import FocalfaceError, SettingsError, writing
from pipeline.execution.progress import Steps

if TYPE_CHECKING:
    from pipeline.report.pictures import Faces

_FOLDERS = ("videos", "frames", "films")
_VIDEO_ID = re.compile(r"[0-9a-f]{16}")
_MADE = "films.json"
"""In the report's folder: what each film was made from, so that it is made once."""


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `focalface run` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="DIR/report")] = None,
    frames: Annotated[str | None, typer.Option(help="Per-frame tables too: csv, jsonl, parquet; with commas.")] = None,
    columns: Annotated[str, typer.Option(help="Their column names: focalface, openface or pyfeat.")] = "focalface",
    empty_frames: Annotated[bool, typer.Option("--empty-frames", help="Their rows for frames without a face too.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Annotated videos too.")] = False,
    no_faces: Annotated[bool, typer.Option("--no-faces", help="Leave every picture out.")] = False,
    blur: Annotated[bool, typer.Option("--blur", help="Make faces in pictures and videos unrecognisable.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="VIDEO", help="A file name, path or video_id; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Make a run's tables something to look at: an index page, and a page for each video that opens from the disk. Made again, it
    writes only what has changed.

    Example: focalface report outputs/demo --frames csv --blur
    """
    if no_faces and blur:
        raise SettingsError("--no-faces leaves out what --blur would blur: give one of them")
    if no_faces and video:
        raise SettingsError("--video shows faces, --no-faces leaves them out: give --blur instead, or one of them")
    formats = _formats(frames, columns, empty_frames)

    from pipeline.report.index import write_index
    from pipeline.report.page import page_key, write_page, write_whole
    from pipeline.storage.run_folder import RunFolder

    run = RunFolder(folder)
    videos = run.read("videos").to_pylist()
    chosen = _chosen(videos, only or [])
    out = out or folder / "report"
    folders = ["videos", *["frames"] * bool(formats), *["films"] * video]
    _prepare(out, folders, {row["video_id"] for row in videos if row["status"] != "failed"})
    prints, made = run.committed(), _films_made(out)
    faces: Faces = "none" if no_faces else "blur" if blur else "show"

    def make(row: dict[str, Any], steps: Steps, label: str) -> bool:
        """All that is asked for of one video; whether its page was written."""
        key, print_ = row["video_id"], prints.get(row["video_id"], "")
        written = write_page(run, row, out / "videos" / f"{key}.html", print_, faces, partial(steps.say, f"{label}: pictures"))
        if formats:
            from pipeline.report.export import export_frames

            export_frames(run, key, out / "frames" / key, formats=formats, columns=columns, empty_frames=empty_frames)
        film, mark = out / "films" / f"{key}.mp4", f"{page_key(run, row, print_, faces)}-{faces}"
        if video and not (film.exists() and made.get(key) == mark):  # a film takes long
            from pipeline.report.film import annotate_video

            annotate_video(run, key, film, faces="blur" if blur else "show", say=partial(steps.say, f"{label}: film"))
            made[key] = mark
            write_whole(out / _MADE, json.dumps(made))
        return written

    faults: list[str] = []
    written = 0
    with Steps() as steps:
        for number, row in enumerate(chosen, 1):
            try:
                written += row["status"] != "failed" and make(row, steps, f"video {number}/{len(chosen)}")
            except FocalfaceError as error:  # one video's fault; the others go on
                faults.append(str(error))
        faults += [fault for fault in write_index(run, videos, out) if fault not in faults]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"pages    {len(chosen)} video{'s' * (len(chosen) != 1)}, {written} page{'s' * (written != 1)} written")
    console.print(f"report   {escape(str(out / 'index.html'))}")
    bare = [film for film in (out / "films").glob("*.mp4") if not made.get(film.stem, "").endswith("-blur")]
    if bare and faces != "show":
        console.print(f"note     {len(bare)} annotated videos of an earlier report show faces: {escape(str(out / 'films'))}")
    if faults:
        raise FocalfaceError(f"{len(faults)} of the videos could not be reported on; the first: {faults[0]}")


def _formats(frames: str | None, columns: str, empty_frames: bool) -> list[str]:
    """The frame tables' formats; the other options of theirs are looked at as well, before any work.

    Raises:
        SettingsError: when one is unknown, or asked for without `--frames`.
    """
    from pipeline.report.export import COLUMNS, FORMATS

    if columns not in COLUMNS:
        raise SettingsError(f"--columns must be one of {', '.join(COLUMNS)}, not {columns!r}")
    if frames is None:
        if empty_frames or columns != "focalface":
            raise SettingsError("--columns and --empty-frames are about the frame tables: give --frames csv as well")
        return []
    formats = list(dict.fromkeys(name.strip() for name in frames.split(",")))
    for name in formats:
        if name not in FORMATS:
            raise SettingsError(f"--frames takes {', '.join(FORMATS)}, not {name!r}")
    return formats


def _films_made(out: Path) -> dict[str, str]:
    """video_id to the mark of its film; empty where there is none, or no telling."""
    try:
        made = json.loads((out / _MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return made if isinstance(made, dict) else {}


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


def _prepare(out: Path, folders: list[str], known: set[str]) -> None:
    """Make the report's folders; of an earlier report, remove what is of videos that the run no longer has: it may show faces.

    Raises:
        SettingsError: when the folder cannot be written to.
    """
    from pipeline.report.page import is_ours

    with writing(out):
        for name in folders:
            (out / name).mkdir(parents=True, exist_ok=True)
        for file in out.glob("*/*") if is_ours(out / "index.html") else ():
            if file.parent.name in _FOLDERS and _VIDEO_ID.fullmatch(file.stem) and file.stem not in known:
                file.unlink()
