"""Progress of long work, on stderr: a live line on a terminal, a plain line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY_S = 30.0
"""Seconds between two lines where stderr is not a terminal. A longer pause leaves log files shorter."""

ESTIMATE_AFTER_S = 3.0
"""Seconds of work, start-up not counted, before the time left is estimated. A longer wait makes the first estimate better."""


@dataclass
class _Seen:
    """How far one video is: `frames` done, the `share` of the video that they are, and whether the video is complete."""

    frames: int = 0
    share: float = 0.0
    done: bool = False

    @property
    def expected(self) -> float:
        """Frames of the whole video."""
        return self.frames / self.share if self.share > 0 else float(self.frames)


class Progress:
    """Counts of a run and the time left; a context manager that keeps its line up to date.

    The time left is the work left, in frames, over the speed since the first result: start-up tells nothing about the rest. The frames of
    a video that has begun follow from the share that is done. Those of a video that has not begun follow from its bytes and the frames per
    byte of the others. Failed videos count for neither, as they take no time.

    >>> with Progress({"a": 1000, "b": 1000}) as progress:
    ...     progress.add("a", frames=10, share=0.5, faces=10, descriptions=2)
    """

    def __init__(self, sizes: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting.

        Args:
            sizes: `video_id` to bytes of every video to do.
            clock: seconds from any fixed moment.
        """
        self.videos = len(sizes)
        self.done = self.failed = self.frames = self.faces = self.descriptions = 0
        self._waiting = dict(sizes)  # videos without a result
        self._seen: dict[str, _Seen] = {}
        self._sizes = sizes
        self._clock = clock
        self._began = self._printed = clock()
        self._first: tuple[float, int] | None = None  # time of the first result, frames in it
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
        """Seconds since the start, start-up included."""
        return self._clock() - self._began

    @property
    def left_s(self) -> float | None:
        """Estimate of the seconds left; None while there is too little to estimate from."""
        if self._first is None:
            return None
        began, frames_before = self._first
        passed, frames = self._clock() - began, self.frames - frames_before
        if passed < ESTIMATE_AFTER_S or frames <= 0:
            return None
        left = sum(seen.expected - seen.frames for seen in self._seen.values() if not seen.done)
        expected = {key: seen.expected for key, seen in self._seen.items()}
        if self._waiting:
            known = sum(self._sizes[key] for key in expected)
            waiting = sum(self._waiting.values())
            left += sum(expected.values()) / known * waiting if known else sum(expected.values()) / len(expected) * len(self._waiting)
        return passed * left / frames

    def add(self, video_id: str, *, frames: int, share: float, faces: int, descriptions: int) -> None:
        """Count one result.

        Args:
            video_id: the result's video.
            frames: sampled frames in the result.
            share: share of the video that is done with it, 0 to 1.
            faces: face rows in the result.
            descriptions: descriptions in the result.
        """
        self.frames, self.faces, self.descriptions = self.frames + frames, self.faces + faces, self.descriptions + descriptions
        self._waiting.pop(video_id, None)
        if frames:
            seen = self._seen.setdefault(video_id, _Seen())
            seen.frames += frames
            seen.share = max(share, seen.share)
            self._first = self._first or (self._clock(), self.frames)
        if not self._live and self._clock() - self._printed >= PLAIN_EVERY_S:
            self._printed = self._clock()
            print(self, file=sys.stderr, flush=True)

    def finish(self, video_id: str, failed: bool) -> None:
        """Count one video as done."""
        self.done, self.failed = self.done + 1, self.failed + failed
        self._waiting.pop(video_id, None)
        if failed:
            self._seen.pop(video_id, None)
        elif seen := self._seen.get(video_id):
            seen.share, seen.done = 1.0, True

    def __str__(self) -> str:
        left = self.left_s
        failed = f" ({self.failed} failed)" if self.failed else ""
        return (
            f"{self.done}/{self.videos} videos{failed}, {self.frames} frames at {self.frames / max(self.elapsed_s, 1e-3):.1f}/s, "
            f"{self.faces} faces, {self.descriptions} descriptions, {'?' if left is None else timedelta(seconds=round(left))} left"
        )

    def __rich__(self) -> Text:
        return Text(str(self) if self.frames else "starting ...")


class Steps:
    """Progress of work in steps; a context manager.

    >>> with Steps() as steps:
    ...     steps.say("asking", 3, 10)
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self._step = ""
        self._printed = time.monotonic()

    def __enter__(self) -> Steps:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, step: str, done: int = 0, total: int | None = None) -> None:
        """Show how far a step is.

        Args:
            step: name of the step.
            done: items that are done.
            total: all items; None where their number is not known, which shows the step's beginning only.
        """
        if self._bar:
            if step != self._step:  # each step has a speed of its own
                for task in self._bar.task_ids:
                    self._bar.remove_task(task)
                self._bar.add_task(step)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif total is None or time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            print(step if total is None else f"{step} {done}/{total}", file=sys.stderr, flush=True)
        self._step = step
