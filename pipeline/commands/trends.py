"""`focalface trends`: from the tables of runs to what changes over time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.commands.options import Debug
from pipeline.errors import SettingsError

SHOWN = 8
"""Rows of a table on the terminal."""


def trends(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folders of focalface run, or URLs of them.")],
    out: Annotated[str | None, typer.Option(help="Folder for the results.", show_default="DIR/trends for one DIR")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV with the header video,group: compare these groups.")] = None,
    grid: Annotated[float | None, typer.Option(help="Seconds between two values.", show_default="the runs' window")] = None,
    smooth: Annotated[str, typer.Option(help="none, median, savgol or ema; never across gaps.")] = "median",
    width: Annotated[float | None, typer.Option(help="Seconds of smoothing.", show_default="3 values; savgol 5")] = None,
    region: Annotated[str, typer.Option(help="Whose rows make the series; regions other than face have gaps where they rest.")] = "face",
    on: Annotated[float, typer.Option(help="Score at which an event begins.")] = 0.5,
    off: Annotated[float, typer.Option(help="Score under which it ends.")] = 0.35,
    relative: Annotated[bool, typer.Option("--relative", help="Judge events on scores above the person's own baseline.")] = False,
    debug: Debug = False,
) -> None:
    """Follow expressions over time: series, events, people, groups; as Parquet, CSV, figures and one summary page.

    Example: focalface trends outputs/demo --groups groups.csv
    """
    if out is None and len(folders) > 1:
        raise SettingsError("several folders need --out DIR for the results")
    from pipeline.trends.options import Options

    options = Options(grid, smooth, width, region, on, off, relative)
    from pipeline.storage.remote import Mirror
    from pipeline.trends import load
    from pipeline.trends.figures import SURE
    from pipeline.trends.page import COMPARISON_HEAD, PEOPLE_HEAD, comparison_rows, headline, people_rows, write

    place = out or f"{folders[0].rstrip('/')}/trends"
    with ExitStack() as held:
        runs = [held.enter_context(Mirror(folder)).path for folder in folders]
        target = held.enter_context(Mirror(out)).path if out else runs[0] / "trends"
        status = held.enter_context(Console(stderr=True).status("starting"))

        def said(step: str) -> None:
            status.update(step)

        found = load(runs, options, groups, said)
        page = write(found, target, said)

    console = Console()
    console.print(escape(headline(found)), soft_wrap=True, highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note[/]  {escape(note)}", soft_wrap=True, highlight=False)
    _show(console, PEOPLE_HEAD[:-1], [row[:-1] for row in people_rows(found, SHOWN, 20)])
    if (left := found["people"].num_rows - SHOWN) > 0:
        console.print(f"... and {left} more people", highlight=False)
    if tests := found["comparisons"].num_rows:
        sure = found.pandas("comparisons")["p_corrected"].lt(SURE).sum()
        console.print(f"groups   {sure} of {tests} comparisons found at a false discovery rate of {SURE:.0%}", highlight=False)
        _show(console, COMPARISON_HEAD, comparison_rows(found, min(sure, SHOWN)))
    console.print(f"tables   {escape(place)}/*.parquet, *.csv", soft_wrap=True, highlight=False)
    console.print(f"page     {escape(f'{place}/{page.name}')}", soft_wrap=True, highlight=False)


def _show(console: Console, head: list[str], rows: list[list[str]]) -> None:
    if rows:
        table = Table(Column(head[0], no_wrap=True), *head[1:], box=None, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table, highlight=False)
