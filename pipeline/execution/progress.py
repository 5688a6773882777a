"""What long work shows on stderr: a live line on a terminal, a plain one now and then elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY_S = 30.0
"""Seconds between two lines where stderr is not a terminal; fewer fills log files."""


class Progress:
    """Counts of a run; a context manager that keeps its line up to date.

    >>> with Progress(videos=3) as progress:
    ...     progress.add("a", frames=10, share=0.5, faces=10, descriptions=2)
    """

    def __init__(self, videos: int) -> None:
        self.videos = videos
        self.done = self.frames = self.faces = self.descriptions = 0
        self.failed = 0
        self._shares: dict[str, float] = {}
        self._began = self._said = time.monotonic()
        console = Console(stderr=True)
        self._live = Live(self, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def add(self, video_id: str, *, frames: int, share: float, faces: int, descriptions: int) -> None:
        """Count one result of a video that is behind us by `share`."""
        self.frames, self.faces, self.descriptions = self.frames + frames, self.faces + faces, self.descriptions + descriptions
        self._shares[video_id] = max(share, self._shares.get(video_id, 0.0))
        if not self._live and time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            print(self, file=sys.stderr, flush=True)

    def finish(self, video_id: str, failed: bool) -> None:
        """Count one video as done."""
        self.done, self.failed = self.done + 1, self.failed + failed
        self._shares.pop(video_id, None)

    def __str__(self) -> str:
        passed = self.elapsed_s
        share = (self.done + sum(self._shares.values())) / max(self.videos, 1)
        left = timedelta(seconds=round(passed * (1 - share) / share)) if share > 0.01 else "?"
        failed = f" ({self.failed} failed)" if self.failed else ""
        return (
            f"{self.done}/{self.videos} videos{failed}, {self.frames} frames at {self.frames / max(passed, 1e-3):.1f}/s, "
            f"{self.faces} faces, {self.descriptions} descriptions, {left} left"
        )

    def __rich__(self) -> Text:
        return Text(str(self) if self.frames else "starting ...")


class Steps:
    """What is being done, step by step; a context manager.

    >>> with Steps() as steps:
    ...     steps.say("asking", 3, 10)
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self._step = ""
        self._said = time.monotonic()

    def __enter__(self) -> Steps:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, step: str, done: int = 0, total: int | None = None) -> None:
        """Tell how far a step is; where it is not known how long it is, that it begins."""
        if self._bar:
            if step != self._step:  # anew, as each step has a speed of its own
                for task in self._bar.task_ids:
                    self._bar.remove_task(task)
                self._bar.add_task(step)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif total is None or time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            print(step if total is None else f"{step} {done}/{total}", file=sys.stderr, flush=True)
        self._step = step
