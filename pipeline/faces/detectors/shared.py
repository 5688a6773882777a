"""One detector shared by many threads: frames of all their videos go through the network together, which keeps a GPU busy."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from pipeline.faces.detectors import Detector
from pipeline.records import Detections


class _Request:
    """A pending request and its result or exception."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = images
        self.result: list[Detections] | None = None
        self.error: Exception | None = None

    def run(self, detector: Detector) -> None:
        """Fill in the result or the exception."""
        try:
            self.result = detector.detect(self.images)
        except Exception as error:  # raised again in the thread that made the request
            self.error = error


class SharedDetector:
    """A detector that many threads may call at once.

    While one batch runs, further requests queue; the next thread to get the detector runs all queued requests as one batch. If a batch
    fails, its requests are run one by one, so that only the faulty one raises.

    Attributes:
        name, device: the detector's.
    """

    def __init__(self, detector: Detector) -> None:
        self.name, self.device = detector.name, detector.device
        self._detector = detector
        self._queued: list[_Request] = []
        self._queue_lock, self._detector_lock = threading.Lock(), threading.Lock()

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`; callable from any thread."""
        request = _Request(images)
        with self._queue_lock:
            self._queued.append(request)
        with self._detector_lock:
            if request.result is None and request.error is None:
                self._run_queued()
        if request.result is None:
            assert request.error is not None
            raise request.error
        return request.result

    def _run_queued(self) -> None:
        with self._queue_lock:
            requests, self._queued = self._queued, []
        batch = _Request([image for request in requests for image in request.images])
        batch.run(self._detector)
        if batch.result is None:
            for request in requests:
                request.run(self._detector)
            return
        results = iter(batch.result)
        for request in requests:
            request.result = [next(results) for _ in request.images]
