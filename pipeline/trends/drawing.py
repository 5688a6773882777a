"""What all figures share: colours, sizes, and how a figure is saved in two widths, for a page and for a phone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pipeline.trends.analysis import Trends

COLOURS = {
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happiness": "#E69F00",
    "neutral": "#BBBBBB",
    "sadness": "#0072B2",
    "surprise": "#56B4E9",
}
"""The palette of Okabe and Ito (2008), which readers with every kind of colour vision can tell apart."""

BLUE, GREY = "#0072B2", "#777777"

WIDE, NARROW = 10.0, 4.3
"""Widths in inches. A phone shows the narrow figure at about 83 pixels an inch, so that its text of 9 points is about 10 pixels high."""

_RESOLUTION = {WIDE: 110, NARROW: 220}

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "text.parse_math": False,  # a dollar sign in a file name is a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "focalface",
}


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn.

    Attributes:
        kind: the part of the page that it belongs to.
        name: file name without ending.
        caption: what it shows, in a sentence.
        draw: makes the figure for a width of `WIDE` or `NARROW` inches.
    """

    kind: str
    name: str
    caption: str
    draw: Callable[[float], Figure]


def save(drawing: Drawing, folder: Path) -> tuple[Path, Path]:
    """Write a figure without dates: wide as PNG and SVG, narrow as PNG.

    Returns:
        Paths of the wide and of the narrow PNG.
    """
    written = []
    with mpl.rc_context(STYLE):
        for width, ending in ((WIDE, ""), (NARROW, "_narrow")):
            figure = drawing.draw(width)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            for axes in figure.axes:  # the layout solver is exact only to the last digits, which the SVG would show
                axes.set_position(Bbox(axes.get_position().get_points().round(5)))
            file = folder / f"{drawing.name}{ending}.png"
            if width == WIDE:
                figure.savefig(folder / f"{drawing.name}.svg", metadata={"Date": None, "Creator": None})
            figure.savefig(file, metadata={"Software": None}, dpi=_RESOLUTION[width])
            written.append(file)
    return written[0], written[1]


def longest_seen(trends: Trends) -> pd.DataFrame:
    """The tracks table, the longest seen first."""
    return trends.pandas("tracks").sort_values(["seen_s", "run", "path", "track_id"], ascending=[False, True, True, True])
