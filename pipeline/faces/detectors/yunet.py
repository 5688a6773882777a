"""YuNet, from an .onnx file: a very small and fast detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from pipeline.faces.detectors.crops import CropSearch, detect_in_crops
from pipeline.faces.detectors.onnx_session import RUN_PIXELS, device_of, providers_for, session_options
from pipeline.faces.detectors.suppression import MIN_SCORE, RawFaces
from pipeline.faces.detectors.two_passes import SizeRange, detect_in_two_passes, scaled_batches
from pipeline.records import Detections

STRIDES = (8, 16, 32)

OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)
"""Names of the network's outputs, by which a file is recognised."""


class YuNet:
    """YuNet as OpenCV's model zoo and its authors export it.

    Wu, Peng and Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector" (Machine Intelligence Research 20). On grids of stride 8, 16
    and 32 the network gives, for each cell, the probability of a face and its quality, whose geometric mean is the score; the centre's
    offset and the logarithm of width and height in cells; and five landmarks as offsets in cells.
    """

    SIZES = SizeRange(face=24.0, large=240.0, coarse_side=256.0)
    """Faces score 0.8 and more from 20 input pixels on; it was trained on faces of 10 to 300. A higher `face` is slower and steadier."""

    CROP_SIDE = 160
    """Against labelled landmarks, faces of 80 input pixels are placed as in whole frames or better (0.096 to 0.102 eye distances, in whole
    frames 0.100 to 0.172), at 64 worse (0.101 to 0.110)."""

    def __init__(self, path: Path, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> None:
        """Load a file.

        Args:
            path: of an .onnx file with the outputs `OUTPUTS`.
            min_face, threads, device: see `pipeline.faces.detectors.load_detector`.
        """
        self.name = f"yunet:{path.name}"
        self._min_face = min_face
        self.crop_search = CropSearch(self.CROP_SIDE, self.SIZES.scale(min_face), min_face)
        self._session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=providers_for(device))
        self.device = device_of(self._session, device)
        one_by_one = self._session.get_inputs()[0].shape[0] == 1  # as some files are exported
        self._run_pixels = 1 if one_by_one else RUN_PIXELS[self.device]

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`. Images of one size go through the network together, where the file allows it."""
        return detect_in_two_passes(images, self._run, self.SIZES, self._min_face)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect_crops`."""
        return detect_in_crops(images, lambda inputs: self._run(inputs, 1.0), self.CROP_SIDE)

    def _run(self, images: list[np.ndarray], scale: float) -> list[RawFaces]:
        """Run the network on images of one size, scaled by `scale`."""
        batches, ratio = scaled_batches(images, scale, self._run_pixels)
        name = self._session.get_inputs()[0].name
        results = []
        for batch in batches:
            grids = [(batch.shape[2] // stride, batch.shape[3] // stride) for stride in STRIDES]
            outputs = self._session.run(list(OUTPUTS), {name: np.ascontiguousarray(batch[:, ::-1])})  # BGR
            results += [_decode(maps, grids, ratio) for maps in zip(*outputs, strict=True)]
        return results


def is_yunet(path: Path) -> bool:
    """Whether a file is a YuNet, by the names of its outputs; False also for a file that is no network."""
    try:
        model = onnx.load(str(path))
    except Exception:  # protobuf's own, which is no dependency of ours
        return False
    return {output.name for output in model.graph.output} >= set(OUTPUTS)


def _decode(maps: tuple[np.ndarray, ...], grids: list[tuple[int, int]], ratio: np.ndarray) -> RawFaces:
    """Boxes, scores and landmarks, in pixels of the image.

    Args:
        maps: one image's outputs in the order of `OUTPUTS`, each (cells, 1|1|4|10), row by row.
        grids: rows and columns of the cells for each stride.
        ratio: (2,) input pixels to pixels of the image.
    """
    boxes, scores, landmarks = [], [], []
    for level, (stride, (_, columns)) in enumerate(zip(STRIDES, grids, strict=True)):
        probability, quality, offsets, points = (maps[level + len(STRIDES) * kind] for kind in range(4))
        score = np.sqrt(np.clip(probability[:, 0], 0, 1) * np.clip(quality[:, 0], 0, 1))
        (cells,) = np.nonzero(score >= MIN_SCORE)
        corner = np.stack([cells % columns, cells // columns], 1).astype(np.float64)
        centre = corner + offsets[cells, :2]
        half = np.exp(offsets[cells, 2:]) / 2
        boxes.append(np.concatenate([(centre - half) * ratio, (centre + half) * ratio], 1) * stride)
        landmarks.append((corner[:, None] + points[cells].reshape(-1, 5, 2)) * stride * ratio)
        scores.append(score[cells])
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks)
