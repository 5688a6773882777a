"""What the benchmark asks: labelled faces, and for each face the same questions in every run.

face                the whole face
region              one named region; the thirteen take turns from face to face
nudged              the region's box moved a little                               (every `EXTRA_EVERY`-th face, like the next two)
other               another named region, which shares no action unit with the first
random              a random rectangle of the face
apart1 ... apart4   four named regions, each asked alone                          (every `TURNS_EVERY`-th face, like the next)
turn1 ... turn4     the same four regions asked in one conversation
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.dataset.schema import MARGIN
from pipeline.errors import FocalfaceError
from pipeline.evaluation.face_files import FaceFile, count_faces, open_faces, read_rows
from pipeline.evaluation.measures import face_measures
from pipeline.faces.alignment import CROP_SIZE, align, crop
from pipeline.records import Alignment
from pipeline.regions.placement import place_regions, to_frame_box
from pipeline.vocabulary import CUSTOM_BOX, REGION_AUS, REGIONS, WHOLE_FACE, Box, region_aus

TURNS = 4
"""Regions in a conversation."""

APART = tuple(f"apart{turn}" for turn in range(1, TURNS + 1))
IN_TURN = tuple(f"turn{turn}" for turn in range(1, TURNS + 1))

KINDS = ("face", "region", "nudged", "other", "random", *APART, *IN_TURN)
"""The kinds of questions, in the order in which a face has them."""

NEEDED = KINDS[:2]
"""The kinds of questions that every face is asked."""

EXTRA_EVERY = 2
"""Every so many-th face has the questions `nudged`, `other` and `random`; 1 narrows their intervals and takes two thirds longer."""

TURNS_EVERY = 8
"""Every so many-th face has a conversation; fewer faces widen the intervals and take less time."""

NUDGE = 0.1
"""A nudged box moves by up to this share of its sides in each direction; more asks for answers that hold for cruder boxes."""

RANDOM_SIDES = (16.0, 64.0)
"""Shortest and longest side of a random rectangle in pixels of the crop (the eyes are 36 apart); longer ones show more action units."""

_NAMED = tuple(name for name in REGIONS if name != WHOLE_FACE)


@dataclass(frozen=True)
class Question:
    """One box of one face, and what the labels say about it.

    Attributes:
        image_id: identity of the picture.
        source: collection that it comes from.
        kind: one of `KINDS`.
        region: a name of `pipeline.vocabulary.REGIONS`, or `box`.
        box: in pixels of the aligned crop.
        frame_box: the same in pixels of the picture, upright, clipped to it.
        known: action units that the labels know of this face.
        visible: those of them that the box can show.
        aus: the active ones of these.
        emotion: of the face; None where unlabelled or not one of `pipeline.vocabulary.EMOTIONS`.
        age: recorded age of the face in years; None where unlabelled.
        emotion_votes: share of the annotators for each emotion; None without votes.
        age_guess: age that another model estimated; None without.
        au_intensities: labelled intensity, 0 to 5, of those of `visible` that have one.
        attributes: values of the columns that figures are split by.
    """

    image_id: str
    source: str
    kind: str
    region: str
    box: Box
    frame_box: Box
    known: tuple[str, ...]
    visible: tuple[str, ...]
    aus: frozenset[str]
    emotion: str | None
    age: float | None
    emotion_votes: tuple[float, ...] | None = None
    age_guess: float | None = None
    au_intensities: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedFace:
    """A face with its questions; `crop` is (112, 112, 3) uint8 RGB, aligned."""

    crop: np.ndarray
    questions: tuple[Question, ...]


def read_faces(path: Path, limit: int | None = None, attributes: Collection[str] = (), batch_faces: int = 128) -> Iterator[list[AskedFace]]:
    """The faces of a file or folder with their questions, in batches.

    Args:
        path: see `pipeline.evaluation.face_files.open_faces`. Rows of a dataset bring their own boxes; other faces get theirs from their
            landmarks.
        limit: read only this many faces.
        attributes: columns whose values the questions keep.
        batch_faces: faces in a batch.

    Raises:
        FocalfaceError: there are no labelled faces, or one of them cannot be read; the message says which.
    """
    files = open_faces(path, attributes)
    total, number = count_faces(files, limit), 0
    seen: set[str] = set()
    for file in files:
        for rows in read_rows(file, batch_faces, attributes):
            faces = []
            for row in rows[: total - number]:
                if row["image_id"] in seen:
                    raise FocalfaceError(f"{path}: image_id {row['image_id']} occurs twice; each face needs its own")
                seen.add(row["image_id"])
                try:
                    faces.append(_asked_face(row, number, file, attributes))
                except (TypeError, ValueError, cv2.error) as error:
                    raise FocalfaceError(f"{path}: row {number} (image_id {row['image_id']}) is not a labelled face: {error}") from error
                number += 1
            if faces:
                yield faces


def _asked_face(row: dict[str, Any], number: int, file: FaceFile, attributes: Collection[str]) -> AskedFace:
    """A face with its questions. Raises ValueError if the row is wrong."""
    for name in ("image_id", "source", "image", "landmarks5"):
        if row[name] is None:
            raise ValueError(f"{name} is null")
    image: Any = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR_RGB) if row["image"] else None
    if image is None:
        raise ValueError("the picture cannot be decoded")
    landmarks = np.array(row["landmarks5"], np.float64).reshape(5, 2)
    if file.is_dataset:  # the picture is the aligned face with a margin, and the landmarks are those of the crop
        landmarks = landmarks + MARGIN
        alignment = Alignment(np.array([[1.0, 0.0, -MARGIN], [0.0, 1.0, -MARGIN]]))
    else:
        alignment = align(landmarks)
    boxes = place_regions(landmarks, alignment)
    given = row.get("regions") or ()
    boxes |= {region["region"]: _box(region) for region in reversed(given) if region["kind"] in ("whole", "named", "joined")}
    read = file.reader.action_units(row)
    units = read.active
    labels: dict[str, Any] = {
        "emotion": file.reader.emotion(row),
        "age": _finite(row["age"]),
        "emotion_votes": file.reader.emotion_votes(row),
        "age_guess": _finite(row.get("age_guess")),
        "attributes": _attributes(row, attributes, lambda: face_measures(image, landmarks, alignment, file.is_dataset)),
    }

    def question(kind: str, region: str, box: Box) -> Question:
        visible = tuple(au for au in region_aus(region, box) if au in units)
        frame_box = to_frame_box(box, alignment, image.shape[1], image.shape[0])
        active = frozenset(au for au in visible if units[au])
        graded = {au: read.intensity[au] for au in visible if au in read.intensity}
        known = tuple(units)
        return Question(
            row["image_id"], row["source"], kind, region, box, frame_box, known, visible, active, au_intensities=graded, **labels
        )

    first = _NAMED[number % len(_NAMED)]
    questions = [question("face", WHOLE_FACE, boxes[WHOLE_FACE]), question("region", first, boxes[first])]
    if number % EXTRA_EVERY == 0:
        chance = random.Random(row["image_id"])
        other = chance.choice([name for name in _NAMED if not set(REGION_AUS[name]) & set(REGION_AUS[first])])
        anywhere = next((_box(region) for region in given if region["kind"] == "random"), None)
        questions += [
            question("nudged", first, nudged(boxes[first], chance)),
            question("other", other, boxes[other]),
            question("random", CUSTOM_BOX, anywhere or random_box(boxes[WHOLE_FACE], chance)),
        ]
    if number % TURNS_EVERY == 0:
        telling = [name for name in _NAMED if any(au in units for au in REGION_AUS[name])] or list(_NAMED)
        regions = random.Random(f"turns {row['image_id']}").sample(telling, min(TURNS, len(telling)))
        for kinds in (APART, IN_TURN):
            questions += [question(kind, region, boxes[region]) for kind, region in zip(kinds, regions, strict=False)]
    return AskedFace(crop(image, alignment), tuple(questions))


def _attributes(row: dict[str, Any], names: Collection[str], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Values of columns; of those that the file does not have, measured ones."""
    measured = measure() if any(name not in row for name in names) else {}
    return {name: row[name] if name in row else measured[name] for name in names}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _box(region: dict[str, Any]) -> Box:
    x0, y0, x1, y1 = region["box"]
    return (x0, y0, x1, y1)


def nudged(box: Box, chance: random.Random) -> Box:
    """A box moved by up to `NUDGE` of its sides, of the same size, inside the crop."""

    def moved(low: float, high: float) -> tuple[float, float]:
        shift = chance.uniform(-NUDGE, NUDGE) * (high - low)
        shift = min(max(shift, -low), CROP_SIZE - high)
        return low + shift, high + shift

    (x0, x1), (y0, y1) = moved(box[0], box[2]), moved(box[1], box[3])
    return (x0, y0, x1, y1)


def random_box(within: Box, chance: random.Random) -> Box:
    """A rectangle with sides of `RANDOM_SIDES` crop pixels anywhere in another one, at most as large as that."""

    def side(low: float, high: float) -> tuple[float, float]:
        length = min(chance.uniform(*RANDOM_SIDES), high - low)
        start = chance.uniform(low, high - length)
        return start, start + length

    (x0, x1), (y0, y1) = side(within[0], within[2]), side(within[1], within[3])
    return (x0, y0, x1, y1)
