"""A process for each side of a comparison, so that neither sees the other's libraries, threads or memory."""

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
"""Seconds between two looks at the memory of a side's child processes; more misses short peaks, fewer takes time from what is measured."""


@dataclass(frozen=True)
class Pass:
    """One timed pass: its seconds and what it answered."""

    seconds: float
    answers: Any


class Side:
    """One side's process; a context manager. It makes ready once, then passes are timed in it.

    Attributes:
        peak_mb: MiB resident at most so far: the process's own high-water mark, and beside it what its child processes hold together
            (sampled during passes, pages that they share counted once).
    """

    def __init__(self, job: str, *arguments: Any) -> None:
        """Start it; this does not wait until it is ready.

        Args:
            job: `module.function` of this package; called with the arguments it makes ready and returns what is timed.
        """
        spawn = get_context("spawn")
        self.job, self.peak_mb = job, 0.0
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, job, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()  # which ends it
        self._process.join(10)
        self._process.kill()

    def ready(self) -> Side:
        """Wait until it is ready; returns it.

        Raises:
            FocalfaceError: when it fails.
        """
        self._hear()
        return self

    def start(self, *words: Any) -> None:
        """Begin a pass; `words` go to what is timed."""
        self._pipe.send(words)

    def finish(self) -> Pass:
        """Wait for the pass to end.

        Raises:
            FocalfaceError: when it fails.
        """
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            return Pass(*self._hear())
        finally:
            over.set()
            watcher.join()

    def run(self, *words: Any) -> Pass:
        """One pass."""
        self.start(*words)
        return self.finish()

    def _hear(self) -> Any:
        try:
            kind, message = self._pipe.recv()
        except EOFError:
            raise FocalfaceError(f"bench: the process of {self.job} ended by itself") from None
        if kind == "error":
            raise FocalfaceError(f"bench: {self.job}: {message}")
        return message

    def _watch(self, over: threading.Event) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            while True:
                last = over.wait(SAMPLE_S)
                self.peak_mb = max(self.peak_mb, (high_water(process.pid) + sum(map(_held, process.children(recursive=True)))) / 2**20)
                if last:
                    return


def high_water(pid: int) -> int:
    """Bytes that a process has had resident at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _held(process: psutil.Process) -> int:
    """Bytes resident, each shared page as the share of it that falls to this process; 0 when it is gone."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def _serve(pipe: Connection, job: str, arguments: tuple[Any, ...]) -> None:
    """The other end: make ready, then a pass for each word."""
    sys.stdout = sys.stderr  # what libraries say belongs there
    try:
        module, _, name = job.partition(".")
        work: Callable[..., Any] = getattr(importlib.import_module(f"pipeline.speed.{module}"), name)(*arguments)
        pipe.send(("ready", None))
        while True:
            words = pipe.recv()
            began = time.perf_counter()
            answers = work(*words)
            pipe.send(("done", (time.perf_counter() - began, answers)))
    except EOFError:  # the other end is closed: no more is wanted
        return
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())}"))


def command(words: list[str]) -> Callable[[], None]:
    """A job: run a command to its end.

    Raises (the job):
        FocalfaceError: with the last line that it said, when it fails.
    """

    def job() -> None:
        ended = subprocess.run(words, capture_output=True, text=True, env=own_environment())
        if ended.returncode:
            raise FocalfaceError((ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1])

    return job
