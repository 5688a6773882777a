"""A process for each side of a comparison, so that the sides share no libraries, threads or memory."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from pipeline.errors import FocalfaceError
from pipeline.video.child_process import own_environment

SAMPLE_S = 0.25
"""Seconds between two measurements of the children's memory; longer misses short peaks, shorter slows down what is measured."""


@dataclass(frozen=True)
class Pass:
    """One timed pass: its seconds, and what the job returned."""

    seconds: float
    result: Any


class TimedProcess:
    """A process that prepares a job once and then runs timed passes of it; a context manager.

    Attributes:
        job: name of the job.
        peak_mb: peak resident MiB so far: the high-water mark of the process, plus what its children hold together (sampled during
            passes; shared pages count once).

    >>> with TimedProcess("timed_process.command", ["true"]) as process:  # doctest: +SKIP
    ...     process.wait_ready().run().seconds
    """

    def __init__(self, job: str, *arguments: Any) -> None:
        """Start the process; this does not wait until the job is prepared.

        Args:
            job: `module.function` of this package. Called with `arguments`, the function prepares and returns what is timed.
        """
        spawn = get_context("spawn")
        self.job, self.peak_mb = job, 0.0
        self._pipe, other_end = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other_end, job, arguments), daemon=True)
        self._process.start()
        other_end.close()

    def __enter__(self) -> TimedProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()  # the process exits when the pipe closes
        self._process.join(10)
        self._process.kill()

    def wait_ready(self) -> TimedProcess:
        """Wait until the job is prepared; returns the process itself.

        Raises:
            FocalfaceError: when preparing fails.
        """
        self._receive()
        return self

    def start(self, *arguments: Any) -> None:
        """Start a pass; `arguments` go to what is timed."""
        self._pipe.send(arguments)

    def finish(self) -> Pass:
        """Wait for the pass to end.

        Raises:
            FocalfaceError: when it fails.
        """
        over = threading.Event()
        sampler = threading.Thread(target=self._sample_memory, args=(over,), daemon=True)
        sampler.start()
        try:
            return Pass(*self._receive())
        finally:
            over.set()
            sampler.join()

    def run(self, *arguments: Any) -> Pass:
        """Run one pass."""
        self.start(*arguments)
        return self.finish()

    def _receive(self) -> Any:
        try:
            kind, message = self._pipe.recv()
        except EOFError:
            raise FocalfaceError(f"bench: the process of {self.job} exited unexpectedly") from None
        if kind == "error":
            raise FocalfaceError(f"bench: {self.job}: {message}")
        return message

    def _sample_memory(self, over: threading.Event) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            while True:
                last = over.wait(SAMPLE_S)
                children = sum(map(_proportional_bytes, process.children(recursive=True)))
                self.peak_mb = max(self.peak_mb, (high_water_bytes(process.pid) + children) / 2**20)
                if last:
                    return


def high_water_bytes(pid: int) -> int:
    """Peak resident bytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _proportional_bytes(process: psutil.Process) -> int:
    """Resident bytes of a process, each shared page divided by the number of its users; 0 for a process that has exited."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def _serve(pipe: Connection, job: str, arguments: tuple[Any, ...]) -> None:
    """Main function of the process: prepare the job, then run a pass for each message."""
    sys.stdout = sys.stderr  # keep libraries' output off stdout
    try:
        module, _, name = job.partition(".")
        work: Callable[..., Any] = getattr(importlib.import_module(f"pipeline.speed.{module}"), name)(*arguments)
        pipe.send(("ready", None))
        while True:
            pass_arguments = pipe.recv()
            began = time.perf_counter()
            result = work(*pass_arguments)
            pipe.send(("done", (time.perf_counter() - began, result)))
    except EOFError:  # the other end closed the pipe: no more passes
        return
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())}"))


def command(words: list[str]) -> Callable[[], str]:
    """A job: run a command to its end; returns its stdout.

    Raises (in the pass):
        FocalfaceError: with the last line of stderr, when the command fails.
    """

    def job() -> str:
        ended = subprocess.run(words, capture_output=True, text=True, env=own_environment())
        if ended.returncode:
            raise FocalfaceError((ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1])
        return ended.stdout

    return job
