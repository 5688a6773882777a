"""Columns that are measured on the picture where a file of labelled faces does not have them; figures are split by them as by others."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.evaluation.face_files import MEASURED
from pipeline.faces.alignment import crop
from pipeline.faces.covering import covering_maps
from pipeline.faces.pose import head_pose
from pipeline.faces.readability import face_quality, readability, sharpness
from pipeline.records import Alignment


def face_measures(image: np.ndarray, landmarks5: np.ndarray, alignment: Alignment, is_dataset: bool = False) -> dict[str, Any]:
    """The values of `MEASURED` for one face.

    Args:
        image: (height, width, 3) uint8 RGB.
        landmarks5: (5, 2) pixels of the image.
        alignment: of the face.
        is_dataset: the image is an aligned face already, which no longer tells how large it was.

    Returns:
        By column: distance between the eyes in pixels of the picture, variance of the Laplacian of the aligned crop, degrees of yaw and
        pitch away from the camera, readability from 0 to 1. None: not to be told.
    """
    aligned = crop(image, alignment)
    yaw, pitch, _ = head_pose(landmarks5)
    (covering,) = covering_maps([aligned])
    size = (image.shape[1], image.shape[0])
    quality = face_quality(alignment, size, covering, sharpness=sharpness(aligned), yaw=yaw, pitch=pitch)
    values = (quality.eyes, quality.sharpness, abs(yaw), abs(pitch), readability(quality)[0])
    measured: dict[str, Any] = dict(zip(MEASURED, values, strict=True))
    if is_dataset:
        measured |= {"eye_distance": None, "readable": None}
    return measured
