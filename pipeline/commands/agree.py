"""`focalface agree`: how far a run agrees with people who coded the same videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.commands.checks import check_run_folders
from pipeline.commands.options import Debug, check_image_name
from pipeline.errors import SettingsError, writing
from pipeline.trends.options import Options

WIDEST = 400
"""Columns that the table may need."""

CODE_FILES = (".eaf", ".opf", ".csv", ".tsv")
"""Files of a folder that are taken for codes."""

_DECIMALS = 2


def agree(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that `focalface run` wrote.")],
    codes: Annotated[
        list[Path], typer.Option(metavar="FILE", help="ELAN .eaf, Datavyu .opf or .csv, plain CSV, or a folder of them; repeatable.")
    ],
    tolerance: Annotated[float, typer.Option(help="Leave out frames nearer than this many seconds to a coded onset or offset.")] = 0.0,
    onset: Annotated[float, typer.Option(help="Events match whose onsets lie at most this many seconds apart.")] = 0.5,
    present_from: Annotated[float, typer.Option(help="Coded intensity (A is 1, E is 5) from which a unit counts as present.")] = 1.0,
    whole: Annotated[bool, typer.Option("--whole", help="Videos are coded from end to end, not from the first code to the last.")] = False,
    shift: Annotated[float, typer.Option(help="Seconds to add to the times of all codes.")] = 0.0,
    block: Annotated[float, typer.Option(help="Seconds a block of time that intervals resample, for fewer than five videos.")] = 5.0,
    smooth: Annotated[str, typer.Option(help="Smoothing of the run's series, as in trends: none, median, savgol or ema.")] = "median",
    threshold: Annotated[
        float | None, typer.Option(help="Score at which every action unit begins.", show_default="each unit's own, from run.json")
    ] = None,
    hold: Annotated[float, typer.Option(help="An action unit ends below this share of the threshold.")] = 0.7,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write everything as JSON.")] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", help="Also write the figures as CSV.")] = None,
    save: Annotated[Path | None, typer.Option(help="Also draw both codings and the kappas into this .png, .jpg or .webp.")] = None,
    debug: Debug = False,
) -> None:
    """Compare a run with human codes: kappa, F1, precision, recall, ICC and agreement on events, for each action unit and emotion.

    Frames outside of the coded stretches are left out; coded frames without a face that can be read are counted as missing, never as
    absent. Intervals are bootstraps over videos or, for fewer than five, over blocks of time.

    Example: focalface agree outputs/demo --codes coder1.eaf --json agreement.json
    """
    from pipeline.evaluation.agreement.options import AgreeOptions

    options = AgreeOptions(tolerance, onset, present_from, block, whole, shift, Options(smooth=smooth, threshold=threshold, hold=hold))
    check_run_folders(folders)
    files = _files(codes)
    for file in (as_json, as_csv, save):
        if file and not file.absolute().parent.is_dir():
            raise SettingsError(f"{file}: there is no folder {file.parent}")
    if save:
        check_image_name("--save", save)

    from pipeline.evaluation.agreement.compare import COLUMNS, compare
    from pipeline.storage.atomic import replacing

    with Console(stderr=True).status("starting") as status:
        found = compare(folders, files, options, lambda step: status.update(step))
        if save:
            from pipeline.evaluation.agreement.picture import draw

            draw(found, save)
    if as_json:
        with writing(as_json), replacing(as_json) as place:
            place.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    if as_csv:
        import csv

        with writing(as_csv), replacing(as_csv) as place, open(place, "w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, COLUMNS)
            writer.writeheader()
            writer.writerows(found.rows)
    console = Console(highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note[/]  {escape(note)}", soft_wrap=True)
    table = _table(found.rows)
    console.width = max(console.width, Console(width=WIDEST).measure(table).maximum)  # no figure is cut off
    console.print(table)
    away = f"; frames within {tolerance:g} s of a coded edge are left out" if tolerance else ""
    meanings = "coded, run: share of the frames; events: matched, of the person's and of the run's; onset: the run's less the person's"
    console.print(meanings, soft_wrap=True)
    console.print(f"intervals of 95% over {found.unit}; events match within {onset:g} s of the onset{away}", soft_wrap=True)
    for what, file in (("figures", as_json), ("figures", as_csv), ("picture", save)):
        if file:
            console.print(f"{what}  {escape(str(file))}", soft_wrap=True)


def _files(given: list[Path]) -> list[Path]:
    """The files of codes; those of a folder by name.

    Raises:
        SettingsError: one does not exist, or a folder has none.
    """
    files: list[Path] = []
    for item in given:
        if item.is_dir():
            inside = sorted(file for file in item.iterdir() if file.suffix.lower() in CODE_FILES and not file.name.startswith("."))
            if not inside:
                raise SettingsError(f"--codes: the folder {item} has no {', '.join(CODE_FILES)}")
            files += inside
        elif item.is_file():
            files.append(item)
        else:
            raise SettingsError(f"--codes: there is no file {item}")
    return list(dict.fromkeys(files))


def _table(rows: list[dict[str, Any]]) -> Table:
    from pipeline.evaluation.agreement.compare import full_name

    table = Table(
        Column("label", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("frames", "missing", "coded", "run", "kappa", "F1")),
        *(Column(name, justify="right", no_wrap=True) for name in ("precision", "recall", "ICC", "events", "event F1", "onset")),
        box=None,
        padding=(0, 2, 0, 0),
    )
    for row in rows:
        events = "" if row["coder_events"] is None else f"{row['matched_events']} of {row['coder_events']} and {row['run_events']}"
        difference = row["onset_difference_s"]
        table.add_row(
            escape(full_name(row)),
            str(row["frames"]),
            "" if row["missing"] is None else str(row["missing"]),
            *("" if row[name] is None else f"{row[name]:.0%}" for name in ("coder_share", "run_share")),
            *(_with_interval(row, name) for name in ("kappa", "f1")),
            *(_number(row[name]) for name in ("precision", "recall", "icc")),
            events,
            _number(row["event_f1"]),
            "" if difference is None else f"{round(difference, 2) + 0.0:+.2f} s",
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.{_DECIMALS}f}"


def _with_interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return _number(row[name]) + ("" if low is None else f" ({_number(low)} to {_number(high)})")
