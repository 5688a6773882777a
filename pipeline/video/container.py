"""FFmpeg's view of a file: opening it, and choosing one of its video streams."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import av.container
import av.logging
from av.codec.hwaccel import HWAccel
from av.stream import Disposition

from pipeline.schemas import NoteKind
from pipeline.video.source import Note

av.logging.set_level(None)  # what FFmpeg reports reaches the user as one line: a `VideoError`

DECODE_THREADS = 1
"""Threads of a decoder. More decode one large video faster and take cores from the other stages."""

NEVER_A_FILM = (
    Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent | Disposition.multilayer
)
"""Streams that FFmpeg itself says are covers, thumbnails or layers of another stream."""

WRAPPING = ("mpegts", "mpeg")
"""Formats whose time stamps wrap around after 26.5 hours and may restart within a file; their clock begins anywhere."""

WRAPPING_ENDINGS = (".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".vob", ".mod", ".tod")
"""Endings of files in these formats."""

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2",)
"""Formats whose index gives every frame its time: a step back in their decoding times is an edit list's doing, never a joint."""

ASPECT_IN_CONTAINER = (*INDEXED, "matroska,webm")
"""Formats that give the pixel aspect themselves; it goes before the one in the stream."""

RAW = ("h264", "hevc", "vvc", "mpegvideo", "m4v", "mjpeg", "vc1", "h263", "cavsvideo", "dirac", "obu", "evc")
"""Formats that are a stream and nothing else: they have no time stamps."""

IN_ORDER = (*WRAPPING, "avi", "flv", "matroska,webm", "asf", "ogg")
"""Formats whose packets lie in the file in order, the last ones near its end."""

SEEKS_BADLY = ("mpeg",)
"""Formats in which the first frames after a seek get the times of others."""

DECODING_TIMES_ONLY = ("avi",)
"""Formats that store no presentation times: a frame is shown when the decoder gives it."""

CAPTURE_RATE_TAGS = ("com.android.capture.fps",)
"""Tags with the frames a second at which a phone recorded what it plays back at another rate."""


def open_container(path: str, hardware: str | None = None) -> av.container.InputContainer:
    """Open a file for reading, and nothing but a file.

    Args:
        path: of the file.
        hardware: the kind of device that is to decode what it can (`pipeline.settings.VideoGroup`); the CPU does the rest.
    """
    accelerator = HWAccel(hardware) if hardware else None
    # An absolute path, as a colon in a name would read as a protocol; no protocol but `file`, so that no file leads to the network;
    # time stamps as they are stored: FFmpeg takes a second recording joined to a first for a clock that wrapped around.
    options = {"protocol_whitelist": "file", "correct_ts_overflow": "0"}
    return av.open(os.path.abspath(path), metadata_errors="ignore", options=options, hwaccel=accelerator)


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams that may be the film: all but covers, thumbnails and layers that are marked as such."""
    return [stream for stream in container.streams.video if not stream.disposition & NEVER_A_FILM]


def choose_stream(streams: Sequence[av.VideoStream], packets: Mapping[int, int]) -> av.VideoStream:
    """The stream that is read, everywhere: the default one, else the largest.

    Args:
        streams: from `video_streams`, at least one.
        packets: number of packets by stream index. A stream of one picture beside a film is a cover.
    """
    films = [stream for stream in streams if packets[stream.index] > 1] or list(streams)
    default = [stream for stream in films if stream.disposition & Disposition.default]
    if len(default) == 1:  # several, as Matroska has it unless told otherwise, say nothing
        return default[0]
    return max(films, key=lambda stream: (stream.width * stream.height, -stream.index))


def stream_notes(container: av.container.InputContainer, chosen: av.VideoStream, packets: Mapping[int, int]) -> list[Note]:
    """What to say about the streams that are not read."""
    others = [stream for stream in container.streams.video if stream.index != chosen.index]
    if not others:
        return []
    named = []
    for stream in others:
        is_cover = stream.disposition & NEVER_A_FILM or packets.get(stream.index, 0) <= 1
        named.append(f"{'cover' if is_cover else 'track'} {stream.index} ({_size(stream)})")
    return [Note(NoteKind.OTHER_TRACKS, f"track {chosen.index} ({_size(chosen)}) is read, not {', '.join(named)}")]


def _size(stream: av.VideoStream) -> str:
    return f"{stream.width}x{stream.height}" if stream.codec_context is not None else "unknown codec"


def fixed_aspect(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """The pixel aspect that the container gives for the whole stream; None where each picture's own counts."""
    return stream.sample_aspect_ratio if container.format.name in ASPECT_IN_CONTAINER else None


def media_start_s(path: str, start_s: float) -> float:
    """When a video's first picture is shown on the clock of players, which annotation tools such as ELAN count on.

    Most containers have a timeline that begins at 0, on which the first picture may come later. Transport and program streams (`WRAPPING`)
    have a clock that begins anywhere; players show its first time stamp as 0.

    Args:
        path: the file. Where it is not there any more, its ending tells the kind of container.
        start_s: the first picture's time stamp on the container's own clock (`start_s` of the videos table).

    Returns:
        Seconds to add to `time_s`.
    """
    try:
        with open_container(path) as container:
            wrapping, first = container.format.name in WRAPPING, (container.start_time or 0) / av.time_base
    except (OSError, ValueError):  # FFmpeg's errors are of these kinds
        wrapping, first = os.path.splitext(path)[1].lower() in WRAPPING_ENDINGS, start_s
    return max(start_s - first, 0.0) if wrapping else start_s


def capture_rate(container: av.container.InputContainer) -> float | None:
    """Frames a second at which a phone recorded, where it says so."""
    for tag in CAPTURE_RATE_TAGS:
        try:
            return float(container.metadata[tag])
        except (KeyError, ValueError):
            continue
    return None


def declared_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """The stream's declared duration in seconds; None where the container does not give it for this stream alone."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska: HH:MM:SS.nnn
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        only = len(container.streams) == 1 and container.duration is not None
        return container.duration / av.time_base if only and container.duration else None
