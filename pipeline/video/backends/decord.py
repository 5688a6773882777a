"""decord: reads plain files, the same frames and times as PyAV gives.

decord counts packets and fills in what it cannot decode, knows one size and one stream of a file, and corrects neither mirrored pictures
nor pixel aspect, interlacing or HDR. In transport streams it may begin with the second group of pictures. So it is used only where the
format, the packets and the first frame prove that none of this matters (`reads_correctly`, `open_decord`). It also decodes ahead
without bound, and on damaged files it may hang, which only ending its process ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import VideoError
from pipeline.records import Frame
from pipeline.video.backends.pyav import Decoded, PyavVideo
from pipeline.video.container import DECODE_THREADS
from pipeline.video.geometry import orientation_of
from pipeline.video.light import hdr_name
from pipeline.video.sampling import Sampler
from pipeline.video.source import Heartbeat, Note, VideoInfo

if TYPE_CHECKING:
    import decord

DECORD_MAX_BYTES = 512 * 2**20
"""Videos whose frames take more than this together go to PyAV with `auto`: decord decodes ahead without bound, and it cannot begin at a
keyframe, which analysers that share a video need (`pipeline.video.segments`). More costs that much memory."""

FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats that decord seeks in correctly: it seeks to the beginning before it reads."""

SAME_WITHIN = 2.0
"""Mean difference in levels between decord's and PyAV's first picture up to which it is the same one; two pictures in a row of a still
scene differ by less, two of a moving one by more. More takes a neighbour for the first picture."""


def reads_correctly(video: PyavVideo, first: Decoded, format_name: str, streams: int) -> bool:
    """Whether the file is one whose frames and times decord gives as PyAV does.

    Args:
        video: as PyAV reads it.
        first: its first frame.
        format_name: FFmpeg's name of the container's format.
        streams: number of video streams of the file, covers included.
    """
    if format_name not in FORMATS:
        return False
    packets, timeline = video.stream.packets, video.stream.timeline
    begins_whole = bool(packets.keyframe[0]) and int(packets.pts[0]) == video.origin == int(timeline.stamps[0])
    return (
        packets.whole
        and begins_whole
        and timeline.shifts is None
        and not timeline.counted
        and streams == 1
        and len(packets.configurations) <= 1
        and orientation_of(first.frame).plain
        and first.aspect == 1
        and not first.frame.interlaced_frame
        and not hdr_name(first.frame)
    )


def open_decord(path: str, frames: int, picture: np.ndarray) -> decord.VideoReader | None:
    """A reader; None where decord cannot open the file, counts other frames than the packets promise, or begins with another picture.

    It raises at the first frame that it cannot decode (a tolerated share of next to nothing) instead of filling in.

    Args:
        path: of the file.
        frames: number of frames that the packets promise.
        picture: (H, W, 3) uint8, the first one.
    """
    try:
        reader = _reader(path)
        if len(reader) != frames:
            return None
        begins = reader.get_batch([0]).asnumpy()[0]
    except Exception:  # decord raises several kinds
        return None
    same = begins.shape == picture.shape and np.abs(begins.astype(np.int16) - picture).mean() <= SAME_WITHIN
    return _reader(path) if same else None  # a new one, as frames are exact only when read from the first one on


@cache
def _decord() -> ModuleType:
    """decord, imported when a file is first opened with it.

    OpenCV is imported before it: decord brings an old zlib, which would otherwise serve OpenCV too, and OpenCV would decode no PNG.
    """
    import cv2  # noqa: F401
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _reader(path: str) -> decord.VideoReader:
    return _decord().VideoReader(os.path.abspath(path), num_threads=DECODE_THREADS, fault_tol=1e-9)


class DecordVideo:
    """A video that decord reads; see `pipeline.video.source.SeekableSource`. Where decord fails on the way, PyAV takes over."""

    def __init__(self, info: VideoInfo, reader: decord.VideoReader, pyav: PyavVideo, heartbeat: Heartbeat) -> None:
        self.info, self.times = info, pyav.times
        self.decoded = 0
        self.problem: VideoError | None = None
        self._reader: decord.VideoReader | None = reader
        self._pyav, self._heartbeat = pyav, heartbeat

    def __enter__(self) -> DecordVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder's memory."""
        self._reader = None

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is done about the file."""
        return self._pyav.notes

    @property
    def clock_shifts_s(self) -> np.ndarray | None:
        """See `pipeline.video.source.SeekableSource.clock_shifts_s`."""
        return self._pyav.clock_shifts_s

    def frames(self, fps: float | None = None, after_s: float = -1.0, from_s: float = 0.0, to_s: float | None = None) -> Iterator[Frame]:
        """See `pipeline.video.source.VideoSource.frames`."""
        if self.info.decoder == "decord":
            reader, self._reader = self._reader or _reader(self.info.path), None  # read forward once, then opened anew
            sampler = Sampler(fps, self.info.fps)
            self.decoded, self.problem = 0, None
            for index, time_s in enumerate(self.times.tolist()):
                if to_s is not None and time_s >= to_s:
                    return
                try:
                    image = reader.get_batch([index])  # also of frames that are not wanted: decord is exact only without gaps
                except (_decord().DECORDError, _decord().DECORDLimitReachedError):
                    self.info = replace(self.info, decoder="pyav")
                    break
                self.decoded = index + 1
                self._heartbeat()
                if sampler.wants(time_s) and time_s > after_s and time_s >= from_s:
                    after_s = time_s
                    yield Frame(index, time_s, image.asnumpy()[0])
            else:
                return
        for frame in self._pyav.frames(fps, after_s, from_s, to_s):  # the sampler chooses as it did
            self.decoded = self._pyav.decoded
            yield frame
        self.decoded, self.problem = self._pyav.decoded, self._pyav.problem

    def indexed_times(self) -> Iterator[tuple[int, float]]:
        """See `pipeline.video.source.SeekableSource.indexed_times`: what decord reads has exactly the frames that its packets promise."""
        return enumerate(self.times.tolist()) if self.info.decoder == "decord" else self._pyav.indexed_times()

    def pick(self, indices: Iterable[int], times: Mapping[int, float] | None = None) -> Iterator[Frame]:
        """See `pipeline.video.source.SeekableSource.pick`. PyAV reads them: decord is off by some frames after a seek."""
        known = self.times.tolist()
        return self._pyav.pick(indices, times or {index: known[index] for index in indices if 0 <= index < len(known)})
