"""Who looks at which segment of which video, and what came of it: what analysers that share videos (`pipeline.execution.segment_sharing`)
have between them. It knows segments by number and what was seen by reference, and needs no package, as it may live in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

AHEAD = 2
"""Segments, for each analyser, that may be waiting for the owners of their videos to come to them; more evens out slow ones and
takes more of the object store: for each face, 37 kB a frame."""

PATIENCE_S = 60.0
"""Seconds without a sign after which a segment is given to another as well; more waits longer for the dead, less does what is slow
(fetching a film from far away, pictures of 8K) twice."""


QUIET_S = 30.0
"""Seconds in which nothing happens after which helpers go: an analyser that was lost may need their place to start anew. More keeps
them for a long video that is still being fetched, and holds up what was lost."""


class Gone(Exception):
    """The board, or what somebody left there, is no more."""


@dataclass(frozen=True)
class Job:
    """A segment of a video to look at, the so-manieth: frames `first` to `last`, the latter not included."""

    video: str
    index: int
    first: int
    last: int


class _Offer:
    """A video on the board: its segments, when each was last heard of, what came of them, and where its owner is."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.heard = [-PATIENCE_S] * len(jobs)
        self.parts: dict[int, list[Any]] = {}
        self.at = 0


class Board:
    """Which segments of which videos are to be looked at, and what came of them."""

    def __init__(self, videos: int, analysers: int) -> None:
        """Begin empty.

        Args:
            videos: after so many that are finished everything is over.
            analysers: how many work side by side.
        """
        self._videos, self._ahead = videos, AHEAD * analysers
        self._finished: set[str] = set()
        self._offers: dict[str, _Offer] = {}
        self._active = time.monotonic()

    def offer(self, jobs: Sequence[Job]) -> None:
        """Put a video on the board: all of its segments."""
        self._active = time.monotonic()
        self._offers[jobs[0].video] = _Offer(jobs)

    def claim(self, owned: str | None = None) -> Job | None:
        """Take the next segment that nobody works on; None where there is none for now.

        Args:
            owned: the owner's video; without, any video's segments but those that their owners have come to.
        """
        now = time.monotonic()
        room = self._ahead - sum(sum(now - heard < PATIENCE_S for heard in offer.heard[offer.at + 1 :]) for offer in self._offers.values())
        for offer in self._offers.values() if owned is None else [self._offers[owned]]:
            for job in offer.jobs[offer.at + (owned is None) :]:
                if (room > 0 or job.index == offer.at) and now - offer.heard[job.index] >= PATIENCE_S:
                    offer.heard[job.index] = self._active = now
                    return job
        return None

    def sign(self, job: Job) -> None:
        """Say that a segment is being worked on."""
        if self._wanted(job):
            self._offers[job.video].heard[job.index] = self._active = time.monotonic()

    def give(self, job: Job, parts: list[Any]) -> None:
        """Leave what was seen of a segment; no parts where that failed."""
        if self._wanted(job):
            self._offers[job.video].parts[job.index] = parts
            self._offers[job.video].heard[job.index] = float("inf")
            self._active = time.monotonic()

    def _wanted(self, job: Job) -> bool:
        offer = self._offers.get(job.video)
        return offer is not None and job in offer.jobs[offer.at :] and job.index not in offer.parts

    def take(self, job: Job) -> list[Any] | None:
        """The parts of a segment, to which its owner has come now; None while they are not there."""
        self._active = time.monotonic()
        offer = self._offers[job.video]
        offer.at = job.index
        return offer.parts.pop(job.index, None)

    def finish(self, video: str) -> None:
        """Take a video off the board, or say of one that was never there that it is done."""
        self._active = time.monotonic()
        self._offers.pop(video, None)
        self._finished.add(video)

    def over(self) -> bool:
        """Whether there is nothing to help with: all videos are done, or nobody has done anything for long."""
        return len(self._finished) >= self._videos or time.monotonic() - self._active > QUIET_S
