"""What an analysis leaves on the disk: tables, figures, and one summary page that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

from jinja2 import Environment, PackageLoader

from pipeline.errors import writing
from pipeline.storage.atomic import replacing
from pipeline.trends.analysis import Trends
from pipeline.trends.drawing import longest_seen, save
from pipeline.trends.figures import MAX_TIMELINES, MAX_TRACKS, SIGNIFICANT, drawings
from pipeline.trends.labels import clock, measure_name, number, plural, precise_clock, seen_clock, text, track_name
from pipeline.vocabulary import EMOTIONS

MAX_ROWS = 30
"""Rows of a table on the page; its CSV has all of them."""

TRACKS_HEAD = ["track", "seen", "age", "leading emotion", "action units", "blinks"]
COMPARISON_HEAD = ["measure", "mean (videos)", "mean (videos)", "difference (95%)", "Cliff's delta", "corrected p"]


@dataclass(frozen=True)
class Picture:
    """A figure on the page: both widths as base64, and its caption."""

    kind: str
    caption: str
    wide: str
    narrow: str


@dataclass(frozen=True)
class Part:
    """A part of the page: a title with figures, a table, and a line on what is left out."""

    title: str
    figures: list[Picture] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    more: str = ""


def write(trends: Trends, folder: Path | str, progress: Callable[[str], None] = lambda step: None) -> Path:
    """Write tables, figures and summary.html; figures of an earlier analysis in the folder are removed.

    Returns:
        Path of the page.

    Raises:
        SettingsError: the folder cannot be written.
    """
    folder = Path(folder)
    progress("writing the tables")
    trends.save(folder)
    pictures = []
    with writing(folder):
        figures = folder / "figures"
        for old in [*figures.glob("*.png"), *figures.glob("*.svg")]:
            old.unlink()
        figures.mkdir(exist_ok=True)
        for drawing in drawings(trends):
            progress(f"drawing {drawing.name}")
            wide, narrow = (b64encode(file.read_bytes()).decode() for file in save(drawing, figures))
            pictures.append(Picture(drawing.kind, drawing.caption, wide, narrow))
        page = folder / "summary.html"
        with replacing(page) as file:
            file.write_text(_render(trends, pictures), encoding="utf-8")
    return page


def headline(trends: Trends) -> str:
    """One sentence on what was found."""
    videos, tracks = trends.pandas("videos"), trends.pandas("tracks")
    kinds = videos["status"].value_counts()
    names = (("ok", "with faces"), ("no_faces", "without"), ("failed", "failed"))
    words = ", ".join(f"{kinds[kind]} {name}" for kind, name in names if kind in kinds)
    start = f"{plural(len(videos), 'video')} ({words})"
    if chosen := trends.options.person:
        start += f", {(videos['tracks'] > 0).sum()} of them with the chosen {'person' if len(chosen) == 1 else 'people'}"
    if not len(tracks):
        return f"{start}. No face has scores, so there is nothing to follow over time."
    return (
        f"{start}; {plural(len(tracks), 'track')} of faces, seen for {clock(tracks['seen_s'].sum())} in all; "
        f"{plural(trends['events'].num_rows, 'event')} of action units, {plural(trends['episodes'].num_rows, 'episode')} of emotions."
    )


def track_rows(trends: Trends, most: int, name_length: int = 32) -> list[list[str]]:
    """Rows for readers, the longest-seen tracks first; columns as `TRACKS_HEAD`."""
    units = trends.pandas("track_aus")
    rows = []
    for track in longest_seen(trends).head(most).itertuples():
        own = units[(units["video_id"] == track.video_id) & (units["track_id"] == track.track_id)]
        own = own[own["active_share"] > 0].sort_values(["active_share", "au"], ascending=[False, True]).head(3)
        shares = sorted(((getattr(track, f"share_{name}"), name) for name in EMOTIONS), reverse=True)
        rate = "" if isnan(track.blinks_per_min) else f"{number(track.blinks, 0)}, {track.blinks_per_min:.0f} a minute"
        rows.append(
            [
                track_name(track.path, track.track_id, name_length, trends.who(track.person_id)),
                seen_clock(track.seen_s),
                "" if isnan(track.age) else f"{track.age:.0f} ({track.age_low:.0f} to {track.age_high:.0f})",
                ", ".join(f"{name} {share:.0%}" for share, name in shares[:2] if share > 0),
                ", ".join(f"{unit.au} {unit.active_share:.0%}" for unit in own.itertuples()) or "none",
                "; ".join(filter(None, (rate, text(track.blink_note)))),
            ]
        )
    return rows


def comparison_rows(trends: Trends, most: int) -> list[list[str]]:
    """Rows for readers, the most certain first; columns as `COMPARISON_HEAD`."""
    return [
        [
            measure_name(row.measure),
            f"{row.group_a} {number(row.mean_a)} ({row.videos_a})",
            f"{row.group_b} {number(row.mean_b)} ({row.videos_b})",
            number(row.difference) + ("" if isnan(row.low) else f" ({number(row.low)} to {number(row.high)})"),
            number(row.cliffs_delta),
            number(row.p_corrected, 3),
        ]
        for row in trends.pandas("comparisons").head(most).itertuples()
    ]


def _render(trends: Trends, pictures: list[Picture]) -> str:
    environment = Environment(autoescape=True, loader=PackageLoader("pipeline.trends"), trim_blocks=True, lstrip_blocks=True)
    runs = list(dict.fromkeys(trends["videos"]["run"].to_pylist()))
    return environment.get_template("summary.html").render(
        runs=runs, headline=headline(trends), notes=trends.notes, parts=_parts(trends, pictures), method=_method(trends)
    )


def _parts(trends: Trends, pictures: list[Picture]) -> list[Part]:
    def of(kind: str) -> list[Picture]:
        return [picture for picture in pictures if picture.kind == kind]

    parts = []
    if trends["tracks"].num_rows:
        parts = [
            Part("Tracks", of("tracks"), TRACKS_HEAD, track_rows(trends, MAX_TRACKS), _rest(trends, "tracks", MAX_TRACKS)),
            Part("Over time", of("timeline"), more=_rest(trends, "tracks", MAX_TIMELINES, "series", "tracks")),
            _moments(trends),
        ]
        if trends["changes"].num_rows:
            parts.append(_changes(trends))
        for kind, title in (
            ("transitions", "From emotion to emotion"),
            ("cooccurrence", "Action units that occur together"),
            ("days", "By day"),
        ):
            if of(kind):
                parts.append(Part(title, of(kind)))
        if trends["comparisons"].num_rows:
            rows = comparison_rows(trends, MAX_ROWS)
            parts.append(Part("Groups", of("groups"), COMPARISON_HEAD, rows, _rest(trends, "comparisons", MAX_ROWS)))
    return [*parts, _videos(trends)]


def _rest(trends: Trends, table: str, shown: int, file: str = "", what: str = "") -> str:
    left = trends[table].num_rows - shown
    return f"{left} more {what}{' ' * bool(what)}in {file or table}.csv." if left > 0 else ""


def _moments(trends: Trends) -> Part:
    """The most typical and the most unusual moment of the longest-seen tracks."""
    moments = trends.pandas("moments")
    first = moments[moments["rank"] == 1].groupby(["video_id", "track_id"])
    rows = []
    for track in longest_seen(trends).head(MAX_TIMELINES).itertuples():
        key = (track.video_id, track.track_id)
        if key in first.groups:
            name = track_name(track.path, track.track_id, who=trends.who(track.person_id))
            rows += [
                [name, row.kind, precise_clock(row.time_s), str(row.frame_index), row.because, text(row.description)]
                for row in first.get_group(key).itertuples()
            ]
    head = ["track", "moment", "at", "frame", "differs by", "sentence about that window"]
    return Part("Moments to look at", [], head, rows, "Up to three of each kind for every track in moments.csv.")


def _changes(trends: Trends) -> Part:
    rows = [
        [
            track_name(row.path, row.track_id, who=trends.who(row.person_id)),
            clock(row.at_s),
            row.measure,
            number(row.before),
            number(row.after),
            "at a gap" * row.at_gap,
        ]
        for row in trends.pandas("changes").head(MAX_ROWS).itertuples()
    ]
    head = ["track", "from", "measure", "before", "after", ""]
    return Part("Changes of level", [], head, rows, _rest(trends, "changes", MAX_ROWS))


def _videos(trends: Trends) -> Part:
    rows = [
        [
            row.path,
            row.status,
            clock(row.duration_s) if not isnan(row.duration_s) else "",
            str(row.tracks),
            text(row.group),
            f"{row.day} ({row.day_source})" if text(row.day) else "",
            text(row.error),
        ]
        for row in trends.pandas("videos").head(MAX_ROWS).itertuples()
    ]
    head = ["file", "status", "length", "tracks", "group", "day (source)", "error"]
    return Part("Videos", [], head, rows, _rest(trends, "videos", MAX_ROWS))


def _method(trends: Trends) -> list[str]:
    """How the numbers were made, for readers who have the page alone."""
    options = trends.options
    series = "One value for every sampled frame" if trends.grid_s is None else f"One value every {trends.grid_s:g} s"
    series += ", from the scores of every frame" if trends.source == "frames" else f", from rows about the region {options.region}"
    if options.smooth == "none":
        smoothing = "not smoothed"
    else:
        width = f"{options.width_s:g} s" if options.width_s else f"{options.width(1.0)} values"
        smoothing = f"smoothed by {options.smooth} over {width}, never across a gap"
    threshold = "its checkpoint's threshold" if options.threshold is None else f"{options.threshold:g}"
    return [
        f"{series}; {smoothing}. Hatched: gaps, where nothing is known. An event begins when an action unit's score"
        f"{' above the baseline' * options.relative} reaches {threshold} and ends when it falls below {options.hold:.0%} of that. "
        "Of two units that exclude each other, the one further above its threshold counts; but AU27 before AU26, and AU43 before gaze.",
        "Ages pool the distributions of all windows of a track; their interval holds 80%. Means by day and group count each video once. "
        f"Comparisons: Mann-Whitney tests on videos, corrected by Benjamini and Hochberg; found means a corrected p below {SIGNIFICANT:g}.",
        "A track is one continuous presence: a person who leaves and comes back has two. Emotions are what a face looks like to the people "
        "who labelled the training pictures, not what its owner feels. Every number is in the tables beside this page.",
    ]
