"""One long video, many analysers: whoever has nothing left to do takes segments of what others still have.

Decoding and detection are nearly all of the work and know nothing of the frames before; following people and choosing regions need
every frame in order and cost little. So the analyser that a video was given to stays its owner. It cuts the video into segments
(`pipeline.video.segments`) and writes them on a board; helpers, and the owner itself, take them from there and leave what they saw
(`pipeline.records.FrameFaces`); the owner goes through these looks in order, with one tracker and one selector,
exactly as if it had decoded the video alone. Where all have videos of their own, nothing is moved about.

Nobody depends on a helper: what one fails at, or does not come back with, the owner does itself; and where the file does not come
apart at a keyframe, the owner reads the rest as one. All that is between analysers is on the board, an object anywhere
(`pipeline.execution.executors.ray` puts it into a Ray actor); a helper without work asks it a few times a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from pipeline.errors import VideoError
from pipeline.execution.metrics import Stages, TimedDetector
from pipeline.execution.segment_queue import Board, Gone, Job
from pipeline.faces.detectors import Detector
from pipeline.faces.finding import find_faces
from pipeline.records import Frame, FrameFaces
from pipeline.settings import Settings
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import shown
from pipeline.video.decoder_process import WatchedVideo

POLL_S = 0.2
"""Seconds between two questions to the board; more wastes helpers' time, less the board's."""

PART_BYTES = 16 * 2**20
"""What is seen of a segment is handed over in parts of about this size; more makes fewer, and takes more of a worker's memory."""

PART_S = 5.0
"""Seconds after which a part is handed over however small: it is the sign that somebody works."""

Part = tuple[list[FrameFaces], dict[str, float]]
"""Looks in order, and the seconds of work on them by stage."""


def _same(part: Any) -> Any:
    return part


class Crew:
    """One analyser among those who share videos."""

    def __init__(
        self,
        board: Board,
        settings: Settings,
        detector: Detector,
        opener: Callable[[str], WatchedVideo],
        keep: Callable[[Part], Any] = _same,
        fetch: Callable[[Any], Part] = _same,
    ) -> None:
        """Join.

        Args:
            board: everyone's; like `fetch`, it may raise `Gone`.
            settings: of the run.
            detector, opener: this analyser's own.
            keep, fetch: put a part where others can get it, and get it.
        """
        self.board, self.opener = board, opener
        self._settings, self._detector, self._keep, self._fetch = settings, detector, keep, fetch

    def share(self, path: str, file: str, video: WatchedVideo, stages: Stages) -> WatchedVideo | SharedVideo:
        """Offer a video's segments, if it has several.

        Args:
            path: of the video, as every analyser can open it.
            file: the same on this machine.
            video: open.
            stages: count the work on it.
        """
        if self._settings.detect.every > 1:  # faces are carried from frame to frame, which takes the pixels of both
            return video
        cuts = video.cut(self._settings.video.segment_s)
        ends = [*cuts[1:], video.info.frame_count]
        jobs = [Job(path, index, first, last) for index, (first, last) in enumerate(zip(cuts, ends, strict=True))]
        if len(jobs) > 1:
            with suppress(Gone):
                self.board.offer(jobs)
                return SharedVideo(self, jobs, file, video, stages)
        return video

    def help(self) -> None:
        """Look at segments of others' videos until all videos are done, or nothing happens any more."""
        at_hand = ""
        with ExitStack() as held, suppress(Gone):
            while not self.board.over():
                job = self.board.claim()
                if job is None:
                    time.sleep(POLL_S)
                    continue
                _say(job.video, f"segment {job.index}")
                try:
                    if job.video != at_hand:  # opened once for all its segments
                        held.close()
                        video = held.enter_context(self.opener(held.enter_context(fetched(job.video))))
                    at_hand = job.video if self._do(job, video) else ""
                except VideoError as fault:
                    _say(job.video, fault)
                    self.board.give(job, [])

    def _do(self, job: Job, video: WatchedVideo) -> bool:
        """Look at a segment and leave what was seen on the board; whether that went well."""
        stages = Stages()
        parts: list[Any] = []
        looks: list[FrameFaces] = []
        size, began = 0, time.monotonic()
        try:
            for look in self._looks(job, video, stages):
                looks.append(look)
                size += look.thumbnail.nbytes + sum(face.crop.nbytes for face in look.faces)
                if size > PART_BYTES or time.monotonic() - began > PART_S:
                    parts.append(self._keep((looks, stages.take())))
                    looks, size, began = [], 0, time.monotonic()
                    self.board.sign(job)
            parts.append(self._keep((looks, stages.take())))
        except Gone:
            raise
        except Exception as fault:  # a matter for the owner, who meets it again
            _say(job.video, fault)
            parts = []
        self.board.give(job, parts)
        return bool(parts)

    def _looks(self, job: Job, video: WatchedVideo, stages: Stages) -> Iterator[FrameFaces]:
        return self.looks(video.segment(self._settings.video.fps, job.first, job.last), stages)

    def looks(self, frames: Iterator[Frame], stages: Stages) -> Iterator[FrameFaces]:
        """What there is to see in frames; the work is counted."""
        return stages.each("track", find_faces(stages.each("decode", frames), TimedDetector(self._detector, stages)))

    def segment(self, job: Job, video: WatchedVideo, stages: Stages) -> Iterator[FrameFaces]:
        """What there is to see in the segment to which the owner has come, by whomever; until it is there, later ones are worked on.
        When something is lost on the way it comes anew from its beginning.

        Raises:
            VideoError: when it cannot be looked at on its own.
            Gone: when the board is.
        """
        while (parts := self.board.take(job)) is None:
            other = self.board.claim(job.video)
            if other is None:
                time.sleep(POLL_S)
            elif other == job:
                break
            else:
                self._do(other, video)
        with suppress(Gone):
            for part in parts or ():
                looks, seconds = self._fetch(part)
                stages.add(seconds)
                yield from looks
            if parts:
                return
        yield from self._looks(job, video, stages)


class SharedVideo:
    """A video whose segments are looked at by several; its owner's side.

    Attributes:
        info, decoded, problem: as `pipeline.video.reader.Video` has them.
    """

    def __init__(self, crew: Crew, jobs: Sequence[Job], file: str, video: WatchedVideo, stages: Stages) -> None:
        self._crew, self._jobs, self._file, self._video, self._stages = crew, jobs, file, video, stages
        self.info, self.decoded, self.problem = video.info, 0, video.problem

    def looks(self, fps: float | None) -> Iterator[FrameFaces]:
        """What there is to see in each of the frames that `Video.frames` would yield."""
        last_s = -1.0
        try:
            for job in self._jobs:
                for look in self._crew.segment(job, self._video, self._stages):
                    if look.time_s > last_s:
                        last_s = look.time_s
                        yield look
                self.decoded = job.last
            return
        except (VideoError, Gone) as fault:
            _say(self._jobs[0].video, f"read as one after {last_s:.1f} s: {fault}")
        with suppress(Gone):
            self._crew.board.finish(self._jobs[0].video)  # nobody can help any more
        with self._crew.opener(self._file) as whole:
            for look in self._crew.looks(whole.frames(fps, last_s), self._stages):
                self.decoded = whole.decoded
                yield look
            self.info, self.decoded, self.problem = whole.info, whole.decoded, whole.problem


def _say(video: str, what: object) -> None:
    """A line in this worker's log."""
    print(f"focalface: {shown(video)}: {what}", file=sys.stderr, flush=True)
