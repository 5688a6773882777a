"""Choosing some of the faces of a video: those in a range of time, in an area of the frame, or of the largest tracks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.faces.area import in_area
from pipeline.settings import Choice


def chosen(choice: Choice, faces: pa.Table, frame_size: tuple[int, int]) -> np.ndarray:
    """Which rows of the faces table count.

    Args:
        choice: which faces count.
        faces: all rows of one video, with `track_id`, `frame_index`, `time_s` and `box`. Sizes are compared among the faces of a frame that
            lie in the range and the area.
        frame_size: width and height of the frames in pixels.

    Returns:
        (N,) bool.
    """
    times = faces["time_s"].to_numpy()
    kept = (times >= choice.from_s) & (times < (np.inf if choice.to_s is None else choice.to_s))
    boxes = faces["box"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    if choice.area is not None:
        kept &= in_area(boxes, choice.area, frame_size)
    if choice.largest is not None:
        kept[kept] = _of_largest(faces["track_id"].to_numpy()[kept], faces["frame_index"].to_numpy()[kept], boxes[kept], choice.largest)
    return kept


def chosen_rows(choice: Choice, faces: pa.Table, descriptions: pa.Table, frame_size: tuple[int, int]) -> tuple[pa.Table, pa.Table]:
    """Rows of one video that count: faces, and descriptions of such a face in the described frame.

    Args:
        choice: which faces count.
        faces, descriptions: all rows of the video.
        frame_size: see `chosen`.
    """
    faces = faces.filter(pa.array(chosen(choice, faces, frame_size)))
    return faces, descriptions.filter(pa.array(described_in(descriptions, faces)))


def described_in(descriptions: pa.Table, faces: pa.Table) -> np.ndarray:
    """(N,) bool: which descriptions are of a face of a table of faces; both of one video, with `track_id` and `frame_index`."""
    keys = [table["track_id"].to_numpy().astype(np.int64) << 40 | table["frame_index"].to_numpy() for table in (descriptions, faces)]
    return np.isin(*keys)


def video_counts(faces: pa.Table, descriptions: pa.Table, window_s: float) -> dict[str, int]:
    """The counts of a row of the videos table, but that of frames.

    Args:
        faces, descriptions: rows of the video.
        window_s: length of the run's windows in seconds.
    """
    pairs = np.stack([faces["track_id"].to_numpy(), np.floor(faces["time_s"].to_numpy() / window_s)], 1)
    readable = faces["unreadable"].is_null().to_numpy()
    windows, with_readable = (len(np.unique(some, axis=0)) for some in (pairs, pairs[readable]))
    return {
        "faces": len(pairs),
        "tracks": len(np.unique(pairs[:, 0])),
        "windows": windows,
        "descriptions": descriptions.num_rows,
        "unreadable_faces": int((~readable).sum()),
        "unreadable_windows": windows - with_readable,
    }


def _of_largest(tracks: np.ndarray, frames: np.ndarray, boxes: np.ndarray, count: int) -> np.ndarray:
    """(N,) whether a face's track is among the `count` largest faces in at least half of its frames; of equally large ones the older
    track."""
    if not len(tracks):
        return np.zeros(0, bool)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.lexsort((tracks, -areas, frames))
    first = np.flatnonzero(np.diff(frames[order], prepend=frames[order][0] - 1))  # where each frame begins
    rank = np.empty(len(tracks), np.int64)
    rank[order] = np.arange(len(tracks)) - np.repeat(first, np.diff(first, append=len(tracks)))
    _, place = np.unique(tracks, return_inverse=True)
    share = np.bincount(place, rank < count) / np.bincount(place)
    return share[place] >= 0.5
