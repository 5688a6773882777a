"""Scene cuts: where one shot ends and another begins, decided on thumbnails of the frames."""

from __future__ import annotations

import cv2
import numpy as np

CUT_CHANGE = 27.0
"""Mean change of hue, saturation and value (0 to 255) from which a frame may begin a new scene, measured and set as by
PySceneDetect's ContentDetector; lower finds fainter cuts and takes fast motion for one."""

CUT_LIKENESS = 0.75
"""A frame whose brightness correlates with the last one's by more is the same scene under other light (a flash), however much its
colours changed; higher takes more flashes for cuts."""

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


class SceneCuts:
    """Detects the first frame of each new scene. One object a video, frames in order."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def begins(self, small: np.ndarray) -> bool:
        """Whether a new scene begins with this frame.

        Blank frames (white flashes, black leaders) belong to no scene: the next frame is compared with the one before them.

        Args:
            small: the frame's `thumbnail`.
        """
        now = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.float32)
        if now[..., 2].std() < 4:
            return False
        last, self._last = self._last, now
        if last is None or np.abs(now - last).mean() < CUT_CHANGE:
            return False
        blurred = [cv2.resize(picture[..., 2], (32, 18), interpolation=cv2.INTER_AREA).ravel() for picture in (last, now)]
        return bool(np.corrcoef(blurred[0], blurred[1])[0, 1] < CUT_LIKENESS)
