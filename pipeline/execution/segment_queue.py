"""Which worker analyses which segment of which video, and what it found.

Workers that share long videos (`pipeline.execution.segment_sharing`) exchange their work through a `SegmentQueue`. The queue knows
segments by number and findings by reference, and imports nothing heavy, as it may live in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

AHEAD = 2
"""Segments, for each worker, that may be analysed before the owners of their videos need them. More evens out slow ones and takes more
of the object store: 37 kB for each face in a frame."""

PATIENCE_S = 60.0
"""Seconds without a sign of progress after which a segment is given to a second worker. More waits longer for workers that died, less
does slow work (fetching a film from far away, 8K pictures) twice."""

QUIET_S = 30.0
"""Seconds without any activity after which helpers leave: a worker that was lost may need their place to restart. More keeps them for a
long video that is still being fetched, and delays the restart."""


class QueueLost(Exception):
    """The queue, or findings that it refers to, cannot be reached any more."""


@dataclass(frozen=True)
class Segment:
    """The `index`-th segment of a video: frames `[first, last)`."""

    video: str
    index: int
    first: int
    last: int


class _QueuedVideo:
    """The state of one video in the queue.

    Attributes:
        segments: all of them.
        last_sign: for each segment, when somebody last worked on it, on the monotonic clock; infinite once it is done.
        parts: findings of segments that are done, by index.
        position: index of the segment that the owner needs now.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = list(segments)
        self.last_sign = [-PATIENCE_S] * len(segments)
        self.parts: dict[int, list[Any]] = {}
        self.position = 0


class SegmentQueue:
    """The segments to analyse, and what was found in them."""

    def __init__(self, videos: int, workers: int) -> None:
        """Create an empty queue.

        Args:
            videos: number of videos of the run; once as many are finished, nothing is left to do.
            workers: number of workers.
        """
        self._videos, self._ahead = videos, AHEAD * workers
        self._finished: set[str] = set()
        self._queued: dict[str, _QueuedVideo] = {}
        self._active = time.monotonic()

    def add(self, segments: Sequence[Segment]) -> None:
        """Add a video: all of its segments."""
        self._active = time.monotonic()
        self._queued[segments[0].video] = _QueuedVideo(segments)

    def claim(self, owned: str | None = None) -> Segment | None:
        """Take the next segment that nobody works on; None where there is none for now.

        Args:
            owned: the video of the owner who asks. Without it, a segment of any video, except those that their owners need at once.
        """
        now = time.monotonic()
        started = sum(sum(now - sign < PATIENCE_S for sign in video.last_sign[video.position + 1 :]) for video in self._queued.values())
        room = self._ahead - started
        for video in self._queued.values() if owned is None else [self._queued[owned]]:
            for segment in video.segments[video.position + (owned is None) :]:
                if (room > 0 or segment.index == video.position) and now - video.last_sign[segment.index] >= PATIENCE_S:
                    video.last_sign[segment.index] = self._active = now
                    return segment
        return None

    def report_progress(self, segment: Segment) -> None:
        """Note that a segment is being worked on."""
        if self._is_wanted(segment):
            self._queued[segment.video].last_sign[segment.index] = self._active = time.monotonic()

    def deliver(self, segment: Segment, parts: list[Any]) -> None:
        """Leave what was found in a segment; no parts where the analysis failed."""
        if self._is_wanted(segment):
            self._queued[segment.video].parts[segment.index] = parts
            self._queued[segment.video].last_sign[segment.index] = float("inf")
            self._active = time.monotonic()

    def _is_wanted(self, segment: Segment) -> bool:
        video = self._queued.get(segment.video)
        return video is not None and segment in video.segments[video.position :] and segment.index not in video.parts

    def collect(self, segment: Segment) -> list[Any] | None:
        """The parts of a segment, which its owner needs now; None while they are not there."""
        self._active = time.monotonic()
        video = self._queued[segment.video]
        video.position = segment.index
        return video.parts.pop(segment.index, None)

    def finish(self, video: str) -> None:
        """Remove a video, or note of one that was never added that it is done."""
        self._active = time.monotonic()
        self._queued.pop(video, None)
        self._finished.add(video)

    def is_over(self) -> bool:
        """Whether there is nothing left to help with: all videos are done, or nobody has done anything for long."""
        return len(self._finished) >= self._videos or time.monotonic() - self._active > QUIET_S
