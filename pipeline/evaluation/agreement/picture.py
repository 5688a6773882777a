"""Both codings as timelines, and the kappas with their intervals, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.errors import writing
from pipeline.evaluation.agreement.compare import Agreement, Compared, full_name
from pipeline.storage.atomic import replacing
from pipeline.trends.drawing import BLUE, GREY, STYLE

MAX_TIMELINES = 4
"""Codings that are drawn; the figures are about all of them."""

_PERSON = "#E69F00"
_BREAK = 2.5
"""Frames that are this many usual steps apart are drawn apart."""


def draw(agreement: Agreement, file: Path) -> None:
    """Write the picture.

    Args:
        agreement: from `pipeline.evaluation.agreement.compare.compare`.
        file: a path of an image.

    Raises:
        SettingsError: the file cannot be written.
    """
    shown = agreement.compared[:MAX_TIMELINES]
    rows = [row for row in agreement.rows if row["kappa"] is not None]
    heights = [0.5 + 0.22 * max(1, len(rows)), *(0.6 + 0.26 * len(one.pairs) for one in shown)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, sum(heights) + 0.4))
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _kappas(axes[0], rows, agreement.unit)
        for one, part in zip(shown, axes[1:], strict=True):
            _timelines(part, one)
        with writing(file), replacing(file) as place:
            figure.savefig(place, format=file.suffix.lstrip(".").lower().replace("jpg", "jpeg"), dpi=130)


def _kappas(axes: Axes, rows: list[dict], unit: str) -> None:
    for place, row in enumerate(rows):
        if row["kappa_low"] is not None:
            axes.plot([row["kappa_low"], row["kappa_high"]], [place, place], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot(row["kappa"], place, "o", color=BLUE, markersize=5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set(yticks=range(len(rows)), yticklabels=[full_name(row) for row in rows], xlim=(-0.6, 1.02))
    axes.invert_yaxis()
    axes.set_title(f"Cohen's kappa (0: chance, 1: full agreement) and 95% intervals over {unit}")


def _timelines(axes: Axes, one: Compared) -> None:
    for place, pairs in enumerate(one.pairs.values()):
        step = float(np.median(np.diff(pairs.time_s))) if len(pairs.time_s) > 1 else 0.1
        lengths = np.minimum(np.append(np.diff(pairs.time_s), step), _BREAK * step) if len(pairs.time_s) else np.zeros(0)
        for said, offset, colour in ((pairs.coder, -0.38, _PERSON), (pairs.run, 0.02, BLUE)):
            spans = list(zip(pairs.time_s, lengths, strict=True))
            axes.broken_barh(spans, (place + offset, 0.36), color="#eeeeee", linewidth=0)
            there = [span for span, present in zip(spans, said, strict=True) if present]
            axes.broken_barh(there, (place + offset, 0.36), color=colour, linewidth=0)
    axes.set(yticks=range(len(one.pairs)), yticklabels=list(one.pairs), xlabel="seconds", ylim=(len(one.pairs) - 0.5, -0.5))
    axes.set_title(f"{Path(one.video).name}: the person above (orange), the run below (blue); empty where no face was read")
