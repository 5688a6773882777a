"""One detector shared by many threads: frames of all their videos go through the network together, which keeps a GPU busy."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from pipeline.faces.detectors import Detector
from pipeline.records import Detections


class _Request:
    """A pending request and its result or exception."""

    def __init__(self, images: Sequence[np.ndarray], are_crops: bool) -> None:
        self.images, self.are_crops = images, are_crops
        self.result: list[Detections] | None = None
        self.error: Exception | None = None

    def run(self, detector: Detector) -> None:
        """Fill in the result or the exception."""
        try:
            self.result = detector.detect_crops(self.images) if self.are_crops else detector.detect(self.images)
        except Exception as error:  # raised again in the thread that made the request
            self.error = error


class SharedDetector:
    """A detector that many threads may call at once.

    While one batch runs, further requests queue; the next thread to get the detector runs all queued requests as one batch, or two: of
    frames and of crops. If a batch fails, its requests are run one by one, so that only the faulty one raises.

    Attributes:
        name, device, crop_search: the detector's.
    """

    def __init__(self, detector: Detector) -> None:
        self.name, self.device, self.crop_search = detector.name, detector.device, detector.crop_search
        self._detector = detector
        self._queued: list[_Request] = []
        self._queue_lock, self._detector_lock = threading.Lock(), threading.Lock()

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`; callable from any thread."""
        return self._answer(_Request(images, are_crops=False))

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect_crops`; callable from any thread."""
        return self._answer(_Request(images, are_crops=True))

    def _answer(self, request: _Request) -> list[Detections]:
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
            queued, self._queued = self._queued, []
        for are_crops in (False, True):
            if requests := [request for request in queued if request.are_crops == are_crops]:
                self._run_batch(requests, are_crops)

    def _run_batch(self, requests: Sequence[_Request], are_crops: bool) -> None:
        batch = _Request([image for request in requests for image in request.images], are_crops)
        batch.run(self._detector)
        if batch.result is None:
            for request in requests:
                request.run(self._detector)
            return
        results = iter(batch.result)
        for request in requests:
            request.result = [next(results) for _ in request.images]
