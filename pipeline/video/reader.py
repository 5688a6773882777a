"""Opening a video file and reading its frames: upright, in RGB, one after another, each with its own time.

decord reads what it reads rightly, PyAV the rest. Before anything is decoded one pass over the packets (no pixels, about a
hundredth of the work of decoding) learns how many frames the file shows and when; decord is used only where it agrees. Three of
its habits ask for that care: it counts packets that are never shown, it fills in for frames that it cannot decode, and on damaged
files it may hang in ways that nothing in the process can end (`pipeline.video.decoder_process` ends the process).
It also decodes ahead without bound, so that it gets short videos only.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.container
import av.error
import av.logging
import av.stream
import av.video.frame
import decord
import numpy as np
from av.codec.hwaccel import HWAccel

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame

av.logging.set_level(None)  # what FFmpeg has to say reaches the user as one line: an error or `Video.problem`
decord.logging.set_level(decord.logging.QUIET)

DECODE_THREADS = 1
"""Threads of either decoder. More decode one large video faster and take cores from the other stages."""

DECORD_MAX_BYTES = 512 * 2**20
"""Videos whose frames take more than this together go to PyAV: decord decodes ahead as far as it gets while nobody takes its frames,
and it cannot begin at any keyframe, which analysers that share a video need (`pipeline.video.segments`). More costs that much memory."""

TICK_TOLERANCE_S = 0.002
"""A frame this much before its sampling instant still counts as on it; covers containers that round times to a millisecond."""

SHORT_BY = 0.02
"""A file that lacks this share of its declared length is reported as cut short; less is how containers round."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Attributes:
        path: the file, as given.
        decoder: `decord` or `pyav`, whichever reads it (`Video.info` tells of a change on the way); `pyav:cuda` and the like where a
            device decodes.
        codec: FFmpeg's name of it.
        width, height: of the upright frame, in pixels.
        fps: mean frame rate.
        frame_count: frames that the file's packets promise; fewer may decode.
        duration_s: from the first frame's start to the last frame's end.
    """

    path: str
    decoder: str
    codec: str
    width: int
    height: int
    fps: float
    frame_count: int
    duration_s: float


@dataclass(frozen=True)
class Scan:
    """What the packets say.

    Attributes:
        times: (N,) float64 seconds from the first shown frame, strictly rising.
        first_pts: of the first shown frame, in units of the stream's time base.
        sound: whether every packet is shown, whole, and timed, so that the decoders cannot disagree about what frame i is.
        cut: why the file seems cut short, or None.
        keyframes: (K,) places of the keyframes among the frames, rising.
        key_dts: (K,) their decoding times, in units of the time base: where to seek to.
    """

    times: np.ndarray
    first_pts: int
    sound: bool
    cut: VideoError | None
    keyframes: np.ndarray
    key_dts: np.ndarray


def _declared_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """The stream's declared duration in seconds; None where the container does not tell it for this stream alone."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska: HH:MM:SS.nnn
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        only = len(container.streams) == 1 and container.duration is not None
        return container.duration / av.time_base if only and container.duration else None


def _still() -> None:
    """Nobody asks whether the decoder goes on."""


def _broken_off() -> VideoError:
    return VideoError(VideoErrorKind.TRUNCATED, "its data is damaged or cut short")


def _scan(container: av.container.InputContainer, stream: av.VideoStream, alive: Callable[[], None]) -> Scan:
    """Read all packets of the stream, none of its pixels."""
    declared_s = _declared_s(container, stream)
    shown, key_pts, key_dts = array("q"), array("q"), array("q")  # eight bytes a packet: films have hundreds of thousands
    packets, sound = 0, True
    cut: VideoError | None = None
    try:
        for packet in container.demux(stream):
            alive()
            if packet.size == 0:  # the flush packet at the end
                continue
            packets += 1
            sound = sound and packet.pts is not None and not packet.is_discard and not packet.is_corrupt
            if packet.is_corrupt:
                cut = _broken_off()
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and not packet.is_discard:
                shown.append(time)
                if packet.is_keyframe:
                    key_pts.append(time)
                    key_dts.append(time if packet.dts is None else packet.dts)
    except av.error.FFmpegError:
        sound, cut = False, _broken_off()
    pts = np.unique(np.frombuffer(shown, np.int64)) if shown else np.empty(0, np.int64)
    sound = sound and len(pts) == packets
    time_base = stream.time_base or Fraction(1, 1000)
    times = (pts - pts[:1]) * float(time_base)
    last_s = float(pts[-1] * time_base) if len(pts) else 0.0  # containers count from zero, or from a first frame that comes later
    if declared_s and len(times) and max(times[-1], last_s) < declared_s * (1 - SHORT_BY) - 1.0 / _rate(stream, times):
        reason = f"the file is cut short: it ends at {times[-1]:.1f} of {declared_s:.1f} s"
        cut = VideoError(VideoErrorKind.TRUNCATED, reason)
    keyframes, at = np.unique(np.searchsorted(pts, np.array(key_pts, np.int64)), return_index=True)
    return Scan(times, int(pts[0]) if len(pts) else 0, sound and cut is None, cut, keyframes, np.array(key_dts, np.int64)[at])


def _rate(stream: av.VideoStream, times: np.ndarray) -> float:
    """Mean frame rate over `times`, or what the container says where there is one frame only."""
    if len(times) > 1:
        return float((len(times) - 1) / times[-1])
    return float(stream.average_rate or stream.guessed_rate or 25)


def upright(frame: av.video.frame.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned by the display matrix (to the nearest quarter)."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


class Sampler:
    """Chooses the frames that are looked at, told their times one after another."""

    def __init__(self, fps: float | None, video_fps: float) -> None:
        """Prepare for a video.

        Args:
            fps: frames a second to look at: the first frame at or after each instant k / fps. None, or at least `video_fps`: every one.
            video_fps: mean frame rate of the video.
        """
        self._step = 0.0 if fps is None or fps >= video_fps else 1.0 / fps
        self._next_tick, self._last_s = 0.0, -1.0

    def wants(self, time_s: float) -> bool:
        """Whether the next frame is looked at; never one that is not later than the frame before."""
        if time_s <= self._last_s:
            return False
        self._last_s = time_s
        if not self._step:
            return True
        if time_s + TICK_TOLERANCE_S < self._next_tick:
            return False
        self._next_tick = ((time_s + TICK_TOLERANCE_S) // self._step + 1) * self._step
        return True


class Video:
    """An open video; a context manager. Made by `open_video`.

    Attributes:
        info: what is known beforehand.
        decoded: frames decoded by the last `frames` call so far, sampled or not.
        problem: why the last `frames` call came to fewer frames than the file should hold, or None.
        times: (N,) seconds of the frames that the packets promise; exactly those that decode where decord reads the file.
        first_pts: of the first frame, in units of the stream's time base.
        scan: what the packets say.
    """

    def __init__(
        self,
        info: VideoInfo,
        scan: Scan,
        reader: decord.VideoReader | None,
        alive: Callable[[], None] = _still,
        hardware: str | None = None,
    ) -> None:
        self.info = info
        self.decoded = 0
        self.problem: VideoError | None = None
        self.times, self.first_pts = scan.times, scan.first_pts
        self.scan = scan
        self._reader = reader
        self._alive = alive
        self._hardware = hardware

    def __enter__(self) -> Video:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the decoder's memory back."""
        self._reader = None

    def frames(self, fps: float | None = None, after_s: float = -1.0) -> Iterator[Frame]:
        """Read the video once, from its beginning.

        Args:
            fps: about how many frames a second to yield: the first frame at or after each instant k / fps. None, or at least the
                video's own rate: every frame.
            after_s: leave out the frames up to this time, which somebody has already.

        Yields:
            Frames in order, times strictly rising. `index` counts the decoded frames, the ones left out included. Memory does not
            grow with the length of the video.
        """
        self.decoded, self.problem = 0, self.scan.cut
        sampler = Sampler(fps, self.info.fps)
        if self.info.decoder == "decord":
            reader, self._reader = self._reader or _decord_reader(self.info.path), None  # read forward once, then made anew
            for index, time_s in enumerate(self.times.tolist()):
                try:
                    image = reader.get_batch([index])
                except (decord.DECORDError, decord.DECORDLimitReachedError):
                    self.info = replace(self.info, decoder="pyav")
                    break
                self.decoded = index + 1
                self._alive()
                if sampler.wants(time_s) and time_s > after_s:
                    yield Frame(index, time_s, image.asnumpy()[0])
            else:
                return
        # From the start also when taking over from decord: the sampler passes over what has been seen.
        for index, (time_s, frame) in enumerate(self.av_frames()):
            self.decoded = index + 1
            if sampler.wants(time_s) and time_s > after_s:
                yield Frame(index, time_s, upright(frame))
        if self.decoded < self.info.frame_count and self.problem is None:
            reason = f"{self.decoded} of {self.info.frame_count} frames could be decoded"
            self.problem = VideoError(VideoErrorKind.DAMAGED, reason)

    def pick(self, indices: Iterable[int], times: Mapping[int, float] | None = None) -> Iterator[Frame]:
        """Frames by their `index`, in order, each once; what does not decode or is not there is left out.

        decord seeks to each of them; PyAV to the keyframes before them where their times are known, else it decodes all that lies
        before the last.

        Args:
            indices: of the frames.
            times: `time_s` of each.
        """
        wanted = sorted(set(indices))
        if self.info.decoder == "decord":
            reader, self._reader = self._reader or _decord_reader(self.info.path), None
            while wanted and wanted[0] < len(self.times):
                try:
                    image = reader.get_batch([wanted[0]]).asnumpy()[0]
                except (decord.DECORDError, decord.DECORDLimitReachedError):
                    self.info = replace(self.info, decoder="pyav")
                    break
                yield Frame(wanted[0], float(self.times[wanted[0]]), image)
                wanted = wanted[1:]
            else:
                return
        missing = set(wanted)
        if times is not None and self.scan.sound:
            for frame in self._sought({times[index]: index for index in wanted}):
                yield frame
                missing.remove(frame.index)
        for index, (time_s, decoded) in enumerate(self.av_frames() if missing else ()):
            if index in missing:
                yield Frame(index, time_s, upright(decoded))
                missing.remove(index)
            if not missing:
                return

    def _sought(self, wanted: Mapping[float, int]) -> Iterator[Frame]:
        """Frames by their times, rising, to their indices; what is not found from the keyframe before it is left out."""
        key_times = self.times[self.scan.keyframes]
        decoded: Iterator[tuple[float, av.video.frame.VideoFrame]] = iter(())
        now_s = -1.0
        for time_s, index in wanted.items():
            key = int(np.searchsorted(key_times, time_s, "right")) - 1
            if key >= 0 and key_times[key] > now_s:
                decoded = self.av_frames(int(self.scan.key_dts[key]))
            while now_s < time_s and (pair := next(decoded, None)):
                now_s = pair[0]
                if now_s == time_s:
                    yield Frame(index, time_s, upright(pair[1]))

    def av_frames(self, seek_dts: int | None = None) -> Iterator[tuple[float, av.video.frame.VideoFrame]]:
        """Every frame as PyAV decodes it, with its time in seconds, leaving out what does not decode.

        Args:
            seek_dts: a keyframe's decoding time, to begin there or before; None for the beginning.
        """
        with open_container(self.info.path, self._hardware) as container:
            stream = video_streams(container)[0]
            stream.codec_context.thread_count = DECODE_THREADS
            if seek_dts is not None:
                container.seek(seek_dts, stream=stream)
            packets = container.demux(stream)
            count = 0
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    return
                except av.error.FFmpegError:
                    self.problem = self.problem or _broken_off()
                    return
                self._alive()
                frames = _decode(packet)
                for frame in frames:
                    if frame.pts is not None and frame.time_base is not None:
                        time_s = (frame.pts - self.first_pts) * float(frame.time_base)  # exactly as in `_scan`
                    else:
                        time_s = count / self.info.fps
                    count += 1
                    yield time_s, frame


def open_container(path: str, hardware: str | None = None) -> av.container.InputContainer:
    """Open a file for reading, and nothing but a file.

    Args:
        hardware: the kind of device that is to decode what it can (`pipeline.settings.VideoGroup`); the CPU does the rest.
    """
    accelerator = HWAccel(hardware) if hardware else None
    # Absolute, as a colon in a name would read as a protocol; and no file may send us to the network.
    return av.open(os.path.abspath(path), metadata_errors="ignore", options={"protocol_whitelist": "file"}, hwaccel=accelerator)


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams that are not an audio file's cover picture."""
    return [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]


def _decord_reader(path: str) -> decord.VideoReader:
    """A reader that raises at the first frame it cannot decode (a tolerated share of next to nothing) instead of filling in."""
    return decord.VideoReader(os.path.abspath(path), num_threads=DECODE_THREADS, fault_tol=1e-9)


def _decode(packet: av.Packet) -> list[av.video.frame.VideoFrame]:
    """A packet's frames; none where it is damaged.

    Raises:
        MemoryError: when the decoder asks for more than there is.
    """
    try:
        return packet.decode()
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        return []


def open_video(path: str | Path, alive: Callable[[], None] = _still, decord_allowed: bool = True, hardware: str | None = None) -> Video:
    """Open a video file, having seen that it is one and that its first frame decodes.

    Args:
        path: of the file.
        alive: called for every packet and frame, here and in `Video.frames`; who does not hear it for long knows of a hang.
        decord_allowed: whether decord may read it; PyAV otherwise.
        hardware: see `open_container`; decord is then not asked. Without such a device the CPU decodes.

    Raises:
        VideoError: in one line, why the file cannot be read: missing, a folder, empty, not a video, audio only, nothing decodes.
        MemoryError: when the decoder asks for more than there is.
    """
    path = str(path)
    _check_file(path)
    try:
        with open_container(path) as container:
            if container.format.name == "tty":  # FFmpeg would draw any text file as pictures of letters
                raise VideoError(VideoErrorKind.NOT_A_VIDEO, "not a video: it is a text file", path)
            if not video_streams(container):
                found = "audio only" if container.streams.audio else "nothing to see"
                raise VideoError(VideoErrorKind.NO_VIDEO, f"no video in it, {found}", path)
            scan = _scan(container, video_streams(container)[0], alive)
        first, codec, rate, device = _first_frame(path, scan, hardware)
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        reason = (error.strerror or "unknown format").lower()
        raise VideoError(VideoErrorKind.NOT_A_VIDEO, f"not a video, or damaged beyond reading ({reason})", path) from None
    if first is None:
        raise VideoError(VideoErrorKind.DAMAGED, "damaged beyond reading: no frame of it decodes", path)
    height, width = first.shape[:2]
    duration_s = float(scan.times[-1]) + 1 / rate if len(scan.times) else 1 / rate
    info = VideoInfo(path, f"pyav:{device}" if device else "pyav", codec, width, height, rate, max(1, len(scan.times)), duration_s)
    reader = None
    light = width * height * 3 * len(scan.times) <= DECORD_MAX_BYTES
    if decord_allowed and scan.sound and light and not device:
        try:
            reader = _decord_reader(path)
        except Exception:  # decord raises several kinds; whatever it cannot open PyAV has just opened
            reader = None
    if reader is not None and len(reader) == len(scan.times):
        return Video(replace(info, decoder="decord"), scan, reader, alive)
    return Video(info, scan, None, alive, device)


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


def _first_frame(path: str, scan: Scan, hardware: str | None) -> tuple[np.ndarray | None, str, float, str | None]:
    """The first frame that decodes (None if none does), the codec's name, the mean frame rate, and the device that decodes."""
    try:
        with open_container(path, hardware) as container:
            stream = video_streams(container)[0]
            stream.codec_context.thread_count = DECODE_THREADS
            codec, rate = stream.codec_context.codec.canonical_name, _rate(stream, scan.times)
            frames = next((frames for packet in container.demux(stream) if (frames := _decode(packet))), None)
            device = hardware if stream.codec_context.is_hwaccel else None
            return (upright(frames[0]) if frames else None), codec, rate, device
    except av.error.FFmpegError:
        if hardware is None:
            raise
        return _first_frame(path, scan, None)  # there is no such device here
