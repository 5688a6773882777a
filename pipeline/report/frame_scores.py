"""Scores of the whole face in every sampled frame, where a run has them (`describe.frames`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.describe.active_units import active_aus
from pipeline.report.inputs import sampling_fps
from pipeline.schemas import face_numbers
from pipeline.storage.run_folder import RunFolder
from pipeline.trends.events import leading
from pipeline.trends.eyes import BLINK_COARSEST_STEP_S, find_blinks
from pipeline.trends.options import Options
from pipeline.trends.rows import SCORED_NEIGHBOURS, frame_ends
from pipeline.trends.runs import USUAL_THRESHOLD
from pipeline.trends.series import VALUES, Samples, Series, track_series
from pipeline.vocabulary import AUS, EMOTIONS

EMOTION_COLUMNS = tuple(f"emotion_{name}" for name in EMOTIONS)

SAME_S = 1e-6
"""Times of one frame that come from two readers differ by less, in seconds."""

BY_TRACK = [("track_id", "ascending"), ("frame_index", "ascending")]


@dataclass(frozen=True)
class FrameScores:
    """The N faces of a video with their scores, by track and time.

    Attributes:
        track_id: (N,) int64.
        frame_index: (N,) int64.
        start_s, end_s: (N,) from the frame's own time until when it stands for what is on screen.
        aus: (N, A) probability of each action unit, NaN where unknown.
        active: (N, A) bool, by the run's thresholds.
        emotions: (N, 7) probabilities, NaN where the face was not read.
        age: (N,) years.
    """

    track_id: np.ndarray
    frame_index: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    aus: np.ndarray
    active: np.ndarray
    emotions: np.ndarray
    age: np.ndarray

    def of(self, track_id: int) -> slice:
        """The rows of one track."""
        return slice(*np.searchsorted(self.track_id, (track_id, track_id + 1)).tolist())

    def at(self, track_id: int, time_s: float) -> int | None:
        """The row that stands for a track at a time; None where no frame of the track does."""
        rows = self.of(track_id)
        row = rows.start + int(np.searchsorted(self.start_s[rows], time_s + SAME_S, side="right")) - 1
        return row if row >= rows.start and time_s < self.end_s[row] else None

    def series(self, track_id: int) -> Series | None:
        """The series that `focalface trends` makes of a track with its usual options; None where no face of the track was read."""
        rows = self.of(track_id)
        values = np.full((rows.stop - rows.start, len(VALUES)), np.nan)
        values[:, : len(AUS)] = self.aus[rows]
        values[:, len(AUS) : len(AUS) + len(EMOTIONS)] = self.emotions[rows]
        return track_series("", track_id, Samples(self.start_s[rows], self.end_s[rows], self.frame_index[rows], values), Options(), None)


@dataclass(frozen=True)
class LeadingEmotions:
    """Which emotion leads in each sample of a track's series, as in trends.

    Attributes:
        start_s, end_s: (N,) of the samples.
        emotion: (N,) places in `EMOTIONS`; -1 where the face was not read.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    emotion: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """(7,) seconds in which each emotion leads."""
        known = self.emotion >= 0
        return np.bincount(self.emotion[known], (self.end_s - self.start_s)[known], len(EMOTIONS))


def leading_emotions(scores: FrameScores) -> dict[int, LeadingEmotions]:
    """The leading emotions of each track in which a face was read, by track_id."""
    made = {int(track): scores.series(int(track)) for track in np.unique(scores.track_id)}
    return {track: LeadingEmotions(one.start_s, one.end_s, leading(one)) for track, one in made.items() if one is not None}


def has_frame_scores(run: RunFolder, video_id: str) -> bool:
    """Whether the faces of a video were read in every frame, not only in the described ones.

    As in trends, after a face that was read the track's next face is read too in most cases.
    """
    faces = run.read("faces", ["track_id", "frame_index", "emotion"], video_id).sort_by(BY_TRACK)
    if faces.num_rows < 2:
        return faces.num_rows == 1 and faces["emotion"].null_count == 0
    tracks = faces["track_id"].to_numpy()
    read = pc.is_valid(faces["emotion"]).to_numpy(zero_copy_only=False)
    followed = read[:-1] & (tracks[1:] == tracks[:-1])
    return bool(read[1:][followed].mean() >= SCORED_NEIGHBOURS) if followed.any() else bool(read.all())


def read_frame_scores(run: RunFolder, video: Mapping[str, Any]) -> FrameScores | None:
    """The scores of every frame of a video; None where only described frames have any.

    Args:
        run: the run folder.
        video: its row of the videos table.

    Raises:
        SettingsError: when the table cannot be read.
    """
    if not has_frame_scores(run, video["video_id"]):
        return None
    columns = ["track_id", "frame_index", "time_s", *AUS, *EMOTION_COLUMNS, "age"]
    faces = run.read("faces", columns, video["video_id"]).sort_by(BY_TRACK)

    def numbers(names: tuple[str, ...]) -> np.ndarray:
        return np.column_stack([pc.cast(faces[name], pa.float32()).to_numpy(zero_copy_only=False) for name in names])

    track_id, frame_index, time_s = (faces[name].to_numpy() for name in ("track_id", "frame_index", "time_s"))
    aus = numbers(AUS)
    ends = np.zeros(len(time_s))
    for track in np.unique(track_id):
        own = track_id == track
        ends[own] = frame_ends(time_s[own], frame_index[own], sampling_fps(run), video["fps"])
    active = active_units(aus, thresholds(run))
    return FrameScores(track_id, frame_index, time_s, ends, aus, active, numbers(EMOTION_COLUMNS), numbers(("age",))[:, 0])


def blink_frames(run: RunFolder, video: Mapping[str, Any]) -> np.ndarray:
    """The faces inside blinks, as `focalface trends` counts them (`pipeline.trends.eyes.find_blinks`).

    Args:
        run: the run folder.
        video: its row of the videos table; its faces have scores in every frame.

    Returns:
        (N,) sorted numbers of faces (`face_numbers`).
    """
    faces = run.read("faces", ["track_id", "frame_index", "time_s", "AU43"], video["video_id"]).sort_by(BY_TRACK)
    tracks, frames, times_s = (faces[name].to_numpy() for name in ("track_id", "frame_index", "time_s"))
    closed = pc.cast(faces["AU43"], pa.float64()).to_numpy(zero_copy_only=False)
    threshold = float(thresholds(run)[AUS.index("AU43")])
    found: list[np.ndarray] = []
    for track in np.unique(tracks):
        own = np.flatnonzero(tracks == track)
        ends_s = frame_ends(times_s[own], frames[own], sampling_fps(run), video["fps"])
        known = np.isfinite(closed[own])
        if not known.any() or np.median((ends_s - times_s[own])[known]) > BLINK_COARSEST_STEP_S:
            continue
        gaps = np.flatnonzero(ends_s[:-1] < times_s[own][1:] - 1e-6) + 1  # unknown samples go there, which no blink touches
        starts_s, stops_s = np.insert(times_s[own], gaps, ends_s[gaps - 1]), np.insert(ends_s, gaps, times_s[own][gaps])
        places = np.insert(own, gaps, -1)
        blinks = find_blinks(starts_s, stops_s, np.insert(closed[own], gaps, np.nan), threshold)
        found += [places[part] for part, _ in blinks]
    inside = np.concatenate(found) if found else np.zeros(0, np.int64)
    return np.sort(face_numbers(tracks[inside], frames[inside]))


def thresholds(run: RunFolder) -> np.ndarray:
    """(A,) score from which each action unit counts as active, as the run states it for its checkpoint."""
    stated = run.info.get("thresholds")
    stated = stated if isinstance(stated, dict) else {}
    return np.array([float(stated.get(au, USUAL_THRESHOLD)) for au in AUS])


def active_units(scores: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(N, A) whether each action unit is active in each row, by the rule of the `aus` column of a run.

    Args:
        scores: (N, A) probabilities, NaN where unknown.
        limits: (A,) thresholds.
    """
    return active_aus(scores, limits.astype(scores.dtype), hold=1)  # in the tables' precision
