"""Carrying faces from one frame to the next by optical flow, where the detector is not run."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.records import Detections, Face

FLOW_FACE = 96
"""Faces are followed at about this size, in pixels, whatever their size in the frame."""

FLOW_ERROR = 2.0
"""A point is trusted when it returns to within this many of those pixels after following it forward and back."""

FLOW_SHARE = 0.4
"""Share of a face's points that must move as one for it to be carried; less carries more, and things that are no longer a face."""


def carry(before: np.ndarray, after: np.ndarray, faces: Sequence[Face]) -> Detections:
    """Find the faces of one frame in the next one.

    Args:
        before: (H, W, 3) uint8 RGB, the frame that the faces were found in.
        after: the frame that follows.
        faces: of `before`.

    Returns:
        Those that could be followed, with scores of 0: no detector saw them. None where the frames differ in size.
    """
    moved = [_flow(before, after, face) for face in faces] if before.shape == after.shape else []
    kept = [pair for pair in moved if pair is not None]
    boxes = np.array([box for box, _ in kept], np.float32).reshape(-1, 4)
    landmarks = np.array([points for _, points in kept], np.float32).reshape(-1, 5, 2)
    return Detections(boxes, np.zeros(len(kept), np.float32), landmarks)


def _flow(before: np.ndarray, after: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray] | None:
    """A face's box (4,) and landmarks (5, 2) in the next frame, or None when it cannot be followed.

    Points on a grid over the face are followed forward and back (Lucas and Kanade with image pyramids); the shift, turn and scale
    that most of them agree on move the face.
    """
    x0, y0, x1, y1 = face.box
    width, height = x1 - x0, y1 - y0
    left, top = max(0, int(x0 - width)), max(0, int(y0 - height))
    window = (slice(top, int(y1 + height) + 1), slice(left, int(x1 + width) + 1))
    scale = FLOW_FACE / max(width, height)
    grey = [cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2GRAY) for image in (before, after)]
    grey = [cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for part in grey]
    across, down = np.meshgrid(np.linspace(0.15, 0.85, 9), np.linspace(0.15, 0.95, 9))
    points = np.stack([x0 - left + across.ravel() * width, y0 - top + down.ravel() * height], 1).astype(np.float32) * scale
    there = np.asarray(cv2.calcOpticalFlowPyrLK(grey[0], grey[1], points, points.copy(), winSize=(15, 15), maxLevel=3)[0])
    back = np.asarray(cv2.calcOpticalFlowPyrLK(grey[1], grey[0], there, points.copy(), winSize=(15, 15), maxLevel=3)[0])
    sure = np.linalg.norm(back - points, axis=1) < FLOW_ERROR
    if sure.mean() < FLOW_SHARE:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(points[sure], there[sure], ransacReprojThreshold=2 * FLOW_ERROR)
    if matrix is None or agree.sum() < FLOW_SHARE * len(points):
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
