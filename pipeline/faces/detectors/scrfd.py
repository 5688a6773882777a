"""SCRFD through the `insightface` package, from one of its model packs or a single SCRFD .onnx file."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.faces.detectors.crops import CropSearch, detect_in_crops
from pipeline.faces.detectors.onnx_session import MAX_ENLARGE, device_of, providers_for, session_options
from pipeline.faces.detectors.suppression import MIN_SCORE, RawFaces, suppress
from pipeline.records import Detections


class Insightface:
    """SCRFD through the `insightface` package.

    Guo, Deng, Lattas and Zafeiriou 2021, "Sample and Computation Redistribution for Efficient Face Detection" (arXiv 2105.04714).
    The input size follows `min_face` where the network allows any; a network with a fixed input size shrinks the image to that.
    """

    FACE_PIXELS = 20.0
    """Height of a face of `min_face` in input pixels: SCRFD scores 0.83 and more from 17 pixels on."""

    CROP_SIDE = 192
    """Against labelled landmarks, faces of 96 input pixels are placed within 0.075 to 0.079 eye distances (50 to 220 pixels high; in whole
    frames within 0.126 to 0.074), at 64 within 0.084 to 0.090."""

    def __init__(self, path: Path, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> None:
        """Load a model file or a pack.

        Args:
            path: of an .onnx file, or of a pack's folder (`~/.insightface/models/buffalo_l`).
            min_face, threads, device: see `pipeline.faces.detectors.load_detector`.

        Raises:
            ModelError: it is not a detector with landmarks.
        """
        from insightface.app import FaceAnalysis
        from insightface.model_zoo import get_model

        settings: dict[str, Any] = {"providers": providers_for(device), "sess_options": session_options(threads)}
        try:
            if path.is_dir():
                model = FaceAnalysis(str(path), allowed_modules=["detection"], **settings).det_model
            else:
                model = get_model(str(path), **settings)
        except Exception as error:  # onnxruntime and insightface raise exceptions that share no base
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"{path}: cannot be loaded as a face detector: {reason}") from None
        if getattr(model, "taskname", None) != "detection" or not getattr(model, "use_kps", False):
            raise ModelError(f"{path}: not a face detector with five landmarks: give an SCRFD .onnx file or a pack's folder")
        self.device = device_of(model.session, device)
        model.prepare(0 if self.device == "cuda" else -1, det_thresh=MIN_SCORE)
        self.name = f"insightface:{path.name}" if path.is_dir() else f"scrfd:{path.name}"
        self._model = model
        self._min_face = min_face
        fixed = getattr(model, "static_input_size", None) is not None  # then a crop takes as long as a frame
        self.crop_search = None if fixed else CropSearch(self.CROP_SIDE, self._scale, min_face)

    @property
    def _scale(self) -> float:
        """Input pixels per pixel of the image."""
        return min(self.FACE_PIXELS / self._min_face, MAX_ENLARGE)

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`. insightface takes one image at a time."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        input_size = tuple(max(1, ceil(side * self._scale / 32)) * 32 for side in (width, height))
        return suppress(*self._run(image, input_size), (width, height), self._min_face)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect_crops`."""
        size = (self.CROP_SIDE, self.CROP_SIDE)
        return detect_in_crops(images, lambda inputs: [self._run(image, size) for image in inputs], self.CROP_SIDE)

    def _run(self, image: np.ndarray, input_size: tuple[int, ...]) -> RawFaces:
        """Run the network on an image that is scaled to fit into the input."""
        rows, landmarks = self._model.detect(np.ascontiguousarray(image[..., ::-1]), input_size=input_size)
        return rows[:, :4], rows[:, 4], landmarks
