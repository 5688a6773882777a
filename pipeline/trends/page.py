"""What an analysis leaves on the disk: tables, figures, and one page that needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from pipeline.errors import writing
from pipeline.trends import Trends
from pipeline.trends.figures import MOST_PEOPLE, MOST_TIMELINES, SURE, clock, draw, longest_seen, measure_name, save, who
from pipeline.vocabulary import EMOTIONS

MOST_ROWS = 30
"""Rows of a table on the page; the rest is in its CSV."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>focalface trends</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption, .more, .how { color: #555; font-size: .87rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .87rem; margin: .5rem 0 }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top }
th { font-weight: 600 } td { overflow-wrap: anywhere; min-width: 3.5rem }
.note { background: #fff6d6; padding: .4rem .7rem; margin: .4rem 0 }
</style>
</head>
<body>
<h1>Trends in {{ runs|join(", ") }}</h1>
<p>{{ lead }}</p>
{% for note in notes %}<p class="note">{{ note }}</p>
{% endfor %}
{% for part in parts %}<h2>{{ part.title }}</h2>
{% for name, caption, data in part.figures %}<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}{% if part.rows %}<div class="wide"><table><thead><tr>{% for name in part.head %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in part.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}{% if part.more %}<p class="more">{{ part.more }}</p>
{% endif %}{% endfor %}<h2>How it was made</h2>
{% for line in how %}<p class="how">{{ line }}</p>
{% endfor %}</body>
</html>
"""


def text(value: Any) -> str:
    """A text for readers; nothing where it is not known."""
    return "" if pd.isna(value) else str(value)


def number(value: Any, digits: int = 2) -> str:
    """A number for readers; nothing where it is not known."""
    return "" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def write(trends: Trends, folder: Path | str, progress: Callable[[str], None] = lambda step: None) -> Path:
    """Write tables, figures and summary.html; an earlier analysis there gives way.

    Raises:
        SettingsError: when the folder cannot be written.
    """
    folder = Path(folder)
    progress("writing the tables")
    trends.save(folder)
    drawn = []
    with writing(folder):
        for old in [*folder.glob("figures/timeline_*.png"), *folder.glob("figures/timeline_*.svg")]:
            old.unlink()
        for name in ("people", "transitions", "cooccurrence", "days", "groups"):
            for kind in ("png", "svg"):
                (folder / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
        (folder / "figures").mkdir(exist_ok=True)
        for name, caption, figure in draw(trends):
            progress(f"drawing {name}")
            drawn.append((name, caption, b64encode(save(figure, folder / "figures", name).read_bytes()).decode()))
        page = folder / "summary.html"
        page.write_text(_render(trends, drawn), encoding="utf-8")
    return page


def headline(trends: Trends) -> str:
    """One sentence on what was found."""
    videos, people = trends.pandas("videos"), trends.pandas("people")
    kinds = videos["status"].value_counts()
    words = [
        f"{kinds[kind]} {word}" for kind, word in (("ok", "with faces"), ("no_faces", "without"), ("failed", "failed")) if kind in kinds
    ]
    text = f"{len(videos)} video{'s' * (len(videos) != 1)} ({', '.join(words)})"
    if not len(people):
        return f"{text}. No faces were described, so there is nothing to follow over time."
    return (
        f"{text}; {len(people)} tracked {'person' if len(people) == 1 else 'people'}, seen for {clock(people['seen_s'].sum())} in all; "
        f"{trends['events'].num_rows} events of action units, {trends['episodes'].num_rows} episodes of emotions."
    )


def people_rows(trends: Trends, most: int, name: int = 32) -> list[list[str]]:
    """For readers, the longest seen first; columns as `PEOPLE_HEAD`, file names of at most `name` signs."""
    people, units = longest_seen(trends), trends.pandas("person_aus")
    rows = []
    for person in people.head(most).itertuples():
        own = units[(units["video_id"] == person.video_id) & (units["track_id"] == person.track_id)]
        own = own[own["active_share"] > 0].sort_values(["active_share", "au"], ascending=[False, True]).head(3)
        shares = sorted(((getattr(person, f"share_{name}"), name) for name in EMOTIONS), reverse=True)
        rate = "" if isnan(person.blinks_per_min) else f"{person.blinks_per_min:.0f} a minute"
        rows.append(
            [
                who(person.path, person.track_id, name),
                clock(person.seen_s),
                "" if isnan(person.age) else f"{person.age:.0f} ({person.age_low:.0f} to {person.age_high:.0f})",
                ", ".join(f"{name} {share:.0%}" for share, name in shares[:2] if share > 0),
                ", ".join(f"{unit.au} {unit.active_share:.0%}" for unit in own.itertuples()) or "none",
                "; ".join(filter(None, (rate, text(person.blink_note)))),
            ]
        )
    return rows


PEOPLE_HEAD = ["person", "seen", "age", "leading emotion", "action units", "blinks"]


def comparison_rows(trends: Trends, most: int) -> list[list[str]]:
    """For readers, the surest first."""
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


COMPARISON_HEAD = ["measure", "mean (videos)", "mean (videos)", "difference (95%)", "Cliff's delta", "corrected p"]


def _part(
    title: str, figures: list[Any], head: list[str] | None = None, rows: list[list[str]] | None = None, more: str = ""
) -> dict[str, Any]:
    return {"title": title, "figures": figures, "head": head or [], "rows": rows or [], "more": more}


def _more(trends: Trends, table: str, shown: int, where: str = "", what: str = "") -> str:
    left = trends[table].num_rows - shown
    return f"{left} more {what}{' ' * bool(what)}in {where or table}.csv." if left > 0 else ""


def _render(trends: Trends, drawn: list[tuple[str, str, str]]) -> str:
    def figures(start: str) -> list[tuple[str, str, str]]:
        return [item for item in drawn if item[0].startswith(start)]

    videos, options = trends.pandas("videos"), trends.options
    parts = []
    if trends["people"].num_rows:
        parts = [
            _part("People", figures("people"), PEOPLE_HEAD, people_rows(trends, MOST_PEOPLE), _more(trends, "people", MOST_PEOPLE)),
            _part("Over time", figures("timeline"), more=_more(trends, "people", MOST_TIMELINES, "series", "people")),
            _part("Moments to look at", [], *_moments(trends), more="Three of each kind for everyone in moments.csv."),
        ]
        changes, paths = trends.pandas("changes"), videos.set_index("video_id")["path"]
        if len(changes):
            rows = [
                [
                    who(paths[row.video_id], row.track_id),
                    clock(row.at_s),
                    row.measure,
                    number(row.before),
                    number(row.after),
                    "at a gap" * row.at_gap,
                ]
                for row in changes.head(MOST_ROWS).itertuples()
            ]
            head = ["person", "from", "measure", "before", "after", ""]
            parts.append(_part("Changes of level", [], head, rows, _more(trends, "changes", MOST_ROWS)))
        if figures("transitions"):
            parts.append(_part("From emotion to emotion", figures("transitions")))
        if figures("cooccurrence"):
            parts.append(_part("Action units that come together", figures("cooccurrence")))
        if figures("days"):
            parts.append(_part("By day", figures("days")))
        if trends["comparisons"].num_rows:
            rows = comparison_rows(trends, MOST_ROWS)
            parts.append(_part("Groups", figures("groups"), COMPARISON_HEAD, rows, _more(trends, "comparisons", MOST_ROWS)))
    listed = [
        [row.path, row.status, clock(row.duration_s) if not isnan(row.duration_s) else "", str(row.people), text(row.group)]
        + [f"{row.day} ({row.day_source})" if text(row.day) else "", text(row.error)]
        for row in videos.head(MOST_ROWS).itertuples()
    ]
    head = ["file", "status", "length", "people", "group", "day (known from)", "error"]
    parts.append(_part("Videos", [], head, listed, _more(trends, "videos", MOST_ROWS)))
    smoothing = (
        "not smoothed"
        if options.smooth == "none"
        else (f"smoothed by {options.smooth} over {options.cells(trends.grid_s) * trends.grid_s:g} s inside stretches without gaps")
    )
    how = [
        f"One value every {trends.grid_s:g} s from the rows about the region {options.region}, {smoothing}; hatched: gaps, where the "
        "person was out of view. Gaps are never bridged. An event begins when an action unit's score"
        f"{' above the own baseline' * options.relative} reaches {options.on:g} and ends when it falls under {options.off:g}.",
        "Ages pool the distributions of all of a person's windows; their interval holds 80%. Means by day and group count each video once. "
        f"Comparisons: Mann-Whitney tests on videos, corrected by Benjamini and Hochberg; found means a corrected p below {SURE:g}.",
        "Two tracks are two persons here, also when one person left and came back. Emotions are what a face looks like to the people who "
        "labelled the training pictures, not what its owner feels. Every number is in the tables beside this page.",
    ]
    page = Environment(autoescape=True).from_string(_PAGE)
    runs = list(dict.fromkeys(videos["run"]))
    return page.render(runs=runs, lead=headline(trends), notes=trends.notes, parts=parts, how=how)


def _moments(trends: Trends) -> tuple[list[str], list[list[str]]]:
    """The most typical and the most unusual moment of the longest-seen people."""
    people, moments = longest_seen(trends), trends.pandas("moments")
    first = moments[moments["rank"] == 1].groupby(["video_id", "track_id"])
    rows = []
    for person in people.head(MOST_TIMELINES).itertuples():
        key = (person.video_id, person.track_id)
        if key in first.groups:
            rows += [
                [who(person.path, person.track_id), row.kind, clock(row.time_s), str(row.frame_index), row.because, text(row.description)]
                for row in first.get_group(key).itertuples()
            ]
    return ["person", "moment", "at", "frame", "stands out by", "sentence"], rows
