"""Figures of an analysis, drawn from its tables alone: readable in print, safe for colour-blind readers, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.trends.analysis import Trends
from pipeline.trends.drawing import BLUE, COLOURS, GREY, NARROW, WIDE, Drawing, longest_seen
from pipeline.trends.labels import measure_name, seen_clock, track_name, who
from pipeline.trends.measures import SUMMARISED
from pipeline.trends.timeline import timelines
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

MARKERS = dict(zip(EMOTIONS, "ovXsD^P", strict=True))

MIN_SHARE = 0.01
"""An emotion that never reaches this share of a day is left out of the figure of days."""

MAX_TIMELINES = 12
"""Tracks with a timeline of their own, the longest seen first. More makes the page longer."""

MAX_TRACKS = 30
"""Tracks in the figure that shows all of them side by side."""

MAX_COMPARED = 20
"""Comparisons drawn, the most certain first."""

SIGNIFICANT = 0.05
"""False discovery rate below which a comparison is drawn as found."""


def drawings(trends: Trends) -> Iterator[Drawing]:
    """Every figure that the tables have data for."""
    yield from timelines(trends, MAX_TIMELINES)
    tracks = longest_seen(trends)
    if len(tracks):
        caption = "Each track's time by leading emotion, and one apparent age per track (80% interval)."
        yield Drawing("tracks", "tracks", caption, lambda width: _tracks(tracks, width))
    counts = trends.pandas("transitions").groupby(["from_emotion", "to_emotion"])["count"].sum()
    if len(counts):
        caption = "From one emotion (row) to the next (column), all tracks: probability of the next one, and how often."
        yield Drawing("transitions", "transitions", caption, lambda width: _transitions(counts.unstack(fill_value=0), width))
    pairs = trends.pandas("cooccurrence").groupby(["au_a", "au_b"])[["a_s", "b_s", "both_s"]].sum()
    if len(pairs):
        caption = "Action units that occur together: time with both over time with either (Jaccard index), all tracks."
        yield Drawing("cooccurrence", "cooccurrence", caption, lambda width: _cooccurrence(pairs, width))
    days = trends.pandas("by_day")
    if days["day"].nunique() > 1:
        caption = "Shares of the seen time by day, each video counting once; bands are 95% bootstrap intervals."
        yield Drawing("days", "days", caption, lambda width: _days(days, width))
    compared = trends.pandas("comparisons")
    if len(compared):
        caption = (
            f"Differences between groups, the most certain first; bars are 95% bootstrap intervals. Filled: found at a false discovery "
            f"rate of {SIGNIFICANT:.0%}; hollow: not distinguishable from chance."
        )
        yield Drawing("groups", "groups", caption, lambda width: _groups(compared, width))


def _tracks(tracks: pd.DataFrame, width: float) -> Figure:
    shown = tracks.head(MAX_TRACKS).iloc[::-1]
    rows = np.arange(len(shown))
    if width == WIDE:
        figure = Figure(figsize=(width, 1.2 + 0.3 * len(shown)))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    else:
        figure = Figure(figsize=(width, 2.4 + 0.62 * len(shown)))
        left, right = figure.subplots(2, 1)
    start = np.zeros(len(shown))
    for name in EMOTIONS:
        share = shown[f"share_{name}"].to_numpy(float)
        left.barh(rows, share, left=start, color=COLOURS[name], label=name, edgecolor="white", lw=0.5, height=0.7)
        start += share
    longest = 32 if width == WIDE else 14
    names = [f"{track_name(one.path, one.track_id, longest, who(one))}  {seen_clock(one.seen_s)}" for one in shown.itertuples()]
    left.set_yticks(rows, names)
    left.tick_params(axis="y", length=0)
    left.set(title="share of seen time", xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4))
    columns = 7 if width == WIDE else 3
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False, borderaxespad=2.2, columnspacing=1)
    age, low, high = (shown[name].to_numpy(float) for name in ("age", "age_low", "age_high"))
    right.errorbar(age, rows, xerr=[age - low, high - age], fmt="o", color=BLUE, ms=5, lw=1.5)
    if width == NARROW:
        right.set_yticks(rows, [name.rpartition("  ")[0] for name in names])
        right.set_ylim(-0.6, len(shown) - 0.4)
    right.tick_params(axis="y", length=0)
    right.set(title="apparent age, years")
    right.grid(axis="x", color="#DDDDDD")
    return figure


def _matrix(axes: Axes, values: np.ndarray, rows: list[str], columns: list[str], texts: np.ndarray, size: float) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), text in np.ndenumerate(texts):
        ink = "white" if values[row, column] > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)


def _transitions(counts: pd.DataFrame, width: float) -> Figure:
    used = [name for name in EMOTIONS if name in counts.index or name in counts.columns]
    square = counts.reindex(index=used, columns=used, fill_value=0).to_numpy()
    share = square / np.maximum(square.sum(axis=1, keepdims=True), 1)
    texts = np.array([[f"{p:.2f}\n({n})" if n else "" for p, n in zip(*row, strict=True)] for row in zip(share, square, strict=True)])
    figure = Figure(figsize=(min(width, 2 + 0.75 * len(used)), 1.6 + (0.6 if width == WIDE else 0.45) * len(used)))
    axes = figure.subplots()
    _matrix(axes, share, used, used, texts, 9 if width == WIDE or len(used) < 6 else 7)
    axes.set(xlabel="to", ylabel="from")
    return figure


def _cooccurrence(pairs: pd.DataFrame, width: float) -> Figure:
    used = [au for au in AUS if au in pairs.index.get_level_values(0) or au in pairs.index.get_level_values(1)]
    values = np.full((len(used), len(used)), np.nan)
    for (one, two), row in pairs.iterrows():
        values[used.index(two), used.index(one)] = row["both_s"] / (row["a_s"] + row["b_s"] - row["both_s"])
    shown = values[1:, :-1]
    texts = np.array([[f"{value:.2f}".lstrip("0") if value >= 0.005 else "" for value in row] for row in np.nan_to_num(shown)])
    figure = Figure(figsize=(min(width, 3 + 0.4 * len(used)), 1.4 + 0.3 * len(used)))
    axes = figure.subplots()
    names = [f"{au} {UNIT[au].name}" if width == WIDE else au for au in used[1:]]
    _matrix(axes, shown, names, used[:-1], texts, 8 if width == WIDE or len(used) <= 10 else 6)
    axes.set_aspect("auto")
    return figure


def _days(by_day: pd.DataFrame, width: float) -> Figure:
    figure = Figure(figsize=(width, 3.6 if width == WIDE else 4.2))
    axes = figure.subplots()
    for name in EMOTIONS:
        rows = by_day[by_day["measure"] == f"share_{name}"]
        days = pd.to_datetime(rows["day"]).to_numpy()
        if rows["mean"].max() < MIN_SHARE:
            continue
        colour = GREY if name == "neutral" else COLOURS[name]
        axes.plot(days, rows["mean"], color=colour, marker=MARKERS[name], ms=5, ls="", label=name)
        axes.plot(days, rows["mean"], color=colour, lw=1, alpha=0.4)
        axes.fill_between(days, rows["low"].astype(float), rows["high"].astype(float), color=colour, alpha=0.15, lw=0)
    axes.set(ylabel="share of seen time", ylim=(-0.03, 1.03))
    known = np.sort(pd.to_datetime(by_day["day"].unique()).to_numpy())
    axes.set_xticks(known[:: -(-len(known) // (8 if width == WIDE else 3))])
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
    if width == WIDE:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    else:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False, borderaxespad=2.2)
    return figure


def _groups(compared: pd.DataFrame, width: float) -> Figure:
    """Measures of different units on an axis each."""
    shown = compared.head(MAX_COMPARED)
    parts = [(unit, part.iloc[::-1]) for unit, part in shown.groupby(shown["measure"].map(_unit), sort=False)]
    pairs = compared[["group_a", "group_b"]].drop_duplicates()
    two_lines = width == NARROW
    row_height = 0.42 if two_lines else 0.28
    figure = Figure(figsize=(min(width, 9), 0.9 * len(parts) + row_height * len(shown)))
    panels = figure.subplots(len(parts), 1, height_ratios=[len(part) + 1 for _, part in parts], squeeze=False)[:, 0]
    for axes, (unit, part) in zip(panels, parts, strict=True):
        for row, item in enumerate(part.itertuples()):
            certain = item.p_corrected < SIGNIFICANT
            colour = BLUE if certain else GREY
            axes.hlines(row, item.low, item.high, color=colour, lw=1.5)
            axes.plot(item.difference, row, "o", color=colour, mfc=colour if certain else "white", ms=5)
        names = [measure_name(item.measure).rpartition(", ")[0] or measure_name(item.measure) for item in part.itertuples()]
        if two_lines:
            names = [name.replace(" ", "\n", 1) if name.startswith("AU") else name for name in names]
        if len(pairs) > 1:
            names = [f"{name}: {item.group_b} minus {item.group_a}" for name, item in zip(names, part.itertuples(), strict=True)]
        axes.set_yticks(range(len(part)), names)
        axes.axvline(0, color="black", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(7 if width == WIDE else 4))
        axes.set(xlabel=unit, ylim=(-0.7, len(part) - 0.3))
        axes.grid(axis="x", color="#DDDDDD")
    if len(pairs) == 1:
        panels[0].set_title(f"{shown['group_b'].iloc[0]} minus {shown['group_a'].iloc[0]}")
    return figure


def _unit(measure: str) -> str:
    """The unit of a measure, as an axis names it."""
    units = {one.name: one.unit for one in SUMMARISED} | {"age": "years"}
    kinds = {"share": "share of time", "active": "share of time", "rate": "a minute"}
    return units.get(measure) or kinds.get(measure.partition("_")[0], "score")
