"""Scene cuts: where one shot ends and another begins.

A cut needs the picture and the faces to change. A changed picture alone may be a camera that pans, shakes or zooms, a flash, or
somebody who walks past the lens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.faces.camera_motion import camera_motion
from pipeline.faces.likeness import Appearance, alike, appearance, unlike
from pipeline.records import Face, FrameFaces

CUT_CHANGE = 27.0
"""Mean change of hue, saturation and value (0 to 255) from which a picture may begin a new scene, measured and set as by
PySceneDetect's ContentDetector; lower finds fainter cuts and examines more fast motion."""

CUT_LIKENESS = 0.75
"""A picture whose brightness correlates with the last one's by more is the same scene under other light (a flash), however much its
colours changed; higher examines more flashes."""

BLANK = 4.0
"""A picture whose brightness (0 to 255) deviates by less from its mean is blank: a white flash, a black leader."""

SAME_PLACE, SAME_SIZE = 0.6, 1.5
"""Two faces are at one place if their centres are nearer than this share of the larger one's height, and neither is this many times as high
as the other; more compares faces that moved further."""

THUMBNAIL = (64, 36)
"""Width and height of a thumbnail, in pixels."""


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink a frame to the size at which scenes are compared.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (36, 64, 3) uint8 RGB.
    """
    return np.asarray(cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA))


def is_blank(small: np.ndarray) -> bool:
    """Whether a thumbnail shows nothing."""
    return bool(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 2].std() < BLANK)


def picture_changed(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two thumbnails differ as two scenes do, or as two views of a moving camera."""
    one, other = (cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.float32) for small in (before, after))
    if np.abs(other - one).mean() < CUT_CHANGE:
        return False
    blurred = [cv2.resize(picture[..., 2], (32, 18), interpolation=cv2.INTER_AREA).ravel() for picture in (one, other)]
    return bool(np.corrcoef(blurred[0], blurred[1])[0, 1] < CUT_LIKENESS)


@dataclass(frozen=True)
class SceneChange:
    """What changed in the scene since the frame before.

    Attributes:
        cut: whether a new scene begins with this frame.
        motion: (2, 3) map from pixels of the frame before to pixels of this one, where the camera moved far; else None.
    """

    cut: bool = False
    motion: np.ndarray | None = None


class SceneCuts:
    """Detects the first frame of each new scene, and large camera motions. One object a video, frames in order."""

    def __init__(self) -> None:
        self._last: FrameFaces | None = None

    def update(self, found: FrameFaces) -> SceneChange:
        """Compare the next frame with the one before it.

        Blank frames belong to no scene: the next frame is compared with the one before them.
        """
        if is_blank(found.thumbnail):
            return SceneChange()
        last, self._last = self._last, found
        if last is None or not picture_changed(last.thumbnail, found.thumbnail):
            return SceneChange()
        motion = camera_motion(last, found)
        if motion is not None and not _replaced(last, found, motion):
            return SceneChange(motion=motion)
        return SceneChange(cut=not _stay(last, found))


def _pairs(before: FrameFaces, after: FrameFaces, motion: np.ndarray | None = None) -> Sequence[tuple[Face, Face]]:
    """Faces of two frames that are at the same place once `motion` is undone."""
    pairs = []
    for face in before.faces:
        centre, height = _centre(face), face.box[3] - face.box[1]
        if motion is not None:
            centre = motion[:, :2] @ centre + motion[:, 2]
            height *= float(np.sqrt(abs(np.linalg.det(motion[:, :2]))))
        for other in after.faces:
            higher, lower = sorted((other.box[3] - other.box[1], height), reverse=True)
            if higher < SAME_SIZE * lower and np.linalg.norm(_centre(other) - centre) < SAME_PLACE * higher:
                pairs.append((face, other))
    return pairs


def _centre(face: Face) -> np.ndarray:
    return np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2


def _replaced(before: FrameFaces, after: FrameFaces, motion: np.ndarray) -> bool:
    """Whether most faces that should have moved along with the camera were replaced by others."""
    verdicts = [_judged(unlike, before, after, *pair) for pair in _pairs(before, after, motion)]
    return sum(verdicts) > len(verdicts) / 2


def _stay(before: FrameFaces, after: FrameFaces) -> bool:
    """Whether faces stayed in place although the picture changed: at least half of them, and at least one."""
    same = sum(_judged(alike, before, after, *pair) for pair in _pairs(before, after))
    return same > 0 and same >= max(len(before.faces), len(after.faces)) / 2


def _judged(judge: Callable[[Appearance, Appearance], bool], before: FrameFaces, after: FrameFaces, face: Face, other: Face) -> bool:
    """What `judge` says of two faces; False where one of them is not wholly in its frame."""
    one, two = appearance(face, before.size), appearance(other, after.size)
    return one is not None and two is not None and judge(one, two)
