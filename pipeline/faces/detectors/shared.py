"""One detector for many videos at a time: where frames of all of them go through the network together, a GPU is kept busy."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from pipeline.faces.detectors import Detector
from pipeline.records import Detections


class _Asked:
    """Somebody's images, and what becomes of them."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = images
        self.found: list[Detections] | None = None
        self.fault: Exception | None = None

    def run(self, detector: Detector) -> None:
        try:
            self.found = detector.detect(self.images)
        except Exception as fault:  # whoever asked hears of it
            self.fault = fault


class SharedDetector:
    """A detector that many threads ask at once. While one batch runs, others gather; whoever is next takes along all that wait.

    Attributes:
        name, device: the detector's.
    """

    def __init__(self, detector: Detector) -> None:
        self.name, self.device = detector.name, detector.device
        self._detector = detector
        self._waiting: list[_Asked] = []
        self._gathering, self._running = threading.Lock(), threading.Lock()

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`; from any thread."""
        mine = _Asked(images)
        with self._gathering:
            self._waiting.append(mine)
        with self._running:
            if mine.found is None and mine.fault is None:
                self._run()
        if mine.found is None:
            assert mine.fault is not None
            raise mine.fault
        return mine.found

    def _run(self) -> None:
        with self._gathering:
            asked, self._waiting = self._waiting, []
        together = _Asked([image for one in asked for image in one.images])
        together.run(self._detector)
        if together.found is None:  # one of them may be to blame: each alone
            for one in asked:
                one.run(self._detector)
            return
        found = iter(together.found)
        for one in asked:
            one.found = [next(found) for _ in one.images]
