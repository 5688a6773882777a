"""All figures of agreement between a run and people's codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.evaluation.agreement import coefficients
from pipeline.evaluation.agreement.codes import CODED, Coding, Span, is_unit
from pipeline.evaluation.agreement.event_matching import match_onsets
from pipeline.evaluation.agreement.options import AgreeOptions
from pipeline.evaluation.agreement.pairing import (
    ABOUT,
    BLINK,
    Pairs,
    Reading,
    Unclear,
    Video,
    choose_tracks,
    coded_spans,
    find_video,
    named,
    on_picture_clock,
    pairs_of,
    videos_of,
)
from pipeline.evaluation.agreement.reading import read_codes
from pipeline.evaluation.bootstrap import Figure, intervals, measure, per_face, ratio, summed
from pipeline.storage.run_folder import RunFolder
from pipeline.trends.analysis import Trends, load
from pipeline.trends.groups import VideoIndex
from pipeline.trends.labels import plural
from pipeline.video.container import media_start_s
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

MIN_UNITS = 5
"""Fewer videos, or blocks of time, give no interval: the bootstrap's would be far too narrow."""

WITH_INTERVAL = ("kappa", "f1", "precision", "recall", "icc", "event_f1")

_SHOWN = 8


@dataclass(frozen=True)
class Compared:
    """One coding as it was compared.

    Attributes:
        video: path of the video.
        file: of the codes.
        tracks: of the coded person.
        spans: coded stretches, in seconds from the first picture.
        pairs: both sides of each label.
    """

    video: str
    file: str
    tracks: tuple[int, ...]
    spans: tuple[Span, ...]
    pairs: Mapping[str, Pairs]


@dataclass(frozen=True)
class Agreement:
    """How far a run agrees with people.

    Attributes:
        rows: for each label the figures of `COLUMNS`; None where there is nothing to measure.
        unit: what was resampled for the intervals, with its number.
        notes: what a reader must know: codes not understood, codings left out, units that the model does not know.
        compared: what the figures come from.
        options: the choices.
    """

    rows: list[dict[str, Any]]
    unit: str
    notes: tuple[str, ...]
    compared: tuple[Compared, ...]
    options: AgreeOptions

    def as_json(self) -> dict[str, Any]:
        """Everything but the frames."""
        options = {name: getattr(self.options, name) for name in ("tolerance_s", "onset_s", "present_from", "block_s", "whole", "shift_s")}
        chosen = [{"video": one.video, "codes": one.file, "tracks": list(one.tracks), "coded_s": list(one.spans)} for one in self.compared]
        return {"labels": self.rows, "intervals_over": self.unit, "compared": chosen, "options": options, "notes": list(self.notes)}


COLUMNS = {
    "label": "action unit or emotion; emotion: the seven together",
    "name": "in words",
    "frames": "frames that the person coded and the run has read",
    "missing": "frames that the person coded and the run has not read: no face, or one that cannot be read",
    "coder_share": "prevalence: share of the frames in which the person says it",
    "run_share": "share in which the run says it",
    "agreement": "share of the frames on which both agree",
    "kappa": "Cohen's kappa",
    "kappa_low": "lower end of its 95% interval",
    "kappa_high": "upper end",
    "f1": "of the run, the person being right",
    "f1_low": "lower end of its 95% interval",
    "f1_high": "upper end",
    "precision": "share of the run's frames that the person has too",
    "precision_low": "lower end of its 95% interval",
    "precision_high": "upper end",
    "recall": "share of the person's frames that the run has too",
    "recall_low": "lower end of its 95% interval",
    "recall_high": "upper end",
    "icc": "ICC(3,1) of the intensities; null where either side has none",
    "icc_low": "lower end of its 95% interval",
    "icc_high": "upper end",
    "coder_events": "events of the person of which the run has read a frame",
    "run_events": "events of the run that begin in coded stretches",
    "matched_events": "pairs with onsets within the tolerance",
    "event_f1": "2 matched / (person's + run's events)",
    "event_f1_low": "lower end of its 95% interval",
    "event_f1_high": "upper end",
    "onset_difference_s": "median over matched events: onset of the run less onset of the person",
}
"""Columns of the rows, with their meanings."""


def compare(
    folders: Sequence[Path], files: Sequence[Path], options: AgreeOptions | None = None, progress: Callable[[str], None] = lambda step: None
) -> Agreement:
    """Compare runs with people's codes.

    Args:
        folders: run folders.
        files: of codes, of any kind that `pipeline.evaluation.agreement.reading` opens.
        options: the choices; by default those of `AgreeOptions()`.
        progress: called with a few words about each step.

    Raises:
        SettingsError: a run or a file cannot be read, or no code can be compared; it says why.
    """
    options = options or AgreeOptions()
    trends = load(folders, options.trends, progress=progress)
    videos = _videos(trends, folders)
    index = VideoIndex(trends.pandas("videos"))
    progress("reading the codes")
    codings, notes = read_codes(files, lambda name, frame: _frame_time(name, frame, videos, index))
    notes += _not_understood(codings) + list(trends.notes)
    known = {au for au in AUS if trends.pandas("series")[au].notna().any()} | set(EMOTIONS)
    known |= {BLINK} if "AU43" in known and BLINK not in AUS else set()
    notes += _unknown_to_the_model(codings, known)
    progress("comparing")
    compared: list[Compared] = []
    reasons: list[str] = []
    for coding in _merged(codings):
        labels = [label for label in (*AUS, BLINK, *EMOTIONS) if label in coding.labels and label in known]
        try:
            found, said = _compare_one(coding, labels, videos, index, options)
        except Unclear as reason:
            reasons.append(f"{named(coding)}: {reason}")
            continue
        notes += [f"{named(coding)}: {note}" for note in said]
        if found.pairs:
            compared.append(found)
    if not compared:
        raise SettingsError("; ".join(reasons[:_SHOWN]) or "; ".join(notes[:_SHOWN]) or "no code is about a unit that the model knows")
    if reasons:
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        notes.append(f"{plural(len(reasons), 'coding is', 'codings are')} left out: {'; '.join(reasons[:_SHOWN])}{more}")
    rows, unit = _figures(compared, options)
    return Agreement(rows, unit, tuple(notes), tuple(compared), options)


def _videos(trends: Trends, folders: Sequence[Path]) -> dict[str, Video]:
    about: dict[str, Mapping[str, float | None]] = {}
    rates: dict[str, float | None] = {}
    for folder in map(RunFolder, folders):
        about |= {row["video_id"]: row for row in folder.read("videos", ("video_id", *ABOUT)).to_pylist()}
        fps = folder.info.get("settings", {}).get("video", {}).get("fps")
        rates |= dict.fromkeys((str(folder.path), folder.path.resolve().name), None if fps is None else float(fps))
    return videos_of(trends, about, rates)


def _frame_time(name: str | None, frame: float, videos: Mapping[str, Video], index: VideoIndex) -> float | None:
    """Seconds of a frame, between the frames whose times the run knows; None where it knows none."""
    matches = index.find(name) if name else list(videos)
    if len(matches) != 1:
        return None
    samples = videos[matches[0]].samples.drop_duplicates("frame_index").sort_values("frame_index")
    if len(samples) < 2:
        return None
    frames, times = samples["frame_index"].to_numpy(float), samples["at_s"].to_numpy(float)
    rate = (times[-1] - times[0]) / (frames[-1] - frames[0])
    if frame <= frames[0]:
        return float(times[0] + (frame - frames[0]) * rate)
    return float(np.interp(frame, frames, times)) if frame <= frames[-1] else float(times[-1] + (frame - frames[-1]) * rate)


def _not_understood(codings: Sequence[Coding]) -> list[str]:
    """Codes that are neither action units nor emotions, by their text."""
    unknown = Counter(code.label for coding in codings for code in coding.codes if not is_unit(code.label) and code.label not in EMOTIONS)
    del unknown[CODED]
    if not unknown:
        return []
    listed = ", ".join(f"{label!r} ({count})" for label, count in unknown.most_common(_SHOWN))
    more = f", and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return [f"{plural(unknown.total(), 'code is', 'codes are')} no action unit or emotion and not compared: {listed}{more}"]


def _unknown_to_the_model(codings: Sequence[Coding], known: set[str]) -> list[str]:
    coded = Counter(code.label for coding in codings for code in coding.codes if is_unit(code.label) and code.label not in known)
    for label in {label for coding in codings for label in coding.labels if is_unit(label) and label not in known}:
        coded.setdefault(label, 0)
    if not coded:
        return []
    listed = ", ".join(f"{label} {UNIT[label].name if label in UNIT else ''}".strip() + f" ({coded[label]})" for label in sorted(coded))
    return [f"the run's model does not know {listed}: these codes are not compared"]


def _merged(codings: Sequence[Coding]) -> list[Coding]:
    """Files that hold parts of one coding, as Datavyu's exports of single columns do, become one: where none says what it spans."""
    merged: dict[Any, Coding] = {}
    for place, coding in enumerate(codings):
        key: Any = (coding.video, coding.person, coding.track) if coding.spans is None and coding.video else place
        before = merged.get(key)
        if before is None:
            merged[key] = coding
        else:
            codes = tuple(sorted((*before.codes, *coding.codes), key=lambda code: code.onset_s))
            merged[key] = replace(before, codes=codes, labels=before.labels | coding.labels)
    return list(merged.values())


def _compare_one(
    coding: Coding, labels: Sequence[str], videos: Mapping[str, Video], index: VideoIndex, options: AgreeOptions
) -> tuple[Compared, list[str]]:
    video = find_video(coding, videos, index)
    coding = on_picture_clock(coding, options.shift_s - (media_start_s(video.path, video.start_s) if coding.media_clock else 0.0))
    spans = coded_spans(coding, video, options.whole)
    if not spans:
        raise Unclear("no code lies inside the video")
    outside = sum(code.offset_s > video.duration_s + 0.1 or code.onset_s < -0.1 for code in coding.codes) if video.duration_s else 0
    beyond = plural(outside, "code reaches", "codes reach")
    notes = [f"{beyond} beyond the video, which has {video.duration_s:.2f} s; only what is inside counts"] if outside else []
    tracks, said = choose_tracks(coding, video, spans)
    reading = Reading(options.tolerance_s, options.present_from)
    pairs = {label: pairs_of(label, coding, video, tracks, spans, reading) for label in labels}
    return Compared(video.path, coding.file.name, tuple(tracks), tuple(spans), pairs), notes + said


class _Units:
    """What is resampled: videos, or blocks of time where there are few videos."""

    def __init__(self, compared: Sequence[Compared], block_s: float) -> None:
        videos = list(dict.fromkeys(one.video for one in compared))
        self._by_video = len(videos) >= MIN_UNITS
        self._block_s, self._places = block_s, {video: place for place, video in enumerate(videos)}
        ends = [max(end for one in compared if one.video == video for _, end in one.spans) for video in videos]
        self._offsets = np.concatenate([[0], np.cumsum([int(end // block_s) + 1 for end in ends])])  # of each video's first block
        times = [
            self._place(one, np.concatenate([pairs.time_s, [onset for onset, _ in (*pairs.coder_events, *pairs.run_events)]]))
            for one in compared
            for pairs in one.pairs.values()
        ]
        self._used = np.unique(np.concatenate(times))
        self.count = len(self._used)
        few = "" if self.count >= MIN_UNITS else " (too few, so there are none)"
        self.words = f"{self.count} videos" if self._by_video else f"{self.count} blocks of {block_s:g} s{few}"
        self.enough = self.count >= MIN_UNITS

    def _place(self, one: Compared, time_s: np.ndarray) -> np.ndarray:
        place = self._places[one.video]
        if self._by_video:
            return np.full(len(time_s), place)
        last = self._offsets[place + 1] - self._offsets[place] - 1
        return self._offsets[place] + np.clip((np.asarray(time_s) // self._block_s).astype(int), 0, last)

    def sums(self, one: Compared, time_s: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(units, ...) sums of values at times."""
        return per_face(np.searchsorted(self._used, self._place(one, time_s)), np.asarray(values, np.float64), self.count)


def _figures(compared: Sequence[Compared], options: AgreeOptions) -> tuple[list[dict[str, Any]], str]:
    units = _Units(compared, options.block_s)
    coded = {label for one in compared for label in one.pairs}
    labels = [label for label in (*AUS, BLINK, *EMOTIONS) if label in coded]
    rows = []
    for label in labels:
        own = [(one, one.pairs[label]) for one in compared if label in one.pairs]
        figures, extra = _label_figures(own, units, options)
        rows.append(_row(label, figures, extra, units))
    felt = [one for one in compared if len(set(one.pairs) & set(EMOTIONS)) > 1]
    if felt and (matrix := _emotion_matrix(felt, units)).any():
        rows.append(_row("emotion", _emotion_figures(matrix), {"frames": int(matrix.sum())}, units))
    return rows, units.words


def _label_figures(own: Sequence[tuple[Compared, Pairs]], units: _Units, options: AgreeOptions) -> tuple[dict[str, Figure], dict[str, Any]]:
    counts, ratings, events = np.zeros((units.count, 4)), np.zeros((units.count, 5)), np.zeros((units.count, 3))
    differences: list[float] = []
    graded = np.concatenate([pairs.coder_intensity for _, pairs in own])
    has_grades = bool(len(graded)) and not np.isin(graded[np.isfinite(graded)], (0.0, 1.0)).all()
    for one, pairs in own:
        cells = np.stack([pairs.coder & pairs.run, ~pairs.coder & pairs.run, pairs.coder & ~pairs.run, ~pairs.coder & ~pairs.run], 1)
        counts += units.sums(one, pairs.time_s, cells)
        both = np.isfinite(pairs.coder_intensity) & np.isfinite(pairs.run_intensity)
        if has_grades and both.any():
            parts = coefficients.icc_parts(np.column_stack([pairs.coder_intensity, pairs.run_intensity])[both])
            ratings += units.sums(one, pairs.time_s[both], parts)
        coder, run = ([span[0] for span in spans] for spans in (pairs.coder_events, pairs.run_events))
        matched = match_onsets(coder, run, options.onset_s)
        differences += [run[second] - coder[first] for first, second in matched]
        for column, onsets in enumerate(([coder[first] for first, _ in matched], coder, run)):
            events[:, column] += units.sums(one, np.array(onsets, float), np.ones(len(onsets)))
    figures = {
        "coder_share": summed(counts, lambda s: ratio(s[0] + s[2], s.sum(0))),
        "run_share": summed(counts, lambda s: ratio(s[0] + s[1], s.sum(0))),
        "agreement": summed(counts, lambda s: ratio(s[0] + s[3], s.sum(0))),
        "kappa": summed(counts, lambda s: coefficients.kappa(*s)),
        "f1": summed(counts, lambda s: coefficients.f1(*s[:3])),
        "precision": summed(counts, lambda s: coefficients.precision(s[0], s[1])),
        "recall": summed(counts, lambda s: coefficients.recall(s[0], s[2])),
        "icc": summed(ratings, coefficients.icc_3_1),
        "event_f1": summed(events, lambda s: ratio(2 * s[0], s[1] + s[2])),
    }
    frames = int(counts.sum())
    matched_events, coder_events, run_events = (int(value) for value in events.sum(0))
    return figures, {
        "frames": frames,
        "missing": max(0, sum(pairs.coded_frames for _, pairs in own) - frames),
        "coder_events": coder_events,
        "run_events": run_events,
        "matched_events": matched_events,
        "onset_difference_s": round(float(np.median(differences)), 6) if differences else None,
    }


def _emotion_matrix(felt: Sequence[Compared], units: _Units) -> np.ndarray:
    """(units, 64): person's by run's emotion, over the frames to which the person gave exactly one; an eighth class is what the run says
    and the person did not look for."""
    side = len(EMOTIONS) + 1
    matrix = np.zeros((units.count, side**2))
    for one in felt:
        names = [name for name in EMOTIONS if name in one.pairs]
        time_s = one.pairs[names[0]].time_s
        for name in names[1:]:
            time_s = np.intersect1d(time_s, one.pairs[name].time_s)
        sides = {
            side: np.stack([getattr(one.pairs[name], side)[np.isin(one.pairs[name].time_s, time_s)] for name in names], 1)
            for side in ("coder", "run")
        }
        single = sides["coder"].sum(1) == 1
        place = np.array([EMOTIONS.index(name) for name in names])
        said = np.where(sides["run"].any(1), place[sides["run"].argmax(1)], side - 1)[single]
        cell = place[sides["coder"][single].argmax(1)] * side + said
        matrix += units.sums(one, time_s[single], np.eye(side**2)[cell])
    return matrix


def _emotion_figures(matrix: np.ndarray) -> dict[str, Figure]:
    side = len(EMOTIONS) + 1

    def f1(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(side, side, -1)
        coder, run, hits = table.sum(1), table.sum(0), table[range(side), range(side)]
        return ratio((ratio(2 * hits, coder + run, 0.0) * (coder > 0)).sum(0), (coder > 0).sum(0))

    return {
        "kappa": summed(matrix, lambda s: coefficients.kappa_of_matrix(s.reshape(side, side, -1))),
        "agreement": summed(matrix, lambda s: ratio(np.trace(s.reshape(side, side, -1)), s.sum(0))),
        "f1": summed(matrix, f1),
    }


def _row(label: str, figures: Mapping[str, Figure], extra: Mapping[str, Any], units: _Units) -> dict[str, Any]:
    values = measure(figures, units.count)
    shown = {name: figure for name, figure in figures.items() if name in WITH_INTERVAL and np.isfinite(values[name])}
    ends = intervals(shown, units.count) if units.enough and shown else {}
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"label": label, "name": _name(label)} | dict(extra)
    row |= {name: round(value, 6) if np.isfinite(value) else None for name, value in values.items()}
    for name, (low, high) in ends.items():
        if np.isfinite(low):
            row |= {f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}
    return row


def full_name(row: Mapping[str, Any]) -> str:
    """A label with its name in words."""
    return str(row["label"]) if row["label"] == row["name"] else f"{row['label']} {row['name']}"


def _name(label: str) -> str:
    return "the seven together" if label == "emotion" else "blink" if label == BLINK else UNIT[label].name if label in UNIT else label
