"""How much each part of a face moved by itself between two aligned crops.

What is not the face's own doing is taken out: light by local normalisation, landmark jitter and head motion by registering one
crop to the other, and what that leaves by weighing each pixel's difference against what a small misplacement would make there.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import Box

FINE = 1.2
"""Blur in crop pixels that takes out sensor noise; more misses finer movement."""

LIGHT = 14.0
"""Blur in crop pixels of what counts as light; less removes more shading, and with it slow differences between wide areas."""

MISPLACED = 0.35
"""Crop pixels of misplacement that are forgiven everywhere; more makes strong edges (eyes, brows) count less."""

TURN = 8.0
"""Degrees of head turn between two crops that halve every change, for the relief and light that registration cannot follow."""

NOISE = 0.1
"""Least difference that counts, in deviations of the face's own light and shade; more ignores fainter wrinkles and flicker."""

FARTHEST = 20.0
"""Crop pixels beyond which a registration has run astray and is not believed; more follows wilder landmarks."""

DAMPING = np.repeat([0.05, 0.05, 0.05, 2.0], 2)
"""Holds registration still where there is no texture, turns of the head more than plane transforms; more makes it follow less."""

_HALF = CROP_SIZE // 2


def _relief(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Roughly how far each point of a face stands out, 0 to 1: a dome with a nose on it. `u`, `v`: -1 to 1 over the crop."""
    dome = np.sqrt(np.clip(1 - (u / 0.8) ** 2 - ((v - 0.1) / 1.0) ** 2, 0, None))
    return 0.6 * dome + 0.4 * np.exp(-((u / 0.16) ** 2) - ((v - 0.1) / 0.2) ** 2)


def _shapes(points: np.ndarray) -> np.ndarray:
    """(..., 2) crop pixels to (..., 4): what a shift, a plane transform and a turn of the head move each point by."""
    u, v = np.moveaxis(points * (2 / CROP_SIZE) - 1, -1, 0)
    return np.stack([np.ones_like(u), u, v, _relief(u, v)], -1)


def _grid(side: int) -> np.ndarray:
    """(side, side, 2) crop pixels of an image's pixels."""
    return (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5) * (CROP_SIZE / side) - 0.5


_GRID = {side: _grid(side) for side in (_HALF, CROP_SIZE)}
_SHAPES = {side: _shapes(grid) for side, grid in _GRID.items()}
_ON_FACE = {side: np.hypot(shapes[..., 1] / 0.66, (shapes[..., 2] - 0.1) / 0.84) < 1 for side, shapes in _SHAPES.items()}

_FACE_GRID, _FACE_SHAPES = (table[_HALF][_ON_FACE[_HALF]] for table in (_GRID, _SHAPES))  # [N, 2], [N, 4]: registration looks there

_FACE_WEIGHT = _ON_FACE[CROP_SIZE].astype(np.float32)
_FACE_BLURRED = cv2.GaussianBlur(_FACE_WEIGHT, (0, 0), LIGHT) + 1e-3


def normalise(crop: np.ndarray) -> np.ndarray:
    """(112, 112, 3) uint8 RGB crop to (112, 112) float32 of mean 0 and deviation 1 on the face, free of noise and light."""
    grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), FINE)
    # Light is measured on the face alone: hair that comes into the crop must not seem to brighten the forehead.
    detail = grey - cv2.GaussianBlur(grey * _FACE_WEIGHT, (0, 0), LIGHT) / _FACE_BLURRED
    return detail / np.float32(max(float(detail[_ON_FACE[CROP_SIZE]].std()), 2.0))


def _gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8)


def _warp(image: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Fetch each pixel from where `motion` (4, 2), in crop pixels, says that it came to lie."""
    side = len(image)
    return _fetch(image, _GRID[side] + _SHAPES[side] @ motion)


def _fetch(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(H, W) what an image shows at (H, W, 2) places in crop pixels."""
    source = ((places + 0.5) * (len(image) / CROP_SIZE) - 0.5).astype(np.float32)
    return cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class Registrar:
    """Brings crops onto one reference.

    Robust registration after Lucas and Kanade (1981), at half size, coarse then fine, of a plane transform and a turn of the
    head. Differences are reweighted (Geman and McClure's function) so that a part which moves on its own does not pull the rest.
    """

    def __init__(self, reference: np.ndarray) -> None:
        """Args: `reference`: (112, 112) from `normalise`."""
        half = cv2.resize(reference, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
        on_face = _ON_FACE[_HALF]
        self._levels = []
        for blur, steps in ((4.0, 8), (1.5, 6), (0.5, 5)):
            image = cv2.GaussianBlur(half, (0, 0), blur)
            slopes = np.stack([part[on_face] * (_HALF / CROP_SIZE) for part in _gradient(image)], 1)  # per crop pixel
            by_motion = (_FACE_SHAPES[:, :, None] * slopes[:, None]).reshape(-1, 8)  # [N, 4 shapes x 2]
            self._levels.append((blur, steps, image[on_face], by_motion))

    def register(self, image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring an image, and points on it, onto the reference.

        Args:
            image: (112, 112) from `normalise`.
            points: (N, 2) crop pixels.

        Returns:
            The image and the points as they would be, had the face not moved.
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
    """How far two registered images differ at each pixel, beyond noise and small misplacement.

    Args:
        reference, image: (112, 112), normalised and registered.
        turn: degrees by which the head is turned between them.

    Returns:
        (112, 112) squared differences; 1 is what noise, or `MISPLACED` pixels of misplacement, would make.
    """
    error = image - reference
    gx, gy = _gradient(reference)
    slope = cv2.GaussianBlur(gx * gx + gy * gy, (0, 0), 1.0)
    noise = max(1.4826 * float(np.median(np.abs(error[_ON_FACE[CROP_SIZE]]))), NOISE)
    # No difference may count without end: a hand before the mouth is one movement, not a hundred.
    return np.minimum(error**2 / (noise**2 + MISPLACED**2 * slope) / (1 + turn / TURN) ** 2, 100.0)


def change(differences: np.ndarray, box: Box) -> float:
    """Mean of `difference` in a box: a squared change, 1 being what cannot be told from noise."""
    x0, y0, x1, y1 = (round(value) for value in box)
    return float(differences[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean())
