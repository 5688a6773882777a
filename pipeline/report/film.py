"""The annotated video: a clip with its faces, regions and words burnt in, its sound and its times kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import av
import av.audio.stream
import av.container
import av.error
import av.packet
import av.stream
import av.video.frame
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from pipeline.errors import SettingsError
from pipeline.report.inputs import sampling_fps, video_file, video_row, window_seconds
from pipeline.report.overlay import Overlay, hide_faces
from pipeline.report.positions import FacePositions
from pipeline.report.windows import window_rows
from pipeline.schemas import NoteKind
from pipeline.storage.run_folder import RunFolder
from pipeline.video.container import open_container
from pipeline.video.opening import open_video
from pipeline.video.sampling import Sampler
from pipeline.video.source import SeekableSource

CRF = "20"
"""x264's quality, 0 to 51; lower looks better and makes larger files (6 more is about half the size)."""

PRESET = "veryfast"
"""x264's effort; slower ones make smaller files of the same look."""

COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Sound that an MP4 may hold goes over as it is, byte for byte; other sound is encoded anew as AAC."""

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Samples a second that AAC knows; other sound is resampled to the first."""


AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""How so many channels are encoded; other numbers are mixed down to stereo."""


class _Sound:
    """The sound of a file on its way into another: told a time, it brings over what comes before."""

    def __init__(self, source: av.container.InputContainer, out: av.container.OutputContainer, start_s: Fraction) -> None:
        """Add the source's sound to the output, which starts at `start_s` of the source."""
        self._out, self._start_s = out, start_s
        self._streams: dict[int, av.audio.stream.AudioStream] = {}
        self._last: dict[int, int] = {}
        for stream in source.streams.audio:
            if stream.codec_context.codec.canonical_name in COPIED:
                self._streams[stream.index] = out.add_stream_from_template(stream)
            else:
                rate = stream.codec_context.sample_rate
                encoder = out.add_stream("aac", rate=rate if rate in AAC_RATES else AAC_RATES[0])
                encoder.codec_context.layout = AAC_LAYOUTS.get(stream.codec_context.layout.nb_channels, "stereo")
                self._streams[stream.index] = encoder
        self._packets = self._read(source)
        self._next = next(self._packets, None)

    def _read(self, source: av.container.InputContainer) -> Iterator[tuple[float, av.packet.Packet]]:
        """Packets for the output with their times in it; a damaged end ends the sound, not the film."""
        if not self._streams:
            return
        try:
            for packet in source.demux(source.streams.audio):
                encoder = self._streams[packet.stream.index]
                copied = packet.stream.codec_context.codec.canonical_name in COPIED
                yield from self._copied(packet, encoder) if copied else self._encoded(packet, encoder)
        except av.error.FFmpegError:
            return

    def _copied(self, packet: av.packet.Packet, stream: av.audio.stream.AudioStream) -> Iterator[tuple[float, av.packet.Packet]]:
        if packet.size == 0 or packet.dts is None or packet.pts is None or packet.time_base is None:
            return
        shift = round(self._start_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.dts > self._last.get(stream.index, packet.dts - 1):  # the muxer takes rising times only
            self._last[stream.index] = packet.dts
            packet.stream = stream
            yield float(packet.dts * packet.time_base), packet

    def _encoded(self, packet: av.packet.Packet, stream: av.audio.stream.AudioStream) -> Iterator[tuple[float, av.packet.Packet]]:
        ended = packet.size == 0
        frames: list[Any] = []
        with suppress(av.error.FFmpegError):
            frames = list(packet.decode())
        for frame in [*frames, None] if ended else frames:
            if frame is not None and frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._start_s / frame.time_base)
            for coded in stream.encode(frame):
                yield float((coded.dts or 0) * (coded.time_base or 0)), coded

    def until(self, time_s: float) -> None:
        """Bring over the packets up to a time of the output."""
        while self._next is not None and self._next[0] <= time_s:
            self._out.mux(self._next[1])
            self._next = next(self._packets, None)


class _Film:
    """An H.264 file in the making; a context manager. Times and sound are the source's."""

    def __init__(self, part: Path, video: SeekableSource, source: av.container.InputContainer) -> None:
        stream = source.streams[video.info.stream_index]
        assert isinstance(stream, av.VideoStream)
        time_base = stream.time_base or Fraction(1, 1000)
        start_s = Fraction(max(source.start_time or 0, 0), av.time_base)
        self._first_pts = round((Fraction(video.info.start_s) - start_s) / time_base)
        self._size = video.info.width, video.info.height
        self._out = av.open(os.path.abspath(part), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(video.info.fps).limit_denominator(100_000)
        self._stream = self._out.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": PRESET})
        self._context = self._stream.codec_context
        self._context.width, self._context.height = (side + side % 2 for side in self._size)
        self._context.pix_fmt = "yuv420p"
        self._context.time_base = self._stream.time_base = self._time_base = time_base
        of = stream.codec_context
        self._context.color_primaries, self._context.color_trc = of.color_primaries, of.color_trc
        self._space = of.colorspace or Colorspace.ITU601  # 0 is RGB, which yuv420p is not
        if any(note.kind == NoteKind.TONE_MAPPED for note in video.notes):
            self._context.color_primaries, self._context.color_trc, self._space = 1, 1, Colorspace.ITU709  # BT.709
        self._context.colorspace, self._context.color_range = self._space, ColorRange.MPEG
        self._sound = _Sound(source, self._out, start_s)
        self._held: av.VideoFrame | None = None

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._out.mux(self._stream.encode(None))
            self._sound.until(float("inf"))
        self._out.close()

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Add the next frame, later than the one before, which is shown until then.

        Args:
            image: (H, W, 3) uint8 RGB.
            time_s: from the first frame of the source.
        """
        self.end(time_s)
        height, width = image.shape[:2]
        if height % 2 or width % 2:  # yuv420p knows even sides only: the last row and column come twice
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._space)
        frame.pts, frame.time_base = self._first_pts + round(time_s / self._time_base), self._time_base
        self._held = frame

    def end(self, time_s: float) -> None:
        """Show the last frame until a time."""
        if self._held is not None and self._held.pts is not None:
            self._held.duration = self._first_pts + round(time_s / self._time_base) - self._held.pts
            self._out.mux(self._stream.encode(self._held))
            self._sound.until(float(self._held.pts * self._time_base))
            self._held = None


def annotate_video(
    run: RunFolder,
    video_id: str,
    out: Path,
    *,
    faces: Literal["show", "blur"] = "show",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write a video with what the run says about it drawn in: H.264 in MP4, ready to stream, upright, sound kept.

    Every frame that decodes is written at its own time, sampled or not; boxes move smoothly between the sampled frames of a track.
    Memory does not grow with the frames of the video (the faces table is held: `pipeline.report.positions`). The file appears whole or
    not at all.

    Args:
        run: the run folder.
        video_id: of the videos table.
        out: the file to write (`.mp4`).
        faces: `blur` makes every tracked face unrecognisable first, also in the frames around and between those where it was found.
            Voices stay.
        progress: called with (frames done, frames expected) after every frame.

    Returns:
        `out`.

    Raises:
        SettingsError: an unknown video, tables that cannot be read, or a file that cannot be written.
        VideoError: the video is gone, changed since the run, or not to be read.
    """
    row = video_row(run, video_id)
    path = video_file(run, row)
    if out.exists() and out.samefile(path):
        raise SettingsError(f"{out} is the video itself: name another file to write")
    part = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open_video(path) as video, open_container(str(path)) as source:
            tracks, overlay = _overlay(run, video_id, video)
            with _Film(part, video, source) as film:
                for frame in video.frames():
                    image = frame.image
                    if faces == "blur":
                        hide_faces(image, tracks.at(frame.time_s, extended=True))
                    film.write(overlay.draw(image, frame.time_s), frame.time_s)
                    progress(video.decoded, video.info.frame_count)
                film.end(video.info.duration_s)
        os.replace(part, out)
    except (OSError, av.error.FFmpegError) as error:
        raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return out


def _overlay(run: RunFolder, video_id: str, video: SeekableSource) -> tuple[FacePositions, Overlay]:
    """The run's tables of one video, ready to be drawn."""
    sampler = Sampler(sampling_fps(run), video.info.fps)
    sampled_s = np.array([time_s for time_s in video.times.tolist() if sampler.wants(time_s)])
    positions = FacePositions(run.batches("faces", video_id, ["track_id", "time_s", "box", "landmarks5"]), sampled_s)
    regions = run.read("descriptions", ["track_id", "window_index", "time_s", "region", "box"], video_id)
    size = video.info.width, video.info.height
    return positions, Overlay(size, positions, window_rows(run, video_id), regions, window_seconds(run))
