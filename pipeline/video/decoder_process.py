"""Decoding in a process of its own, so that a file that hangs, crashes or starves the decoder takes down that process alone.

One process serves many files, one after the other; it is ended and begun anew when it fails. Pixels come through shared memory,
everything else as JSON over a socket. It decodes a few frames ahead of whoever looks at them.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.video.child_process import begin, death
from pipeline.video.reader import Video, VideoInfo, open_video
from pipeline.video.segments import cut, segment_frames

TRIES = 2
"""Times that a file is given a decoder; after a hang or a crash of its own no longer decord. More rides out more bad luck of the
machine's, and spends more on files that are hopeless."""

AHEAD = 4
"""Frames decoded ahead at most; more evens out slow frames and takes more memory."""

AHEAD_BYTES = 64 * 2**20
"""The same in bytes, for large frames; at least one frame goes."""

_BEAT = mmap.PAGESIZE
"""The shared memory's first page, whose first number counts the decoder's steps; frames follow."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Numerical libraries set memory aside for every core of the machine; a limit must mean the same on all machines."""

_EXHAUSTED = "the decoder needs more memory than video.memory_mb allows"


class DecoderFault(Exception):
    """The decoding process has failed.

    Attributes:
        kind: how.
        reason: how, in one line.
        killed: whether the process was killed from outside, so that decord is not to blame.
    """

    def __init__(self, kind: VideoErrorKind, reason: str, killed: bool = False) -> None:
        super().__init__(kind, reason, killed)
        self.kind, self.reason, self.killed = kind, reason, killed


class Decoder:
    """A process that decodes, watched from this one.

    >>> with Decoder(timeout_s=60, memory_mb=2048) as decoder, decoder.open("clip.mp4") as video:  # doctest: +SKIP
    ...     times = [frame.time_s for frame in video.frames(fps=10)]
    """

    def __init__(self, timeout_s: float, memory_mb: int, hardware: str | None = None) -> None:
        """Begin the process; this does not wait until it is ready.

        Args:
            timeout_s: seconds without a packet or a frame after which it is taken for hung.
            memory_mb: MiB that it may take, the frames in shared memory not counted.
            hardware: see `pipeline.video.reader.open_container`.
        """
        self._timeout_s, self._memory_mb, self.hardware = timeout_s, memory_mb, hardware
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def open(self, path: str) -> WatchedVideo:
        """Open a video, as `pipeline.video.reader.open_video` does, in the process.

        Raises:
            VideoError: why the file cannot be read, or that it brings the decoder down.
        """
        return WatchedVideo(self, path)

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for end in (self._connection, self._beat, self._frames, self._process.stdin):
                if end is not None:
                    with suppress(OSError):  # a lifeline that is broken already
                        end.close()
            os.close(self._memory)
            self._process = None

    def _start(self) -> None:
        ours, its = socket.socketpair()
        self._memory = os.memfd_create("frames")
        os.ftruncate(self._memory, _BEAT)
        self._beat = mmap.mmap(self._memory, _BEAT)
        self._frames: mmap.mmap | None = None
        self._process = begin(
            "pipeline.video.decoder_process",
            *map(str, (its.fileno(), self._memory, self._memory_mb)),
            variables=_ONE_THREAD,
            stdout=subprocess.DEVNULL,
            pass_fds=(its.fileno(), self._memory),
        )
        its.close()
        self._connection = Connection(ours.detach())

    def ask(self, request: dict[str, Any]) -> None:
        """Send what `_serve` understands, to a new process if need be."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        with suppress(OSError):  # it died just now: `hear` will tell
            self._connection.send_bytes(json.dumps(request).encode())

    def hear(self) -> dict[str, Any]:
        """The process's next message.

        Raises:
            DecoderFault: when it stands still or is gone; it is then ended.
        """
        steps, since, code, kind = -1, time.monotonic(), None, VideoErrorKind.CRASHED
        while True:
            try:
                if self._connection.poll(min(1.0, self._timeout_s / 4)):
                    return dict(json.loads(self._connection.recv_bytes()))
            except (EOFError, OSError):
                assert self._process is not None
                with suppress(subprocess.TimeoutExpired):  # its end of the socket is closed: it is about to go
                    self._process.wait(self._timeout_s)
                code = self._process.returncode
                fault = death("the decoder", code)
                break
            if (now := int.from_bytes(self._beat[:8], sys.byteorder)) != steps:
                steps, since = now, time.monotonic()
            elif time.monotonic() - since > self._timeout_s:
                kind, fault = VideoErrorKind.HUNG, f"the decoder made no progress for {self._timeout_s:g} s (video.timeout_s)"
                break
        self.close()
        raise DecoderFault(kind, fault, killed=code == -signal.SIGKILL)

    def fetch(self, message: dict[str, Any]) -> Frame:
        """Take a frame out of the shared memory, which makes room for the next."""
        height, width = message["size"]
        end = message["at"] + height * width * 3
        if self._frames is None or len(self._frames) < end:
            self._frames = mmap.mmap(self._memory, 0)
        image = np.frombuffer(self._frames, np.uint8, end - message["at"], message["at"]).reshape(height, width, 3).copy()
        with suppress(OSError):
            self._connection.send_bytes(b"")
        return Frame(message["index"], message["time_s"], image)

    def forget_frames(self) -> None:
        """Let go of the last video's shared memory."""
        self._frames = None


class WatchedVideo:
    """A video that another process decodes; what `pipeline.video.reader.Video` is, for one pass, or for segments one at a time.

    Attributes:
        info, decoded, problem: as `Video` has them.
    """

    def __init__(self, decoder: Decoder, path: str) -> None:
        self._decoder, self._path = decoder, path
        self._tries = 0
        self._decord, self._hardware = True, decoder.hardware
        self._busy = False
        self.decoded = 0
        self.problem: VideoError | None = None
        while True:
            try:
                self.info = self._open()
                return
            except DecoderFault as fault:
                self._blame(fault)
                if self._tries == TRIES:
                    raise VideoError(fault.kind, fault.reason, path) from None

    def _blame(self, fault: DecoderFault) -> None:
        """Have it read with less next time."""
        if not fault.killed:
            self._decord, self._hardware = False, None

    def _open(self) -> VideoInfo:
        self._tries += 1
        self._decoder.forget_frames()
        self._decoder.ask({"open": os.path.abspath(self._path), "decord": self._decord, "hardware": self._hardware})
        message = self._hear()
        return replace(VideoInfo(**message["info"]), path=self._path)

    def _hear(self) -> dict[str, Any]:
        message = self._decoder.hear()
        self._busy &= "index" in message
        if error := message.get("error"):
            raise _error(error, self._path)
        if fault := message.get("fault"):
            raise DecoderFault(VideoErrorKind(fault[0]), fault[1])
        return message

    def __enter__(self) -> WatchedVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._busy:  # left before its end: nobody takes the rest
            self._decoder.close()

    def cut(self, segment_s: float) -> list[int]:
        """See `pipeline.video.segments.cut`."""
        try:
            self._decoder.ask({"segment_s": segment_s})
            return list(self._hear()["cuts"])
        except DecoderFault:  # `frames` will see to it
            return [0]

    def segment(self, fps: float | None, first: int, last: int) -> Iterator[Frame]:
        """See `pipeline.video.segments.segment_frames`.

        Raises:
            VideoError: as there, or because the decoder failed.
        """
        try:
            yield from self._frames({"fps": fps, "first": first, "last": last})
        except DecoderFault as fault:
            raise VideoError(fault.kind, fault.reason, self._path) from None

    def _frames(self, request: dict[str, Any]) -> Iterator[Frame]:
        self._busy = True
        self._decoder.ask(request)
        while "end" not in (message := self._hear()):
            self.decoded = message["index"] + 1
            yield self._decoder.fetch(message)
        self.decoded, self.problem = message["end"], message["problem"] and _error(message["problem"])
        self.info = replace(self.info, decoder=message["decoder"])

    def frames(self, fps: float | None = None, after_s: float = -1.0) -> Iterator[Frame]:
        """See `Video.frames`. A decoder that fails on the way is followed by another, which goes on behind the last frame; when that
        fails too, the frames that came are what there is, and `problem` says why.

        Raises:
            VideoError: when nothing came.
        """
        last_s = after_s
        while True:
            try:
                for frame in self._frames({"fps": fps, "after_s": last_s}):
                    last_s = frame.time_s
                    yield frame
                return
            except DecoderFault as fault:
                self._blame(fault)
                if not self._again():
                    if last_s < 0:
                        raise VideoError(fault.kind, fault.reason, self._path) from None
                    reason = f"{fault.reason} after {last_s:.1f} of {self.info.duration_s:.1f} s; what came before is kept"
                    self.problem = VideoError(fault.kind, reason)
                    return

    def _again(self) -> bool:
        """Whether another decoder has opened the file."""
        while self._tries < TRIES:
            with suppress(DecoderFault):
                self.info = self._open()
                return True
        return False


def _told(error: VideoError | None) -> tuple[str, str] | None:
    """An error as JSON can hold it; the other side knows the path."""
    return (error.kind, error.reason) if error else None


def _error(told: tuple[str, str], path: str | None = None) -> VideoError:
    return VideoError(VideoErrorKind(told[0]), told[1], path)


class _Child:
    """The other side: what the decoding process does."""

    def __init__(self, connection: Connection, memory: int) -> None:
        self.connection, self.memory = connection, memory
        self.beat = np.frombuffer(mmap.mmap(memory, _BEAT), np.uint64, 1)

    def alive(self) -> None:
        """Count a step."""
        self.beat[0] += 1

    def say(self, **message: Any) -> None:
        """Send to the parent."""
        self.connection.send_bytes(json.dumps(message).encode())

    def hear(self) -> dict[str, Any]:
        """The next request; receipts of frames are passed over."""
        while not (message := self.connection.recv_bytes()):
            pass
        return dict(json.loads(message))

    def serve(self) -> None:
        """Decode one file after the other, until the parent goes."""
        video: Video | None = None
        while True:
            request = self.hear()
            try:
                if "open" in request:
                    video = None  # its memory first
                    video = open_video(request["open"], self.alive, request["decord"], request["hardware"])
                    self.say(info=asdict(video.info))
                elif video is None:
                    self.say(fault=(VideoErrorKind.CRASHED, "the decoder was begun anew"))
                elif "segment_s" in request:
                    self.say(cuts=cut(video, request["segment_s"]))
                else:
                    self.send_frames(segment_frames(video, **request) if "first" in request else video.frames(**request))
                    self.say(end=video.decoded, problem=_told(video.problem), decoder=video.info.decoder)
            except VideoError as error:
                self.say(error=_told(error))
            except MemoryError:
                self.say(fault=(VideoErrorKind.MEMORY, _EXHAUSTED))
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # whatever the decoders raise on strange files
                self.say(fault=(VideoErrorKind.INTERNAL, f"{type(error).__name__}: {' '.join(str(error).split())}"))

    def send_frames(self, frames: Iterator[Frame]) -> None:
        """Put frames into the shared memory, a few ahead of the parent."""
        slot_bytes = slots = free = count = 0
        shared = np.empty(0, np.uint8)
        for frame in frames:
            if frame.image.nbytes > slot_bytes:  # the first frame, or a stream that grows
                while free < slots:
                    self.connection.recv_bytes()
                    free += 1
                slot_bytes = frame.image.nbytes
                slots = free = max(1, min(AHEAD, AHEAD_BYTES // slot_bytes))
                os.ftruncate(self.memory, _BEAT + slots * slot_bytes)
                shared = np.frombuffer(mmap.mmap(self.memory, 0), np.uint8)
            if not free:
                self.connection.recv_bytes()
                free += 1
            at = _BEAT + count % slots * slot_bytes
            shared[at : at + frame.image.nbytes] = frame.image.ravel()
            self.say(index=frame.index, time_s=frame.time_s, size=frame.image.shape[:2], at=at)
            count, free = count + 1, free - 1


def _live_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """The decoding process: `python -m pipeline.video.decoder_process SOCKET MEMORY MEGABYTES`."""
    connection, memory, megabytes = map(int, sys.argv[1:])
    threading.Thread(target=_live_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # the first that the kernel ends when the machine's memory is used up
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(EOFError, BrokenPipeError):
        _Child(Connection(connection), memory).serve()


if __name__ == "__main__":
    main()
