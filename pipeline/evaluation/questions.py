"""What the benchmark asks: labelled faces read from Parquet, and for each face the same few questions every time.

face     the whole face
region   one named region, the thirteen taking turns from face to face
nudged   the region's box moved a little             (every second face, like the next two)
other    another named region, which shares no action unit with the first
random   a random rectangle of the face
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.schema import MARGIN
from pipeline.errors import FocalfaceError
from pipeline.faces.alignment import CROP_SIZE, align, crop
from pipeline.records import Alignment
from pipeline.regions.placement import place_regions, to_frame_box
from pipeline.vocabulary import AUS, AUS_LABELLED, CUSTOM_BOX, EMOTIONS, REGION_AUS, REGIONS, WHOLE_FACE, Box, region_aus

COLUMNS = ("image_id", "source", "image", "landmarks5", "emotion", "age", "aus")
"""What a file of labelled faces must have."""

DATASET_COLUMNS = ("aus_known", "regions")
"""What the rows of a dataset (`pipeline.dataset`) have besides, and are known by."""

KINDS = ("face", "region", "nudged", "other", "random")
"""The questions of a face, in order."""

NEEDED = KINDS[:2]
"""The questions that every face is asked."""

EXTRA_EVERY = 2
"""One face in so many is asked the other three; 1 narrows the intervals of what rests on them and takes two thirds longer."""

NUDGE = 0.1
"""A nudged box moves by up to this share of its sides, each way; more asks for answers that hold against cruder boxes."""

RANDOM_SIDES = (16.0, 64.0)
"""Shortest and longest side of a random rectangle, in crop pixels (the eyes are 36 apart); longer ones show more action units."""

_TURNS = tuple(name for name in REGIONS if name != WHOLE_FACE)


@dataclass(frozen=True)
class Question:
    """One box of one face, and what the labels say of it.

    Attributes:
        image_id, source: of the picture.
        kind: one of `KINDS`.
        region: a name of `pipeline.vocabulary.REGIONS`, or `box`.
        box: in pixels of the aligned crop.
        frame_box: the same in pixels of the picture, upright, clipped to it.
        known: action units that the labels know of this face.
        visible: those of them that the box can show.
        aus: the active ones of these.
        emotion: of the face; None where unlabelled or not one of `pipeline.vocabulary.EMOTIONS`.
        age: of the face, in years; None where unlabelled.
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


@dataclass(frozen=True)
class AskedFace:
    """A face with its questions; `crop` is (112, 112, 3) uint8 RGB, aligned."""

    crop: np.ndarray
    questions: tuple[Question, ...]


def face_files(path: Path) -> list[pq.ParquetFile]:
    """The Parquet files of labelled faces under a path, their columns looked at.

    Args:
        path: a file, a dataset folder (its split `val` is taken), or a folder of such files.

    Raises:
        FocalfaceError: when there is none, when one is something else, or when they hold no face.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted((path / "val").glob("*.parquet")) or sorted(path.glob("*.parquet"))
    try:
        files = [pq.ParquetFile(file) for file in paths]
    except (OSError, pa.ArrowException) as error:
        raise FocalfaceError(f"{path}: not a Parquet file of labelled faces ({str(error).splitlines()[0]})") from error
    for file in files:
        if missing := set(COLUMNS) - set(file.schema_arrow.names):
            raise FocalfaceError(f"{path}: columns {', '.join(sorted(missing))} are missing; needed are {', '.join(COLUMNS)}")
    if not count_faces(files):
        raise FocalfaceError(f"{path}: no faces in it" + (" (looked for val/*.parquet, then *.parquet)" if path.is_dir() else ""))
    return files


def count_faces(files: Sequence[pq.ParquetFile], limit: int | None = None) -> int:
    """How many faces files hold, `limit` at most."""
    count = sum(file.metadata.num_rows for file in files)
    return min(count, limit or count)


def read_pictures(path: Path, image_ids: Collection[str]) -> dict[str, bytes]:
    """The encoded pictures of some faces."""
    chosen = pc.field("image_id").isin(list(image_ids))
    found: dict[str, bytes] = {}
    for file in face_files(path):
        for batch in file.iter_batches(columns=["image_id", "image"]):
            found |= {row["image_id"]: row["image"] for row in batch.filter(chosen).to_pylist()}
    return found


def read_faces(path: Path, limit: int | None = None, size: int = 128) -> Iterator[list[AskedFace]]:
    """The faces of a file or folder with their questions, so many at a time.

    Args:
        path: see `face_files`. Rows of a dataset bring their own boxes; other faces get theirs from their landmarks.
        limit: only the first so many.
        size: faces a batch.

    Raises:
        FocalfaceError: when there are no labelled faces; when one of them cannot be read, says which.
    """
    files = face_files(path)
    total, number, seen = count_faces(files, limit), 0, set()
    for file in files:
        columns = [name for name in (*COLUMNS, *DATASET_COLUMNS) if name in file.schema_arrow.names]
        known = labelled_units(file.schema_arrow)
        for batch in file.iter_batches(size, columns=columns):
            faces = []
            for row in batch.to_pylist()[: total - number]:
                if row["image_id"] in seen:
                    raise FocalfaceError(f"{path}: image_id {row['image_id']} stands there twice; each face needs its own")
                seen.add(row["image_id"])
                try:
                    faces.append(_face({"aus_known": known, **row}, number))
                except (TypeError, ValueError, cv2.error) as error:
                    raise FocalfaceError(f"{path}: row {number} (image_id {row['image_id']}) is no labelled face: {error}") from error
                number += 1
            if faces:
                yield faces


def labelled_units(schema: pa.Schema) -> tuple[str, ...]:
    """The action units that the labels know: those with a threshold in the file's metadata, else the sixteen of `AUS_LABELLED`."""
    thresholds = (schema.metadata or {}).get(b"au_thresholds")
    return tuple(au for au in AUS if au in json.loads(thresholds)) if thresholds else AUS_LABELLED


def _face(row: dict[str, Any], number: int) -> AskedFace:
    """Raises ValueError saying what is wrong with a row."""
    for name in ("image_id", "source", "image", "landmarks5", "aus"):
        if row[name] is None:
            raise ValueError(f"{name} is null")
    image: Any = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR_RGB) if row["image"] else None
    if image is None:
        raise ValueError("the picture cannot be decoded")
    landmarks = np.array(row["landmarks5"], np.float64).reshape(5, 2)
    if "regions" in row:  # the picture is the aligned face with a margin, and the landmarks are the crop's
        landmarks = landmarks + MARGIN
        alignment = Alignment(np.array([[1.0, 0.0, -MARGIN], [0.0, 1.0, -MARGIN]]))
    else:
        alignment = align(landmarks)
    boxes = place_regions(landmarks, alignment)
    given = row.get("regions") or ()
    boxes |= {region["region"]: _box(region) for region in reversed(given) if region["kind"] in ("whole", "named", "joined")}
    age = row["age"] if row["age"] is not None and np.isfinite(row["age"]) else None
    emotion = row["emotion"] if row["emotion"] in EMOTIONS else None

    known = tuple(au for au in AUS if au in row["aus_known"])

    def question(kind: str, region: str, box: Box) -> Question:
        visible = tuple(au for au in region_aus(region, box) if au in known)
        frame_box = to_frame_box(box, alignment, image.shape[1], image.shape[0])
        active = frozenset(visible) & frozenset(row["aus"])
        return Question(row["image_id"], row["source"], kind, region, box, frame_box, known, visible, active, emotion, age)

    turn = _TURNS[number % len(_TURNS)]
    questions = [question("face", WHOLE_FACE, boxes[WHOLE_FACE]), question("region", turn, boxes[turn])]
    if number % EXTRA_EVERY == 0:
        chance = random.Random(row["image_id"])
        other = chance.choice([name for name in _TURNS if not set(REGION_AUS[name]) & set(REGION_AUS[turn])])
        anywhere = next((_box(region) for region in given if region["kind"] == "random"), None)
        questions += [
            question("nudged", turn, nudged(boxes[turn], chance)),
            question("other", other, boxes[other]),
            question("random", CUSTOM_BOX, anywhere or random_box(boxes[WHOLE_FACE], chance)),
        ]
    return AskedFace(crop(image, alignment), tuple(questions))


def _box(region: dict[str, Any]) -> Box:
    x0, y0, x1, y1 = region["box"]
    return (x0, y0, x1, y1)


def nudged(box: Box, chance: random.Random) -> Box:
    """A box moved by up to `NUDGE` of its sides, its size kept, inside the crop."""

    def moved(low: float, high: float) -> tuple[float, float]:
        shift = chance.uniform(-NUDGE, NUDGE) * (high - low)
        shift = min(max(shift, -low), CROP_SIZE - high)
        return low + shift, high + shift

    (x0, x1), (y0, y1) = moved(box[0], box[2]), moved(box[1], box[3])
    return (x0, y0, x1, y1)


def random_box(within: Box, chance: random.Random) -> Box:
    """A rectangle with sides of `RANDOM_SIDES` crop pixels, anywhere in another one (or as large as that, where it is smaller)."""

    def side(low: float, high: float) -> tuple[float, float]:
        length = min(chance.uniform(*RANDOM_SIDES), high - low)
        start = chance.uniform(low, high - length)
        return start, start + length

    (x0, x1), (y0, y1) = side(within[0], within[2]), side(within[1], within[3])
    return (x0, y0, x1, y1)
