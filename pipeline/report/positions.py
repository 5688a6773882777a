"""Where each tracked face is at any time of a video, between the sampled frames too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.vocabulary import Box

_SAME_S = 1e-6  # times of one frame that come from two readers differ by less


@dataclass(frozen=True)
class FacePosition:
    """A face at one time. `box` and `landmarks5` (5, 2) are in pixels of the upright frame."""

    track_id: int
    box: Box
    landmarks5: np.ndarray


@dataclass(frozen=True)
class _Track:
    """The N samples of a track.

    Attributes:
        times: (N,) seconds, rising.
        values: (N, 14) pixels: box and landmarks.
        adjacent: (N - 1,) whether a sample and the next one are in successive sampled frames.
        before_s, after_s: times of the sampled frames before the first and after the last sample; infinite at the video's ends.
    """

    times: np.ndarray
    values: np.ndarray
    adjacent: np.ndarray
    before_s: float
    after_s: float


class FacePositions:
    """All tracks of one video. Takes some 130 bytes a row of the faces table: 20 MB for two people in two hours at ten frames a second."""

    def __init__(self, faces: Iterable[pa.Table | pa.RecordBatch], sampled_s: np.ndarray) -> None:
        """Collect the faces of a video.

        Args:
            faces: parts of its faces table.
            sampled_s: (M,) seconds of all sampled frames, with and without a face.
        """
        tracks, times, values = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros((0, 14), np.float32)]
        for part in faces:
            if not part.num_rows:
                continue
            tracks.append(part["track_id"].to_numpy().astype(np.int64))
            times.append(part["time_s"].to_numpy())
            lists = [pa.chunked_array(part[name]) if isinstance(part[name], pa.Array) else part[name] for name in ("box", "landmarks5")]
            flat = [column.combine_chunks().flatten().to_numpy().reshape(part.num_rows, -1) for column in lists]
            values.append(np.concatenate(flat, axis=1))
        ids, all_times, all_values = np.concatenate(tracks), np.concatenate(times), np.concatenate(values)
        order = np.lexsort((all_times, ids))
        ids, all_times, all_values = ids[order], all_times[order], all_values[order]
        self.ids, firsts = np.unique(ids, return_index=True)
        self._tracks = []
        for rows in np.split(np.arange(len(ids)), firsts[1:]) if len(ids) else []:
            own = all_times[rows]
            place = np.searchsorted(sampled_s, own - _SAME_S)
            before_s = sampled_s[place[0] - 1] if place[0] > 0 else -np.inf
            after = np.searchsorted(sampled_s, own[-1] + _SAME_S)
            after_s = sampled_s[after] if after < len(sampled_s) else np.inf
            self._tracks.append(_Track(own, all_values[rows], np.diff(place) <= 1, float(before_s), float(after_s)))
        self._before_s = np.array([track.before_s for track in self._tracks])
        self._after_s = np.array([track.after_s for track in self._tracks])

    def at(self, time_s: float, extended: bool = False) -> list[FacePosition]:
        """The faces at one time, by track.

        Args:
            time_s: any time of the video.
            extended: also where a face may be without having been found: in a track's gaps, and up to the sampled frames before its first
                and after its last sample. Otherwise between two successive samples only.
        """
        found = []
        for number in np.flatnonzero((self._before_s + _SAME_S < time_s) & (time_s < self._after_s - _SAME_S)):
            track = self._tracks[number]
            right = int(np.searchsorted(track.times, time_s - _SAME_S))  # the first sample that is not earlier
            on_sample = right < len(track.times) and track.times[right] <= time_s + _SAME_S
            inside = 0 < right < len(track.times)
            if on_sample or (extended and not inside):
                value = track.values[min(right, len(track.times) - 1)]
            elif inside and (extended or track.adjacent[right - 1]):
                before, after = track.times[right - 1], track.times[right]
                share = (time_s - before) / (after - before)
                value = track.values[right - 1] * (1 - share) + track.values[right] * share
            else:
                continue
            x0, y0, x1, y1 = (float(edge) for edge in value[:4])
            found.append(FacePosition(int(self.ids[number]), (x0, y0, x1, y1), value[4:].reshape(5, 2)))
        return found

    def bounds(self, start_s: float, end_s: float) -> dict[int, Box]:
        """For each track with samples from `start_s` to before `end_s`, the box around all of them."""
        around = {}
        for number in np.flatnonzero((self._before_s < end_s) & (start_s < self._after_s)):
            track = self._tracks[number]
            boxes = track.values[np.searchsorted(track.times, start_s) : np.searchsorted(track.times, end_s), :4]
            if len(boxes):
                (x0, y0), (x1, y1) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
                around[int(self.ids[number])] = (x0, y0, x1, y1)
        return around
