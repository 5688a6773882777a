"""What a backend offers, and what is known of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np

from pipeline.errors import VideoError
from pipeline.records import Frame
from pipeline.schemas import NoteKind

DecoderChoice = Literal["auto", "decord", "pyav"]
"""`auto` and `decord`: decord for files that it reads correctly (`pipeline.video.backends.decord.reads_correctly`), PyAV for the rest;
`auto` also keeps long videos from decord. `pyav`: PyAV for all files."""

Heartbeat = Callable[[], None]
"""Called for every packet and frame, so that a watcher notices a decoder that hangs."""


def no_heartbeat() -> None:
    """The heartbeat where nothing watches."""


@dataclass(frozen=True)
class Note:
    """One thing that was done about a file so that its frames and times come out right.

    >>> str(Note(NoteKind.DEINTERLACED, "interlaced frames are deinterlaced"))
    'deinterlaced: interlaced frames are deinterlaced'
    """

    kind: NoteKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def joined_notes(notes: Iterable[Note]) -> str | None:
    """The value of the `note` column; `pipeline.schemas.note_kinds` reads the kinds back.

    >>> joined_notes([Note(NoteKind.TONE_MAPPED, "HLG"), Note(NoteKind.ORIENTATION, "mirrored; turned")])
    'tone_mapped: HLG; orientation: mirrored, turned'
    >>> joined_notes([]) is None
    True
    """
    return "; ".join(str(note).replace(";", ",") for note in notes) or None


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are read.

    Attributes:
        path: the file, as given.
        decoder: `decord` or `pyav`; `pyav:DEVICE` (`pyav:cuda`) where a device decodes. Changes to `pyav` where decord fails on the way.
        codec: FFmpeg's name of it.
        width, height: of the frames that are yielded, in pixels: upright, square pixels, one size for the whole video.
        stream_index: of the stream that is read, in its container.
        stored_width, stored_height: of the first picture as it is stored.
        pixel_aspect: width of a stored pixel divided by its height.
        fps: mean frame rate.
        frame_count: frames that the file's packets promise; fewer may decode.
        duration_s: from the first frame's start to the last frame's end.
        start_s: the first frame's time stamp on the container's clock; `time_s` counts from there.
    """

    path: str
    decoder: str
    codec: str
    width: int
    height: int
    stream_index: int
    stored_width: int
    stored_height: int
    pixel_aspect: float
    fps: float
    frame_count: int
    duration_s: float
    start_s: float


class VideoSource(Protocol):
    """An open video. Every backend is one; so is a video that another process decodes, for reading from start to end.

    Attributes:
        info: what is known before frames are read.
        notes: what is done about the file; complete once all frames have been read.
        decoded: frames decoded by the last `frames` call so far, sampled or not.
        problem: why the last `frames` call gave fewer frames than the file should hold, or None.
    """

    info: VideoInfo
    decoded: int
    problem: VideoError | None

    @property
    def notes(self) -> Sequence[Note]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def frames(self, fps: float | None = None, after_s: float = -1.0, from_s: float = 0.0, to_s: float | None = None) -> Iterator[Frame]:
        """Read the video, or a range of it, once.

        Args:
            fps: about how many frames a second to yield: the first frame at or after each instant k / fps. None, or at least the
                video's own rate: every frame.
            after_s: leave out frames up to this time, in seconds.
            from_s, to_s: the range, in seconds: frames at `from_s` and later, before `to_s`. They are those of the whole video, with the
            same
                indices and times. Where the file allows it, reading begins at a keyframe before the range.

        Yields:
            Frames in order, times strictly rising. `index` counts the decoded frames, those left out included. Memory does not grow
            with the length of the video.
        """


class SeekableSource(VideoSource, Protocol):
    """A video that this process decodes.

    Attributes:
        times: (N,) seconds of the frames that the packets promise, strictly rising.
    """

    times: np.ndarray

    @property
    def clock_shifts_s(self) -> np.ndarray | None:
        """(P,) seconds added to the time stamps of each packet of the stream, in the order of the file, where recordings are joined or the
        clock wraps around; other streams of the file need the same. None where the container's clock is taken as it is."""

    def close(self) -> None:
        """Free the decoder's memory."""

    def indexed_times(self) -> Iterator[tuple[int, float]]:
        """Index and time of each frame that `frames()` yields, without making its picture."""

    def pick(self, indices: Iterable[int], times: Mapping[int, float] | None = None) -> Iterator[Frame]:
        """Frames by their `index`, in order, each once; frames that do not decode or do not exist are left out.

        Args:
            indices: of the frames.
            times: `time_s` of each; where given, reading seeks to the keyframes before them instead of decoding all that comes before.
        """
