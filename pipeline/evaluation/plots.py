"""Plots: F1 of action units with intervals, confusion matrices, calibration, and the faces with the greatest errors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from pipeline.evaluation.face_files import read_pictures
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.recognition import confusion, reliability
from pipeline.evaluation.region_metrics import jaccard
from pipeline.evaluation.scoring import MODEL, Evaluation
from pipeline.vocabulary import EMOTIONS, UNIT

WORST = 20
"""Number of faces in the plot of the greatest errors."""

AGE_SPAN = 20.0
"""Age error in years that weighs as much as a wrong emotion, or as no action unit in common."""

_OWN, _OTHER, _INK, _GOOD, _BAD = "#0072B2", "#B8BEC7", "#1E232B", "#00795A", "#B34700"

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8A93A0",
    "axes.titlelocation": "left",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.dpi": 100,
    "savefig.dpi": 120,
}


def draw_figures(evaluation: Evaluation, faces: Path, folder: Path) -> list[Path]:
    """Draw every plot for which there is data.

    Args:
        evaluation: what is drawn.
        faces: file of the faces, for its pictures.
        folder: where the PNG files go.

    Returns:
        The files written.
    """
    written = []
    with plt.rc_context(_STYLE):
        for name, figure in (
            ("action_units", action_units(evaluation)),
            ("confusion", confusions(evaluation)),
            ("reliability", reliability_curve(evaluation)),
            ("worst", worst_faces(evaluation, faces)),
        ):
            if figure is not None:
                written.append(folder / f"{name}.png")
                figure.savefig(written[-1], metadata={"Software": None})
                plt.close(figure)
    return written


def action_units(evaluation: Evaluation) -> Figure | None:
    """A bar for the F1 of each unit on whole faces, best first, with its interval; a mark shows the F1 of always naming the unit."""
    own = evaluation.columns[MODEL]
    units = [name.partition("/")[2] for name in own.values if name.startswith("au_f1/")]
    if not units:
        return None
    units.sort(key=lambda au: own.values[f"au_f1/{au}"])
    values = np.array([own.values[f"au_f1/{au}"] for au in units])
    ends = np.array([own.ends[f"au_f1/{au}"] for au in units])
    whole = [row.question for row in evaluation.table.of_kinds("face").rows]
    shares = np.array([sum(au in q.aus for q in whole) / sum(au in q.visible for q in whole) for au in units])
    always = 2 * shares / (1 + shares)
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(units) + 1.6), layout="constrained")
    axes.barh(range(len(units)), values, color=_OWN, height=0.68, label=evaluation.predictions.model)
    span = np.abs(ends.T - values)
    axes.errorbar(values, range(len(units)), xerr=span, fmt="none", ecolor=_INK, elinewidth=1.2, capsize=2.5, label="95% interval")
    axes.plot(always, range(len(units)), "|", color=_BAD, markersize=11, markeredgewidth=2.2, label="always naming it")
    axes.set_yticks(range(len(units)), [f"{UNIT[au].name}  {au}" for au in units])
    axes.set(
        xlim=(0, 1), xlabel=f"F1 against {evaluation.origin.aus.partition(chr(58))[0]}", title=f"Action units on {len(whole)} whole faces"
    )
    axes.axvline(own.values["au_f1_mean"], color=_INK, linewidth=1, linestyle=":")
    axes.text(own.values["au_f1_mean"], len(units) - 0.45, f" mean {own.values['au_f1_mean']:.2f}", fontsize=9, va="bottom")
    axes.legend(loc="lower right", frameon=False)
    return figure


def confusions(evaluation: Evaluation) -> Figure | None:
    """For each source the confusion matrix: counts, coloured by their share of the label."""
    whole = evaluation.table.of_kinds("face")
    sources = sorted({row.question.source for row in whole.rows if row.question.emotion})
    if not sources:
        return None
    figure, panels = plt.subplots(1, len(sources), figsize=(5.4 * len(sources), 5), layout="constrained", squeeze=False)
    matrix = confusion(whole)
    for axes, source in zip(panels[0], sources, strict=True):
        counts = matrix[[row.question.source == source for row in whole.rows]].sum(0)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    j,
                    i,
                    f"{shares[i, j]:.0%}\n{count:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if shares[i, j] > 0.55 else _INK,
                )
        axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right")
        axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
        axes.set(xlabel="answered", ylabel="labelled", title=f"{source}: {counts.trace() / counts.sum():.1%} of {counts.sum():.0f} right")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


def reliability_curve(evaluation: Evaluation) -> Figure | None:
    """Calibration: share of right answers by confidence, and number of answers."""
    bins = reliability(evaluation.table.of_kinds("face"))
    if bins is None:
        return None
    count, confidence, hits = bins.sum(0)
    some = count > 0
    figure, (axes, below) = plt.subplots(2, 1, figsize=(5.6, 6.4), layout="constrained", height_ratios=(4, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=_OTHER, linewidth=1.2, label="perfectly calibrated")
    x, y = confidence[some] / count[some], hits[some] / count[some]
    error = 1.96 * np.sqrt(y * (1 - y) / count[some])
    axes.errorbar(
        x, y, yerr=error, color=_OWN, marker="o", markersize=4.5, linewidth=1.6, elinewidth=1, capsize=2, label=evaluation.predictions.model
    )
    axes.set(
        ylim=(0, 1), ylabel="share that is right", title=f"Emotion: calibration error {evaluation.columns[MODEL].values['emotion_ece']:.3f}"
    )
    axes.legend(loc="upper left", frameon=False)
    edges = np.linspace(0, 1, len(count) + 1)
    below.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=_OTHER, edgecolor="white")
    below.set(xlim=(0, 1), xlabel="probability of the answered emotion", ylabel="faces")
    return figure


def total_error(row: Prediction) -> float:
    """Error of an answer about a whole face: (1 - Jaccard index of units) + emotion wrong + age error / `AGE_SPAN` (at most 1)."""
    q, a = row.question, row.answer
    off = 1 - jaccard(tuple(au for au in a.aus if au in q.visible), tuple(q.aus))
    off += q.emotion is not None and a.emotion != q.emotion
    return off + (0 if q.age is None else min(abs(a.age - q.age) / AGE_SPAN, 1))


def worst_faces(evaluation: Evaluation, faces: Path) -> Figure | None:
    """The whole faces with the greatest `total_error`: picture, labels, answer."""
    rows = sorted(evaluation.table.of_kinds("face").rows, key=lambda row: (-total_error(row), row.question.image_id))[:WORST]
    pictures = read_pictures(faces, {row.question.image_id for row in rows})
    across = min(4, len(rows))
    down = -(-len(rows) // across)
    figure, panels = plt.subplots(down, across, figsize=(4.1 * across, 2.1 * down + 0.5), layout="constrained", squeeze=False)
    figure.suptitle(f"The {len(rows)} faces with the greatest errors of {evaluation.predictions.model}", x=0.01, ha="left")
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, row in zip(panels.flat, rows, strict=False):
        _face_card(axes, row, pictures[row.question.image_id])
    return figure


def _face_card(axes: Axes, row: Prediction, data: bytes) -> None:
    q, a = row.question, row.answer
    axes.set(xlim=(0, 2), ylim=(1, 0), aspect="equal")
    try:
        axes.imshow(Image.open(io.BytesIO(data)).convert("RGB"), extent=(0, 0.98, 0.98, 0), interpolation="bicubic")
    except (OSError, UnidentifiedImageError):
        axes.text(0.5, 0.5, "no picture", ha="center")
    axes.set(xlim=(0, 2), ylim=(1, 0))

    def units(names: Sequence[str], against: Sequence[str] | frozenset[str]) -> tuple[str, str]:
        both = [au[2:] for au in names if au in against]
        alone = [au[2:] for au in names if au not in against]
        return " ".join(both) or "-", " ".join(alone) or "-"

    gold = [au for au in q.visible if au in q.aus]
    shared, missed = units(gold, a.aus)
    _, wrong = units([au for au in a.aus if au in q.visible], q.aus)
    lines = [
        (q.image_id if len(q.image_id) < 26 else q.image_id[:12] + "…" + q.image_id[-12:], "#6B7480", 6.5),
        (f"labels: {q.emotion or 'no emotion'}" + ("" if q.age is None else f", {q.age:.0f} years"), _INK, 8),
        (f"answer: {a.emotion}, {a.age:.0f} years", _GOOD if a.emotion == q.emotion else _BAD, 8),
        (f"AUs right: {shared}", _GOOD, 7.5),
        (f"left out: {missed}", _INK, 7.5),
        (f"wrongly named: {wrong}", _BAD, 7.5),
    ]
    for i, (text, colour, size) in enumerate(lines):
        axes.text(1.03, 0.08 + 0.16 * i, text, fontsize=size, color=colour, va="center", wrap=False)
