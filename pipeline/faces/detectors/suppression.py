"""From a network's raw boxes to the detections of one image: what every detector does last."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.records import Detections

RawFaces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4), scores (N,), landmarks (N, 5, 2) of one image, before suppression, in pixels of that image."""

MIN_SCORE = 0.4
"""Detections below are dropped. On the samples real faces score 0.5 or more with either detector, the best false one 0.13; lower
finds faces turned further away, and more false ones."""

MAX_OVERLAP = 0.3
"""Two detections that overlap more (intersection over union) are one face; higher keeps people cheek to cheek apart."""


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of N boxes (N, 4) with M others (M, 4), none of them empty."""
    common = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = common.clip(0).prod(2)
    areas = [(sides[:, 2:] - sides[:, :2]).prod(1) for sides in (boxes, others)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def suppress(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, size: tuple[int, int], min_face: float) -> Detections:
    """Drop duplicate, weak and small detections, clip boxes to the image, order by score.

    Args:
        boxes: (N, 4) pixels of the image.
        scores: (N,).
        landmarks: (N, 5, 2) pixels of the image.
        size: width and height of the image.
        min_face: least height of a clipped box, in pixels.
    """
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP), int).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    clipped = np.clip(boxes[kept], 0, np.array([*size, *size]))
    width, height = (clipped[:, 2:] - clipped[:, :2]).T
    large = (width > 1) & (height > 1) & (height >= min_face)
    kept, clipped = kept[large], clipped[large]
    return Detections(clipped.astype(np.float32), scores[kept].astype(np.float32), landmarks[kept].astype(np.float32))
