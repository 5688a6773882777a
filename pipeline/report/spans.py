"""What happens in a video, as spans of time for annotation tools: action unit events, emotion episodes, blinks and descriptions.

Events, episodes and blinks are those of `focalface trends` with its usual options, so that all files about a run agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.report.linked import LinkedRun, persons_in
from pipeline.report.windows import region_order
from pipeline.storage.chosen_run import choice_of
from pipeline.storage.run_folder import RunFolder
from pipeline.vocabulary import REGION, UNIT, WHOLE_FACE

Kind = Literal["unit", "emotion", "blink", "description"]


@dataclass(frozen=True)
class Span:
    """One stretch of time in which one thing is true of one track.

    Attributes:
        who: whom it is about, as `owner` names them.
        track_id: the track.
        person_id: the person, once the run's people are linked.
        kind: what sort of thing.
        label: the action unit, the emotion, `blink` or `description`.
        onset_s, offset_s: seconds from the video's first picture, as in the tables.
        peak: highest score inside; None for descriptions.
        intensity: highest FACS intensity inside, 0 to 5; None where the model gives none.
        text: the label in words, or the description.
    """

    who: str
    track_id: int
    person_id: str | None
    kind: Kind
    label: str
    onset_s: float
    offset_s: float
    peak: float | None
    intensity: float | None
    text: str


def owner(row: Mapping[str, Any]) -> str:
    """The name of whom a row of a table is about: the person where one is linked, else the track.

    >>> owner({"track_id": 2}), owner({"track_id": 2, "person_id": "P1"})
    ('track 2', 'P1')
    """
    return str(row["person_id"]) if row.get("person_id") else f"track {row['track_id']}"


def read_spans(run: RunFolder, video: Mapping[str, Any]) -> list[Span]:
    """All spans of a video, in order of track, kind and time.

    Args:
        run: the run folder.
        video: its row of the videos table.

    Raises:
        SettingsError: when the tables cannot be read.
    """
    if video["status"] != "ok":
        return []
    from pipeline.trends.analysis import load
    from pipeline.trends.options import Options

    options = Options(person=tuple(sorted(run.only)) if isinstance(run, LinkedRun) else (), choice=choice_of(run))
    trends = load([run.path], options, videos=[video["video_id"]], people=run.people_folder if isinstance(run, LinkedRun) else None)
    spans = [_span(row, "unit", row["au"], UNIT[row["au"]].name, row["peak_intensity"]) for row in trends["events"].to_pylist()]
    spans += [_span(row, "emotion", row["emotion"], f"{row['emotion']} leads") for row in trends["episodes"].to_pylist()]
    spans += [_span(row, "blink", "blink", "the eyes close for at most half a second") for row in trends["blinks"].to_pylist()]
    spans += _descriptions(run, video["video_id"])
    kinds: tuple[Kind, ...] = ("unit", "emotion", "blink", "description")
    return sorted(spans, key=lambda span: (span.track_id, kinds.index(span.kind), span.label if span.kind == "unit" else "", span.onset_s))


def _span(row: Mapping[str, Any], kind: Kind, label: str, text: str, intensity: float | None = None) -> Span:
    times = float(row["onset_s"]), float(row["offset_s"])
    return Span(owner(row), row["track_id"], row.get("person_id"), kind, label, *times, row["peak"], intensity, text)


def _descriptions(run: RunFolder, video_id: str) -> list[Span]:
    """A span for each described window: the sentence about the face, and those about its regions, each after its name. A window in which
    a cut joins two tracks of one person has the sentences of both."""
    rows = persons_in(run, video_id).attach(run.read("descriptions", video_id=video_id))
    rows = rows.select(["track_id", "person_id", "start_s", "end_s", "region", "description", "change"])
    windows: dict[tuple[str, float], list[tuple[int, dict[str, Any]]]] = {}
    for place, row in zip(region_order(rows["region"]).tolist(), rows.to_pylist(), strict=True):
        windows.setdefault((owner(row), row["start_s"]), []).append((place, row))
    spans = []
    for own in windows.values():
        listed = [row for _, row in sorted(own, key=lambda one: one[0])]
        lines = [("" if row["region"] == WHOLE_FACE else f"{_words(row['region'])}: ") + _said(row) for row in listed]
        first = listed[0]
        times = first["start_s"], first["end_s"]
        ids = first["track_id"], first.get("person_id")
        spans.append(Span(owner(first), *ids, "description", "description", *times, None, None, "\n".join(lines)))
    return spans


def _said(row: Mapping[str, Any]) -> str:
    """The sentence, and what changes after it."""
    return " ".join(filter(None, (row["description"], row["change"])))


def _words(region: str) -> str:
    return REGION[region].words if region in REGION else region
