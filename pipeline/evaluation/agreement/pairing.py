"""A person's coding beside the run's series of the same person: which video and tracks it is about, and both sides of each label.

The run's side is that of trends: an action unit is active inside its events, an emotion where it leads, and AU45 (a blink, which no model
scores by itself) inside blinks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.agreement.codes import Code, Coding, Span, union, without
from pipeline.trends.analysis import Trends
from pipeline.trends.groups import VideoIndex
from pipeline.video.container import media_start_s
from pipeline.vocabulary import AUS, EMOTIONS

BLINK = "AU45"

ROUNDING_S = 1e-3
"""Files of codes give times in milliseconds; a frame that is this much before an onset still belongs to the code."""

OTHER_FACE_SHARE = 0.1
"""A second face that is on screen for this share of the coded person's time makes it unclear whose codes these are. Shorter ones are false
detections and passers-by."""


ABOUT = ("start_s", "fps", "duration_s")
"""What the videos table of a run tells of a video."""

USUAL_FPS = 25.0
"""Frame rate of a video that states none."""


class Unclear(Exception):
    """A coding cannot be compared; the message says why."""


@dataclass(frozen=True)
class Video:
    """A video of the run.

    Attributes:
        key: its `video_id`.
        path: as the run was given it.
        start_s: the first picture's time stamp on the container's own clock.
        duration_s: its length.
        rate: samples a second.
        people: ids and names of linked people to the track that their series stands under.
        samples: rows of the series table that are no gaps.
        events, blinks: rows of these tables.
    """

    key: str
    path: str
    start_s: float
    duration_s: float
    rate: float
    people: Mapping[str, int]
    samples: pd.DataFrame
    events: pd.DataFrame
    blinks: pd.DataFrame


@dataclass(frozen=True)
class Pairs:
    """Both sides of one label in one coding.

    Attributes:
        time_s: (N,) of the frames that the person coded and the run has read.
        coder, run: (N,) bool, whether the label is there.
        coder_intensity, run_intensity: (N,) 0 to 5, NaN where unknown.
        coded_frames: frames that the person coded, read or not.
        coder_events: onset and offset of the person's events of which the run has read at least one frame.
        run_events: those of the run that begin where the person coded.
    """

    time_s: np.ndarray
    coder: np.ndarray
    run: np.ndarray
    coder_intensity: np.ndarray
    run_intensity: np.ndarray
    coded_frames: int
    coder_events: list[Span]
    run_events: list[Span]


@dataclass(frozen=True)
class Reading:
    """How codes are read.

    Attributes:
        tolerance_s: frames nearer than this to an onset or offset of a person's code are left out.
        present_from: intensity from which a label counts as present.
    """

    tolerance_s: float = 0.0
    present_from: float = 1.0


def videos_of(trends: Trends, about: Mapping[str, Mapping[str, float | None]], sampled_fps: Mapping[str, float | None]) -> dict[str, Video]:
    """The videos of an analysis with their series.

    Args:
        trends: of the runs.
        about: `video_id` to the columns `ABOUT` of the videos table.
        sampled_fps: frames a second that each run sampled; None for every frame.
    """
    series, events, blinks = trends.pandas("series"), trends.pandas("events"), trends.pandas("blinks")
    middle = (series["time_s"] + series["end_s"]) / 2
    series = series.assign(at_s=middle if trends.grid_s else series["time_s"])[~series["gap"]]
    people: dict[str, dict[str, int]] = {}
    for row in trends.pandas("tracks").to_dict("records"):
        names = {name: int(row["track_id"]) for name in (row["person_id"], row["person"]) if isinstance(name, str) and name}
        people.setdefault(row["video_id"], {}).update(names)
    parts = {name: dict(tuple(table.groupby("video_id"))) for name, table in (("s", series), ("e", events), ("b", blinks))}
    found = {}
    for row in trends.pandas("videos").to_dict("records"):
        key = row["video_id"]
        start_s, own, length_s = (about[key][name] or 0.0 for name in ABOUT)
        own = own or USUAL_FPS
        rate = 1 / trends.grid_s if trends.grid_s else min(sampled_fps.get(row["run"]) or own, own)
        tables = (parts[name].get(key, table.iloc[:0]) for name, table in (("s", series), ("e", events), ("b", blinks)))
        found[key] = Video(key, row["path"], media_start_s(row["path"], start_s), length_s, rate, people.get(key, {}), *tables)
    return found


def find_video(coding: Coding, videos: Mapping[str, Video], index: VideoIndex) -> Video:
    """The video that a coding is about: the one it names, else the one that its file is called after, else the only one.

    Raises:
        Unclear: none fits, or several do.
    """
    for name in dict.fromkeys(name for name in (coding.video, coding.file.stem, coding.file.stem.partition(".")[0]) if name):
        matches = index.find(name)
        if len(matches) > 1:
            raise Unclear(f"{len(matches)} videos of the run fit {name!r}; write more of the path")
        if matches:
            return videos[matches[0]]
    if coding.video is None and len(videos) == 1:
        return next(iter(videos.values()))
    raise Unclear(f"the run has no video {coding.video}" if coding.video else "it names no video, and no video of the run has its name")


def coded_spans(coding: Coding, video: Video, whole: bool) -> list[Span]:
    """Where a person coded, in seconds from the first picture and inside the video.

    Args:
        coding: with times from the first picture.
        video: that it is about.
        whole: whether all of the video was coded where the file does not say.
    """
    if coding.spans is not None:
        spans = list(coding.spans)
    elif whole:
        spans = [(0.0, video.duration_s)]
    else:
        spans = [(min(code.onset_s for code in coding.codes), max(code.offset_s for code in coding.codes))] if coding.codes else []
    return without(spans, [(-np.inf, 0.0), (video.duration_s or np.inf, np.inf)])


def on_picture_clock(coding: Coding, shift_s: float) -> Coding:
    """A coding with `shift_s` added to all its times."""

    def moved(codes: Sequence[Code]) -> tuple[Code, ...]:
        return tuple(replace(code, onset_s=code.onset_s + shift_s, offset_s=code.offset_s + shift_s) for code in codes)

    spans = None if coding.spans is None else tuple((start + shift_s, end + shift_s) for start, end in coding.spans)
    return replace(coding, codes=moved(coding.codes), uncoded=moved(coding.uncoded), spans=spans)


def choose_tracks(coding: Coding, video: Video, spans: Sequence[Span]) -> tuple[list[int], list[str]]:
    """The tracks of the coded person, and what a reader must know about them.

    A track or person that the file names is taken. Otherwise the tracks that are seen longest in the coded stretches and do not overlap:
    a person whom a gap or a cut has split.

    Raises:
        Unclear: nobody is there, or two people are on screen and the file does not say who was coded.
    """
    there = {int(track) for track in video.samples["track_id"].unique()}
    named = coding.track if coding.track is not None else video.people.get(coding.person or "", _named_track(coding.person))
    if named is not None:
        if named not in there:
            raise Unclear(f"the run has no track {named} there")
        return [named], []
    seen = {
        int(track): part["at_s"].to_numpy()[inside(part["at_s"].to_numpy(), spans)] for track, part in video.samples.groupby("track_id")
    }
    seen = {track: times for track, times in seen.items() if len(times)}
    if not seen:
        raise Unclear("the run has read no face in the coded stretch")
    chosen: list[int] = []
    others: list[int] = []
    for track in sorted(seen, key=lambda track: (-len(seen[track]), track)):
        overlaps = any(seen[track][0] < seen[one][-1] and seen[one][0] < seen[track][-1] for one in chosen)
        (others if overlaps else chosen).append(track)
    if sum(len(seen[track]) for track in others) > OTHER_FACE_SHARE * sum(len(seen[track]) for track in chosen):
        many = ", ".join(map(str, sorted([*chosen, *others])[:8]))
        raise Unclear(f"several people are on screen (tracks {many}): say whose codes these are, in a column track")
    notes = [f"compared with the tracks {', '.join(map(str, sorted(chosen)))}, which follow each other"] if len(chosen) > 1 else []
    notes += [f"the tracks {', '.join(map(str, sorted(others)))}, briefly on screen at the same time, are left out"] if others else []
    return sorted(chosen), notes


def _named_track(person: str | None) -> int | None:
    match = re.fullmatch(r"(?:track|face|#)\s*#?(\d+)", (person or "").strip(), re.IGNORECASE)
    return int(match[1]) if match else None


def inside(time_s: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """(N,) whether each time lies in a span."""
    result = np.zeros(len(time_s), bool)
    for start, end in spans:
        result |= (time_s >= start - ROUNDING_S) & (time_s < end - ROUNDING_S)
    return result


def frames_in(spans: Sequence[Span], rate: float) -> int:
    """How many of the instants k / rate lie in spans."""
    slack = ROUNDING_S * rate
    return sum(max(0, ceil(end * rate - slack) - ceil(start * rate - slack)) for start, end in spans)


def pairs_of(label: str, coding: Coding, video: Video, tracks: Sequence[int], spans: Sequence[Span], options: Reading) -> Pairs:
    """Both sides of one label.

    Args:
        label: an action unit or an emotion.
        coding: with times from the first picture.
        video: that it is about.
        tracks: of the coded person.
        spans: where it was coded.
        options: how codes are read.
    """
    codes = [code for code in coding.codes if code.label == label]
    present = union((code.onset_s, code.offset_s) for code in codes if code.intensity is None or code.intensity >= options.present_from)
    collar = [(edge - options.tolerance_s, edge + options.tolerance_s) for span in present for edge in span] if options.tolerance_s else []
    coded = without(spans, [(code.onset_s, code.offset_s) for code in coding.uncoded if code.label == label])
    scored = without(coded, collar)
    samples = video.samples[video.samples["track_id"].isin(tracks)]
    known = samples["emotion"].notna() if label in EMOTIONS else np.isfinite(samples["AU43" if label == BLINK else label].astype(float))
    samples = samples[known]
    at_s = samples["at_s"].to_numpy(float)
    kept = inside(at_s, scored)
    model_spans = _run_spans(label, video, tracks)
    active = (samples["emotion"] == label).to_numpy(bool) if label in EMOTIONS else _by_track(samples, model_spans)
    graded = samples[f"{label}_intensity"].to_numpy(float) if label in AUS else np.full(len(samples), np.nan)
    events = _emotion_events(samples, label) if label in EMOTIONS else [span for own in model_spans.values() for span in own]
    return Pairs(
        time_s=at_s[kept],
        coder=inside(at_s[kept], present),
        run=active[kept],
        coder_intensity=_graded(at_s[kept], codes),
        run_intensity=graded[kept],
        coded_frames=frames_in(scored, video.rate),
        coder_events=[span for span in present if inside(at_s, [span]).any() and inside(np.array([span[0]]), coded).any()],
        run_events=[span for span in sorted(events) if inside(np.array([span[0]]), coded).any()],
    )


def _run_spans(label: str, video: Video, tracks: Sequence[int]) -> dict[int, list[Span]]:
    table = video.blinks if label == BLINK else video.events[video.events["au"] == label] if label in AUS else video.events.iloc[:0]
    return {
        track: list(zip(own["onset_s"].astype(float), own["offset_s"].astype(float), strict=True))
        for track in tracks
        for own in [table[table["track_id"] == track]]
    }


def _by_track(samples: pd.DataFrame, spans: Mapping[int, list[Span]]) -> np.ndarray:
    at_s, track = samples["at_s"].to_numpy(float), samples["track_id"].to_numpy()
    active = np.zeros(len(samples), bool)
    for one, own in spans.items():
        active |= (track == one) & np.any([(at_s >= start - 1e-6) & (at_s < end - 1e-6) for start, end in own] or [active], axis=0)
    return active


def _emotion_events(samples: pd.DataFrame, label: str) -> list[Span]:
    felt = samples[samples["emotion"] == label]
    return union(zip(felt["time_s"].astype(float).round(6), felt["end_s"].astype(float).round(6), strict=True))


def _graded(time_s: np.ndarray, codes: Sequence[Code]) -> np.ndarray:
    """(N,) the person's intensities: 0 where nothing is coded, NaN where a code has no intensity."""
    graded = np.zeros(len(time_s))
    for code in codes:
        graded[inside(time_s, [(code.onset_s, code.offset_s)])] = np.nan if code.intensity is None else code.intensity
    return graded


def named(coding: Coding) -> str:
    """What a message calls a coding."""
    about = ", ".join(part for part in (coding.video, coding.person, None if coding.track is None else f"track {coding.track}") if part)
    return f"{Path(coding.file).name} ({about})" if about else Path(coding.file).name
