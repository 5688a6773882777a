"""Faces in a part of the frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.records import Face
from pipeline.vocabulary import Box


def in_area(boxes: np.ndarray, area: Box, frame_size: tuple[int, int]) -> np.ndarray:
    """Which boxes have their centre in an area, its left and upper edge included.

    >>> in_area(np.array([[10, 10, 20, 20], [90, 10, 99, 20]]), (0, 0, 0.5, 1), (100, 50)).tolist()
    [True, False]

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in pixels.
        area: in pixels, or shares of the frame where no number is over 1.
        frame_size: width and height of the frame in pixels.
    """
    scale = frame_size if max(area) <= 1 else (1, 1)
    low, high = np.multiply(area[:2], scale), np.multiply(area[2:], scale)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres >= low) & (centres < high)).all(1)


def faces_in_area(faces: Sequence[Face], area: Box | None, frame_size: tuple[int, int]) -> list[Face]:
    """The faces whose box has its centre in an area, as `in_area` says; all of them without an area."""
    if area is None or not faces:
        return list(faces)
    inside = in_area(np.array([face.box for face in faces]), area, frame_size)
    return [face for face, kept in zip(faces, inside, strict=True) if kept]
