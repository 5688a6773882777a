"""The sound of a video on its way into an annotated film: every track that can be copied or decoded, in step with the pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.audio.stream
import av.container
import av.error
import av.packet
import numpy as np

from pipeline.video.container import open_container

COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Codecs that an MP4 file may hold: their packets are copied byte for byte. Other sound is encoded as AAC."""

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Sample rates that AAC has; sound of other rates is resampled to the first."""

AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""Channel layouts by number of channels; other numbers are mixed down to stereo."""

PROBED_PACKETS = 100
"""Packets tried to see whether a track decodes; a track whose first packets are all damaged is left out."""

PRIMING_S = 0.2
"""Sound that starts this little before the first picture does not move the film's start: encoders put priming samples there."""

KEPT_TAGS = ("language", "title", "handler_name")
"""Tags of a sound track that the film keeps."""


@dataclass(frozen=True)
class SoundTrack:
    """A sound track that goes into the film.

    Attributes:
        index: of the stream in its container.
        copied: whether its packets are copied; else it is decoded and encoded.
        start_s: its first time stamp on the container's clock.
    """

    index: int
    copied: bool
    start_s: float


def sound_tracks(path: Path) -> tuple[list[SoundTrack], list[str]]:
    """The sound tracks of a file that a film can have, and why the others cannot be had.

    Returns:
        The tracks in order, and a sentence for each track that is left out.
    """
    tracks, notes = [], []
    with open_container(str(path)) as source:
        for number, stream in enumerate(source.streams.audio, 1):
            name = f"sound track {number}"
            if stream.codec_context is None:
                notes.append(f"{name} is left out: its codec is not known here")
                continue
            codec = stream.codec_context.codec.canonical_name
            start = stream.start_time * stream.time_base if stream.start_time is not None and stream.time_base else 0
            if codec in COPIED and _copies(stream):
                tracks.append(SoundTrack(stream.index, True, float(start)))
            elif _decodes(path, stream.index):
                tracks.append(SoundTrack(stream.index, False, float(start)))
            else:
                notes.append(f"{name} is left out: its sound ({codec}) does not decode")
    return tracks, notes


def _copies(stream: av.audio.stream.AudioStream) -> bool:
    """Whether an MP4 file takes a track as it is."""
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as probe:
            probe.add_stream_from_template(stream)
            probe.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _decodes(path: Path, index: int) -> bool:
    """Whether the first packets of a track give any sound."""
    with open_container(str(path)) as source, suppress(av.error.FFmpegError):
        for count, packet in enumerate(source.demux(source.streams[index])):
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
            if count >= PROBED_PACKETS:
                break
    return False


class Sound:
    """Brings the sound of a file into a film. Call `until` with rising times of the film."""

    def __init__(
        self,
        source: av.container.InputContainer,
        tracks: Sequence[SoundTrack],
        film: av.container.OutputContainer,
        zero_s: float,
        video_index: int,
        clock_shifts_s: np.ndarray | None,
        cut: bool = False,
    ) -> None:
        """Add the tracks to the film.

        Args:
            source: the file with the sound, open at its beginning; nobody else may read it.
            tracks: from `sound_tracks`.
            film: an MP4 file that is being written.
            zero_s: time on the container's clock at which the film starts.
            video_index: of the video stream that is analysed.
            clock_shifts_s: see `pipeline.video.source.SeekableSource.clock_shifts_s`.
            cut: whether the film begins within the source, so that earlier sound is left out.
        """
        self._from_s = 0.0 if cut else -float("inf")
        self._source, self._film, self._zero_s = source, film, zero_s
        self._video_index, self._shifts_s = video_index, clock_shifts_s
        self._copied = {track.index: track.copied for track in tracks}
        self._targets = {track.index: self._added(source.streams[track.index], track.copied) for track in tracks}
        self._expected_s: dict[int, float] = {}
        self._last_dts: dict[int, int] = {}
        self._packets = self._read()
        self._next = next(self._packets, None)

    def _added(self, stream: Any, copied: bool) -> av.audio.stream.AudioStream:
        """A track of the film for one of the source."""
        if copied:
            target = self._film.add_stream_from_template(stream)
        else:
            rate = stream.codec_context.sample_rate
            target = self._film.add_stream("aac", rate=rate if rate in AAC_RATES else AAC_RATES[0])
            target.codec_context.layout = AAC_LAYOUTS.get(stream.codec_context.layout.nb_channels, "stereo")
        target.metadata.update({name: stream.metadata[name] for name in KEPT_TAGS if name in stream.metadata})
        return target

    def until(self, time_s: float) -> None:
        """Write the packets up to a time of the film, in seconds."""
        while self._next is not None and self._next[0] <= time_s:
            if self._next[0] >= self._from_s:
                self._film.mux(self._next[1])
            self._next = next(self._packets, None)

    def _read(self) -> Iterator[tuple[float, av.packet.Packet]]:
        """Packets for the film with their times in it; where the source breaks off, the sound ends and the film does not."""
        if not self._targets:
            return
        indices = [*self._targets, *([self._video_index] if self._shifts_s is not None else [])]
        place = 0  # packets of the video so far
        with suppress(av.error.FFmpegError):
            for packet in self._source.demux(*(self._source.streams[index] for index in indices)):
                index = packet.stream_index
                if index == self._video_index:
                    place += packet.size > 0
                    continue
                self._retime(packet, place)
                yield from self._copy(packet) if self._copied[index] else self._encode(packet)

    def _retime(self, packet: av.packet.Packet, place: int) -> None:
        """Turn a packet's time stamps into times of the film.

        Args:
            packet: of a sound track.
            place: packets of the video that come before it in the file.
        """
        if packet.time_base is None or (packet.pts is None and packet.dts is None):
            return
        raw_s = float((packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base)
        shift_s = self._shift_s(raw_s, packet.stream_index, place)
        ticks = round((Fraction(shift_s) - Fraction(self._zero_s)) / packet.time_base)
        packet.pts = packet.pts + ticks if packet.pts is not None else None
        packet.dts = packet.dts + ticks if packet.dts is not None else None
        self._expected_s[packet.stream_index] = raw_s + shift_s + float((packet.duration or 0) * packet.time_base)

    def _shift_s(self, raw_s: float, index: int, place: int) -> float:
        """The shift of a sound packet's recording: of the shifts around its place in the file, the one that continues the track."""
        if self._shifts_s is None:
            return 0.0
        here = min(max(place - 1, 0), len(self._shifts_s) - 1)
        changes = np.flatnonzero(np.diff(self._shifts_s))
        after = int(changes[changes >= here][0]) + 1 if (changes >= here).any() else here
        before = int(changes[changes < here][-1]) if (changes < here).any() else here
        choices = [float(self._shifts_s[at]) for at in (here, after, before)]
        expected = self._expected_s.get(index)
        return choices[0] if expected is None else min(choices, key=lambda shift: abs(raw_s + shift - expected))

    def _copy(self, packet: av.packet.Packet) -> Iterator[tuple[float, av.packet.Packet]]:
        if not packet.size or packet.time_base is None or (packet.pts is None and packet.dts is None):
            return
        packet.dts = packet.dts if packet.dts is not None else packet.pts
        packet.pts = packet.pts if packet.pts is not None else packet.dts
        assert packet.dts is not None
        index, target = packet.stream_index, self._targets[packet.stream_index]
        if index not in self._last_dts or packet.dts > self._last_dts[index]:  # the muxer takes rising times only
            self._last_dts[index] = packet.dts
            time_s = float(packet.dts * packet.time_base)
            packet.stream = target
            yield time_s, packet

    def _encode(self, packet: av.packet.Packet) -> Iterator[tuple[float, av.packet.Packet]]:
        frames: list[Any] = []
        with suppress(av.error.FFmpegError):
            frames = list(packet.decode())
        target = self._targets[packet.stream_index]
        for frame in [*frames, *([None] if not packet.size else [])]:
            for coded in target.encode(frame):
                yield float((coded.dts or 0) * (coded.time_base or 0)), coded
