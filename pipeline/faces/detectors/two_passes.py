"""Running a network that sees faces of a limited range of sizes on images of any size: a fine pass, and a coarse one for large faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from pipeline.faces.detectors.onnx_session import MAX_ENLARGE
from pipeline.faces.detectors.suppression import RawFaces, suppress
from pipeline.records import Detections

STRIDE = 32
"""Sides of the input are multiples of this many pixels."""


@dataclass(frozen=True)
class SizeRange:
    """Which sizes of faces a network sees, in input pixels.

    Attributes:
        face: height at which it finds a face with certainty; the fine pass scales a face of `min_face` to it.
        large: faces higher than this in the fine pass are taken from the coarse one.
        coarse_side: shorter side of the image in the coarse pass.
    """

    face: float
    large: float
    coarse_side: float

    def scale(self, min_face: float) -> float:
        """Input pixels per pixel of the image in the fine pass."""
        return min(self.face / min_face, MAX_ENLARGE)


def detect_in_two_passes(
    images: Sequence[np.ndarray], run: Callable[[list[np.ndarray], float], list[RawFaces]], sizes: SizeRange, min_face: float
) -> list[Detections]:
    """Find faces of `min_face` and more.

    Args:
        images: (H, W, 3) uint8 RGB, of any sizes; those of one size go through the network together.
        run: runs the network on images of one size, scaled by a factor (`scaled_batches`).
        sizes: of the network.
        min_face: least height of a face, in pixels of the images.
    """
    found: dict[int, Detections] = {}
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_size.setdefault(image.shape[:2], []).append(place)
    for (height, width), places in by_size.items():
        same = [images[place] for place in places]
        scale = sizes.scale(min_face)
        large = sizes.large / scale
        results = run(same, scale)
        if min(height, width) > 1.25 * large:
            coarse = run(same, sizes.coarse_side / min(height, width))
            results = [_merge(*pair, large) for pair in zip(results, coarse, strict=True)]
        for place, faces in zip(places, results, strict=True):
            found[place] = suppress(*faces, (width, height), min_face)
    return [found[place] for place in range(len(images))]


def scaled_batches(images: list[np.ndarray], scale: float, most_pixels: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Scale images of one size and pad them to the stride.

    Args:
        images: (H, W, 3) uint8.
        scale: factor.
        most_pixels: of one batch.

    Returns:
        Batches (N, 3, h, w) float32, and the (2,) factors from input pixels back to pixels of the images.
    """
    height, width = images[0].shape[:2]
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    padded_h, padded_w = (ceil(side / STRIDE) * STRIDE for side in (new[1], new[0]))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    step = max(1, most_pixels // (padded_h * padded_w))
    batches = []
    for start in range(0, len(images), step):
        part = images[start : start + step]
        batch = np.zeros((len(part), 3, padded_h, padded_w), np.float32)
        for row, image in zip(batch, part, strict=True):
            row[:, : new[1], : new[0]] = cv2.resize(image, new, interpolation=flags).transpose(2, 0, 1)
        batches.append(batch)
    return batches, np.array([width / new[0], height / new[1]])


def _inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) whether more than half of the area of each of N boxes lies within one of M others."""
    common = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return (common.clip(0).prod(2) > 0.5 * (boxes[:, None, 2:] - boxes[:, None, :2]).prod(2)).any(1)


def _merge(fine: RawFaces, coarse: RawFaces, large: float) -> RawFaces:
    """Merge two passes: faces higher than `large` from the coarse one; lower ones from the fine one, or else the coarse one."""
    fine_small = fine[0][:, 3] - fine[0][:, 1] < large
    coarse_large = coarse[0][:, 3] - coarse[0][:, 1] > 0.6 * large  # the passes disagree about the size; duplicates are dropped later
    keep_fine = fine_small & ~_inside(fine[0], coarse[0][coarse_large])
    keep_coarse = coarse_large | ~_inside(coarse[0], fine[0][fine_small])
    boxes, scores, landmarks = (np.concatenate([a[keep_fine], b[keep_coarse]]) for a, b in zip(fine, coarse, strict=True))
    return boxes, scores, landmarks
