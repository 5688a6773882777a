"""Unclear copies of labelled pictures: shrunk, blurred, noisy, covered, cut by the frame's edge. They show how a fault changes what is
read."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.faces.alignment import align, crop
from pipeline.training.occluders import cover

FAULTS = ("clear", "shrunk", "blurred", "noisy", "covered", "cut")
"""What `unclear` makes of a picture; `clear` leaves it as it is."""

AROUND = 0.6
"""Room around a picture, in shares of its longer side, so that the detector sees a face in a frame."""

EYES = (4.0, 25.0)
"""Least and greatest distance between the eyes of shrunk faces, in pixels."""

BLURS = (0.02, 0.25)
"""Least and greatest blur in eye distances: of a lens, or along the way of a moving head."""


def with_room(image: np.ndarray, landmarks5: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a blurred continuation around it, and its landmarks there."""
    height, width = image.shape[:2]
    room = round(AROUND * max(height, width))
    around = cv2.copyMakeBorder(image, room, room, room, room, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(around, (0, 0), max(height, width) / 20)
    inside = np.zeros(around.shape[:2], np.float32)
    inside[room:-room, room:-room] = 1
    inside = cv2.GaussianBlur(inside, (0, 0), max(height, width) / 60)[..., None]
    return (around * inside + soft * (1 - inside)).astype(np.uint8), landmarks5 + room


def unclear(
    image: np.ndarray, landmarks5: np.ndarray, fault: str, random: np.random.Generator, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A copy with a fault of random strength.

    Args:
        image: (H, W, 3) uint8 RGB, from `with_room`.
        landmarks5: (5, 2) pixels.
        fault: one of `FAULTS`.
        random: decides.
        other: another picture, a part of which may cover the face.

    Returns:
        The copy and its landmarks.
    """
    eyes = float(np.linalg.norm(landmarks5[1] - landmarks5[0]))
    if fault == "shrunk":
        scale = min(1.0, float(np.exp(random.uniform(*np.log(EYES)))) / eyes)
        return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), landmarks5 * scale
    if fault == "blurred":
        return _blurred(image, float(np.exp(random.uniform(*np.log(BLURS)))) * eyes, random), landmarks5
    if fault == "noisy":
        dark = image * random.uniform(0.1, 1) + random.normal(0, random.uniform(0, 12), image.shape)
        coded = cv2.imencode(".jpg", np.clip(dark, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(random.uniform(4, 50))])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded, landmarks5
    if fault == "covered":
        return _covered(image, landmarks5, random, other), landmarks5
    if fault == "cut":
        return _cut(image, landmarks5, eyes, random)
    return image, landmarks5


def _blurred(image: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    if random.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    length = max(3, int(sigma * 3.5))
    angle = random.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    kernel = np.zeros((length, length), np.float32)
    first, last = ([int(place) for place in length / 2 + sign * reach] for sign in (-1, 1))
    cv2.line(kernel, first, last, 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _covered(image: np.ndarray, landmarks5: np.ndarray, random: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """The picture with one or two things before the face."""
    alignment = align(landmarks5)
    face = crop(image, alignment)
    mask = np.zeros(face.shape[:2], np.float32)
    for _ in range(random.integers(1, 3)):
        face, part = cover(face, random, other=other)
        mask = np.maximum(mask, part)
    back, size = cv2.invertAffineTransform(alignment.matrix), image.shape[1::-1]
    weight = cv2.warpAffine(cv2.dilate(mask, np.ones((5, 5))), back, size)[..., None]
    return (image * (1 - weight) + cv2.warpAffine(face, back, size) * weight).astype(np.uint8)


def _cut(image: np.ndarray, landmarks5: np.ndarray, eyes: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture without a part on one side, with it up to three quarters of the face."""
    low, high = landmarks5.min(0) - 0.8 * eyes, landmarks5.max(0) + 0.8 * eyes
    share = random.uniform(0, 0.75)
    side = random.integers(4)
    x0, y0 = (int(place) for place in np.maximum(low + (high - low) * share, 0))
    x1, y1 = (max(int(place), 8) for place in high - (high - low) * share)
    if side == 0:
        return np.ascontiguousarray(image[:, x0:]), landmarks5 - [x0, 0]
    if side == 1:
        return np.ascontiguousarray(image[:, :x1]), landmarks5
    if side == 2:
        return np.ascontiguousarray(image[y0:]), landmarks5 - [0, y0]
    return np.ascontiguousarray(image[:y1]), landmarks5
