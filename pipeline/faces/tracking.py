"""Tracking: which face of this frame is which face of the frames before.

Boxes are tracked in the coordinates of the scene's first frame, so that a panning camera does not hand a track to the neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.faces.likeness import Appearance, alike, appearance, unlike
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


class FaceTracker:
    """Gives the faces of one video their `track_id`. One object a video, frames in order.

    ByteTrack (Zhang and others 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box") on boxes, by the
    frames' own times. Tracks end at scene cuts, and where another face takes a face's place. No pixels are needed.
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
        self._ids: dict[int, int | None] = {}  # ByteTrack's numbers, which start again in every scene, to track ids; None: to be settled
        self._used = 0
        self._seen: dict[int, tuple[float, Appearance]] = {}  # track id to when, and how, its face was last seen whole
        self._to_scene = np.eye(2, 3)  # frame pixels to pixels of the scene's first frame

    def update(self, found: FrameFaces) -> list[Face]:
        """Give the faces of the next frame their track ids.

        Args:
            found: from `pipeline.faces.finding.find_faces`.

        Returns:
            The faces that belong to a track, by `track_id`.
        """
        change = self._cuts.update(found)
        if change.cut:
            self._tracker.reset()
            self._ids.clear()
            self._seen.clear()
            self._to_scene = np.eye(2, 3)
        elif change.motion is not None:
            back = np.linalg.inv(change.motion[:, :2])
            linear = self._to_scene[:, :2] @ back
            self._to_scene = np.column_stack([linear, self._to_scene[:, 2] - linear @ change.motion[:, 2]])
        scores = np.array([face.det_score for face in found.faces], np.float32)
        ids = self._track_ids(found, self._scene_boxes(found.faces), scores)
        tracked = [replace(face, track_id=track_id) for face, track_id in zip(found.faces, ids, strict=True) if track_id is not None]
        return sorted(tracked, key=lambda face: face.track_id)

    def _scene_boxes(self, faces: Sequence[Face]) -> np.ndarray:
        """(N, 4) boxes of faces in pixels of the scene's first frame."""
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        if np.array_equal(self._to_scene, np.eye(2, 3)):
            return boxes
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ self._to_scene[:, :2].T + self._to_scene[:, 2]
        halves = (boxes[:, 2:] - boxes[:, :2]) / 2 * np.sqrt(abs(np.linalg.det(self._to_scene[:, :2])))
        return np.concatenate([centres - halves, centres + halves], 1).astype(np.float32)

    def _track_ids(self, found: FrameFaces, boxes: np.ndarray, scores: np.ndarray) -> list[int | None]:
        """The track id of each face; None for a weak one that continues no track."""
        time_s = found.time_s
        numbers = self._numbers(boxes, scores, time_s)
        if (numbers[scores >= NEW_FACE_SCORE] < 0).any():
            # ByteTrack numbers a face when it sees it the second time: show it again at once, so that its first frame is not lost.
            numbers = self._numbers(boxes, scores, time_s + 1e-6)
        return self._named(found, numbers.tolist())

    def _named(self, found: FrameFaces, numbers: Sequence[int]) -> list[int | None]:
        """The track id of each face by its number, unless another face has taken the place of that track's.

        A face that did, or a track whose place was taken, gets the track of this scene that last looked like it, or else a new one.
        """
        looks = [_clear_appearance(face, found) for face in found.faces]
        unsettled = []
        for row, (number, look) in enumerate(zip(numbers, looks, strict=True)):
            if number < 0:
                continue
            if number not in self._ids:
                self._ids[number] = self._new_id()
            elif (owner := self._ids[number]) is None or self._recent(owner, found.time_s, look, unlike):
                self._ids[number] = None
                unsettled.append(row)
        present = {self._ids[number] for number in numbers if number >= 0}
        for row in unsettled:
            look = looks[row]
            known = [owner for owner in self._seen if owner not in present and self._recent(owner, found.time_s, look, alike)]
            owner = known[0] if known else self._new_id()
            self._ids = {number: None if other == owner else other for number, other in self._ids.items()}
            self._ids[numbers[row]] = owner
            present.add(owner)
        ids = [self._ids[number] if number >= 0 else None for number in numbers]
        self._seen |= {
            owner: (found.time_s, look) for owner, look in zip(ids, looks, strict=True) if owner is not None and look is not None
        }
        return ids

    def _new_id(self) -> int:
        self._used += 1
        return self._used

    def _recent(self, owner: int, time_s: float, look: Appearance | None, judge: Callable[[Appearance, Appearance], bool]) -> bool:
        """Whether the last look of a track is recent enough to be compared, and `judge` says so of it."""
        if look is None or owner not in self._seen:
            return False
        seen_s, before = self._seen[owner]
        return time_s - seen_s <= GAP_S and judge(before, look)

    def _numbers(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> np.ndarray:
        """(N,) ByteTrack's number of each detection, -1 for none."""
        given = self._detections(boxes, confidence=scores, data={"row": np.arange(len(boxes))})
        numbered = self._tracker.update(given, timestamp=time_s)
        numbers = np.full(len(boxes), -1)
        if numbered.tracker_id is not None and len(numbered):
            numbers[numbered.data["row"]] = numbered.tracker_id
        return numbers


def _clear_appearance(face: Face, found: FrameFaces) -> Appearance | None:
    """How a face looks, if it lies inside the frame and no other head is so near that it may hide a part of it."""
    for other in found.faces:
        x0, y0, x1, y1 = other.box
        across, down = REACH * (x1 - x0), REACH * (y1 - y0)
        apart = face.box[0] > x1 + across or face.box[2] < x0 - across or face.box[1] > y1 + down or face.box[3] < y0 - down
        if other is not face and not apart:
            return None
    return appearance(face, found.size)
