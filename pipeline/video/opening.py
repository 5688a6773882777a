"""Opening a video file: is it one, which of its streams is the film, when are its frames shown, and who decodes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.schemas import NoteKind
from pipeline.video.backends.decord import DECORD_MAX_BYTES, DecordVideo, open_decord, reads_correctly
from pipeline.video.backends.pyav import (
    DEINTERLACED,
    Decoded,
    Decoding,
    PyavVideo,
    Stream,
    broken_off,
    decode,
    orientation_note,
    size_note,
    tone_note,
)
from pipeline.video.container import (
    DECODING_TIMES_ONLY,
    IN_ORDER,
    INDEXED,
    RAW,
    SEEKS_BADLY,
    WRAPPING,
    capture_rate,
    choose_stream,
    declared_s,
    fixed_aspect,
    open_container,
    stream_notes,
    video_streams,
)
from pipeline.video.geometry import Canvas, believable_aspect, orientation_of, square_size
from pipeline.video.light import hdr_name
from pipeline.video.packets import Packets, read_packets
from pipeline.video.source import DecoderChoice, Heartbeat, Note, SeekableSource, VideoInfo, no_heartbeat
from pipeline.video.timeline import AROUND, timeline

SHORT_BY = 0.02
"""A file that lacks this share of its declared length is reported as cut short; less is how containers round."""

LEAST_SHARE_READ, LEAST_UNREAD = 0.9, 2**16
"""Where the last packet ends before this share of the file, and this many bytes before its end, the rest is reported as unreadable; indexes
and overhead take less."""

SLOW_MOTION_FROM = 1.5
"""A recording rate this many times the playback rate is slow motion; less is a rate that a phone did not keep."""


@dataclass(frozen=True)
class _Size:
    """Width and height of a picture: as it is stored, and with square pixels."""

    stored: tuple[int, int]
    square: tuple[int, int]


@dataclass(frozen=True)
class _Scanned:
    """A file's stream before anything of it is decoded."""

    stream: Stream
    format_name: str
    streams: int
    declared_s: float | None
    share_read: float
    capture_rate: float | None
    sizes: tuple[_Size | None, ...]
    notes: tuple[Note, ...]


def open_video(
    path: str | Path, heartbeat: Heartbeat = no_heartbeat, decoder: DecoderChoice = "auto", hardware: str | None = None
) -> SeekableSource:
    """Open a video file, having seen that it is one and that a frame of it decodes.

    Args:
        path: of the file.
        heartbeat: called for every packet and frame, here and while frames are read.
        decoder: which backend may read it.
        hardware: see `pipeline.video.container.open_container`; decord is then not used. Without such a device the CPU decodes.

    Returns:
        A context manager.

    Raises:
        VideoError: in one line, why the file cannot be read.
        MemoryError: when the decoder asks for more than there is.

    >>> with open_video("clip.mp4") as video:  # doctest: +SKIP
    ...     times = [frame.time_s for frame in video.frames(fps=10)]
    """
    path = str(path)
    _check_file(path)
    try:
        scanned = _scan(path, heartbeat)
        first, stream, device = _first_frame(scanned.stream, hardware)
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if isinstance(error, av.error.DecoderNotFoundError):
            raise VideoError(VideoErrorKind.UNKNOWN_CODEC, "no decoder here knows its video codec", path) from None
        reason = f"not a video, or damaged beyond reading ({(error.strerror or 'unknown format').lower()})"
        raise VideoError(VideoErrorKind.NOT_A_VIDEO, reason, path) from None
    if first is None:
        raise VideoError(VideoErrorKind.DAMAGED, "damaged beyond reading: no frame of it decodes", path)
    pyav = _pyav_video(scanned, stream, first, device)
    bytes_together = pyav.info.width * pyav.info.height * 3 * len(pyav.times)
    may_use_decord = decoder == "decord" or (decoder == "auto" and bytes_together <= DECORD_MAX_BYTES)
    if may_use_decord and not device and not pyav.problem_known and reads_correctly(pyav, first, scanned.format_name, scanned.streams):
        reader = open_decord(path, len(pyav.times), pyav.picture(first))
        if reader is not None:
            return DecordVideo(replace(pyav.info, decoder="decord"), reader, pyav, heartbeat)
    return pyav


def _check_file(path: str) -> None:
    """Raise VideoError for what is not a readable file with something in it."""
    if not os.path.exists(path):
        raise VideoError(VideoErrorKind.MISSING, "no such file", path)
    if os.path.isdir(path):
        raise VideoError(VideoErrorKind.NOT_A_FILE, "a folder, not a video file", path)
    if not os.path.isfile(path):
        raise VideoError(VideoErrorKind.NOT_A_FILE, "not a regular file", path)
    if not os.access(path, os.R_OK):
        raise VideoError(VideoErrorKind.PERMISSION, "no permission to read it", path)
    if os.path.getsize(path) == 0:
        raise VideoError(VideoErrorKind.EMPTY, "empty file", path)


def _scan(path: str, heartbeat: Heartbeat) -> _Scanned:
    """Choose the stream and read its packets.

    Raises:
        VideoError: there is no stream to read.
    """
    with open_container(path) as container:
        if container.format.name == "tty":  # FFmpeg would draw any text file as pictures of letters
            raise VideoError(VideoErrorKind.NOT_A_VIDEO, "not a video: it is a text file", path)
        streams = video_streams(container)
        if not streams:
            found = "audio only" if container.streams.audio else "nothing to see"
            raise VideoError(VideoErrorKind.NO_VIDEO, f"no video in it, {found}", path)
        packets, end = read_packets(container, streams, heartbeat)
        counts = {index: len(table) for index, table in packets.items()}
        known = [stream for stream in streams if stream.codec_context is not None]
        if not known:
            raise VideoError(VideoErrorKind.UNKNOWN_CODEC, "no decoder here knows its video codec", path)
        chosen = choose_stream(known, counts)
        own = packets[chosen.index]
        format_name, context = container.format.name, chosen.codec_context
        aspect = fixed_aspect(container, chosen)
        sizes = _sizes(own, context, aspect)
        line = timeline(
            own,
            chosen.time_base or Fraction(1, 1000),
            context.framerate or None,
            raw=format_name in RAW,
            wrapping=format_name in WRAPPING,
            indexed=format_name in INDEXED,
        )
        stream = Stream(
            path=path,
            index=chosen.index,
            codec=context.codec.canonical_name,
            packets=own,
            timeline=line,
            rate=chosen.average_rate or chosen.guessed_rate or Fraction(25),
            reordered=context.reorder_depth if format_name in DECODING_TIMES_ONLY else None,
            seeks=format_name not in SEEKS_BADLY,
            restarts=line.joints | (_size_changes(own, sizes) if context.reorder_depth else frozenset()),
            aspect=aspect,
            hardware=None,
            heartbeat=heartbeat,
        )
        notes = (*stream_notes(container, chosen, counts), *line.notes)
        declared = None if line.shifts is not None else declared_s(container, chosen)
        size = os.path.getsize(path)
        share_read = end / size if format_name in IN_ORDER and 0 < end < size - LEAST_UNREAD else 1.0
        return _Scanned(stream, format_name, len(container.streams.video), declared, share_read, capture_rate(container), sizes, notes)


def _sizes(packets: Packets, context: av.VideoCodecContext, aspect: Fraction | None) -> tuple[_Size | None, ...]:
    """Sizes of a stream that has several configurations: a picture of each is decoded; None where it does not decode."""
    if len(packets.configurations) < 2:
        return ()
    sizes: list[_Size | None] = []
    for packet in packets.configurations:
        one = av.CodecContext.create(context.codec.name, "r")
        assert isinstance(one, av.VideoCodecContext)
        one.extradata, one.thread_count = context.extradata, 1
        frames = decode(one, packet) or decode(one, None)
        stored = (frames[0].width, frames[0].height) if frames else None
        sizes.append(stored and _Size(stored, square_size(*stored, believable_aspect(aspect or one.sample_aspect_ratio))))
    return tuple(sizes)


def _size_changes(packets: Packets, sizes: Sequence[_Size | None]) -> frozenset[int]:
    """Packets at which pictures of another size begin. Decoders forget the frames that they hold back there."""
    places, current = [], None
    for place, configuration in packets.changes if sizes else ():
        size = sizes[configuration]
        if size and current and size.stored != current:
            places.append(place)
        current = size.stored if size else current
    return frozenset(places)


def _first_frame(stream: Stream, hardware: str | None) -> tuple[Decoded | None, Stream, str | None]:
    """The first frame that decodes, None if none does; the stream with what decodes it, and the device that does."""
    stream = replace(stream, hardware=hardware)
    try:
        decoding = Decoding(stream)
        first = next(iter(decoding), None)
    except av.error.FFmpegError:
        if hardware is None:
            raise
        return _first_frame(stream, None)  # there is no such device here
    return first, stream, decoding.device


def _pyav_video(scanned: _Scanned, stream: Stream, first: Decoded, device: str | None) -> PyavVideo:
    """The file as PyAV reads it, with all that is known before its frames are read."""
    line, origin = stream.timeline, first.stamp
    orientation = orientation_of(first.frame)
    shown = [first.square_size, *(orientation.size(*size.square) for size in scanned.sizes if size)]
    canvas = Canvas(*max(shown, key=lambda size: size[0] * size[1]))
    times = line.times(origin)
    rate = float((len(times) - 1) / times[-1]) if len(times) > 1 else float(1 / line.time_base if line.counted else stream.rate)
    info = VideoInfo(
        path=stream.path,
        decoder=f"pyav:{device}" if device else "pyav",
        codec=stream.codec,
        width=canvas.width,
        height=canvas.height,
        stream_index=stream.index,
        stored_width=first.frame.width,
        stored_height=first.frame.height,
        pixel_aspect=float(first.aspect),
        fps=rate,
        frame_count=max(1, len(times)),
        duration_s=(float(times[-1]) if len(times) else 0.0) + line.last_length_s(rate),
        start_s=0.0 if line.counted else float(origin * line.time_base),
    )
    notes = [*scanned.notes, *_opening_notes(scanned, stream, first, canvas, len(set(shown)) > 1, rate)]
    return PyavVideo(info, stream, origin, canvas, notes, _cut_short(scanned, times, origin, rate))


def _opening_notes(scanned: _Scanned, stream: Stream, first: Decoded, canvas: Canvas, sizes_change: bool, rate: float) -> list[Note]:
    """What the first frame tells."""
    notes = []
    late = int(np.searchsorted(stream.timeline.stamps, first.stamp))
    if late and not stream.timeline.counted:
        gap_s = stream.timeline.seconds(first.stamp, int(stream.timeline.stamps[0]))
        frames = f"the first {late} frames" if late > 1 else "the first frame"
        text = f"{frames} ({gap_s:.2f} s) cannot be decoded, as the file begins between two keyframes"
        notes.append(Note(NoteKind.STARTS_BETWEEN_KEYFRAMES, text))
    orientation = orientation_of(first.frame)
    if not orientation.plain:
        notes.append(orientation_note(orientation))
    if first.aspect != 1:
        stored = f"{first.frame.width}x{first.frame.height}"
        width, height = square_size(first.frame.width, first.frame.height, first.aspect)
        text = f"pixels are {first.aspect.numerator}:{first.aspect.denominator}, so {stored} is scaled to {width}x{height}"
        notes.append(Note(NoteKind.PIXEL_ASPECT, text))
    if sizes_change:
        notes.append(size_note(canvas))
    if first.frame.interlaced_frame:
        notes.append(DEINTERLACED)
    if transfer := hdr_name(first.frame):
        notes.append(tone_note(transfer))
    if scanned.capture_rate and scanned.capture_rate > rate * SLOW_MOTION_FROM:
        text = f"recorded at {scanned.capture_rate:g} frames a second, played at {rate:g}; times are those of playing"
        notes.append(Note(NoteKind.SLOW_MOTION, text))
    return notes


def _cut_short(scanned: _Scanned, times: np.ndarray, origin: int, rate: float) -> VideoError | None:
    """The problem of a file that ends before its declared length, or within its data, or lacks some of it."""
    packets, line = scanned.stream.packets, scanned.stream.timeline
    if scanned.declared_s and len(times) and not line.counted:
        end_s = float(times[-1]) + line.last_length_s(rate)
        on_clock_s = end_s + float(origin * line.time_base)  # containers count from zero, or from a first frame that comes later
        if max(end_s, on_clock_s) < scanned.declared_s * (1 - SHORT_BY) - 1.0 / rate:
            reason = f"the file is cut short: it ends at {end_s:.1f} of {scanned.declared_s:.1f} s"
            return VideoError(VideoErrorKind.TRUNCATED, reason)
    if packets.broken_off or packets.corrupt[-1:].any():
        return broken_off()
    # Where recordings are joined the demuxer takes the packets on both sides for damaged, as their numbers do not follow each other.
    corrupt = np.flatnonzero(packets.corrupt).tolist()
    damaged = [place for place in corrupt if line.joints.isdisjoint(range(place - AROUND, place + AROUND + 1))]
    if damaged:
        stamp = int(packets.stamps[damaged[0]]) + (int(line.shifts[damaged[0]]) if line.shifts is not None else 0)
        return VideoError(VideoErrorKind.DAMAGED, f"data is missing or damaged at {max(0.0, line.seconds(stamp, origin)):.1f} s")
    if scanned.share_read < LEAST_SHARE_READ:
        return VideoError(VideoErrorKind.DAMAGED, f"only the first {scanned.share_read:.0%} of the file could be read")
    return None
