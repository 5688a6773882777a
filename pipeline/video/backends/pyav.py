"""PyAV: reads every file. Which picture is shown at which time is what the decoder itself puts out."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

import av
import av.error
import av.video.frame
import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.schemas import NoteKind
from pipeline.video.container import DECODE_THREADS, open_container
from pipeline.video.geometry import Canvas, Orientation, believable_aspect, orientation_of, square_size
from pipeline.video.light import Deinterlacer, ToRGB, hdr_name
from pipeline.video.packets import Packets
from pipeline.video.sampling import Sampler
from pipeline.video.source import Heartbeat, Note, VideoInfo
from pipeline.video.timeline import Timeline

WAIT_BY_THEMSELVES = ("h264", "hevc", "vvc")
"""Codecs whose decoders give nothing before a picture that depends on nothing earlier. Others begin with grey and smeared pictures."""

RESTART_AFTER_ERRORS = ("vp8", "vp9", "av1")
"""Codecs whose decoders stop or go on with the wrong references after a damaged packet, so that they begin anew at the next keyframe."""


@dataclass(frozen=True)
class Stream:
    """The stream that is read, and all that decoding it takes.

    Attributes:
        path: of the file.
        index: of the stream in its container.
        codec: FFmpeg's name of it.
        packets: of the stream.
        timeline: of the stream.
        rate: mean frames a second of the container, for what has no length of its own.
        reordered: frames by which the decoder is behind its packets, where presentation times are not stored; None where they are.
        seeks: whether frames keep their times after a seek in the file's format.
        restarts: packets at which decoding begins anew: joints, parts of edit lists, pictures of another size.
        aspect: pixel aspect that the container gives for the whole stream; None where each picture's own counts.
        hardware: device that decodes, or None.
        heartbeat: called for every packet.
    """

    path: str
    index: int
    codec: str
    packets: Packets
    timeline: Timeline
    rate: Fraction
    reordered: int | None
    seeks: bool
    restarts: frozenset[int]
    aspect: Fraction | None
    hardware: str | None
    heartbeat: Heartbeat


@dataclass(frozen=True)
class Decoded:
    """One frame as the decoder gives it, deinterlaced where need be.

    Attributes:
        stamp: when it is shown, in units of the timeline.
        frame: its pixels.
        aspect: its pixel aspect.
    """

    stamp: int
    frame: av.video.frame.VideoFrame
    aspect: Fraction

    @property
    def square_size(self) -> tuple[int, int]:
        """Width and height upright, with square pixels."""
        return orientation_of(self.frame).size(*square_size(self.frame.width, self.frame.height, self.aspect))


class Decoding:
    """One pass over a stream, from its beginning or from a keyframe.

    Attributes:
        broken_off: whether the file ended within its data.
        interlaced: whether an interlaced frame has come.
        device: that decodes, or None; known once a frame has come.
    """

    def __init__(self, stream: Stream, seek_dts: int | None = None) -> None:
        """Prepare.

        Args:
            stream: to decode.
            seek_dts: a keyframe's decoding time, to begin there or before; None for the beginning.
        """
        self._stream, self._seek_dts = stream, seek_dts
        self._deinterlacer = Deinterlacer()
        self.broken_off = False
        self.device: str | None = None

    @property
    def interlaced(self) -> bool:
        return self._deinterlacer.active

    def __iter__(self) -> Iterator[Decoded]:
        """Every frame that decodes, in the order of the decoder."""
        stream = self._stream
        last = -1
        with open_container(stream.path, stream.hardware) as container:
            source = container.streams[stream.index]
            assert isinstance(source, av.VideoStream)
            context = source.codec_context
            context.thread_count = DECODE_THREADS
            if self._seek_dts is not None:
                depth = context.reorder_depth
                with suppress(av.error.FFmpegError):  # without an index entry before it: reading begins at the beginning
                    container.seek(self._seek_dts, stream=source)
                context.reorder_depth = depth  # forgotten when the decoder is flushed, which loses the first frames shown out of order
            for frame in self._deinterlaced(self._frames(container, source)):
                self.device = stream.hardware if context.is_hwaccel else None
                last = self._stamp(frame, last)
                yield Decoded(last, frame, believable_aspect(stream.aspect or context.sample_aspect_ratio))

    def _stamp(self, frame: av.video.frame.VideoFrame, last: int) -> int:
        """When a frame is shown: what the decoder says, else one usual frame after the last one."""
        if self._stream.timeline.counted:
            return last + 1
        if self._stream.reordered is not None:
            return last + 1 if frame.dts is None else frame.dts - self._stream.reordered
        for stamp in (frame.pts, frame.dts):
            if stamp is not None:
                return stamp
        return last + max(1, round(1 / (self._stream.rate * self._stream.timeline.time_base)))

    def _deinterlaced(self, frames: Iterator[av.video.frame.VideoFrame]) -> Iterator[av.video.frame.VideoFrame]:
        for frame in frames:
            frame.time_base = self._stream.timeline.time_base
            yield from self._deinterlacer.push(frame)
        yield from self._deinterlacer.finish()

    def _frames(self, container: av.container.InputContainer, source: av.VideoStream) -> Iterator[av.video.frame.VideoFrame]:
        """Frames as decoded, without those that depend on what is not there."""
        stream, context = self._stream, source.codec_context
        waits = stream.codec not in WAIT_BY_THEMSELVES and bool(stream.packets.keyframe.any())
        waiting, begin = waits, None
        for place, packet in enumerate(self._packets(container, source)):
            if place in stream.restarts and self._seek_dts is None:  # what follows knows nothing of what comes before
                yield from _from(begin, decode(context, None))
                _flush(context)
                waiting, begin = waits, None
            if waiting and packet.is_keyframe:
                waiting, begin = False, packet.pts
            if not waiting:
                frames = decode(context, packet)
                yield from _from(begin, frames)
                if frames is None and stream.codec in RESTART_AFTER_ERRORS:
                    _flush(context)
                    waiting = True
        yield from _from(begin, decode(context, None))

    def _packets(self, container: av.container.InputContainer, source: av.VideoStream) -> Iterator[av.Packet]:
        """The stream's packets, their time stamps corrected."""
        shifts = self._stream.timeline.shifts
        place = 0
        try:
            for packet in container.demux(source):
                self._stream.heartbeat()
                if not packet.size:  # an empty one marks the end of the stream
                    continue
                if shifts is not None and place < len(shifts):
                    shift = int(shifts[place])
                    packet.pts = None if packet.pts is None else packet.pts + shift
                    packet.dts = None if packet.dts is None else packet.dts + shift
                place += 1
                yield packet
        except av.error.FFmpegError:
            self.broken_off = True


def _from(begin: int | None, frames: list[av.video.frame.VideoFrame] | None) -> Iterator[av.video.frame.VideoFrame]:
    """Frames that are shown at the keyframe with which decoding began, or later: those before it depend on what is not there."""
    return (frame for frame in frames or () if begin is None or frame.pts is None or frame.pts >= begin)


def _flush(context: av.VideoCodecContext) -> None:
    """Make a decoder forget all frames, but not by how many it has to reorder them, which would lose some."""
    depth = context.reorder_depth
    context.flush_buffers()
    context.reorder_depth = depth


def decode(context: av.VideoCodecContext, packet: av.Packet | None) -> list[av.video.frame.VideoFrame] | None:
    """A packet's frames; None where it is damaged. No packet: the frames that the decoder still holds.

    Raises:
        MemoryError: when the decoder asks for more than there is.
    """
    try:
        return context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        return None


class PyavVideo:
    """A video that PyAV reads; see `pipeline.video.source.SeekableSource`.

    Attributes:
        stream: that is read.
        origin: time stamp of the first frame, which is time zero.
        interlaced: whether the video is known to hold interlaced frames.
        problem_known: what its packets already tell to be missing.
    """

    def __init__(
        self, info: VideoInfo, stream: Stream, origin: int, canvas: Canvas, notes: Iterable[Note], problem: VideoError | None
    ) -> None:
        self.info, self.stream, self.origin = info, stream, origin
        self.times = stream.timeline.times(origin)
        self.decoded = 0
        self.problem: VideoError | None = None
        self.interlaced = any(note.kind == NoteKind.DEINTERLACED for note in notes)
        self.problem_known = problem
        self._canvas, self._to_rgb = canvas, ToRGB()
        self._notes = {note.kind: note for note in notes}

    def __enter__(self) -> PyavVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder's memory: nothing is held between calls."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is done about the file, by kind in the order in which it was found."""
        return tuple(self._notes.values())

    @property
    def clock_shifts_s(self) -> np.ndarray | None:
        """See `pipeline.video.source.SeekableSource.clock_shifts_s`."""
        shifts, time_base = self.stream.timeline.shifts, self.stream.timeline.time_base
        return None if shifts is None else shifts * float(time_base)

    def frames(self, fps: float | None = None, after_s: float = -1.0, from_s: float = 0.0, to_s: float | None = None) -> Iterator[Frame]:
        """See `pipeline.video.source.VideoSource.frames`."""
        sampler = Sampler(fps, self.info.fps)
        begun = False
        for index, time_s, decoded in self._since(from_s):
            if not begun:
                for earlier_s in self.times[:index].tolist():  # which frames are sampled depends on those before them
                    sampler.wants(earlier_s)
                begun = True
            if to_s is not None and time_s >= to_s:
                return
            if sampler.wants(time_s) and time_s > after_s and time_s >= from_s:
                yield Frame(index, time_s, self.picture(decoded))

    def _since(self, from_s: float) -> Iterator[tuple[int, float, Decoded]]:
        """Index, time and frame of all frames from a keyframe before a time on; of all frames where the file has to be read as one."""
        self.decoded, self.problem = 0, self.problem_known
        last = -1
        place, dts = self._keyframe_before(from_s)
        if place:
            for decoded in Decoding(self.stream, dts):
                time_s = self.stream.timeline.seconds(decoded.stamp, self.origin)
                index = int(np.searchsorted(self.times, time_s))
                if index < place:
                    continue
                if index != (place if last < 0 else last + 1) or index == len(self.times) or self.times[index] != time_s:
                    break  # other frames than the packets promise: only the whole file tells which they are
                last, self.decoded = index, index + 1
                yield index, time_s, decoded
            else:
                return
        for index, (time_s, decoded) in enumerate(self._pass()):
            if index > last:
                yield index, time_s, decoded

    def _keyframe_before(self, from_s: float) -> tuple[int, int | None]:
        """Place and decoding time stamp of the keyframe at which reading for a time begins; place 0 is the beginning.

        It is the last but one before the time: frames just behind a keyframe may be shown only once those before it are decoded, and
        deinterlacing takes the frame before.
        """
        if from_s <= 0 or not self.seekable or not len(self.times):
            return 0, None
        places, dts = self.keyframes
        wanted = min(int(np.searchsorted(self.times, from_s)), len(self.times) - 1)
        key = int(np.searchsorted(places, wanted, "right")) - 2
        return (int(places[key]), int(dts[key])) if key > 0 else (0, None)

    def indexed_times(self) -> Iterator[tuple[int, float]]:
        """See `pipeline.video.source.SeekableSource.indexed_times`."""
        sampler = Sampler(None, self.info.fps)
        return ((index, time_s) for index, (time_s, _) in enumerate(self._pass()) if sampler.wants(time_s))

    def _pass(self) -> Iterator[tuple[float, Decoded]]:
        """All frames with their times, counted; at the end it is known what is missing."""
        self.decoded, self.problem = 0, self.problem_known
        decoding = Decoding(self.stream)
        for decoded in decoding:
            self.decoded += 1
            yield self.stream.timeline.seconds(decoded.stamp, self.origin), decoded
        if decoding.interlaced:
            self._add_note(DEINTERLACED)
        if self.problem is None and decoding.broken_off:
            self.problem = broken_off()
        fields = decoding.interlaced and abs(2 * self.decoded - len(self.times)) <= 2  # two packets a frame: one for each field
        if self.problem is None and self.decoded < len(self.times) and not fields:
            reason = f"{self.decoded} of {len(self.times)} frames could be decoded"
            self.problem = VideoError(VideoErrorKind.DAMAGED, reason)

    def pick(self, indices: Iterable[int], times: Mapping[int, float] | None = None) -> Iterator[Frame]:
        """See `pipeline.video.source.SeekableSource.pick`."""
        missing = set(indices)
        if times is not None and self.seekable:
            for frame in self._sought({times[index]: index for index in sorted(missing & times.keys())}):
                yield frame
                missing.remove(frame.index)
        for index, decoded in enumerate(Decoding(self.stream) if missing else ()):
            if index in missing:
                yield Frame(index, self.stream.timeline.seconds(decoded.stamp, self.origin), self.picture(decoded))
                missing.remove(index)
            if not missing:
                return

    @property
    def seekable(self) -> bool:
        """Whether a time leads to its frame without decoding all that comes before."""
        line = self.stream.timeline
        plain = line.shifts is None and not line.counted and not self.stream.reordered and not self.stream.restarts
        return plain and self.stream.seeks and self.stream.packets.whole

    @property
    def keyframes(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) places of the keyframes among the promised frames, rising, and (K,) their decoding time stamps, where to seek to."""
        packets = self.stream.packets
        keys = packets.keyframe & packets.shown & (packets.stamps >= self.origin)
        dts = np.where(packets.dts < packets.pts, packets.dts, packets.pts)[keys]
        first = int(np.searchsorted(self.stream.timeline.stamps, self.origin))
        places, at = np.unique(np.searchsorted(self.stream.timeline.stamps, packets.stamps[keys]) - first, return_index=True)
        return places, dts[at]

    def _sought(self, wanted: Mapping[float, int]) -> Iterator[Frame]:
        """Frames by their times, rising, to their indices; a frame that is not found from the keyframe before it is left out."""
        places, dts = self.keyframes
        key_times = self.times[places]
        decoded: Iterator[Decoded] = iter(())
        now_s = -1.0
        for time_s, index in wanted.items():
            # Deinterlacing takes the frame before: a keyframe itself is then read from the keyframe before it.
            key = int(np.searchsorted(key_times, time_s, "left" if self.interlaced and time_s > 0 else "right")) - 1
            if key >= 0 and key_times[key] > now_s:
                decoded = iter(Decoding(self.stream, int(dts[key])))
            while now_s < time_s and (found := next(decoded, None)):
                now_s = self.stream.timeline.seconds(found.stamp, self.origin)
                if now_s == time_s:
                    yield Frame(index, time_s, self.picture(found))

    def picture(self, decoded: Decoded) -> np.ndarray:
        """(height, width, 3) uint8 RGB: upright, square pixels, SDR, in the video's one size."""
        orientation = orientation_of(decoded.frame)
        shown = orientation.size(*square_size(decoded.frame.width, decoded.frame.height, decoded.aspect))
        if shown != (self._canvas.width, self._canvas.height):
            self._add_note(size_note(self._canvas))
        if hdr := hdr_name(decoded.frame):
            self._add_note(tone_note(hdr))
        fitted = self._canvas.fitted(*shown)
        return self._canvas.place(orientation.apply(self._to_rgb(decoded.frame, orientation.size(*fitted))))

    def _add_note(self, note: Note) -> None:
        self._notes.setdefault(note.kind, note)


DEINTERLACED = Note(NoteKind.DEINTERLACED, "interlaced frames are deinterlaced (bwdif)")


def size_note(canvas: Canvas) -> Note:
    """Said where pictures have more than one size."""
    text = f"the picture's size changes; all pictures are fitted into {canvas.width}x{canvas.height}, their shape kept, with black bars"
    return Note(NoteKind.SIZE_CHANGES, text)


def tone_note(transfer: str) -> Note:
    """Said where HDR is tone-mapped; `transfer` is its name."""
    return Note(NoteKind.TONE_MAPPED, f"HDR ({transfer}) is brought to BT.709")


def orientation_note(orientation: Orientation) -> Note:
    """Said where pictures are not shown as they are stored."""
    return Note(NoteKind.ORIENTATION, f"pictures are {orientation.text}, as the file asks")


def broken_off() -> VideoError:
    """The problem of a file that ends within its data."""
    return VideoError(VideoErrorKind.TRUNCATED, "its data is damaged or cut short")
