"""Films whose frames carry their number, drawn as blocks that survive compression: the pixels tell which picture a reader gave."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

COLUMNS, ROWS, BITS = 6, 4, 12
"""A stamp is `BITS` blocks, and the same inverted as a check."""

RATE = 25
"""Frames a second of stamped films."""


def stamp(number: int, size: tuple[int, int]) -> np.ndarray:
    """A picture of a number from 0 to 4095: (height, width, 3) uint8 RGB."""
    width, height = size
    image = np.full((height, width, 3), 96, np.uint8)
    bits = [number >> place & 1 for place in range(BITS)]
    for place, bit in enumerate([*bits, *(1 - bit for bit in bits)]):
        image[_block(place, size, 0.08)] = 235 if bit else 16
    return image


def _block(place: int, size: tuple[int, int], margin: float) -> tuple[slice, slice]:
    row, column = divmod(place, COLUMNS)
    return tuple(  # type: ignore[return-value]
        slice(round(side * (at + margin) / count), max(round(side * (at + 1 - margin) / count), round(side * (at + margin) / count) + 1))
        for side, at, count in ((size[1], row, ROWS), (size[0], column, COLUMNS))
    )


def read_stamp(image: np.ndarray) -> int | None:
    """The number in a picture; None where there is none, or it is smeared."""
    size = image.shape[1], image.shape[0]
    light = np.array([image[_block(place, size, 0.3)].mean() for place in range(2 * BITS)])
    bits = light > 115
    if (bits[:BITS] == bits[BITS:]).any() or ((light > 75) & (light < 155)).any():
        return None
    return sum(1 << place for place in range(BITS) if bits[place])


@dataclass(frozen=True)
class Codec:
    """An encoder, with its options for a group of pictures of a given length, and the containers that take it."""

    name: str
    options: Callable[[int, int, bool], Mapping[str, str]]
    containers: tuple[str, ...]
    most_b_frames: int = 0
    opens: bool = False
    pixels: str = "yuv420p"


def _x264(group: int, b_frames: int, is_open: bool) -> Mapping[str, str]:
    keys = f"keyint={group}:min-keyint={group}:scenecut=0:bframes={b_frames}:b-adapt=0:open-gop={int(is_open)}:rc-lookahead=0:threads=1"
    return {"preset": "ultrafast", "crf": "18", "x264-params": keys}


def _x265(group: int, b_frames: int, is_open: bool) -> Mapping[str, str]:
    keys = f"keyint={group}:min-keyint={group}:scenecut=0:bframes={b_frames}:b-adapt=0:open-gop={int(is_open)}:pools=1:frame-threads=1"
    return {"preset": "ultrafast", "x265-params": f"{keys}:rc-lookahead={max(b_frames + 1, 5)}:log-level=none"}


CODECS = {
    "h264": Codec("libx264", _x264, ("ts", "mp4", "mkv", "mov", "avi", "flv"), 4, True),
    "hevc": Codec("libx265", _x265, ("ts", "mp4", "mkv"), 4, True),
    "mpeg2": Codec("mpeg2video", lambda group, b, _: {"g": str(group), "bf": str(b), "qscale": "3"}, ("ts", "mpg", "mkv"), 2, True),
    "mpeg4": Codec("mpeg4", lambda group, b, _: {"g": str(group), "bf": str(b), "qscale": "3"}, ("avi", "mp4", "mkv"), 2),
    "vp8": Codec("libvpx", lambda group, *_: {"g": str(group), "deadline": "realtime", "cpu-used": "8", "b": "2M"}, ("webm", "mkv")),
    "vp9": Codec("libvpx-vp9", lambda group, *_: {"g": str(group), "deadline": "realtime", "cpu-used": "8", "b": "2M"}, ("webm", "mp4")),
    "mjpeg": Codec("mjpeg", lambda *_: {"qscale": "3"}, ("avi", "mov", "mkv"), pixels="yuvj420p"),
    "wmv2": Codec("wmv2", lambda group, *_: {"g": str(group), "qscale": "3"}, ("asf",)),
}


def write_stamped(
    path: Path,
    numbers: Sequence[int],
    codec: str = "h264",
    *,
    at: Sequence[int] | None = None,
    size: tuple[int, int] = (192, 108),
    group: int = 12,
    b_frames: int = 0,
    is_open: bool = False,
    kept: Callable[[int], bool] = lambda place: True,
    then: Sequence[tuple[Sequence[int], tuple[int, int]]] = (),
    aspect: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = stamp,
    log: list[tuple[int, int, bool]] | None = None,
    rate: int = RATE,
    metadata: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
) -> Path:
    """Write a film of stamps.

    Args:
        path: of the file; its suffix names the container.
        numbers: of the frames.
        codec: of `CODECS`.
        at: when each frame is shown, in frames; by default one after another from 0.
        size: width and height.
        group: frames from one keyframe to the next.
        b_frames: between two others.
        is_open: whether groups of pictures may depend on the one before.
        kept: whether the packet at a place, in decoding order, is written.
        then: numbers and size of further pictures of the same stream, each from an encoder of its own.
        aspect: of a pixel.
        options: of the encoder, besides the codec's.
        draw: draws a number.
        rate: frames a second.
        metadata, muxer: tags and options of the container.
        log: takes, for each packet that is written, its place, its presentation time in frames and whether it is a keyframe.
    """
    known = CODECS[codec]
    if known.name not in av.codecs_available:
        pytest.skip(f"PyAV has no {known.name} encoder here")
    place = first = 0
    with av.open(str(path), "w", options=dict(muxer or {})) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(known.name, rate=rate)
        for part, (part_numbers, part_size) in enumerate([(numbers, size), *then]):
            encoder = stream.codec_context if not part else av.CodecContext.create(known.name, "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height = part_size
            encoder.pix_fmt, encoder.time_base, encoder.framerate = known.pixels, Fraction(1, rate), Fraction(rate)
            encoder.options = {**known.options(group, b_frames, is_open), **(options or {})}
            if aspect:
                encoder.sample_aspect_ratio = aspect
            shown = at if at is not None and not part else range(first, first + len(part_numbers))
            frames: Iterable[av.VideoFrame | None] = [
                *(_frame(draw(number, part_size), pts, rate) for number, pts in zip(part_numbers, shown, strict=True)),
                None,
            ]
            for frame in frames:
                for packet in encoder.encode(frame):
                    if kept(place):
                        packet.stream = stream
                        packet.time_base = Fraction(1, rate)
                        if log is not None:
                            log.append((place, packet.pts or 0, packet.is_keyframe))
                        container.mux(packet)
                    place += 1
            first += len(part_numbers)
    return path


def _frame(image: np.ndarray, pts: int, rate: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame.pts, frame.time_base = pts, Fraction(1, rate)
    return frame


# ---- patches of MP4 and MOV files, whose index PyAV writes behind the pictures

UNITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def set_matrix(path: Path, matrix: Sequence[int]) -> None:
    """Put a display matrix into the track of an MP4 file: a, b, c, d, x, y."""
    a, b, c, d, x, y = matrix
    content = path.read_bytes()
    at = content.rindex(UNITY)  # the track's; the movie's comes first
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, x << 16, y << 16, 1 << 30)
    path.write_bytes(content[:at] + turned + content[at + len(UNITY) :])


def set_edit_list(path: Path, edits: Collection[tuple[int, int]]) -> None:
    """Give the track of an MP4 file an edit list.

    Args:
        path: of the file.
        edits: each a length and the frame with which it begins, both in frames; frame -1 for a pause.
    """
    content = bytearray(path.read_bytes())
    movie, track = content.rindex(b"moov") - 4, content.rindex(b"trak") - 4
    (movie_scale,) = struct.unpack_from(">I", content, content.rindex(b"mvhd") + 16)
    media = content.rindex(b"mdhd")
    (scale,) = struct.unpack_from(">I", content, media + 16)
    first = _first_composition(content, media)
    entries = b"".join(
        struct.pack(">IiI", length * movie_scale // RATE, -1 if begin < 0 else first + begin * scale // RATE, 1 << 16)
        for length, begin in edits
    )
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    old = content.find(b"edts", track)
    start, size = (old - 4, struct.unpack_from(">I", content, old - 4)[0]) if old >= 0 else (content.index(b"mdia", track) - 4, 0)
    content[start : start + size] = edts
    for box in (movie, track):
        struct.pack_into(">I", content, box, struct.unpack_from(">I", content, box)[0] + len(edts) - size)
    path.write_bytes(content)


def _first_composition(content: bytes | bytearray, after: int) -> int:
    """Media time of the first shown frame: the offset that reordering gives it."""
    at = content.find(b"ctts", after)
    return struct.unpack_from(">I", content, at + 16)[0] if at >= 0 else 0


# ---- patches of transport streams


def move_clock(path: Path, ticks: int) -> None:
    """Add to every time stamp of a transport stream, in units of 1/90000 s; the clock has 33 bits and wraps around."""
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 188):
        begins_unit, adapted = content[at + 1] & 0x40, content[at + 3] & 0x20
        body = at + 5 + content[at + 4] if adapted else at + 4
        if adapted and content[at + 4] and content[at + 5] & 0x10:
            clock = (int.from_bytes(content[at + 6 : at + 10], "big") << 1 | content[at + 10] >> 7) + ticks & (1 << 33) - 1
            content[at + 6 : at + 10] = (clock >> 1).to_bytes(4, "big")
            content[at + 10] = content[at + 10] & 0x7F | (clock & 1) << 7
        if begins_unit and content[body : body + 3] == b"\0\0\1" and content[body + 3] >= 0xE0:
            for place in range(content[body + 7].bit_count() if content[body + 7] & 0xC0 else 0):
                _add_to_stamp(content, body + 9 + 5 * place, ticks)
    path.write_bytes(content)


def _add_to_stamp(content: bytearray, at: int, ticks: int) -> None:
    """Add to a time stamp of five bytes, with marks between its bits."""
    a, b, c, d, e = content[at : at + 5]
    stamp = ((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1) + ticks & (1 << 33) - 1
    content[at : at + 5] = bytes(
        [a & 0xF0 | (stamp >> 29 & 0xE) | 1, stamp >> 22 & 255, (stamp >> 14 & 0xFE) | 1, stamp >> 7 & 255, (stamp << 1 & 0xFE) | 1]
    )
