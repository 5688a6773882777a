"""`focalface trends`: how expressions change over time, from the tables of one run or many."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.commands.checks import check_people, check_run_folders
from pipeline.commands.options import Area, Debug, From, Largest, To, choice
from pipeline.errors import SettingsError
from pipeline.trends.options import Options

SHOWN = 8
"""Rows of a table on the terminal."""

PLAIN_WIDTH = 120
"""Columns of the output that goes to a file or another program."""


def trends(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Run folders, or URLs of them.")],
    out: Annotated[str | None, typer.Option(help="Folder for the results.", show_default="DIR/trends for one DIR")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV with the columns video and group: compare these groups. Other columns are kept.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="frames: a value per sampled frame; windows: per described window; auto: frames where every run has them.")
    ] = "auto",
    grid: Annotated[
        float | None, typer.Option(help="Average on a regular grid of this many seconds.", show_default="single frames, or the window")
    ] = None,
    smooth: Annotated[str, typer.Option(help="none, median, savgol or ema; never across gaps.")] = "median",
    width: Annotated[float | None, typer.Option(help="Seconds of smoothing.", show_default="3 values; savgol 5")] = None,
    region: Annotated[str, typer.Option(help="Region whose rows make the series; others than face have gaps where they rest.")] = "face",
    threshold: Annotated[
        float | None,
        typer.Option(help="Score at which an event of any action unit begins.", show_default="each unit's own, from run.json"),
    ] = None,
    hold: Annotated[float, typer.Option(help="An event ends below this share of the threshold.")] = 0.7,
    relative: Annotated[bool, typer.Option("--relative", help="Compare scores above the track's own baseline.")] = False,
    people: Annotated[
        Path | None, typer.Option(help="People folder over the runs, of focalface people.", show_default="each run's own, where it has one")
    ] = None,
    person: Annotated[list[str] | None, typer.Option(metavar="NAME_OR_ID", help="Follow this person only; repeatable.")] = None,
    from_: From = None,
    to: To = None,
    area: Area = None,
    largest: Largest = None,
    debug: Debug = False,
) -> None:
    """Follow expressions over time: series, events, tracks, groups; as Parquet, CSV, figures and one summary page.

    Example: focalface trends outputs/demo --groups groups.csv
    """
    if out is None and len(folders) > 1:
        raise SettingsError("several folders need --out DIR for the results")
    some = choice(from_, to, area, largest)
    options = Options(source, grid, smooth, width, region, threshold, hold, relative, tuple(person or ()), some)
    check_run_folders(folders)
    check_people(people)
    if groups and not groups.is_file():
        raise SettingsError(f"--groups: there is no file {groups}")
    from pipeline.storage.remote import Mirror
    from pipeline.trends.analysis import load
    from pipeline.trends.figures import SIGNIFICANT
    from pipeline.trends.page import COMPARISON_HEAD, TRACKS_HEAD, comparison_rows, headline, track_rows, write

    place = out or f"{folders[0].rstrip('/')}/trends"
    with ExitStack() as stack:
        runs = [stack.enter_context(Mirror(folder)).path for folder in folders]
        target = stack.enter_context(Mirror(out)).path if out else runs[0] / "trends"
        status = stack.enter_context(Console(stderr=True).status("starting"))

        def show(step: str) -> None:
            status.update(step)

        found = load(runs, options, groups, show, people=people)
        page = write(found, target, show)

    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(escape(headline(found)), soft_wrap=True, highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note[/]  {escape(note)}", soft_wrap=True, highlight=False)
    _print_table(console, TRACKS_HEAD[:-1], [row[:-1] for row in track_rows(found, SHOWN, 20)])
    if (left := found["tracks"].num_rows - SHOWN) > 0:
        console.print(f"... and {left} more tracks", highlight=False)
    if tests := found["comparisons"].num_rows:
        certain = found.pandas("comparisons")["p_corrected"].lt(SIGNIFICANT).sum()
        console.print(f"groups   {certain} of {tests} comparisons found at a false discovery rate of {SIGNIFICANT:.0%}", highlight=False)
        _print_table(console, COMPARISON_HEAD, comparison_rows(found, min(certain, SHOWN)))
    console.print(f"tables   {escape(place)}/*.parquet, *.csv", soft_wrap=True, highlight=False)
    console.print(f"page     {escape(f'{place}/{page.name}')}", soft_wrap=True, highlight=False)


def _print_table(console: Console, head: list[str], rows: list[list[str]]) -> None:
    if rows:
        table = Table(Column(head[0], no_wrap=True), *head[1:], box=None, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table, highlight=False)
