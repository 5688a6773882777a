"""How much each part of a face moved by itself between two aligned crops.

Other causes of change are removed: light by local normalisation, landmark jitter and head motion by registering one crop to the
other. Each pixel's remaining difference is divided by the difference that a small registration error would make there.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import Box

FINE = 1.2
"""Blur in crop pixels that removes sensor noise; more misses finer movement."""

LIGHT = 14.0
"""Blur in crop pixels that estimates the light; less removes more shading, and with it slow differences between wide areas."""

MISPLACED = 0.35
"""Registration error, in crop pixels, that is tolerated everywhere; more makes strong edges (eyes, brows) count less."""

TURN = 8.0
"""Degrees of head turn between two crops that halve every change, for relief and light that registration cannot follow; less
ignores more movement of turning heads."""

NOISE = 0.1
"""Least difference that counts, in deviations of the face's own light and shade; more ignores fainter wrinkles and flicker."""

FARTHEST = 20.0
"""Motion, in crop pixels, beyond which a registration has failed and is not applied; more follows wilder landmarks."""

DAMPING = np.repeat([0.05, 0.05, 0.05, 2.0], 2)
"""Ridge terms of the registration, for each of its motions: plane transforms, then the turn of the head. They keep it still where there
is no texture; more makes it follow less."""

_HALF = CROP_SIZE // 2


def _relief(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Approximate depth of each point of a face, 0 to 1: a dome with a nose on it. `u`, `v`: -1 to 1 over the crop."""
    dome = np.sqrt(np.clip(1 - (u / 0.8) ** 2 - ((v - 0.1) / 1.0) ** 2, 0, None))
    return 0.6 * dome + 0.4 * np.exp(-((u / 0.16) ** 2) - ((v - 0.1) / 0.2) ** 2)


def _shapes(points: np.ndarray) -> np.ndarray:
    """(..., 2) crop pixels to (..., 4): basis of motions at each point. 1 (shift), u and v (plane transform), depth (head turn)."""
    u, v = np.moveaxis(points * (2 / CROP_SIZE) - 1, -1, 0)
    return np.stack([np.ones_like(u), u, v, _relief(u, v)], -1)


def _grid(side: int) -> np.ndarray:
    """(side, side, 2) position in crop pixels of each pixel of an image of `side` pixels that shows the whole crop."""
    return (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5) * (CROP_SIZE / side) - 0.5


_GRID = {side: _grid(side) for side in (_HALF, CROP_SIZE)}
_SHAPES = {side: _shapes(grid) for side, grid in _GRID.items()}
_ON_FACE = {side: np.hypot(shapes[..., 1] / 0.66, (shapes[..., 2] - 0.1) / 0.84) < 1 for side, shapes in _SHAPES.items()}

_FACE_GRID, _FACE_SHAPES = (table[_HALF][_ON_FACE[_HALF]] for table in (_GRID, _SHAPES))  # [N, 2], [N, 4]: the pixels used by registration

_FACE_WEIGHT = _ON_FACE[CROP_SIZE].astype(np.float32)
_FACE_BLURRED = cv2.GaussianBlur(_FACE_WEIGHT, (0, 0), LIGHT) + 1e-3


def normalise(crop: np.ndarray) -> np.ndarray:
    """Remove noise and light from a crop.

    Args:
        crop: (112, 112, 3) uint8 RGB.

    Returns:
        (112, 112) float32 with mean 0 and standard deviation 1 on the face.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), FINE)
    # Light is measured on the face alone, so that hair that enters the crop does not change the forehead.
    detail = grey - cv2.GaussianBlur(grey * _FACE_WEIGHT, (0, 0), LIGHT) / _FACE_BLURRED
    return detail / np.float32(max(float(detail[_ON_FACE[CROP_SIZE]].std()), 2.0))


def _gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8)


def _warp(image: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Undo `motion` (4, 2), in crop pixels: fetch each pixel from the place that it moved to."""
    side = len(image)
    return _fetch(image, _GRID[side] + _SHAPES[side] @ motion)


def _fetch(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sample an image at (H, W, 2) places in crop pixels: (H, W)."""
    source = ((places + 0.5) * (len(image) / CROP_SIZE) - 0.5).astype(np.float32)
    return cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class Registrar:
    """Registers crops to one reference.

    Estimates a plane transform and a turn of the head at half size, coarse to fine (Lucas and Kanade 1981, "An Iterative Image
    Registration Technique"). Geman and McClure's weights keep a part that moves on its own from pulling the rest along.
    """

    def __init__(self, reference: np.ndarray) -> None:
        """Prepare the reference: (112, 112) from `normalise`."""
        half = cv2.resize(reference, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
        on_face = _ON_FACE[_HALF]
        self._levels = []
        for blur, steps in ((4.0, 8), (1.5, 6), (0.5, 5)):
            image = cv2.GaussianBlur(half, (0, 0), blur)
            slopes = np.stack([part[on_face] * (_HALF / CROP_SIZE) for part in _gradient(image)], 1)  # per crop pixel
            by_motion = (_FACE_SHAPES[:, :, None] * slopes[:, None]).reshape(-1, 8)  # [N, 4 shapes x 2]
            self._levels.append((blur, steps, image[on_face], by_motion))

    def register(self, image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Register an image, and points on it, to the reference.

        Args:
            image: (112, 112) from `normalise`.
            points: (N, 2) crop pixels.

        Returns:
            The image and the points with the motion since the reference undone.
        """
        half = cv2.resize(image, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
        motion = np.zeros((4, 2))
        for blur, steps, reference, by_motion in self._levels:
            blurred = cv2.GaussianBlur(half, (0, 0), blur)
            for _ in range(steps):
                error = _fetch(blurred, (_FACE_GRID + _FACE_SHAPES @ motion)[:, None])[:, 0] - reference
                scale = 2 * 1.4826 * float(np.median(np.abs(error))) + 1e-3
                weighted = by_motion * (1 / (1 + (error / scale) ** 2) ** 2)[:, None]
                step = np.linalg.solve(weighted.T @ by_motion + np.diag(DAMPING), weighted.T @ error).reshape(4, 2)
                motion = motion - step
                if np.abs(step).max() < 0.03:
                    break
        if np.abs(motion).max() > FARTHEST:
            motion = np.zeros((4, 2))
        still = points
        for _ in range(5):  # solves still + shapes(still) @ motion = points
            still = points - _shapes(still) @ motion
        return _warp(image, motion), still


def difference(reference: np.ndarray, image: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """How much two registered images differ at each pixel, relative to noise and small registration errors.

    Args:
        reference, image: (112, 112), normalised and registered.
        turn: degrees by which the head is turned between them.

    Returns:
        (112, 112) squared differences; 1 is the difference that noise, or `MISPLACED` pixels of registration error, would make.
    """
    error = image - reference
    gx, gy = _gradient(reference)
    slope = cv2.GaussianBlur(gx * gx + gy * gy, (0, 0), 1.0)
    noise = max(1.4826 * float(np.median(np.abs(error[_ON_FACE[CROP_SIZE]]))), NOISE)
    # Differences are bounded: a hand in front of the mouth is one movement, not a hundred.
    return np.minimum(error**2 / (noise**2 + MISPLACED**2 * slope) / (1 + turn / TURN) ** 2, 100.0)


def change(differences: np.ndarray, box: Box) -> float:
    """Mean of `difference` in a box: a squared change; 1 is the level of noise."""
    x0, y0, x1, y1 = (round(value) for value in box)
    return float(differences[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean())
