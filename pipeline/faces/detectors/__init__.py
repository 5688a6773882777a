"""Finding faces in images: box, score and five landmarks each.

In: RGB images of any size. Out: `pipeline.records.Detections`, one an image. To add a detector, write a class derived from `Detector` with
`name`, `device` and `detect` in a module of its own here, and give it a word in `load_detector`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import ModelError
from pipeline.faces.detectors.crops import CropSearch
from pipeline.faces.detectors.devices import has_gpu
from pipeline.records import Detections


class Detector(Protocol):
    """Finds faces in images. One object serves one thread."""

    @property
    def name(self) -> str:
        """Identifies the detector and its weights in `run.json`."""

    @property
    def device(self) -> str:
        """Device it runs on: `cpu` or `cuda`."""

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find the faces of each image.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            One `Detections` for each image, in its pixels, the highest score first. No box is lower than the detector's `min_face`.
        """

    @property
    def crop_search(self) -> CropSearch | None:
        """How crops are searched; None for a detector that always needs the whole frame."""
        return None

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find the faces in crops around known faces: between key frames, where `crop_search` is given, and of rolled heads.

        Args:
            images: (S, S, 3) uint8 RGB, squares of any sizes, in which a face takes about half of the side.

        Returns:
            One `Detections` for each crop, in its pixels. Boxes are clipped to the crop and of any height.
        """
        return self.detect(images)


def _packs() -> list[Path]:
    """insightface's model packs on the disk, the most accurate first."""
    folder = Path.home() / ".insightface" / "models"
    packs = [pack for pack in sorted(folder.glob("*")) if pack.is_dir() and any(pack.glob("*.onnx"))]
    ranks = ["buffalo_l", "antelopev2", "buffalo_m", "buffalo_s", "buffalo_sc"]
    return sorted(packs, key=lambda pack: ranks.index(pack.name) if pack.name in ranks else len(ranks))


def load_detector(spec: str = "auto", *, min_face: float = 40.0, threads: int = 1, device: str = "cpu") -> Detector:
    """Load a detector.

    >>> detector = load_detector("centerface", min_face=40)
    >>> [faces] = detector.detect([np.zeros((360, 640, 3), np.uint8)])
    >>> len(faces)
    0

    Args:
        spec: `centerface`, `insightface` (its best pack on the disk), the path of an SCRFD or YuNet .onnx file or of a pack's
            folder, or `auto`: insightface where one of its packs is on the disk, else CenterFace.
        min_face: least height of a face, in pixels of the images: lower boxes are dropped.
        threads: CPU threads that one detector uses.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where there is a GPU. Where CUDA is not available the detector runs on the CPU,
            with a `FocalfaceWarning`.

    Raises:
        ModelError: it cannot be loaded; one line.
    """
    from pipeline.faces.detectors.centerface import CenterFace
    from pipeline.faces.detectors.scrfd import Insightface
    from pipeline.faces.detectors.yunet import YuNet, is_yunet

    if device == "auto":
        device = "cuda" if has_gpu() else "cpu"
    packs = _packs() if spec in ("auto", "insightface") else []
    if spec == "centerface" or (spec == "auto" and not packs):
        return CenterFace(min_face, threads, device)
    if spec == "insightface" and not packs:
        raise ModelError("no insightface pack in ~/.insightface/models: unpack one there, or give the path of an SCRFD or YuNet .onnx")
    path = packs[0] if packs else Path(spec).expanduser()
    if not path.exists():
        raise ModelError(f"detector {spec!r}: no such file; give auto, centerface, insightface or a path to an SCRFD or YuNet .onnx")
    if path.is_file() and is_yunet(path):
        return YuNet(path, min_face, threads, device)
    return Insightface(path, min_face, threads, device)
