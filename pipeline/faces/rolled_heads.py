"""Landmarks of rolled heads: of people who lie, who lean their head to a side, or whose camera was turned.

Detectors find such faces but misplace their landmarks: CenterFace by 0.2 eye distances at 45 degrees and 0.4 at 75, where it is 0.1
on an upright face. So each rolled head is looked at once more in a picture of its own, turned until the head is upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.faces.detectors import Detector
from pipeline.faces.known_places import cut_out
from pipeline.faces.pose import head_pose
from pipeline.records import Detections

ROLLED = 15.0
"""Roll in degrees from which a head is turned upright; below it, landmarks are as good as on an upright face."""

TURNS = 3
"""Most turned pictures of one head: where landmarks are far off, so is the roll that they tell, and the first turn stops short."""

FACES_IN_PICTURE = 2.0
"""Side of the turned picture in sides of the face, as detectors expect of crops."""


@dataclass
class _Head:
    """A rolled head.

    Attributes:
        picture, row: which face it is.
        landmarks5: (5, 2) as far as they are known, in pixels of the picture.
    """

    picture: int
    row: int
    landmarks5: np.ndarray


def place_rolled_heads(
    images: Sequence[np.ndarray], found: Sequence[Detections], detector: Detector
) -> tuple[list[Detections], list[frozenset[int]]]:
    """Place the landmarks of rolled heads anew; boxes and scores stay.

    Args:
        images: (H, W, 3) uint8 RGB.
        found: the faces of each image.
        detector: that found them.

    Returns:
        The faces with their new landmarks, and for each image the rows of rolled heads that no turned picture shows upright: what
        their landmarks say cannot be relied on.
    """
    placed = [Detections(faces.boxes, faces.scores, faces.landmarks5.copy()) for faces in found]
    heads = [
        _Head(picture, row, landmarks5)
        for picture, faces in enumerate(found)
        for row, landmarks5 in enumerate(faces.landmarks5)
        if abs(head_pose(landmarks5)[2]) >= ROLLED
    ]
    doubtful: list[set[int]] = [set() for _ in images]
    for head in heads:
        doubtful[head.picture].add(head.row)
    for _ in range(TURNS):
        if not heads:
            break
        heads = _look_again(images, placed, heads, doubtful, detector)
    return placed, [frozenset(rows) for rows in doubtful]


def _look_again(
    images: Sequence[np.ndarray], placed: Sequence[Detections], heads: Sequence[_Head], doubtful: Sequence[set[int]], detector: Detector
) -> list[_Head]:
    """Look at heads in turned pictures; settle those that are upright there, and return those that are to be turned further."""
    side = detector.crop_search.side if detector.crop_search else 0
    turned = [_turned(images[head.picture], placed[head.picture].boxes[head.row], head.landmarks5, side) for head in heads]
    further = []
    for head, (picture, matrix), faces in zip(heads, turned, detector.detect_crops([picture for picture, _ in turned]), strict=True):
        row = _central(faces, len(picture))
        if row is None:
            continue
        head.landmarks5 = (faces.landmarks5[row] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        if abs(head_pose(faces.landmarks5[row])[2]) < ROLLED:
            placed[head.picture].landmarks5[head.row] = head.landmarks5
            doubtful[head.picture].discard(head.row)
        else:
            further.append(head)
    return further


def _turned(image: np.ndarray, box: np.ndarray, landmarks5: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A square picture of a head, turned by the roll that its landmarks tell.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) of the face.
        landmarks5: (5, 2) of the face.
        side: of the picture in pixels; 0: as large as the head is in the image.

    Returns:
        The picture, and the (2, 3) matrix from pixels of the image to its pixels.
    """
    reach = FACES_IN_PICTURE * float((box[2:] - box[:2]).max())
    side = side or round(reach)
    window = round(np.sqrt(2) * reach)  # whatever the angle, the corners of the turned square lie within
    left, top = np.round((box[:2] + box[2:] - window) / 2).astype(int).tolist()
    part = cut_out(image, (left, top, window))
    new = max(1, round(window * side / reach))
    part = cv2.resize(part, (new, new), interpolation=cv2.INTER_AREA if new < window else cv2.INTER_LINEAR)
    ratio = new / window
    to_part = np.array([[ratio, 0, (0.5 - left) * ratio - 0.5], [0, ratio, (0.5 - top) * ratio - 0.5], [0, 0, 1]])
    middle = (new - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), -head_pose(landmarks5)[2], 1.0)
    turn[:, 2] += (side - new) / 2
    return cv2.warpAffine(part, turn, (side, side), flags=cv2.INTER_LINEAR), turn @ to_part


def _central(faces: Detections, side: int) -> int | None:
    """Row of the face nearest to the centre of a turned picture; None where it is further off than half a face."""
    if not len(faces):
        return None
    apart = np.abs((faces.boxes[:, :2] + faces.boxes[:, 2:] - side) / 2).max(1)
    row = int(np.argmin(apart))
    return row if apart[row] <= side / FACES_IN_PICTURE / 2 else None
