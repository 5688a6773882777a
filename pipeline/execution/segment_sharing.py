"""One long video, many workers: a worker that has no video left analyses segments of the others' videos.

Decoding and detection are nearly all of the work, and need no earlier frame. Tracking and the choice of regions need every frame in
order, and cost little. So the worker that a video was given to stays its owner: it cuts the video into segments
(`pipeline.video.segments`) and puts them into a queue. Helpers, and the owner itself, take segments from there and deliver what they
found (`pipeline.records.FrameFaces`). The owner passes the findings, in order, through one tracker and one selector, as if it had
decoded the video alone. Where every worker has videos of its own, nothing is shared.

Nothing depends on a helper: a segment that fails, or does not come back, is analysed by the owner; and where a segment boundary fails
verification, the owner decodes the rest of the file sequentially. The queue is an object anywhere (`pipeline.execution.executors.ray`
puts it into a Ray actor); a helper without work asks it a few times a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from pipeline.errors import VideoError
from pipeline.execution.segment_queue import QueueLost, Segment, SegmentQueue
from pipeline.execution.timing import StageTimer, TimedDetector
from pipeline.faces.detectors import Detector
from pipeline.faces.finding import find_faces
from pipeline.records import Frame, FrameFaces
from pipeline.settings import Settings
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import printable
from pipeline.video.decoder_process import WatchedVideo
from pipeline.video.sampling import period_start_s, whole_periods

POLL_S = 0.2
"""Seconds between two questions to the queue; more wastes the helpers' time, less the queue's."""

PART_BYTES = 16 * 2**20
"""Findings of a segment are delivered in parts of about this size; more makes fewer, and takes more of a worker's memory."""

PART_S = 5.0
"""Seconds after which a part is delivered however small: it is the sign that a worker is alive."""

Part = tuple[list[FrameFaces], dict[str, float]]
"""Findings in the order of the frames, and the seconds of work on them by stage."""


def searched_range(settings: Settings, video_fps: float) -> tuple[float, float | None]:
    """The range of a video in which faces are searched: `video.from_s` to `video.to_s`, and what the search needs around it.

    Args:
        settings: settings of the run.
        video_fps: frame rate of the video.
    """
    return whole_periods(settings.video.from_s, settings.video.to_s, settings.key_s(video_fps))


def _unchanged(part: Any) -> Any:
    return part


class SegmentWorker:
    """One worker among those that share videos."""

    def __init__(
        self,
        queue: SegmentQueue,
        settings: Settings,
        detector: Detector,
        open_file: Callable[[str], WatchedVideo],
        store: Callable[[Part], Any] = _unchanged,
        load: Callable[[Any], Part] = _unchanged,
    ) -> None:
        """Join the workers of a run.

        Args:
            queue: shared by all of them; like `load`, it may raise `QueueLost`.
            settings: settings of the run.
            detector, open_file: this worker's own.
            store, load: put a part where other workers can reach it, and read it from there.
        """
        self.queue, self.open_file = queue, open_file
        self._settings, self._detector, self._store, self._load = settings, detector, store, load

    def share(self, path: str, file: str, video: WatchedVideo, timer: StageTimer) -> WatchedVideo | SegmentedVideo:
        """Offer the segments of a video to other workers, if it has several.

        Args:
            path: path or URL of the video, as every worker can open it.
            file: path of the same file on this machine.
            video: the opened file.
            timer: counts the work on it.
        """
        places = video.cut(self._settings.video.segment_s, *searched_range(self._settings, video.info.fps))
        segments = [Segment(path, index, first, last) for index, (first, last) in enumerate(places)]
        if len(segments) > 1:
            with suppress(QueueLost):
                self.queue.add(segments)
                return SegmentedVideo(self, segments, file, video, timer)
        return video

    def help_others(self) -> None:
        """Analyse segments of other workers' videos, until all videos are done or nothing has happened for long."""
        opened = ""
        with ExitStack() as files, suppress(QueueLost):
            while not self.queue.is_over():
                segment = self.queue.claim()
                if segment is None:
                    time.sleep(POLL_S)
                    continue
                _log(segment.video, f"segment {segment.index}")
                try:
                    if segment.video != opened:  # one file serves all its segments
                        files.close()
                        video = files.enter_context(self.open_file(files.enter_context(fetched(segment.video))))
                    opened = segment.video if self.analyse(segment, video) else ""
                except VideoError as fault:
                    _log(segment.video, fault)
                    self.queue.deliver(segment, [])

    def analyse(self, segment: Segment, video: WatchedVideo) -> bool:
        """Find the faces of a segment and deliver them to the queue; whether that succeeded."""
        timer = StageTimer()
        parts: list[Any] = []
        found: list[FrameFaces] = []
        size, since = 0, time.monotonic()
        try:
            for frame_faces in self.segment_faces(segment, video, timer):
                found.append(frame_faces)
                size += frame_faces.thumbnail.nbytes + sum(face.crop.nbytes for face in frame_faces.faces)
                if size > PART_BYTES or time.monotonic() - since > PART_S:
                    parts.append(self._store((found, timer.take())))
                    found, size, since = [], 0, time.monotonic()
                    self.queue.report_progress(segment)
            parts.append(self._store((found, timer.take())))
        except QueueLost:
            raise
        except Exception as fault:  # the owner analyses the segment itself, and meets the fault again
            _log(segment.video, fault)
            parts = []
        self.queue.deliver(segment, parts)
        return bool(parts)

    def segment_faces(self, segment: Segment, video: WatchedVideo, timer: StageTimer) -> Iterator[FrameFaces]:
        """The faces of a segment's frames, found by this worker."""
        fps, key_s = self._settings.video.fps, self._settings.key_s(video.info.fps)
        frames = video.segment(fps, segment.first, segment.last, *searched_range(self._settings, video.info.fps), key_s)
        return self.find_faces(frames, key_s, timer)

    def find_faces(self, frames: Iterator[Frame], key_s: float, timer: StageTimer) -> Iterator[FrameFaces]:
        """The faces of frames; the work is counted."""
        return timer.each("track", find_faces(timer.each("decode", frames), TimedDetector(self._detector, timer), key_s))

    def collect(self, segment: Segment, video: WatchedVideo, timer: StageTimer) -> Iterator[FrameFaces]:
        """The faces of the segment that its owner needs now, whichever worker finds them. While they are not there, the owner analyses
        later segments; findings that are lost on the way are found again.

        Raises:
            VideoError: when the segment cannot be decoded on its own.
            QueueLost: when the queue cannot be reached.
        """
        while (parts := self.queue.collect(segment)) is None:
            other = self.queue.claim(segment.video)
            if other is None:
                time.sleep(POLL_S)
            elif other == segment:
                break
            else:
                self.analyse(other, video)
        with suppress(QueueLost):
            for part in parts or ():
                found, seconds = self._load(part)
                timer.add(seconds)
                yield from found
            if parts:
                return
        yield from self.segment_faces(segment, video, timer)


class SegmentedVideo:
    """A video whose segments are analysed by several workers, as its owner sees it.

    Attributes:
        info, decoded, problem, notes: as in `pipeline.video.source.VideoSource`.
    """

    def __init__(self, worker: SegmentWorker, segments: Sequence[Segment], file: str, video: WatchedVideo, timer: StageTimer) -> None:
        self._worker, self._segments, self._file, self._video, self._timer = worker, segments, file, video, timer
        self.info, self.decoded, self.problem, self.notes = video.info, 0, video.problem, video.notes

    def frame_faces(self, fps: float | None, key_s: float, from_s: float = 0.0, to_s: float | None = None) -> Iterator[FrameFaces]:
        """The faces of each frame that `VideoSource.frames` would yield.

        The last frame of a segment is the first of the next one, which knows what follows: its findings are taken.

        Args:
            fps, from_s, to_s: see `VideoSource.frames`.
            key_s: see `pipeline.faces.finding.find_faces`.
        """
        last: FrameFaces | None = None
        try:
            for segment in self._segments:
                for found in self._worker.collect(segment, self._video, self._timer):
                    if last is not None and found.time_s > last.time_s:
                        yield last
                    if last is None or found.time_s >= last.time_s:
                        last = found
                self.decoded = segment.last
            if last is not None:
                yield last
            return
        except (VideoError, QueueLost) as fault:
            _log(self._segments[0].video, f"decoded sequentially after {last.time_s if last else 0:.1f} s: {fault}")
        with suppress(QueueLost):
            self._worker.queue.finish(self._segments[0].video)  # helpers can do nothing more for it
        begin_s = after_s = -1.0 if last is None else last.time_s  # `last` has not been handed on: it is found again
        if last is not None:
            after_s = (period_start_s(last.time_s, key_s) if key_s else last.time_s) - 1e-6
        with self._worker.open_file(self._file) as whole:
            for found in self._worker.find_faces(whole.frames(fps, after_s, from_s, to_s), key_s, self._timer):
                self.decoded = whole.decoded
                if found.time_s >= begin_s:
                    yield found
            self.info, self.decoded, self.problem, self.notes = whole.info, whole.decoded, whole.problem, whole.notes


def _log(video: str, what: object) -> None:
    """Write a line to this worker's log."""
    print(f"focalface: {printable(video)}: {what}", file=sys.stderr, flush=True)
