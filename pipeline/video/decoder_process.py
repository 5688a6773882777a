"""Decoding in a process of its own, so that a file on which the decoder hangs, crashes or runs out of memory ends that process alone.

One process serves many files, one after the other; it is replaced when it fails. Pixels come through shared memory, everything else
as JSON over a socket. It decodes a few frames ahead of the analysis.
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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.schemas import NoteKind
from pipeline.video.child_process import describe_exit, start_module
from pipeline.video.opening import open_video
from pipeline.video.segments import segment_frames, segments_of
from pipeline.video.source import DecoderChoice, Note, SeekableSource, VideoInfo

TRIES = 2
"""Decoder processes that a file may use up; after a hang or a crash it is read by PyAV on the CPU. More survives more failures of the
machine, and spends more on hopeless files."""

AHEAD = 4
"""Frames decoded ahead at most. More evens out slow frames and takes more memory."""

AHEAD_BYTES = 64 * 2**20
"""The same in bytes, for large frames; one frame is always allowed."""

_HEADER_BYTES = mmap.PAGESIZE
"""The first page of the shared memory; its first number counts the decoder's steps. Frames follow."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Numerical libraries reserve memory for every core; a memory limit must mean the same on all machines."""

_EXHAUSTED = "the decoder needs more memory than video.memory_mb allows"


class DecoderFault(Exception):
    """The decoding process has failed.

    Attributes:
        kind: how.
        reason: how, in one line.
        killed: whether the process was killed from outside, so that its settings are not at fault.
    """

    def __init__(self, kind: VideoErrorKind, reason: str, killed: bool = False) -> None:
        super().__init__(kind, reason, killed)
        self.kind, self.reason, self.killed = kind, reason, killed


class Decoder:
    """A process that decodes, and its watcher in this process.

    >>> with Decoder(timeout_s=60, memory_mb=2048) as decoder, decoder.open("clip.mp4") as video:  # doctest: +SKIP
    ...     times = [frame.time_s for frame in video.frames(fps=10)]
    """

    def __init__(self, timeout_s: float, memory_mb: int, hardware: str | None = None, choice: DecoderChoice = "auto") -> None:
        """Start the process, without waiting until it is ready.

        Args:
            timeout_s: seconds without a packet or a frame after which the process counts as hung.
            memory_mb: MiB that it may take, the frames in shared memory not counted.
            hardware: see `pipeline.video.container.open_container`.
            choice: which backend reads files (`pipeline.video.opening.open_video`).
        """
        self._timeout_s, self._memory_mb, self.hardware, self.choice = timeout_s, memory_mb, hardware, choice
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Identifier of the process, None while there is none."""
        return self._process.pid if self._process else None

    def open(self, path: str) -> WatchedVideo:
        """Open a video in the process, as `pipeline.video.opening.open_video` does.

        Raises:
            VideoError: why the file cannot be read, or how the decoder failed on it.
        """
        return WatchedVideo(self, path)

    def close(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for end in (self._connection, self._header, self._frames, self._process.stdin):
                if end is not None:
                    with suppress(OSError):  # broken already
                        end.close()
            os.close(self._memory)
            self._process = None

    def _start(self) -> None:
        parent_end, child_end = socket.socketpair()
        self._memory = os.memfd_create("frames")
        os.ftruncate(self._memory, _HEADER_BYTES)
        self._header = mmap.mmap(self._memory, _HEADER_BYTES)
        self._frames: mmap.mmap | None = None
        self._process = start_module(
            "pipeline.video.decoder_process",
            *map(str, (child_end.fileno(), self._memory, self._memory_mb)),
            variables=_ONE_THREAD,
            stdout=subprocess.DEVNULL,
            pass_fds=(child_end.fileno(), self._memory),
        )
        child_end.close()
        self._connection = Connection(parent_end.detach())

    def send(self, request: dict[str, Any]) -> None:
        """Send a request that `_Child.serve` understands, to a new process where the last one has ended."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        with suppress(OSError):  # it ended just now: `receive` reports it
            self._connection.send_bytes(json.dumps(request).encode())

    def receive(self) -> dict[str, Any]:
        """The process's next message.

        Raises:
            DecoderFault: when it makes no progress or has ended; it is then closed.
        """
        steps, since, code, kind = -1, time.monotonic(), None, VideoErrorKind.CRASHED
        while True:
            try:
                if self._connection.poll(min(1.0, self._timeout_s / 4)):
                    return dict(json.loads(self._connection.recv_bytes()))
            except (EOFError, OSError):
                assert self._process is not None
                with suppress(subprocess.TimeoutExpired):  # its end of the socket is closed: it is about to end
                    self._process.wait(self._timeout_s)
                code = self._process.returncode
                fault = describe_exit("the decoder", code)
                break
            if (now := int.from_bytes(self._header[:8], sys.byteorder)) != steps:
                steps, since = now, time.monotonic()
            elif time.monotonic() - since > self._timeout_s:
                kind, fault = VideoErrorKind.HUNG, f"the decoder made no progress for {self._timeout_s:g} s (video.timeout_s)"
                break
        self.close()
        raise DecoderFault(kind, fault, killed=code == -signal.SIGKILL)

    def take_frame(self, message: dict[str, Any]) -> Frame:
        """Copy a frame out of the shared memory, which frees its place."""
        height, width = message["size"]
        end = message["at"] + height * width * 3
        if self._frames is None or len(self._frames) < end:
            self._frames = mmap.mmap(self._memory, 0)
        image = np.frombuffer(self._frames, np.uint8, end - message["at"], message["at"]).reshape(height, width, 3).copy()
        with suppress(OSError):
            self._connection.send_bytes(b"")
        return Frame(message["index"], message["time_s"], image)

    def unmap_frames(self) -> None:
        """Unmap the last video's shared memory."""
        self._frames = None


class WatchedVideo:
    """A video that another process decodes: a `pipeline.video.source.VideoSource`, for one pass, or for segments one at a time."""

    def __init__(self, decoder: Decoder, path: str) -> None:
        self._decoder, self._path = decoder, path
        self._tries = 0
        self._choice, self._hardware = decoder.choice, decoder.hardware
        self._busy = False
        self.decoded = 0
        self.problem: VideoError | None = None
        while True:
            try:
                self.info = self._open()
                return
            except DecoderFault as fault:
                self._simplify(fault)
                if self._tries == TRIES:
                    raise VideoError(fault.kind, fault.reason, path) from None

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is done about the file."""
        return self._notes

    def _simplify(self, fault: DecoderFault) -> None:
        """Try with PyAV on the CPU next."""
        if not fault.killed:
            self._choice, self._hardware = "pyav", None

    def _open(self) -> VideoInfo:
        self._tries += 1
        self._decoder.unmap_frames()
        self._decoder.send({"open": os.path.abspath(self._path), "decoder": self._choice, "hardware": self._hardware})
        message = self._receive()
        self._notes = _notes(message["notes"])
        return replace(VideoInfo(**message["info"]), path=self._path)

    def _receive(self) -> dict[str, Any]:
        message = self._decoder.receive()
        self._busy &= "index" in message
        if error := message.get("error"):
            raise _error(error, self._path)
        if fault := message.get("fault"):
            raise DecoderFault(VideoErrorKind(fault[0]), fault[1])
        return message

    def __enter__(self) -> WatchedVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._busy:  # left before its end: the rest of its frames must not reach the next video
            self._decoder.close()

    def cut(self, segment_s: float, from_s: float = 0.0, to_s: float | None = None) -> list[tuple[int, int]]:
        """See `pipeline.video.segments.segments_of`."""
        try:
            self._decoder.send({"segment_s": segment_s, "from_s": from_s, "to_s": to_s})
            return [(first, last) for first, last in self._receive()["segments"]]
        except DecoderFault:  # `frames` handles it
            return []

    def segment(
        self, fps: float | None, first: int, last: int, from_s: float = 0.0, to_s: float | None = None, period_s: float = 0.0
    ) -> Iterator[Frame]:
        """See `pipeline.video.segments.segment_frames`.

        Raises:
            VideoError: as there, or because the decoder failed.
        """
        try:
            yield from self._frames({"fps": fps, "first": first, "last": last, "from_s": from_s, "to_s": to_s, "period_s": period_s})
        except DecoderFault as fault:
            raise VideoError(fault.kind, fault.reason, self._path) from None

    def _frames(self, request: dict[str, Any]) -> Iterator[Frame]:
        self._busy = True
        self._decoder.send(request)
        while "end" not in (message := self._receive()):
            self.decoded = message["index"] + 1
            yield self._decoder.take_frame(message)
        self.decoded, self.problem = message["end"], message["problem"] and _error(message["problem"])
        self.info = replace(self.info, decoder=message["decoder"])
        self._notes = _notes(message["notes"])

    def frames(self, fps: float | None = None, after_s: float = -1.0, from_s: float = 0.0, to_s: float | None = None) -> Iterator[Frame]:
        """See `pipeline.video.source.VideoSource.frames`. Where a decoder fails on the way, another one continues behind the last frame;
        where that fails too, the frames that came are kept and `problem` says why.

        Raises:
            VideoError: when no frame came.
        """
        last_s = after_s
        while True:
            try:
                for frame in self._frames({"fps": fps, "after_s": last_s, "from_s": from_s, "to_s": to_s}):
                    last_s = frame.time_s
                    yield frame
                return
            except DecoderFault as fault:
                self._simplify(fault)
                if not self._again():
                    if last_s < 0:
                        raise VideoError(fault.kind, fault.reason, self._path) from None
                    reason = f"{fault.reason} after {last_s:.1f} of {self.info.duration_s:.1f} s; what came before is kept"
                    self.problem = VideoError(fault.kind, reason)
                    return

    def _again(self) -> bool:
        """Whether another decoder process has opened the file."""
        while self._tries < TRIES:
            with suppress(DecoderFault):
                self.info = self._open()
                return True
        return False


def _as_data(error: VideoError | None) -> tuple[str, str] | None:
    """An error as JSON can hold it; the receiver knows the path."""
    return (error.kind, error.reason) if error else None


def _error(data: tuple[str, str], path: str | None = None) -> VideoError:
    return VideoError(VideoErrorKind(data[0]), data[1], path)


def _notes(data: Sequence[tuple[str, str]]) -> tuple[Note, ...]:
    return tuple(Note(NoteKind(kind), text) for kind, text in data)


class _Child:
    """The decoding process's side."""

    def __init__(self, connection: Connection, memory: int) -> None:
        self.connection, self.memory = connection, memory
        self.steps = np.frombuffer(mmap.mmap(memory, _HEADER_BYTES), np.uint64, 1)

    def heartbeat(self) -> None:
        """Count a step."""
        self.steps[0] += 1

    def send(self, **message: Any) -> None:
        """Send to the parent."""
        self.connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """The next request; receipts of frames are skipped."""
        while not (message := self.connection.recv_bytes()):
            pass
        return dict(json.loads(message))

    def serve(self) -> None:
        """Decode one file after the other, until the parent ends."""
        video: SeekableSource | None = None
        while True:
            request = self.receive()
            try:
                if "open" in request:
                    video = None  # frees its memory first
                    video = open_video(request["open"], self.heartbeat, request["decoder"], request["hardware"])
                    self.send(info=asdict(video.info), notes=_pairs(video))
                elif video is None:
                    self.send(fault=(VideoErrorKind.CRASHED, "the decoder was restarted"))
                elif "segment_s" in request:
                    self.send(segments=segments_of(video, **request))
                else:
                    self.send_frames(segment_frames(video, **request) if "first" in request else video.frames(**request))
                    self.send(end=video.decoded, problem=_as_data(video.problem), decoder=video.info.decoder, notes=_pairs(video))
            except VideoError as error:
                self.send(error=_as_data(error))
            except MemoryError:
                self.send(fault=(VideoErrorKind.MEMORY, _EXHAUSTED))
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # decoders raise many kinds on strange files
                self.send(fault=(VideoErrorKind.INTERNAL, f"{type(error).__name__}: {' '.join(str(error).split())}"))

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
                os.ftruncate(self.memory, _HEADER_BYTES + slots * slot_bytes)
                shared = np.frombuffer(mmap.mmap(self.memory, 0), np.uint8)
            if not free:
                self.connection.recv_bytes()
                free += 1
            at = _HEADER_BYTES + count % slots * slot_bytes
            shared[at : at + frame.image.nbytes] = frame.image.ravel()
            self.send(index=frame.index, time_s=frame.time_s, size=frame.image.shape[:2], at=at)
            count, free = count + 1, free - 1


def _pairs(video: SeekableSource) -> list[tuple[str, str]]:
    """A video's notes as JSON can hold them."""
    return [(note.kind, note.text) for note in video.notes]


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """The decoding process: `python -m pipeline.video.decoder_process SOCKET MEMORY MEGABYTES`."""
    connection, memory, megabytes = map(int, sys.argv[1:])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # the kernel ends this process first when the machine runs out of memory
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(EOFError, BrokenPipeError):
        _Child(Connection(connection), memory).serve()


if __name__ == "__main__":
    main()
