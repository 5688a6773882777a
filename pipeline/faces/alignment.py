"""Similarity alignment of a face from five landmarks.

Every face is rotated, scaled and shifted so that its eyes, nose and mouth corners come as close as possible to one template. A pixel of
the aligned crop therefore shows about the same place on every face. Region boxes are placed in that crop
(`pipeline.regions.placement`) and mapped back to the frame with the same transform.
"""

from __future__ import annotations

import numpy as np

from pipeline.records import Alignment

CROP_SIZE = 112
"""Side of the aligned square crop, in pixels."""

EYE_DISTANCE = 36.0
"""Distance between the eye centres in the aligned crop, in pixels: leaves room for the forehead and the chin."""

FACE_SHAPE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.614], [-0.421, 1.048], [0.421, 1.048]])
"""Mean frontal face in units of the eye distance; the origin is midway between the eyes, x to the image's right, y down. Fitted by
`pipeline.training.fit_geometry`, as the placement of regions and head pose are."""

TEMPLATE = (FACE_SHAPE * EYE_DISTANCE + [CROP_SIZE / 2, 42.0]).astype(np.float32)
"""Target positions of the five landmarks in the aligned crop: (5, 2) pixels, image-left eye first."""


def align(landmarks5: np.ndarray, template: np.ndarray = TEMPLATE) -> Alignment:
    """Least-squares similarity transform from five landmarks to a template.

    Umeyama's closed form (Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns") for
    two dimensions, written with complex numbers, which excludes reflections.

    >>> round(align(TEMPLATE * 2).scale, 3)
    0.5

    Args:
        landmarks5: (5, 2) frame pixels: image-left eye, image-right eye, nose tip, image-left and image-right mouth corner.
        template: (5, 2) where they go, in pixels of a crop with side `CROP_SIZE`; networks other than the project's have their own.

    Raises:
        ValueError: the landmarks coincide, so that no scale exists.
    """
    source = np.asarray(landmarks5, np.float64).reshape(5, 2)
    z = (source - source.mean(0)) @ np.array([1, 1j])
    w = (template - template.mean(0)).astype(np.float64) @ np.array([1, 1j])
    spread = float(np.abs(z) @ np.abs(z))
    if not np.isfinite(spread) or spread < 1e-6:
        raise ValueError("landmarks coincide: cannot align the face")
    a = np.vdot(z, w) / spread  # w ~ a z: the best rotation and scale as one complex number
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return Alignment(np.column_stack([linear, template.mean(0) - linear @ source.mean(0)]))


def crop(frame: np.ndarray, alignment: Alignment, size: int = CROP_SIZE, margin: int = 0) -> np.ndarray:
    """Cut the aligned face out of a frame.

    Where the face is much larger than the crop, the frame is first shrunk by area averaging, which avoids aliasing.

    Args:
        frame: (H, W, 3) or (H, W) uint8.
        alignment: from `align`.
        size: side of the result without the margin; the template scales with it.
        margin: extra pixels on every side, at the same scale.

    Returns:
        (size + 2 margin, size + 2 margin[, 3]) uint8. Pixels outside the frame repeat its edge.
    """
    import cv2  # only here: the geometry above is needed where OpenCV would take too long to import

    zoom = size / CROP_SIZE
    matrix = alignment.matrix * zoom
    matrix[:, 2] += margin
    side = size + 2 * margin
    shrink = 1.0 / (alignment.scale * zoom)
    if shrink > 1.5:
        inverse = np.linalg.inv(matrix[:, :2])
        corners = (np.array([[0, 0], [side, 0], [0, side], [side, side]]) - matrix[:, 2]) @ inverse.T
        height, width = frame.shape[:2]
        x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 2, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 3, [width, height])
        if x1 - x0 >= 2 and y1 - y0 >= 2:
            part = frame[y0:y1, x0:x1]
            new_w, new_h = max(1, round(part.shape[1] / shrink)), max(1, round(part.shape[0] / shrink))
            sx, sy = part.shape[1] / new_w, part.shape[0] / new_h
            frame = cv2.resize(part, (new_w, new_h), interpolation=cv2.INTER_AREA)
            # A pixel (u, v) of the shrunk part lies at ((u + .5) s - .5) of the part.
            matrix[:, 2] += matrix[:, :2] @ np.array([x0 + 0.5 * sx - 0.5, y0 + 0.5 * sy - 0.5])
            matrix[:, :2] *= np.array([sx, sy])
    return cv2.warpAffine(np.ascontiguousarray(frame), matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
