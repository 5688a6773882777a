"""One pass over a file's packets, without their pixels: about a hundredth of the work of decoding."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import av
import av.container
import av.error
import numpy as np

from pipeline.video.codec_headers import configuration
from pipeline.video.container import DECODING_TIMES_ONLY
from pipeline.video.source import Heartbeat

NO_TIME = -(2**63)
"""In place of a time stamp that a packet lacks."""

MOST_CONFIGURATIONS = 32
"""Configurations of a stream that are kept to learn their picture sizes; a stream with more keeps the first ones."""


@dataclass(frozen=True)
class Packets:
    """The N packets of one stream in the order of the file.

    Attributes:
        pts, dts: (N,) int64 presentation and decoding time stamps in the stream's time base, or `NO_TIME`.
        duration: (N,) int64, 0 where unknown.
        keyframe: (N,) bool.
        shown: (N,) bool, False where an edit list hides the packet's picture.
        corrupt: (N,) bool, True where the demuxer found the packet damaged or data missing around it.
        broken_off: whether the file could not be read to its end.
        configurations: the first packet of each configuration that the stream's headers name, usually one.
        changes: places of the packets whose headers name another configuration than those before, with its place in `configurations`.
    """

    pts: np.ndarray
    dts: np.ndarray
    duration: np.ndarray
    keyframe: np.ndarray
    shown: np.ndarray
    corrupt: np.ndarray
    broken_off: bool
    configurations: tuple[av.Packet, ...]
    changes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def stamps(self) -> np.ndarray:
        """(N,) int64: the presentation time stamp, else the decoding one."""
        return np.where(self.pts == NO_TIME, self.dts, self.pts)

    @property
    def whole(self) -> bool:
        """Whether every packet is shown, undamaged and has a presentation time of its own."""
        distinct = len(np.unique(self.pts)) == len(self.pts)
        return distinct and bool(self.shown.all()) and not (self.pts == NO_TIME).any() and not self.corrupt.any() and not self.broken_off


class _Columns:
    """Packets of one stream on their way in."""

    def __init__(self, codec: str, decoding_times_only: bool) -> None:
        self._codec, self._decoding_times_only = codec, decoding_times_only
        self._stamps = array("q"), array("q"), array("q")  # eight bytes a value: films have hundreds of thousands of packets
        self._flags = bytearray(), bytearray(), bytearray()
        self._configurations: dict[bytes, av.Packet] = {}
        self._changes: list[tuple[int, int]] = []
        self._current: bytes | None = None

    def add(self, packet: av.Packet) -> None:
        pts = packet.dts if self._decoding_times_only else packet.pts
        for column, value in zip(self._stamps, (pts, packet.dts, packet.duration or 0), strict=True):
            column.append(NO_TIME if value is None else value)
        for flags, flag in zip(self._flags, (packet.is_keyframe, not packet.is_discard, packet.is_corrupt), strict=True):
            flags.append(flag)
        if packet.is_keyframe:
            found = configuration(self._codec, packet)
            if found is not None and found != self._current and len(self._configurations) < MOST_CONFIGURATIONS:
                self._configurations.setdefault(found, packet)
                self._changes.append((len(self._flags[0]) - 1, list(self._configurations).index(found)))
                self._current = found

    def table(self, broken_off: bool) -> Packets:
        pts, dts, duration = (np.frombuffer(column, np.int64) if column else np.empty(0, np.int64) for column in self._stamps)
        keyframe, shown, corrupt = (np.frombuffer(bytes(flags), bool) for flags in self._flags)
        return Packets(pts, dts, duration, keyframe, shown, corrupt, broken_off, tuple(self._configurations.values()), tuple(self._changes))


def read_packets(
    container: av.container.InputContainer, streams: Sequence[av.VideoStream], heartbeat: Heartbeat
) -> tuple[Mapping[int, Packets], int]:
    """Read all packets.

    Args:
        container: open, at its beginning.
        streams: of the container, whose packets are kept.
        heartbeat: called for every packet.

    Returns:
        Stream index to its packets; and the byte of the file at which the last packet of any stream ends, 0 where that is unknown.
    """
    dts_only = container.format.name in DECODING_TIMES_ONLY
    columns = {stream.index: _Columns(stream.codec_context.name if stream.codec_context else "", dts_only) for stream in streams}
    broken_off, end = False, 0
    try:
        for packet in container.demux():
            heartbeat()
            if packet.size:  # an empty one marks the end of a stream
                end = max(end, (packet.pos or 0) + packet.size)
                if packet.stream_index in columns:
                    columns[packet.stream_index].add(packet)
    except av.error.FFmpegError:
        broken_off = True
    return {index: column.table(broken_off) for index, column in columns.items()}, end
