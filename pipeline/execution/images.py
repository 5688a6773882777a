"""One picture: its faces, and what their regions show, without a video around it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import align, crop
from pipeline.records import Answer, Request
from pipeline.regions.placement import place_regions, to_crop_box, to_frame_box
from pipeline.vocabulary import CUSTOM_BOX, Box

if TYPE_CHECKING:  # they bring torch and onnxruntime, which a wrong file name need not wait for
    from pipeline.describe.backends import Describer
    from pipeline.faces.detectors import Detector


@dataclass(frozen=True)
class DescribedRegion:
    """A region of a face with its words. `box` in pixels of the picture."""

    region: str
    box: Box
    answer: Answer


@dataclass(frozen=True)
class DescribedFace:
    """A face of a picture. `box` and `landmarks5` (5, 2) in pixels of the picture, `score` the detector's."""

    box: Box
    score: float
    landmarks5: np.ndarray
    regions: tuple[DescribedRegion, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "box": _rounded(self.box),
            "score": round(self.score, 4),
            "landmarks5": [_rounded(point) for point in self.landmarks5],
            "regions": [
                {
                    "region": region.region,
                    "box": _rounded(region.box),
                    "aus": list(region.answer.aus),
                    "au_scores": {au: round(score, 4) for au, score in region.answer.au_scores.items()},
                    "emotion": region.answer.emotion,
                    "emotion_scores": {name: round(score, 4) for name, score in region.answer.emotion_scores.items()},
                    "age": region.answer.age,
                    "age_low": region.answer.age_low,
                    "age_high": region.answer.age_high,
                    "description": region.answer.description,
                }
                for region in self.regions
            ],
        }


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]


def load_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as people see it: turned as its EXIF says, transparency over white, grey and 16-bit as 8-bit RGB.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FocalfaceError: when it is not there or cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise FocalfaceError(f"there is no file {path}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FocalfaceError(f"{path} cannot be read as a picture: {' '.join(str(error).split())}") from error


def clip_box(box: Box, width: int, height: int) -> Box:
    """The part of a box that lies in a picture.

    Raises:
        SettingsError: when none does.
    """
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x0 >= x1 or y0 >= y1:
        raise SettingsError(f"the box {_text(box)} lies outside the picture, which is {width}x{height} pixels")
    return x0, y0, x1, y1


def _text(box: Box | np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in box)


def _overlap(a: Box | np.ndarray, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def describe_picture(
    image: np.ndarray,
    detector: Detector,
    describer: Describer,
    regions: Sequence[str] = ("face",),
    box: Box | None = None,
    in_turn: bool = False,
) -> list[DescribedFace]:
    """Find every face of a picture and describe regions of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        detector: from `pipeline.faces.detectors.load_detector`.
        describer: from `pipeline.describe.backends.load_describer`.
        regions: names of `pipeline.vocabulary.REGIONS`, asked of every face.
        box: instead, a rectangle of the picture, within it; asked of the face that it overlaps most.
        in_turn: ask the regions of a face as one conversation, each answer seeing the ones before it.

    Returns:
        The faces from left to right; none where the picture shows none.

    Raises:
        SettingsError: when the box touches no face.
    """
    found = detector.detect([image])[0]
    order = np.argsort(found.boxes[:, 0] + found.boxes[:, 2]).tolist()
    if box is not None and order:
        best = max(order, key=lambda i: _overlap(found.boxes[i], box))
        if not _overlap(found.boxes[best], box):
            faces = "; ".join(_text(found.boxes[i].round()) for i in order)
            raise SettingsError(f"the box {_text(box)} touches no face; faces are at {faces}")
        order = [best]
    asked: list[tuple[int, str, Box]] = []
    requests: list[Request] = []
    height, width = image.shape[:2]
    for i in order:
        alignment = align(found.landmarks5[i])
        face = crop(image, alignment)
        if box is None:
            places = place_regions(found.landmarks5[i], alignment)
            asked += [(i, name, to_frame_box(places[name], alignment, width, height)) for name in regions]
            requests += [Request(face, places[name], name) for name in regions]
        else:
            place = to_crop_box(box, alignment)
            if place is None:
                raise SettingsError(f"the box {_text(box)} lies beside the face; faces are at {_text(found.boxes[i])}")
            asked.append((i, CUSTOM_BOX, box))
            requests.append(Request(face, place, CUSTOM_BOX))
    if in_turn:
        own = {i: [request for (face, *_), request in zip(asked, requests, strict=True) if face == i] for i in order}
        answers = [answer for i in order for answer in describer.converse(own[i])]
    else:
        answers = describer.describe(requests)
    described: dict[int, list[DescribedRegion]] = {i: [] for i in order}
    for (i, name, place), answer in zip(asked, answers, strict=True):
        described[i].append(DescribedRegion(name, place, answer))
    return [DescribedFace(tuple(found.boxes[i].tolist()), float(found.scores[i]), found.landmarks5[i], tuple(described[i])) for i in order]
