"""Describing still images: the stages of a run for a single frame, without tracks and windows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import FocalfaceError, SettingsError, one_line
from pipeline.faces.area import faces_in_area
from pipeline.faces.finding import find_faces
from pipeline.records import Answer, Face, Frame, Request
from pipeline.regions.placement import region_boxes, whole_face_request
from pipeline.settings import MIN_READABLE, parse_regions
from pipeline.storage.remote import fetched
from pipeline.video.images import load_image
from pipeline.vocabulary import CUSTOM_BOX, REGIONS, WHOLE_FACE, Box

if TYPE_CHECKING:  # they bring torch and onnxruntime, for which a wrong file name need not wait
    from pipeline.describe.backends import Describer
    from pipeline.faces.detectors import Detector


@dataclass(frozen=True)
class DescribedRegion:
    """A region of a face with its answer.

    Attributes:
        region: a name of `pipeline.vocabulary.REGIONS`, or `box`.
        box: x0, y0, x1, y1 in pixels of the image.
        answer: what the describer says about it.
    """

    region: str
    box: Box
    answer: Answer


@dataclass(frozen=True)
class DescribedFace:
    """A face of an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image.
        score: the detector's score, 0 to 1.
        landmarks5: (5, 2) pixels of the image: eyes, nose tip, mouth corners, image-left first.
        regions: one for each region that was asked for; none where the face is not readable.
        readable: how readable the face is, 0 to 1.
        unreadable: why it was not read, one of `pipeline.vocabulary.FAULTS`; None where it was readable.
    """

    box: Box
    score: float
    landmarks5: np.ndarray
    regions: tuple[DescribedRegion, ...]
    readable: float = 1.0
    unreadable: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "box": _rounded(self.box),
            "score": round(self.score, 4),
            "landmarks5": [_rounded(point) for point in self.landmarks5],
            "readable": round(self.readable, 4),
            "unreadable": self.unreadable,
            "regions": [
                {
                    "region": region.region,
                    "box": _rounded(region.box),
                    "aus": list(region.answer.aus),
                    "au_scores": {au: round(score, 4) for au, score in region.answer.au_scores.items()},
                    "au_intensities": {au: round(value, 2) for au, value in region.answer.au_intensities.items()},
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


def describe_image(
    image: str | os.PathLike[str] | np.ndarray,
    regions: str | Sequence[str] = (WHOLE_FACE,),
    box: Box | None = None,
    *,
    detector: Detector | None = None,
    describer: Describer | None = None,
    in_turn: bool = False,
    min_readable: float = MIN_READABLE,
    area: Box | None = None,
    largest: int | None = None,
) -> list[DescribedFace]:
    """Find every face of an image and describe regions of it.

    Args:
        image: path of an image file, or (H, W, 3) uint8 RGB.
        regions: names of `pipeline.vocabulary.REGIONS`, or `all`; asked about every face.
        box: x0, y0, x1, y1 in pixels of the image: describe this rectangle instead, of the face that it overlaps most. A part outside
            the image is cut off.
        detector: from `pipeline.load_detector`; by default CenterFace, loaded for this call.
        describer: from `pipeline.load_describer`; by default nano, loaded for this call.
        in_turn: ask the regions of a face as one conversation.
        min_readable: least readability of a face that is read; 0 reads all of them.
        area: x0, y0, x1, y1 in pixels, or in shares of the sides where none is over 1: only faces whose box has its centre there.
        largest: only this many faces, those with the largest boxes.

    Returns:
        The faces from left to right; empty where the image shows none.

    Raises:
        SettingsError: when a region is unknown, or the box lies outside the image or touches no face.
        FocalfaceError: when the file cannot be read.

    >>> import pipeline
    >>> faces = pipeline.describe_image("family.jpg", regions=["eyes", "mouth"])  # doctest: +SKIP
    >>> faces[0].regions[1].answer.description  # doctest: +SKIP
    'The lip corners are pulled up and the lips are parted; the look is happy and the apparent age is 31.'
    """
    names = _region_names(regions)
    pixels = image if isinstance(image, np.ndarray) else load_image(image)
    height, width = pixels.shape[:2]
    if box is not None:
        box, names = clip_box(box, width, height), (CUSTOM_BOX,)
    if detector is None:
        from pipeline.faces.detectors import load_detector

        detector = load_detector()
    (found,) = find_faces([Frame(0, 0.0, pixels)], detector)
    faces = _chosen(found.faces, (width, height), area, largest)
    if box is not None and faces:
        faces = [_face_in(box, faces)]
    asked: list[list[tuple[str, Box]]] = []
    requests: list[Request] = []
    whole: list[Request] = []
    for face in faces:
        asked.append([])
        for name in names:
            boxes = region_boxes(face, name, (width, height), box)
            if boxes is None:
                raise SettingsError(f"the box {_text(box or ())} lies beside the face; faces are at {_text(face.box)}")
            if face.unreadable(min_readable) is None:
                crop_box, image_box = boxes
                asked[-1].append((name, image_box))
                requests.append(Request(face.crop, crop_box, name))
                whole.append(whole_face_request(face))
    if requests and describer is None:
        from pipeline.describe.backends import load_describer

        describer = load_describer()
    answers: list[Answer] = []
    if requests and describer is not None:
        answers = (describer.converse if in_turn else describer.describe)(requests, whole)
    remaining = iter(answers)
    return [
        DescribedFace(
            box=face.box,
            score=face.det_score,
            landmarks5=face.landmarks5,
            regions=tuple(DescribedRegion(name, place, next(remaining)) for name, place in places),
            readable=face.readable,
            unreadable=face.unreadable(min_readable),
        )
        for face, places in zip(faces, asked, strict=True)
    ]


@dataclass(frozen=True)
class DescribedImage:
    """An image of many, with its faces or the reason why it failed.

    Attributes:
        path: the file, as it was given.
        faces: from left to right.
        pixels: (H, W, 3) uint8 RGB, upright; None where the image failed.
        error: why it failed, in one line; None where it did not.
    """

    path: str
    faces: tuple[DescribedFace, ...] = ()
    pixels: np.ndarray | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """`ok`, `no_faces` or `failed`."""
        return "failed" if self.error is not None else "ok" if self.faces else "no_faces"


def describe_images(
    paths: Sequence[str],
    regions: str | Sequence[str] = (WHOLE_FACE,),
    box: Box | None = None,
    *,
    detector: Detector,
    describer: Describer,
    in_turn: bool = False,
    min_readable: float = MIN_READABLE,
    area: Box | None = None,
    largest: int | None = None,
) -> Iterator[DescribedImage]:
    """Describe many images with one detector and one describer. An image that fails does not stop the others.

    Args:
        paths: image files, or URLs of them.
        regions, box, detector, describer, in_turn, min_readable, area, largest: see `describe_image`.

    Yields:
        One result for each path, in order.

    Raises:
        SettingsError: when a region is unknown.
    """
    names = _region_names(regions)
    for path in paths:
        try:
            with fetched(path) as file:
                pixels = load_image(file)
            options: dict[str, Any] = {"in_turn": in_turn, "min_readable": min_readable, "area": area, "largest": largest}
            faces = describe_image(pixels, names, box, detector=detector, describer=describer, **options)
        except FocalfaceError as error:
            yield DescribedImage(path, error=str(error))
        except Exception as error:  # an image that a library fails on does not stop the others
            yield DescribedImage(path, error=f"{path}: {type(error).__name__}: {one_line(error)}")
        else:
            yield DescribedImage(path, tuple(faces), pixels)


def _chosen(faces: Sequence[Face], size: tuple[int, int], area: Box | None, largest: int | None) -> list[Face]:
    """The faces in an area, the largest of them, from left to right."""
    faces = faces_in_area(faces, area, size)
    if largest is not None:
        faces = sorted(faces, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1]), reverse=True)[:largest]
    return sorted(faces, key=lambda face: face.box[0] + face.box[2])


def clip_box(box: Box, width: int, height: int) -> Box:
    """The part of a box that lies in an image.

    Args:
        box: x0, y0, x1, y1 in pixels.
        width, height: size of the image.

    Raises:
        SettingsError: when no part does.

    >>> clip_box((-5.0, 10.0, 50.0, 60.0), 40, 100)
    (0.0, 10.0, 40.0, 60.0)
    """
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x0 >= x1 or y0 >= y1:
        raise SettingsError(f"the box {_text(box)} lies outside the image, which is {width}x{height} pixels")
    return x0, y0, x1, y1


def _region_names(regions: str | Sequence[str]) -> tuple[str, ...]:
    """Names of regions, each once.

    Raises:
        SettingsError: when one is unknown, or movement would have to choose.
    """
    try:
        joined = parse_regions(regions if isinstance(regions, str) else ",".join(regions))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if joined == "auto":
        raise SettingsError("auto needs movement, and so a video; name regions of an image, or all")
    return REGIONS if joined == "all" else tuple(joined.split(","))


def _face_in(box: Box, faces: Sequence[Face]) -> Face:
    """The face that a box overlaps most.

    Raises:
        SettingsError: when it overlaps none.
    """
    best = max(faces, key=lambda face: _overlap(face.box, box))
    if not _overlap(best.box, box):
        places = "; ".join(_text(np.round(face.box)) for face in faces)
        raise SettingsError(f"the box {_text(box)} touches no face; faces are at {places}")
    return best


def _overlap(a: Box, b: Box) -> float:
    """Common area of two boxes, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _text(box: Sequence[float] | np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in box)


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]
