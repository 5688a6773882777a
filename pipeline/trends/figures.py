"""Figures of an analysis, drawn from its tables alone: readable in print, safe for colour-blind readers, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator
from matplotlib.transforms import Bbox

from pipeline.trends import Trends
from pipeline.trends.series import stretches
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

COLOURS = {
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happiness": "#E69F00",
    "neutral": "#BBBBBB",
    "sadness": "#0072B2",
    "surprise": "#56B4E9",
}
"""Okabe and Ito's palette (2008), which readers of every kind of colour vision can tell apart."""

MARKERS = dict(zip(EMOTIONS, "ovXsD^P", strict=True))

LEAST_SHARE = 0.01
"""An emotion that never holds this share of a day is left out of the figure of days."""

MOST_TIMELINES = 12
"""People with a timeline of their own, the longest seen first. More makes the page longer."""

MOST_PEOPLE = 30
"""People in the figures that show all of them side by side."""

MOST_COMPARED = 20
"""Comparisons drawn, the surest first."""

MOST_COLUMNS = 1200
"""Cells drawn side by side; longer series are averaged down to so many, for the eye could not tell more apart."""

SURE = 0.05
"""False discovery rate below which a comparison is drawn as found."""

_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)  # seconds between two marks of a time axis

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.dpi": 110,
    "text.parse_math": False,  # a dollar sign in a file's name is a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "focalface",
}


def draw(trends: Trends) -> Iterator[tuple[str, str, Figure]]:
    """Every figure that the tables give reason for, as (name, caption, figure)."""
    with mpl.rc_context(STYLE):
        people = longest_seen(trends)
        series = trends.pandas("series") if len(people) else pd.DataFrame()
        events, changes = trends.pandas("events"), trends.pandas("changes")
        for number, person in enumerate(people.head(MOST_TIMELINES).itertuples(), 1):
            key = (person.video_id, person.track_id)
            caption = (
                f"{who(person.path, person.track_id)}: probabilities of emotions, scores of action units (bars: events), apparent age."
            )
            yield f"timeline_{number:02d}", caption, _timeline(person, _of(series, key), _of(events, key), _of(changes, key), trends.grid_s)
        if len(people):
            yield "people", "Each person's time by leading emotion, and one age per person (80% interval).", _people(people)
        counts = trends.pandas("transitions").groupby(["from_emotion", "to_emotion"])["count"].sum()
        if len(counts):
            caption = "From one emotion (row) to the next (column), all people: probability of the next, and how often."
            yield "transitions", caption, _transitions(counts.unstack(fill_value=0))
        pairs = trends.pandas("cooccurrence").groupby(["au_a", "au_b"])[["cells", "a", "b", "both"]].sum()
        if len(pairs):
            yield "cooccurrence", "Action units that come together: shared time over joint time (Jaccard), all people.", _together(pairs)
        days = trends.pandas("by_day")
        if days["day"].nunique() > 1:
            yield "days", "Shares of the seen time by day, each video counting once; bands are 95% bootstrap intervals.", _days(days)
        compared = trends.pandas("comparisons")
        if len(compared):
            caption = (
                f"Differences between groups, the surest first; bars are 95% bootstrap intervals. Filled: "
                f"found at a false discovery rate of {SURE:.0%}; hollow: not told from chance."
            )
            yield "groups", caption, _groups(compared)


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure as PNG and SVG without dates; returns the PNG's path."""
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:  # the layout's solver is exact only to the last digits, which the SVG would show
            axes.set_position(Bbox(axes.get_position().get_points().round(5)))
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return folder / f"{name}.png"


def who(path: str, track_id: int, most: int = 32) -> str:
    """A short name for a person: the file's, in at most so many signs, and the track's."""
    name = "".join(sign if sign.isprintable() else "?" for sign in Path(path).name)
    short = name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"
    return f"{short} #{track_id}"


def longest_seen(trends: Trends) -> pd.DataFrame:
    """The people table, the longest seen first."""
    return trends.pandas("people").sort_values(["seen_s", "run", "path", "track_id"], ascending=[False, True, True, True])


def clock(seconds: float, _: object = None) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _columns(table: pd.DataFrame, size: int) -> np.ndarray:
    """(T, C) averaged over `size` rows each; what are gaps alone stays NaN."""
    values = table.to_numpy(float)
    padded = np.pad(values, ((0, -len(values) % size), (0, 0)), constant_values=np.nan).reshape(-1, size, values.shape[1])
    known = np.isfinite(padded)
    with np.errstate(invalid="ignore"):
        return np.where(known, padded, 0).sum(axis=1) / known.sum(axis=1)


def _of(table: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    return table[(table["video_id"] == key[0]) & (table["track_id"] == key[1])]


def _emotion_legend(axes: Axes) -> None:
    handles = [Patch(color=COLOURS[name], label=name) for name in reversed(EMOTIONS)]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)


def _timeline(person: Any, series: pd.DataFrame, events: pd.DataFrame, changes: pd.DataFrame, grid_s: float) -> Figure:
    known = [au for au in AUS if series[au].notna().any()]
    times = series["time_s"].to_numpy()
    begin, end = times[0], times[-1] + grid_s
    size = -(-len(times) // MOST_COLUMNS)
    edges = begin + np.arange(-(-len(times) // size) + 1) * size * grid_s  # of what is drawn side by side
    figure = Figure(figsize=(10, 3.6 + 0.19 * len(known)))
    heights = [1.5, max(0.19 * len(known), 0.4), 1.1]
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    extent = (begin, edges[-1])

    felt = _columns(series[[f"emotion_{name}" for name in EMOTIONS]], size)
    levels = (np.arange(200) + 0.5) / 200
    steps = np.cumsum(felt, axis=1)
    place = (steps[:, None, :-1] <= levels[None, :, None]).sum(axis=2).T  # (200, T)
    palette = np.array([mpl.colors.to_rgba(COLOURS[name]) for name in EMOTIONS])
    picture = palette[place]
    picture[:, ~np.isfinite(felt).all(axis=1)] = 0
    top.imshow(picture, extent=(*extent, 0, 1), aspect="auto", origin="lower", interpolation="nearest")
    top.set(title=who(person.path, person.track_id, 60), ylabel="emotion", yticks=[0, 0.5, 1])
    _emotion_legend(top)

    if known:
        heat = _columns(series[known], size).T
        shown = middle.imshow(heat, extent=(*extent, len(known), 0), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        figure.colorbar(shown, cax=middle.inset_axes((1.02, 0.1, 0.012, 0.8)), label="score")
        rows = events["au"].map({au: row + 0.5 for row, au in enumerate(known)})
        middle.hlines(rows, events["onset_s"], events["offset_s"], color="black", lw=1.6, rasterized=len(events) > MOST_COLUMNS)
    middle.set_yticks(np.arange(len(known)) + 0.5, [f"{au} {UNIT[au].name}" for au in known], fontsize=7)
    middle.tick_params(axis="y", length=0)

    ages = _columns(series[["age"]], size)[:, 0]
    bottom.stairs(ages, edges, baseline=None, color="black", lw=1, label="as described")
    if np.isfinite(person.age):
        words = f"this person: {person.age:.0f} ({person.age_low:.0f} to {person.age_high:.0f})"
        bottom.axhspan(person.age_low, person.age_high, color="#0072B2", alpha=0.15, lw=0)
        bottom.axhline(person.age, color="#0072B2", lw=1.5, label=words)
        bottom.legend(loc="upper right", bbox_to_anchor=(1, 1.3), ncols=2, frameon=False, fontsize=8)
    bottom.set(ylabel="age", xlabel="time", xlim=(begin, end))
    bottom.xaxis.set_major_locator(MultipleLocator(next((step for step in _STEPS if end - begin <= 10 * step), 3600)))
    bottom.xaxis.set_major_formatter(FuncFormatter(clock))

    gaps = [part for part in stretches(series["gap"].to_numpy(bool)) if part.stop - part.start >= size]
    for axes in (top, middle, bottom):
        for part in gaps:
            start, stop = times[part.start], times[part.stop]  # a series neither begins nor ends with a gap
            axes.axvspan(start, stop, facecolor="white", edgecolor="#999999", hatch="////", lw=0)
        for at in changes["at_s"].unique():
            axes.axvline(at, color="black", lw=1.2, ls=(0, (4, 3)))
    return figure


def _people(people: pd.DataFrame) -> Figure:
    shown = people.head(MOST_PEOPLE).iloc[::-1]
    rows = np.arange(len(shown))
    figure = Figure(figsize=(10, 1.2 + 0.3 * len(shown)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    start = np.zeros(len(shown))
    for name in EMOTIONS:
        share = shown[f"share_{name}"].to_numpy(float)
        left.barh(rows, share, left=start, color=COLOURS[name], label=name, edgecolor="white", lw=0.5, height=0.7)
        start += share
    left.set_yticks(rows, [f"{who(person.path, person.track_id)}  {clock(person.seen_s)}" for person in shown.itertuples()], fontsize=8)
    left.tick_params(axis="y", length=0)
    left.set(title="share of seen time", xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4))
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=7, frameon=False, fontsize=8, borderaxespad=2.2, columnspacing=1)
    age, low, high = (shown[name].to_numpy(float) for name in ("age", "age_low", "age_high"))
    right.errorbar(age, rows, xerr=[age - low, high - age], fmt="o", color="#0072B2", ms=5, lw=1.5)
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


def _transitions(counts: pd.DataFrame) -> Figure:
    used = [name for name in EMOTIONS if name in counts.index or name in counts.columns]
    square = counts.reindex(index=used, columns=used, fill_value=0).to_numpy()
    total = square.sum(axis=1, keepdims=True)
    share = square / np.maximum(total, 1)
    texts = np.array([[f"{p:.2f}\n({n})" if n else "" for p, n in zip(*row, strict=True)] for row in zip(share, square, strict=True)])
    figure = Figure(figsize=(2 + 0.7 * len(used), 1.6 + 0.6 * len(used)))
    axes = figure.subplots()
    _matrix(axes, share, used, used, texts, 8)
    axes.set(xlabel="to", ylabel="from")
    return figure


def _together(pairs: pd.DataFrame) -> Figure:
    used = [au for au in AUS if au in pairs.index.get_level_values(0) or au in pairs.index.get_level_values(1)]
    values = np.full((len(used), len(used)), np.nan)
    for (one, two), row in pairs.iterrows():
        values[used.index(two), used.index(one)] = row["both"] / (row["a"] + row["b"] - row["both"])
    shown = values[1:, :-1]
    texts = np.array([[f"{value:.2f}".lstrip("0") if value >= 0.005 else "" for value in row] for row in np.nan_to_num(shown)])
    figure = Figure(figsize=(2.6 + 0.36 * len(used), 1.4 + 0.3 * len(used)))
    axes = figure.subplots()
    _matrix(axes, shown, [f"{au} {UNIT[au].name}" for au in used[1:]], used[:-1], texts, 7)
    axes.set_aspect("auto")
    return figure


def _days(by_day: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots()
    for name in EMOTIONS:
        rows = by_day[by_day["measure"] == f"share_{name}"]
        days = pd.to_datetime(rows["day"]).to_numpy()
        if rows["mean"].max() < LEAST_SHARE:
            continue
        colour = "#777777" if name == "neutral" else COLOURS[name]
        axes.plot(days, rows["mean"], color=colour, marker=MARKERS[name], ms=5, ls="", label=name)
        axes.plot(days, rows["mean"], color=colour, lw=1, alpha=0.4)
        axes.fill_between(days, rows["low"].astype(float), rows["high"].astype(float), color=colour, alpha=0.15, lw=0)
    axes.set(ylabel="share of seen time", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=8))
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return figure


def measure_name(measure: str) -> str:
    """A measure of by_video in words."""
    kind, _, name = measure.partition("_")
    words = {"share": "{}, share of time", "active": "{}, share of time", "rate": "{}, events a minute"}
    return words[kind].format(f"{name} {UNIT[name].name}" if name in UNIT else name) if kind in words else measure


def _groups(compared: pd.DataFrame) -> Figure:
    """Shares, rates and ages on an axis each, for their units differ."""
    shown = compared.head(MOST_COMPARED)
    kinds = {"share of time": ("share", "active"), "events a minute": ("rate",), "years": ("age",)}
    parts = [(unit, shown[shown["measure"].str.partition("_")[0].isin(names)]) for unit, names in kinds.items()]
    parts = [(unit, part.iloc[::-1]) for unit, part in parts if len(part)]
    pairs = compared[["group_a", "group_b"]].drop_duplicates()
    figure = Figure(figsize=(9, 0.9 * len(parts) + 0.28 * len(shown)))
    panels = figure.subplots(len(parts), 1, height_ratios=[len(part) + 1 for _, part in parts], squeeze=False)[:, 0]
    for axes, (unit, part) in zip(panels, parts, strict=True):
        for row, item in enumerate(part.itertuples()):
            sure = item.p_corrected < SURE
            colour = "#0072B2" if sure else "#777777"
            axes.hlines(row, item.low, item.high, color=colour, lw=1.5)
            axes.plot(item.difference, row, "o", color=colour, mfc=colour if sure else "white", ms=5)
        names = [measure_name(item.measure).rpartition(", ")[0] or "age" for item in part.itertuples()]
        if len(pairs) > 1:
            names = [f"{name}: {item.group_b} minus {item.group_a}" for name, item in zip(names, part.itertuples(), strict=True)]
        axes.set_yticks(range(len(part)), names, fontsize=8)
        axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel=unit, ylim=(-0.7, len(part) - 0.3))
        axes.grid(axis="x", color="#DDDDDD")
    if len(pairs) == 1:
        panels[0].set_title(f"{shown['group_b'].iloc[0]} minus {shown['group_a'].iloc[0]}")
    return figure
