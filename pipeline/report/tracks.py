"""Where each person's face is at any moment of a video, between the sampled frames too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.vocabulary import Box

_SAME_S = 1e-6  # times of one frame, told by two readers, differ by less


@dataclass(frozen=True)
class Seen:
    """A face at one moment. `box` and `landmarks5` (5, 2) in pixels of the upright frame."""

    track_id: int
    box: Box
    landmarks5: np.ndarray


@dataclass(frozen=True)
class _Track:
    """A track's N samples.

    Attributes:
        times: (N,) seconds, rising.
        values: (N, 14) pixels: box, landmarks.
        joined: (N - 1,) whether no sampled frame lies between a sample and the next one.
        since, until: seconds of the sampled frames around it, where it was not seen (infinite at the video's ends).
    """

    times: np.ndarray
    values: np.ndarray
    joined: np.ndarray
    since: float
    until: float


class Tracks:
    """All tracks of one video. Takes some 130 bytes a row of the faces table: 20 MB for two people in two hours at ten frames a second."""

    def __init__(self, faces: Iterable[pa.RecordBatch], sampled_s: np.ndarray) -> None:
        """Gather the faces.

        Args:
            faces: of the faces table of one video.
            sampled_s: (M,) seconds of the frames that were looked at, with and without a face.
        """
        tracks, times, values = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros((0, 14), np.float32)]
        for batch in faces:
            tracks.append(batch["track_id"].to_numpy().astype(np.int64))
            times.append(batch["time_s"].to_numpy())
            parts = [batch[name].flatten().to_numpy().reshape(len(batch), -1) for name in ("box", "landmarks5")]
            values.append(np.concatenate(parts, axis=1) if len(batch) else values[0])
        ids, all_times, all_values = np.concatenate(tracks), np.concatenate(times), np.concatenate(values)
        order = np.lexsort((all_times, ids))
        ids, all_times, all_values = ids[order], all_times[order], all_values[order]
        self.ids, firsts = np.unique(ids, return_index=True)
        self._tracks = []
        for part in np.split(np.arange(len(ids)), firsts[1:]) if len(ids) else []:
            own = all_times[part]
            place = np.searchsorted(sampled_s, own - _SAME_S)
            since = sampled_s[place[0] - 1] if place[0] > 0 else -np.inf
            after = np.searchsorted(sampled_s, own[-1] + _SAME_S)
            until = sampled_s[after] if after < len(sampled_s) else np.inf
            self._tracks.append(_Track(own, all_values[part], np.diff(place) <= 1, float(since), float(until)))
        self._since = np.array([track.since for track in self._tracks])
        self._until = np.array([track.until for track in self._tracks])

    def at(self, time_s: float, wide: bool = False) -> list[Seen]:
        """The faces at one moment, by track.

        Args:
            time_s: any.
            wide: also where a face may be unseen: in a track's gaps, and up to the sampled frames before its first and after its last
                sample. Otherwise between two samples that follow each other, and nowhere else.
        """
        found = []
        for number in np.flatnonzero((self._since + _SAME_S < time_s) & (time_s < self._until - _SAME_S)):
            track = self._tracks[number]
            right = int(np.searchsorted(track.times, time_s - _SAME_S))  # the first sample that is not before
            on_it = right < len(track.times) and track.times[right] <= time_s + _SAME_S
            inside = 0 < right < len(track.times)
            if on_it or (wide and not inside):
                value = track.values[min(right, len(track.times) - 1)]
            elif inside and (wide or track.joined[right - 1]):
                before, after = track.times[right - 1], track.times[right]
                share = (time_s - before) / (after - before)
                value = track.values[right - 1] * (1 - share) + track.values[right] * share
            else:
                continue
            x0, y0, x1, y1 = (float(edge) for edge in value[:4])
            found.append(Seen(int(self.ids[number]), (x0, y0, x1, y1), value[4:].reshape(5, 2)))
        return found

    def within(self, start_s: float, end_s: float) -> dict[int, Box]:
        """For each track seen from `start_s` to before `end_s`, the box around all that it covers in that time."""
        around = {}
        for number in np.flatnonzero((self._since < end_s) & (start_s < self._until)):
            track = self._tracks[number]
            boxes = track.values[np.searchsorted(track.times, start_s) : np.searchsorted(track.times, end_s), :4]
            if len(boxes):
                (x0, y0), (x1, y1) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
                around[int(self.ids[number])] = (x0, y0, x1, y1)
        return around
