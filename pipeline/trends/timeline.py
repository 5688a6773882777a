"""The timeline of one track: emotions, action units with their events, valence and arousal, and age over time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from pipeline.storage.output_names import unique_names
from pipeline.trends.analysis import Trends
from pipeline.trends.drawing import BLUE, COLOURS, WIDE, Drawing, longest_seen
from pipeline.trends.labels import clock, track_name, who
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

MAX_BINS = 1200
"""Values drawn side by side; longer series are averaged to this many, because the eye cannot tell more apart."""

_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)  # seconds between two marks of a time axis


def timelines(trends: Trends, most: int) -> Iterator[Drawing]:
    """A timeline for each of the longest-seen tracks."""
    tracks = longest_seen(trends).head(most)
    if not len(tracks):
        return
    tables = {name: trends.pandas(name) for name in ("series", "events", "blinks", "changes")}
    names = unique_names(dict(zip(trends["videos"]["video_id"].to_pylist(), trends["videos"]["path"].to_pylist(), strict=True)))
    for track in tracks.itertuples():
        own = {name: _of(table, track.video_id, track.track_id) for name, table in tables.items()}
        name = track_name(track.path, track.track_id, who=who(track))
        caption = (
            f"{name}: probabilities of emotions; scores of action units (bars: events, triangles: "
            "blinks); valence and arousal; apparent age. Hatched: gaps."
        )
        yield Drawing("timeline", f"timeline_{names[track.video_id]}_{track.track_id}", caption, partial(_timeline, track, own))


def _of(table: pd.DataFrame, video_id: str, track_id: int) -> pd.DataFrame:
    return table[(table["video_id"] == video_id) & (table["track_id"] == track_id)]


def binned(series: pd.DataFrame, columns: list[str], edges: np.ndarray) -> np.ndarray:
    """(bins, columns) mean over time of a track's series between `edges`; NaN where nothing is known."""
    times = np.append(series["time_s"].to_numpy(float), series["end_s"].to_numpy(float)[-1:])
    values = series[columns].to_numpy(float)
    known = np.isfinite(values)
    weights = np.diff(times)[:, None]
    result = np.full((len(edges) - 1, len(columns)), np.nan)
    for column in range(len(columns)):
        area, time = (
            np.diff(np.interp(edges, times, np.concatenate([[0.0], np.cumsum(part[:, column])])))
            for part in (np.where(known, values, 0.0) * weights, known * weights)
        )
        np.divide(area, time, out=result[:, column], where=time > 1e-9)
    return result


def _timeline(track: Any, tables: dict[str, pd.DataFrame], width: float) -> Figure:
    series, events = tables["series"], tables["events"]
    wide = width == WIDE
    known = [au for au in AUS if series[au].notna().any()]
    begin, end = float(series["time_s"].iloc[0]), float(series["end_s"].iloc[-1])
    step_s = float((series["end_s"] - series["time_s"])[~series["gap"]].median())
    edges = np.linspace(begin, end, max(1, min(MAX_BINS, round((end - begin) / step_s))) + 1)
    row_height = 0.19
    heights = [1.5, max(row_height * len(known), 0.4), 1.0, 1.0]
    figure = Figure(figsize=(width, sum(heights) + (1.4 if wide else 2.2)))
    emotions, aus, affect, age = figure.subplots(4, 1, sharex=True, height_ratios=heights)

    _draw_emotions(emotions, binned(series, [f"emotion_{name}" for name in EMOTIONS], edges), (begin, end), wide)
    emotions.set_title(track_name(track.path, track.track_id, 60 if wide else 30, who(track)))
    _draw_aus(figure, aus, known, binned(series, known, edges), (begin, end), wide)
    rows = events["au"].map({au: row + 0.5 for row, au in enumerate(known)})
    aus.hlines(rows, events["onset_s"], events["offset_s"], color="black", lw=1.6, rasterized=len(events) > MAX_BINS)
    blinks = tables["blinks"]["apex_s"]
    if "AU43" in known and len(blinks):  # an empty line that is not clipped counts as a huge one in the layout
        aus.plot(blinks, np.full(len(blinks), known.index("AU43") + 0.5), "v", color="black", ms=4, ls="", clip_on=False)

    both = binned(series, ["valence", "arousal"], edges)
    affect.axhline(0, color="#BBBBBB", lw=0.8)
    affect.stairs(both[:, 0], edges, baseline=None, color="black", lw=1, label="valence")
    affect.stairs(both[:, 1], edges, baseline=None, color="#D55E00", lw=1, label="arousal")
    affect.set(ylim=(-1.05, 1.05), yticks=[-1, 0, 1])
    affect.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, frameon=False, borderaxespad=0)

    age.stairs(binned(series, ["age"], edges)[:, 0], edges, baseline=None, color="black", lw=1, label="as measured")
    if np.isfinite(track.age):
        words = f"this track: {track.age:.0f} ({track.age_low:.0f} to {track.age_high:.0f})"
        age.axhspan(track.age_low, track.age_high, color=BLUE, alpha=0.15, lw=0)
        age.axhline(track.age, color=BLUE, lw=1.5, label=words)
        age.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, frameon=False, borderaxespad=0)
    age.set(ylabel="age", xlabel="time", xlim=(begin, end))
    ticks = 10 if wide else 5
    age.xaxis.set_major_locator(MultipleLocator(next((tick for tick in _TICKS if end - begin <= ticks * tick), 3600)))
    age.xaxis.set_major_formatter(FuncFormatter(clock))

    gaps = series[series["gap"] & (series["end_s"] - series["time_s"] >= 0.5 * (edges[1] - edges[0]))]
    for axes in (emotions, aus, affect, age):
        for start, stop in zip(gaps["time_s"], gaps["end_s"], strict=True):
            axes.axvspan(start, stop, facecolor="white", edgecolor="#999999", hatch="////", lw=0)
        for at_s in tables["changes"]["at_s"].unique():
            axes.axvline(at_s, color="black", lw=1.2, ls=(0, (4, 3)))
    return figure


def _draw_emotions(axes: Axes, values: np.ndarray, extent: tuple[float, float], wide: bool) -> None:
    """Probabilities stacked from 0 to 1, as a picture of 200 levels."""
    levels = (np.arange(200) + 0.5) / 200
    steps = np.cumsum(values, axis=1)
    place = (steps[:, None, :-1] <= levels[None, :, None]).sum(axis=2).T  # (200, bins)
    palette = np.array([mpl.colors.to_rgba(COLOURS[name]) for name in EMOTIONS])
    picture = palette[place]
    picture[:, ~np.isfinite(values).all(axis=1)] = 0
    axes.imshow(picture, extent=(*extent, 0, 1), aspect="auto", origin="lower", interpolation="nearest")
    axes.set(ylabel="emotion", yticks=[0, 0.5, 1])
    handles = [Patch(color=COLOURS[name], label=name) for name in reversed(EMOTIONS)]
    if wide:
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    else:
        below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 0.4}
        axes.legend(handles=handles, **below, ncols=3, frameon=False, columnspacing=1)


def _draw_aus(figure: Figure, axes: Axes, known: list[str], values: np.ndarray, extent: tuple[float, float], wide: bool) -> None:
    """Scores as a picture, a row per AU."""
    if known:
        shown = axes.imshow(values.T, extent=(*extent, len(known), 0), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        if wide:
            figure.colorbar(shown, cax=axes.inset_axes((1.02, 0.1, 0.012, 0.8)), label="score")
    axes.set_yticks(np.arange(len(known)) + 0.5, [f"{au} {UNIT[au].name}" if wide else au for au in known], fontsize=8)
    axes.tick_params(axis="y", length=0)
