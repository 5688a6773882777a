"""Where the time of a run goes: seconds of work by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from pipeline.faces.detectors import Detector
    from pipeline.records import Detections

T = TypeVar("T")

STAGES = ("fetch", "decode", "detect", "track", "select", "describe", "read", "write")
"""The stages that are timed, in the order of a frame's journey. `track` covers matching, alignment and head pose; `read` the scores of
the whole face in every frame."""


class StageTimer:
    """Seconds of work by stage. Each moment counts once: time in an inner stage is not the outer one's.

    >>> timer = StageTimer()
    >>> with timer.stage("track"):
    ...     frames = list(timer.each("decode", iter(range(3))))
    >>> sorted(timer.seconds)
    ['decode', 'track']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def _credit(self) -> None:
        now = time.perf_counter()
        if self._running:
            stage = self._running[-1]
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block for a stage."""
        self._credit()
        self._running.append(name)
        try:
            yield
        finally:
            self._credit()
            self._running.pop()

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """Pass items on, and count the time that it takes to get each for a stage."""
        while True:
            with self.stage(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds that were measured elsewhere."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        self._credit()
        taken, self.seconds = self.seconds, {}
        return taken


class TimedDetector:
    """A detector whose time is counted for the stage `detect`."""

    def __init__(self, detector: Detector, timer: StageTimer) -> None:
        self.name, self.device, self.crop_search = detector.name, detector.device, detector.crop_search
        self._detector, self._timer = detector, timer

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect`."""
        with self._timer.stage("detect"):
            return self._detector.detect(images)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect_crops`."""
        with self._timer.stage("detect"):
            return self._detector.detect_crops(images)


def slowest(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """Stages and their shares of all work, the largest first; empty where no work was done.

    >>> slowest({"decode": 1.0, "detect": 3.0})
    [('detect', 0.75), ('decode', 0.25)]
    """
    total = sum(seconds.values())
    return sorted(((stage, spent / total) for stage, spent in seconds.items()), key=lambda item: -item[1]) if total else []
