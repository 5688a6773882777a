"""Tracking: which face of this frame is which face of the frames before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.faces.scene_cuts import SceneCuts
from pipeline.records import Face, FrameFaces

NEW_FACE_SCORE = 0.5
"""A detection of at least this score may begin a track; a weaker one only continues a track. Lower begins more tracks on things that
are no faces; higher loses people who never face the camera."""

GAP_S = 1.0
"""A face that is missing for longer gets a new track; more bridges longer gaps and confuses more people."""

REACH = 0.5
"""Boxes grow by this share of their size on every side before overlaps are measured (buffered IoU, Yang and others 2023,
"Hard to Track Objects with Irregular Motions and Similar Appearances"); more follows faster faces at low frame rates, and
confuses neighbours sooner."""

MIN_OVERLAP = 0.15
"""Least overlap of the grown boxes for two faces to be one, so that with `REACH` 0.5 a face may move 1.5 of its widths beyond the
prediction; lower joins more, higher breaks more."""

_WEAK = NEW_FACE_SCORE - 0.01
"""Score that the tracker gets for a face that was carried by optical flow: it may continue a track, not begin one."""


class FaceTracker:
    """Gives the faces of one video their `track_id`. One object a video, frames in order.

    ByteTrack (Zhang and others 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box") on boxes, by the
    frames' own times. Tracks end at scene cuts. No pixels are needed.
    """

    def __init__(self, fps: float) -> None:
        """Prepare for a video.

        Args:
            fps: expected number of sampled frames in a second.
        """
        from supervision import Detections as TrackerDetections  # imported here: it takes half a second that only tracking needs
        from trackers import ByteTrackTracker
        from trackers.utils.iou import BIoU

        self._detections = TrackerDetections
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(30 * GAP_S),
            frame_rate=fps,
            track_activation_threshold=NEW_FACE_SCORE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=MIN_OVERLAP,
            high_conf_det_threshold=NEW_FACE_SCORE,
            iou=BIoU(REACH),
        )
        self._cuts = SceneCuts()
        self._ids: dict[int, int] = {}  # ByteTrack's numbers, which start again in every scene, to track ids
        self._used = 0

    def update(self, found: FrameFaces) -> list[Face]:
        """Give the faces of the next frame their track ids.

        Args:
            found: from `pipeline.faces.finding.find_faces`.

        Returns:
            The faces that belong to a track, by `track_id`.
        """
        if self._cuts.begins(found.thumbnail):
            self._tracker.reset()
            self._ids.clear()
        boxes = np.array([face.box for face in found.faces], np.float32).reshape(-1, 4)
        scores = np.array([_WEAK if face.det_score is None else face.det_score for face in found.faces], np.float32)
        ids = self._track_ids(boxes, scores, found.time_s)
        tracked = [replace(face, track_id=track_id) for face, track_id in zip(found.faces, ids, strict=True) if track_id is not None]
        return sorted(tracked, key=lambda face: face.track_id)

    def _track_ids(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> list[int | None]:
        """The track id of each detection; None for a weak one that continues no track."""
        numbers = self._numbers(boxes, scores, time_s)
        if (numbers[scores >= NEW_FACE_SCORE] < 0).any():
            # ByteTrack numbers a face when it sees it the second time: show it again at once, so that its first frame is not lost.
            numbers = self._numbers(boxes, scores, time_s + 1e-6)
        for number in numbers[numbers >= 0].tolist():
            if number not in self._ids:
                self._used += 1
                self._ids[number] = self._used
        return [self._ids.get(number) for number in numbers.tolist()]

    def _numbers(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> np.ndarray:
        """(N,) ByteTrack's number of each detection, -1 for none."""
        given = self._detections(boxes, confidence=scores, data={"row": np.arange(len(boxes))})
        numbered = self._tracker.update(given, timestamp=time_s)
        numbers = np.full(len(boxes), -1)
        if numbered.tracker_id is not None and len(numbered):
            numbers[numbered.data["row"]] = numbered.tracker_id
        return numbers
