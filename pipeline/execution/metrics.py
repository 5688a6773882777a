"""What a run costs and comes to, while it works and at its end: the seconds of each stage, and counts for Prometheus.

Workers time their stages (`Stages`) and send the seconds along with the results; the driver sums them up, and counts what it has
written through Ray's own metrics, which Ray's agents offer to Prometheus. Nothing is counted twice: a result that comes again
after a lost worker is dropped before it gets here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from pipeline.faces.detectors import Detector
    from pipeline.records import Detections

T = TypeVar("T")

STAGES = ("fetch", "decode", "detect", "track", "select", "describe", "write")
"""Where time goes, in the order of a frame's journey. `track` is all that is done to followed faces: matching, alignment, pose."""

logger = logging.getLogger("focalface")

class Stages:
    """Seconds of work by stage, each moment counted once: time in an inner stage is not the outer one's.

    >>> stages = Stages()
    >>> with stages.on("track"):
    ...     frames = list(stages.each("decode", iter(range(3))))
    >>> sorted(stages.seconds)
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
    def on(self, stage: str) -> Iterator[None]:
        """Count the time inside as this stage's."""
        self._credit()
        self._running.append(stage)
        try:
            yield
        finally:
            self._credit()
            self._running.pop()

    def each(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """The items; the time that it takes to get each is this stage's."""
        while True:
            with self.on(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what was done elsewhere."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def take(self) -> dict[str, float]:
        """The seconds since this was last called."""
        self._credit()
        taken, self.seconds = self.seconds, {}
        return taken


class TimedDetector:
    """A detector whose time is counted."""

    def __init__(self, detector: Detector, stages: Stages) -> None:
        self.name, self.device = detector.name, detector.device
        self._detector, self._stages = detector, stages

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect`."""
        with self._stages.on("detect"):
            return self._detector.detect(images)


def slowest(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """Stages and their shares of all work, the largest first; none where no work was done.

    >>> slowest({"decode": 1.0, "detect": 3.0})
    [('detect', 0.75), ('decode', 0.25)]
    """
    total = sum(seconds.values())
    return sorted(((stage, spent / total) for stage, spent in seconds.items()), key=lambda item: -item[1]) if total else []


class Metrics:
    """The reckoning of a run: seconds of work by stage, a line of the log for each video, and the same for Prometheus."""

    def __init__(self, exported: bool) -> None:
        """Begin at nothing.

        Args:
            exported: whether a Ray is running that shows it to Prometheus.
        """
        self.seconds: dict[str, float] = {}
        self._exported = _Exported() if exported else None

    def work(self, frames: int, faces: int, descriptions: int, stages: Mapping[str, float]) -> None:
        """Count one result, and the seconds of work on it by stage."""
        spent = {stage: seconds for stage, seconds in stages.items() if seconds > 0}
        for stage, seconds in spent.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if self._exported:
            self._exported.work({"frames": frames, "faces": faces, "descriptions": descriptions}, spent)

    def finish(self, row: Mapping[str, Any]) -> None:
        """Count one video, and log which it was and what came of it."""
        outcome = row["error"] or f"{row['sampled_frames']} frames, {row['faces']} faces, {row['descriptions']} descriptions"
        logger.info("%s %s: %s, %.1f s of work: %s", row["video_id"], row["path"], row["status"], row["elapsed_s"], outcome)
        if self._exported:
            self._exported.finish(row)


class _Exported:
    """Counts of a run on the Ray that is running, as Prometheus reads them: names begin with `ray_focalface_`.

    videos_total{status}, failures_total{kind}, frames_total, faces_total, descriptions_total, stage_seconds_total{stage},
    and the histogram video_seconds (work on one video).
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter as Count
        from ray.util.metrics import Histogram

        self._videos = Count("focalface_videos", "Videos done", ("status",))
        self._failures = Count("focalface_failures", "Videos that failed, by what was wrong", ("kind",))
        self._sums = {
            name: Count(f"focalface_{name}", f"{name.capitalize()} found".replace("Frames found", "Frames looked at"))
            for name in ("frames", "faces", "descriptions")
        }
        self._stages = Count("focalface_stage_seconds", "Seconds of work by stage, over all workers", ("stage",))
        self._video_seconds = Histogram(
            "focalface_video_seconds", "Seconds of work on one video", boundaries=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000]
        )

    def work(self, counts: Mapping[str, int], stages: Mapping[str, float]) -> None:
        for name, count in counts.items():
            if count:  # Ray refuses to count nothing
                self._sums[name].inc(count)
        for stage, seconds in stages.items():
            self._stages.inc(seconds, {"stage": stage})

    def finish(self, row: Mapping[str, Any]) -> None:
        self._videos.inc(1, {"status": row["status"]})
        if row["status"] == "failed":
            self._failures.inc(1, {"kind": row["error_kind"]})
        self._video_seconds.observe(row["elapsed_s"])
