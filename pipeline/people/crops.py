"""Which faces of a track are looked at: the few in which a person can be recognised best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

MOST_CROPS = 5
"""Faces of a track that are embedded. More cost time and change the mean little."""

MIN_EYE_DISTANCE = 14.0
"""Pixels between the eyes of the smallest face that is embedded, about a face of 30 pixels. Smaller faces of all people look alike."""

MAX_YAW, MAX_PITCH = 45.0, 40.0
"""Degrees up to which a face is embedded; the networks learned from faces that show both eyes."""

GOOD_EYE_DISTANCE, GOOD_SHARPNESS = 40.0, 300.0
"""From this size on, size counts no more; at this sharpness, sharpness counts half."""

APART_S = 0.5
"""Two faces of a track that are looked at are this far apart where the track is long enough: neighbouring frames say the same twice."""

COLUMNS = ("frame_index", "time_s", "track_id", "det_score", "landmarks5", "yaw", "pitch", "sharpness", "unreadable")
"""Columns of the faces table that are needed."""


@dataclass(frozen=True)
class Track:
    """A track, and its faces that are looked at.

    Attributes:
        track_id: in its video.
        first_s, last_s: times of its first and last face.
        faces: number of its faces.
        frames: (K,) frames of the chosen faces, the best first.
        times: (K,) their times.
        landmarks: (K, 5, 2) their landmarks, in pixels of the frame.
        quality: (K,) how well they can be recognised, 0 to 1.
        note: why none is looked at; empty where some are.
    """

    track_id: int
    first_s: float
    last_s: float
    faces: int
    frames: np.ndarray
    times: np.ndarray
    landmarks: np.ndarray
    quality: np.ndarray
    note: str = ""


def choose(faces: pa.Table) -> list[Track]:
    """The tracks of one video with the faces to look at, by track.

    A face's quality is the product of its size, frontality and sharpness and the detector's score, each from 0 to 1. Faces that are too
    small, turned too far or cannot be read are left out.

    Args:
        faces: its rows of the faces table with `COLUMNS`.
    """
    if not faces.num_rows:
        return []
    rows = {name: faces[name].cast(pa.float64()).to_numpy() for name in COLUMNS if name not in ("landmarks5", "unreadable")}
    landmarks = np.array([row or [np.nan] * 10 for row in faces["landmarks5"].to_pylist()], np.float64).reshape(-1, 5, 2)
    eyes = np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1)
    yaw, pitch = np.abs(rows["yaw"]), np.abs(rows["pitch"])
    usable = np.isfinite(landmarks).all(axis=(1, 2)) & (eyes >= MIN_EYE_DISTANCE) & (yaw <= MAX_YAW) & (pitch <= MAX_PITCH)
    usable &= faces["unreadable"].is_null().to_numpy(zero_copy_only=False)
    sharpness = np.maximum(np.nan_to_num(rows["sharpness"]), 0)
    frontal = np.cos(np.radians(np.minimum(yaw, 89))) * np.cos(np.radians(np.minimum(pitch, 89)))
    score = np.nan_to_num(rows["det_score"], nan=0.5).clip(0, 1)  # unknown in older runs, where the face was carried between detections
    quality = np.minimum(eyes / GOOD_EYE_DISTANCE, 1) * frontal**2 * sharpness / (sharpness + GOOD_SHARPNESS) * score
    tracks = []
    for number in np.unique(rows["track_id"]).tolist():
        own = np.flatnonzero(rows["track_id"] == number)
        at = own[usable[own]]
        chosen = np.array(_spread(rows["time_s"][at], quality[at]), np.int64)
        at = at[chosen] if len(at) else at
        note = "" if len(at) else "no face of it is large, sharp and frontal enough to be recognised"
        times = rows["time_s"][own]
        tracks.append(
            Track(
                int(number),
                float(times.min()),
                float(times.max()),
                len(own),
                rows["frame_index"][at].astype(np.int64),
                rows["time_s"][at],
                landmarks[at],
                quality[at],
                note,
            )
        )
    return tracks


def _spread(times: np.ndarray, quality: Sequence[float] | np.ndarray) -> list[int]:
    """Up to `MOST_CROPS` places, the best first and `APART_S` apart where there are enough; else the best ones."""
    order = np.lexsort((times, -np.asarray(quality))).tolist()
    chosen: list[int] = []
    for place in order:
        if len(chosen) < MOST_CROPS and all(abs(times[place] - times[other]) >= APART_S for other in chosen):
            chosen.append(place)
    return chosen + [place for place in order if place not in chosen][: MOST_CROPS - len(chosen)]
