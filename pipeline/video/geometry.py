"""From a stored picture to the upright frame: display matrix, pixel aspect, and one size for the whole video.

A frame's coordinates mean the same in every frame of a video. Where the picture's size changes on the way, pictures are scaled to fit
into the frame, their shape kept, with black bars on both sides.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.video.frame
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type

SQUARE_WITHIN = 0.01
"""Pixels this close to square count as square: resampling blurs more than it corrects. More leaves faces distorted by as much."""

WIDEST_PIXEL = 8
"""A pixel aspect beyond this, or below its inverse, is taken for a mistake of the file. More believes stranger files."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways in which a stored picture can be turned or mirrored: first transposed, then mirrored.

    >>> Orientation.from_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]).text
    'rotated by 90 degrees clockwise'
    """

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """The orientation nearest to a display matrix.

        Args:
            matrix: nine numbers a, b, u, c, d, v, x, y, w as MP4 stores them: the stored pixel (p, q) is shown at (a p + c q + x,
                b p + d q + y), y downwards. Only signs and relative sizes matter here.
        """
        a, b, _, c, d = matrix[:5]
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def plain(self) -> bool:
        """Whether pictures are stored as they are shown."""
        return not (self.transposed or self.mirror_x or self.mirror_y)

    @property
    def text(self) -> str:
        """What is done to stored pictures."""
        return {
            (False, False, False): "shown as stored",
            (False, True, False): "mirrored left to right",
            (False, False, True): "mirrored upside down",
            (False, True, True): "rotated by 180 degrees",
            (True, False, False): "mirrored along the diagonal",
            (True, True, False): "rotated by 90 degrees clockwise",
            (True, False, True): "rotated by 90 degrees counterclockwise",
            (True, True, True): "mirrored along the other diagonal",
        }[self.transposed, self.mirror_x, self.mirror_y]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a stored picture as shown, and the other way round."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A stored picture as shown, a view of it.

        Args:
            image: (H, W, 3).

        Returns:
            (H, W, 3), or (W, H, 3) where the picture is transposed.
        """
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of(frame: av.video.frame.VideoFrame) -> Orientation:
    """The orientation that a decoded frame's display matrix asks for."""
    container: Any = SideDataContainer  # PyAV's hints know no arguments
    side_data = container(frame)  # frame.side_data and its frame refer to each other, which keeps pictures until a garbage collection
    try:
        matrix = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return Orientation()
    return Orientation.from_matrix(struct.unpack("=9i", bytes(matrix)[:36]))


def believable_aspect(aspect: Fraction | None) -> Fraction:
    """A pixel aspect, 1 where it is unknown, nearly square or absurd.

    >>> believable_aspect(Fraction(16, 11)), believable_aspect(None), believable_aspect(Fraction(4096, 4095))
    (Fraction(16, 11), Fraction(1, 1), Fraction(1, 1))
    """
    if not aspect or abs(aspect - 1) <= SQUARE_WITHIN or not Fraction(1, WIDEST_PIXEL) <= aspect <= WIDEST_PIXEL:
        return Fraction(1)
    return aspect


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size of a picture with square pixels; the shorter-sampled side is stretched, so that no detail is lost.

    >>> square_size(704, 576, Fraction(16, 11)), square_size(720, 480, Fraction(8, 9))
    ((1024, 576), (720, 540))
    """
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


@dataclass(frozen=True)
class Canvas:
    """The frame that all pictures of a video are fitted into.

    Attributes:
        width, height: in pixels.
    """

    width: int
    height: int

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """Size at which a picture of another size is placed, its shape kept.

        >>> Canvas(640, 360).fitted(360, 640)
        (202, 360)
        """
        if (width, height) == (self.width, self.height):
            return width, height
        scale = min(Fraction(self.width, width), Fraction(self.height, height))
        return max(1, min(self.width, round(width * scale))), max(1, min(self.height, round(height * scale)))

    def place(self, image: np.ndarray) -> np.ndarray:
        """A fitted picture in the middle of the frame, the rest black.

        Args:
            image: (h, w, 3) uint8, at most as large as the frame.

        Returns:
            (height, width, 3) uint8, contiguous.
        """
        height, width = image.shape[:2]
        if (width, height) == (self.width, self.height):
            return np.ascontiguousarray(image)
        frame = np.zeros((self.height, self.width, 3), np.uint8)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        frame[top : top + height, left : left + width] = image
        return frame
