"""Running a network on crops around faces that are known from other frames: one pass, every face at the height it is found best at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.faces.detectors.suppression import RawFaces, suppress
from pipeline.records import Detections

PAYS = 0.75
"""Share of the input pixels of a whole frame that crops may have: more searches crops that take as long."""


@dataclass(frozen=True)
class CropSearch:
    """How a detector searches crops (`pipeline.faces.detectors.Detector.detect_crops`).

    Attributes:
        side: side of the input for one crop, in pixels; a face takes about half of it.
        scale: input pixels per pixel of the frame where `detect` searches a whole frame.
        min_face: least height of a face, in pixels of the frame, that `detect` gives.
    """

    side: int
    scale: float
    min_face: float

    def pays(self, faces: int, size: tuple[int, int]) -> bool:
        """Whether so many crops are searched sooner than a whole frame: they have three quarters of its input pixels at most.

        >>> search = CropSearch(side=128, scale=0.6, min_face=40)
        >>> search.pays(30, (1920, 1080)), search.pays(40, (1920, 1080))
        (True, False)

        Args:
            faces: number of crops.
            size: width and height of the frame.
        """
        return faces * self.side**2 <= PAYS * size[0] * size[1] * self.scale**2


def detect_in_crops(images: Sequence[np.ndarray], run: Callable[[list[np.ndarray]], Sequence[RawFaces]], side: int) -> list[Detections]:
    """Find faces in crops; all of them go through the network together.

    Args:
        images: (S, S, 3) uint8 RGB, squares of any sizes.
        run: runs the network on images of (side, side, 3).
        side: of the input, in pixels.

    Returns:
        One `Detections` for each crop, in its pixels. Boxes of any height are kept.
    """
    flags = [cv2.INTER_AREA if len(image) > side else cv2.INTER_LINEAR for image in images]
    inputs = [cv2.resize(image, (side, side), interpolation=flag) for image, flag in zip(images, flags, strict=True)]
    found = []
    for image, (boxes, scores, landmarks) in zip(images, run(inputs) if inputs else (), strict=True):
        ratio = len(image) / side
        found.append(suppress(boxes * ratio, scores, landmarks * ratio, (len(image), len(image)), 0.0))
    return found
