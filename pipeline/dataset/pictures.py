"""Pictures of labelled faces: decoding them, and finding the landmarks of faces that have none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.dataset.boxes import overlap
from pipeline.faces.rolled_heads import place_rolled_heads
from pipeline.regions.placement import pad
from pipeline.storage.names import on_disk
from pipeline.vocabulary import Box

DETECT_SIDES = (144, 640)
"""Pixels within which the shorter side of a picture is brought before detection. At FER2013's own 48 pixels a quarter of the faces would be
missed; larger pictures only take time."""

DETECT_BORDER = 0.25
"""If no face is found, detection is repeated with a black border of this share of the longer side: tight crops need room."""

BOX_ROOM = 0.5
"""If a row gives the face's box, its face is searched in that box and this share of its longer side around it."""

SAME_FACE = 0.2
"""A detection is the labelled face if it overlaps the labelled box by this much (intersection over union)."""


def decode_picture(value: Any, folder: Path) -> np.ndarray:
    """A picture from its bytes, its path, or the mapping in which Hugging Face datasets keep pictures.

    Args:
        value: the cell of the picture's column.
        folder: folder that a relative path starts from.

    Returns:
        (H, W, 3) BGR, or (H, W) if the file is grey; uint8, upright.

    Raises:
        ValueError: there is no picture, or it cannot be decoded.
        OSError: the file cannot be read.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    name = "the picture"
    if isinstance(value, str) and value.strip():
        name = on_disk(str(folder / value.strip()))
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        value = Path(name).read_bytes()
    if not isinstance(value, bytes) or not value:
        raise ValueError("there is no picture")
    try:
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        raise ValueError(f"{name} cannot be decoded ({error})") from error
    if image is None:
        raise ValueError(f"{name} cannot be decoded")
    return np.asarray(image)


class LandmarkFinder:
    """Finds the five landmarks of labelled faces; the detector is loaded for the first face that needs it."""

    @cached_property
    def _detector(self) -> Any:
        from pipeline.faces.detectors.centerface import CenterFace  # imports onnxruntime, which labels with landmarks do not need

        return CenterFace(min_face=CenterFace.SIZES.face)

    def find(self, image: np.ndarray, box: Box | None) -> np.ndarray:
        """Landmarks of one face.

        Args:
            image: (H, W, 3) BGR or (H, W), uint8.
            box: box of the labelled face in pixels of the image; None takes the largest face.

        Returns:
            (5, 2) float64 pixels of the image.

        Raises:
            ValueError: no face is found, or the box lies outside the image.
        """
        x0, y0, x1, y1 = 0, 0, image.shape[1], image.shape[0]
        if box is not None:
            grown = pad(box, BOX_ROOM)
            x0, y0, x1, y1 = max(x0, int(grown[0])), max(y0, int(grown[1])), min(x1, int(grown[2])), min(y1, int(grown[3]))
            if x0 >= x1 or y0 >= y1:
                raise ValueError("the face's box lies outside the picture")
        part = image[y0:y1, x0:x1]
        colour = np.repeat(part[..., None], 3, 2) if part.ndim == 2 else part[..., ::-1]
        zoom = float(np.clip(min(part.shape[:2]), *DETECT_SIDES)) / min(part.shape[:2])
        size = (round(part.shape[1] * zoom), round(part.shape[0] * zoom))
        view = cv2.resize(np.ascontiguousarray(colour), size, interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA)
        for border in (0, round(DETECT_BORDER * max(size))):
            framed = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT)
            [found], [doubtful] = place_rolled_heads([framed], self._detector.detect([framed]), self._detector)
            boxes = (found.boxes - border) / zoom + [x0, y0, x0, y0]
            merit = [overlap(b, box) if box else (b[2] - b[0]) * (b[3] - b[1]) for b in boxes.tolist()]
            if merit and (box is None or max(merit) >= SAME_FACE) and (row := int(np.argmax(merit))) not in doubtful:
                return np.asarray((found.landmarks5[row] - border) / zoom + [x0, y0], np.float64)
        raise ValueError("no face is found in the picture" + (" where its box lies" if box else ""))
