"""From a network's raw boxes to the detections of one image: doubles dropped, boxes clipped to the image, best score first."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.records import Detections

MIN_SCORE = 0.4
"""Detections below are dropped. On the samples real faces score 0.5 or more with either detector, the best false one 0.13; lower
finds faces turned further away, and more that are none."""

MAX_OVERLAP = 0.3
"""Two detections that overlap more (intersection over union) are one face; higher keeps people cheek to cheek apart."""


def suppressed(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, size: tuple[int, int]) -> Detections:
    """Drop doubles, order by score, keep boxes inside the image of `size` (width, height)."""
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP), int).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    inside = np.clip(boxes[kept], 0, np.array([*size, *size]))
    kept, inside = (part[(inside[:, 2:] - inside[:, :2] > 1).all(1)] for part in (kept, inside))
    return Detections(inside.astype(np.float32), scores[kept].astype(np.float32), landmarks[kept].astype(np.float32))
