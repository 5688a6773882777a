"""Following faces from frame to frame: who is who, aligned crops, and the frames between two runs of the detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from pipeline.faces.alignment import align, crop
from pipeline.faces.detectors import Detector
from pipeline.faces.pose import head_pose
from pipeline.records import Detections, Face, Frame, Look

NEW_FACE_SCORE = 0.5
"""A detection of at least this score may begin a track; weaker ones only go on with one. Lower begins more tracks on things that
are no faces; higher loses people who never look at the camera."""

GAP_S = 1.0
"""A face unseen for longer comes back as somebody new; more bridges longer gaps and confuses more people."""

REACH = 0.5
"""Boxes grow by this share of their size on every side before overlaps are measured (buffered IoU, Yang and others 2023,
"Hard to Track Objects with Irregular Motions and Similar Appearances"); more follows faster faces at low frame rates, and
confuses neighbours sooner."""

MIN_OVERLAP = 0.15
"""Least overlap of the grown boxes for one face to be the other, so that with `REACH` 0.5 a face may move 1.5 of its widths
unforeseen; lower joins more, higher breaks more."""

CUT_CHANGE = 27.0
"""Mean change of hue, saturation and value (0 to 255) from which a frame may begin a new scene, measured and set as by
PySceneDetect's ContentDetector; lower finds fainter cuts and takes fast motion for one."""

CUT_LIKENESS = 0.75
"""A frame whose brightness correlates with the last one's by more is the same scene under other light (a flash), whatever
changed; higher takes more flashes for cuts."""

AHEAD_BYTES = 256 * 2**20
"""Frames held back for one batch of detections, in bytes; more makes larger batches of large frames."""

_WEAK = NEW_FACE_SCORE - 0.01

_SMALL = (64, 36)
"""Width and height at which scenes are told apart."""


def small(image: np.ndarray) -> np.ndarray:
    """(36, 64, 3) uint8: a frame as `SceneCuts` looks at it; one that is so small already as it is."""
    return np.asarray(cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA))


class SceneCuts:
    """Tells where a new scene begins, one frame at a time."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def begins(self, image: np.ndarray) -> bool:
        """Whether a new scene begins with this frame. Blank frames (white flashes, black leaders) belong to no scene.

        Args:
            image: (H, W, 3) uint8 RGB, whole or `small`; frames in order.
        """
        now = cv2.cvtColor(small(image), cv2.COLOR_RGB2HSV).astype(np.float32)
        if now[..., 2].std() < 4:
            return False
        last, self._last = self._last, now
        if last is None or np.abs(now - last).mean() < CUT_CHANGE:
            return False
        blurred = [cv2.resize(picture[..., 2], (32, 18), interpolation=cv2.INTER_AREA).ravel() for picture in (last, now)]
        return bool(np.corrcoef(blurred[0], blurred[1])[0, 1] < CUT_LIKENESS)


class FaceTracker:
    """Gives the faces of one video their `track_id`. One object a video, frames in order.

    ByteTrack (Zhang and others 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box") on boxes, by the
    frames' own times.
    """

    def __init__(self, fps: float) -> None:
        """Prepare for a video.

        Args:
            fps: about how many frames a second will come.
        """
        from supervision import Detections as Tracked  # here, because they take half a second that only those who follow faces need
        from trackers import ByteTrackTracker
        from trackers.utils.iou import BIoU

        self._tracked = Tracked
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(30 * GAP_S),
            frame_rate=fps,
            track_activation_threshold=NEW_FACE_SCORE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=MIN_OVERLAP,
            high_conf_det_threshold=NEW_FACE_SCORE,
            iou=BIoU(REACH),
        )
        self._ids: dict[int, int] = {}  # the tracker's numbers, which begin anew with every scene, to ours
        self._used = 0
        self._last: tuple[np.ndarray, list[Face]] | None = None

    def update(self, frame: Frame, detections: Detections | None, cut: bool = False) -> list[Face]:
        """Name the faces of the next frame.

        Args:
            frame: of the video.
            detections: its faces, or None where the detector was not run: the faces of the frame before are then carried on by
                optical flow, without a score; one that flow loses is missing until it is detected again.
            cut: whether a new scene begins with it; no id lives on.

        Returns:
            By `track_id`. Faces whose landmarks are unusable are left out.
        """
        if cut:
            self._last = None
        found = self._carried(frame.image) if detections is None else detections
        faces = self.name(faces_in(frame, found, scored=detections is not None), frame.time_s, cut)
        self._last = (frame.image, faces)
        return faces

    def name(self, faces: Sequence[Face], time_s: float, cut: bool = False) -> list[Face]:
        """`update` where the frame's faces were cut out before.

        Args:
            faces: from `faces_in`.
            time_s: of the frame.
            cut: whether a new scene begins with it.
        """
        if cut:
            self._tracker.reset()
            self._ids.clear()
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        scores = np.array([_WEAK if face.det_score is None else face.det_score for face in faces], np.float32)
        ids = self._track_ids(boxes, scores, time_s)
        named = [replace(face, track_id=track_id) for face, track_id in zip(faces, ids, strict=True) if track_id is not None]
        return sorted(named, key=lambda face: face.track_id)

    def _track_ids(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> list[int | None]:
        """The track id of each detection; None for weak ones that no track goes on with."""
        numbers = self._numbers(boxes, scores, time_s)
        if (numbers[scores >= NEW_FACE_SCORE] < 0).any():
            # ByteTrack names a face when it sees it the second time: show it again at once, so that its first frame is not lost.
            numbers = self._numbers(boxes, scores, time_s + 1e-6)
        for number in numbers[numbers >= 0].tolist():
            if number not in self._ids:
                self._used += 1
                self._ids[number] = self._used
        return [self._ids.get(number) for number in numbers.tolist()]

    def _numbers(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> np.ndarray:
        """(N,) ByteTrack's number of each detection, -1 for none."""
        given = self._tracked(boxes, confidence=scores, data={"row": np.arange(len(boxes))})
        named = self._tracker.update(given, timestamp=time_s)
        numbers = np.full(len(boxes), -1)
        if named.tracker_id is not None and len(named):
            numbers[named.data["row"]] = named.tracker_id
        return numbers

    def _carried(self, image: np.ndarray) -> Detections:
        """The last frame's faces where optical flow finds them in this one. Too weak, for the tracker, to begin a track."""
        before, faces = self._last or (image, [])
        moved = [_flow(before, image, face) for face in faces] if before.shape == image.shape else []
        kept = [pair for pair in moved if pair is not None]
        boxes = np.array([box for box, _ in kept], np.float32).reshape(-1, 4)
        landmarks = np.array([points for _, points in kept], np.float32).reshape(-1, 5, 2)
        return Detections(boxes, np.full(len(kept), _WEAK, np.float32), landmarks)


def faces_in(frame: Frame, found: Detections, scored: bool = True) -> list[Face]:
    """The faces of a frame, cut out and measured, nameless: `track_id` 0.

    Args:
        frame: of the video.
        found: its detections; those whose landmarks are unusable are left out.
        scored: whether their scores are a detector's.
    """
    faces = []
    for box, score, landmarks5 in zip(found.boxes, found.scores, found.landmarks5, strict=True):
        try:
            alignment = align(landmarks5)
        except ValueError:
            continue
        aligned = crop(frame.image, alignment)
        yaw, pitch, roll = head_pose(landmarks5)
        face = Face(
            frame_index=frame.index,
            time_s=frame.time_s,
            track_id=0,
            det_score=float(score) if scored else None,
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            landmarks5=landmarks5,
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            sharpness=float(cv2.Laplacian(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()),
            alignment=alignment,
            crop=aligned,
        )
        faces.append(face)
    return faces


def look_at(frames: Iterable[Frame], detector: Detector, batch: int = 8) -> Iterator[Look]:
    """All of following people through a video that needs pixels, and no frame before or after: any stretch of it can be looked at
    on its own, and `FaceTracker.name` and `SceneCuts` put the looks together in order.

    Args:
        frames: in order.
        detector: from `pipeline.faces.detectors.load_detector`.
        batch: frames read ahead, so that the detector gets several at once.
    """
    coming = iter(frames)
    while waiting := _some(coming, batch):
        for frame, found in zip(waiting, detector.detect([frame.image for frame in waiting]), strict=True):
            yield Look(frame.index, frame.time_s, small(frame.image), tuple(faces_in(frame, found)))


def _some(frames: Iterator[Frame], batch: int) -> list[Frame]:
    """The next frames, as many as may be held back."""
    some: list[Frame] = []
    held = 0
    for frame in frames:
        some.append(frame)
        held += frame.image.nbytes
        if len(some) >= batch or held + frame.image.nbytes > AHEAD_BYTES:
            break
    return some


_FLOW_FACE = 96
"""Faces are followed at about this size, in pixels, whatever their size in the frame."""

_FLOW_ERROR = 2.0
"""A point is trusted when it comes back to within this many of those pixels after following it there and back."""

_FLOW_SHARE = 0.4
"""Share of a face's points that must move as one for it to be carried; less carries more, and what is no longer a face."""


def _flow(before: np.ndarray, after: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a face has gone: its box (4,) and landmarks (5, 2) in the frame after, or None when it cannot be followed.

    Points on a grid over the face are followed there and back (Lucas and Kanade with image pyramids); the shift, turn and scale
    that most of them agree on move the face.
    """
    x0, y0, x1, y1 = face.box
    width, height = x1 - x0, y1 - y0
    left, top = max(0, int(x0 - width)), max(0, int(y0 - height))
    window = (slice(top, int(y1 + height) + 1), slice(left, int(x1 + width) + 1))
    scale = _FLOW_FACE / max(width, height)
    grey = [cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2GRAY) for image in (before, after)]
    grey = [cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for part in grey]
    across, down = np.meshgrid(np.linspace(0.15, 0.85, 9), np.linspace(0.15, 0.95, 9))
    points = np.stack([x0 - left + across.ravel() * width, y0 - top + down.ravel() * height], 1).astype(np.float32) * scale
    there = np.asarray(cv2.calcOpticalFlowPyrLK(grey[0], grey[1], points, points.copy(), winSize=(15, 15), maxLevel=3)[0])
    back = np.asarray(cv2.calcOpticalFlowPyrLK(grey[1], grey[0], there, points.copy(), winSize=(15, 15), maxLevel=3)[0])
    sure = np.linalg.norm(back - points, axis=1) < _FLOW_ERROR
    if sure.mean() < _FLOW_SHARE:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(points[sure], there[sure], ransacReprojThreshold=2 * _FLOW_ERROR)
    if matrix is None or agree.sum() < _FLOW_SHARE * len(points):
        return None
    linear, shift = matrix[:, :2], matrix[:, 2] / scale
    origin = np.array([left, top])

    def move(xy: np.ndarray) -> np.ndarray:
        return (xy - origin) @ linear.T + shift + origin

    centre = move(np.array([x0 + x1, y0 + y1]) / 2)
    half = np.array([width, height]) / 2 * np.hypot(*linear[:, 0])
    size = after.shape[1::-1]
    box = np.concatenate([centre - half, centre + half]).clip(0, [*size, *size])
    if (box[2:] - box[:2] < 0.5 * half).any():  # mostly out of the picture
        return None
    return box, move(face.landmarks5)


def track_faces(
    frames: Iterable[Frame], detector: Detector, tracker: FaceTracker, detect_every: int = 1, batch: int = 8
) -> Iterator[tuple[Frame, list[Face]]]:
    """Detect and follow the faces of a video.

    Args:
        frames: in order, from `Video.frames`.
        detector: from `pipeline.faces.detectors.load_detector`.
        tracker: a new one.
        detect_every: run the detector on every k-th frame, and on the first of each scene; faces are carried between.
        batch: frames read ahead, so that the detector gets several at once.

    Yields:
        Every frame with its faces, in order.
    """
    cuts = SceneCuts()
    waiting: list[tuple[Frame, bool, bool]] = []  # frame, whether a scene begins, whether to detect
    held = since = 0

    def done() -> Iterator[tuple[Frame, list[Face]]]:
        found = iter(detector.detect([frame.image for frame, _, wanted in waiting if wanted]))
        for frame, cut, wanted in waiting:
            yield frame, tracker.update(frame, next(found) if wanted else None, cut)
        waiting.clear()

    for frame in frames:
        cut = cuts.begins(frame.image)
        wanted = cut or since % detect_every == 0
        since = 1 if wanted else since + 1
        waiting.append((frame, cut, wanted))
        held += frame.image.nbytes
        if len(waiting) >= batch or held + frame.image.nbytes > AHEAD_BYTES:
            yield from done()
            held = 0
    yield from done()
