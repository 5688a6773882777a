"""What a run did and how long it took: a log line for each video, and counts for Prometheus.

Workers time their stages (`pipeline.execution.timing`) and send the seconds along with their results. The driver sums them up, and
exports counts through Ray's own metrics, which Ray's agents offer to Prometheus. Nothing counts twice: a result that comes again after
a lost worker is dropped before it is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger("focalface")


class RunMetrics:
    """Counts of a run.

    Attributes:
        seconds: seconds of work by stage.
    """

    def __init__(self, exported: bool) -> None:
        """Start at zero.

        Args:
            exported: whether to export to Prometheus, for which a Ray must be running.
        """
        self.seconds: dict[str, float] = {}
        self._prometheus = _PrometheusCounts() if exported else None

    def add_result(self, frames: int, faces: int, descriptions: int, stage_seconds: Mapping[str, float]) -> None:
        """Count one result, and the seconds of work on it by stage."""
        spent = {stage: seconds for stage, seconds in stage_seconds.items() if seconds > 0}
        for stage, seconds in spent.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if self._prometheus:
            self._prometheus.add_result({"frames": frames, "faces": faces, "descriptions": descriptions}, spent)

    def add_video(self, row: Mapping[str, Any]) -> None:
        """Count one finished video, and log its outcome.

        Args:
            row: its row of the videos table.
        """
        outcome = row["error"] or f"{row['sampled_frames']} frames, {row['faces']} faces, {row['descriptions']} descriptions"
        logger.info("%s %s: %s, %.1f s of work: %s", row["video_id"], row["path"], row["status"], row["elapsed_s"], outcome)
        if self._prometheus:
            self._prometheus.add_video(row)


class _PrometheusCounts:
    """Counts of a run on the Ray that is running. Prometheus sees names that begin with `ray_focalface_`:

    videos_total{status}, failures_total{kind}, frames_total, faces_total, descriptions_total, stage_seconds_total{stage},
    and the histogram video_seconds (work on one video).
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        self._videos = Counter("focalface_videos", "Videos done", ("status",))
        self._failures = Counter("focalface_failures", "Videos that failed, by the kind of error", ("kind",))
        self._sums = {
            "frames": Counter("focalface_frames", "Frames analysed"),
            "faces": Counter("focalface_faces", "Faces found"),
            "descriptions": Counter("focalface_descriptions", "Descriptions written"),
        }
        self._stages = Counter("focalface_stage_seconds", "Seconds of work by stage, over all workers", ("stage",))
        self._video_seconds = Histogram(
            "focalface_video_seconds", "Seconds of work on one video", boundaries=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000]
        )

    def add_result(self, counts: Mapping[str, int], stage_seconds: Mapping[str, float]) -> None:
        for name, count in counts.items():
            if count:  # Ray refuses to add zero
                self._sums[name].inc(count)
        for stage, seconds in stage_seconds.items():
            self._stages.inc(seconds, {"stage": stage})

    def add_video(self, row: Mapping[str, Any]) -> None:
        self._videos.inc(1, {"status": row["status"]})
        if row["status"] == "failed":
            self._failures.inc(1, {"kind": row["error_kind"]})
        self._video_seconds.observe(row["elapsed_s"])
