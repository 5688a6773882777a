"""Labelled faces from Parquet, or from pictures with a CSV of labels, one at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.boxes import overlap
from pipeline.dataset.labels import LabelReader, Labels, age_of, face_box_of, landmarks_of, region_box_of, split_of
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import align
from pipeline.records import Alignment
from pipeline.regions.placement import pad
from pipeline.storage.names import on_disk
from pipeline.storage.tables import read_table
from pipeline.vocabulary import AUS, AUS_LABELLED, SINGLE_REGIONS, Box

CHUNK = 256
"""Rows of a Parquet file in memory at a time."""

DETECT_SIDES = (144, 640)
"""A picture's shorter side is brought within these pixels to look for its face; on FER2013's 48 pixels as they are a quarter would be
missed, and much larger ones only take time."""

DETECT_BORDER = 0.25
"""Where no face is found, the picture is tried once more with this share of its side in black around it: tight crops need air."""

BOX_AIR = 0.5
"""Where a row gives the face's box, its face is looked for in that box and this share of its longer side around it."""

SAME_FACE = 0.2
"""A detection is the labelled face where it overlaps the labelled box by so much (intersection over union)."""


@dataclass(frozen=True)
class LabelledFace:
    """One face with what its labels know.

    Attributes:
        image: (H, W, 3) BGR or (H, W) grey, uint8.
        landmarks5: (5, 2) pixels of the image.
        alignment: pixels of the image to pixels of the aligned crop.
        tight: tight boxes of single regions, pixels of the image; empty where the labels have none.
        age: years.
        aus: the active ones among `known`, in order.
        known: the action units that the labels know of this face, in order.
        intensities: 0 to 5 for each of `known`, None for those without; None where no unit has one.
        blendshapes: as many as the source has names for.
    """

    image_id: str
    source: str
    split: str
    image: np.ndarray
    landmarks5: np.ndarray
    alignment: Alignment
    tight: Mapping[str, Box]
    emotion: str | None
    age: float | None
    aus: tuple[str, ...]
    known: tuple[str, ...]
    intensities: tuple[float | None, ...] | None
    blendshapes: Sequence[float] | None


@dataclass(frozen=True)
class Skipped:
    """A row that gave no face: where it stands and why."""

    row: str
    reason: str


class Source:
    """One file of labelled faces.

    Attributes:
        path: of the file.
        rows: how many it has.
        blendshape_names: from its metadata; empty without.
    """

    def __init__(self, path: Path, labels: Labels) -> None:
        """Open a Parquet file, a CSV file, or a folder with one CSV file.

        Raises:
            FocalfaceError: when it is none of them, or has no column of pictures.
        """
        self.path = _labels_file(path)
        self._is_csv = self.path.suffix.lower() == ".csv"
        metadata: Mapping[bytes, bytes] = {}
        try:
            if self._is_csv:
                self._table = read_table(self.path)
                names, self.rows = list(self._table.columns), sum(1 for _ in self._table.rows())
            else:
                file = pq.ParquetFile(self.path)
                self.rows, names, metadata = file.metadata.num_rows, file.schema_arrow.names, file.schema_arrow.metadata or {}
            self.blendshape_names: list[str] = json.loads(metadata.get(b"blendshape_names", b"[]"))
            thresholds = json.loads(metadata.get(b"au_thresholds", b"{}"))
        except (OSError, ValueError, pa.ArrowException, FocalfaceError) as error:
            raise FocalfaceError(f"{self.path} cannot be read as labelled faces: {' '.join(str(error).split())}") from error
        self._columns = {name.strip().lower(): name for name in names}
        if "image" not in self._columns and "file" not in self._columns:
            raise FocalfaceError(f"{self.path} has no column `image` or `file`; it has {', '.join(self._columns) or 'none'}")
        self._picture = "image" if "image" in self._columns else "file"
        self._reader = LabelReader(self._columns, labels, [au for au in AUS if au in thresholds] or AUS_LABELLED)
        self._seen: Counter[str] = Counter()

    def notes(self) -> list[str]:
        """What a person should know of how the labels were read; complete once all faces were."""
        notes = []
        if self._reader.ignored:
            columns = ", ".join(self._columns[name].strip() for name in self._reader.ignored)
            notes.append(f"{self.path.name}: not action units of focalface, so ignored: {columns}")
        if self._reader.unknown_emotions:
            words = ", ".join(f"{word} ({count})" for word, count in self._reader.unknown_emotions.most_common())
            notes.append(f"{self.path.name}: not emotions of focalface, so left out: {words}")
        return notes

    def faces(self, limit: int | None = None) -> Iterator[LabelledFace | Skipped]:
        """The faces in the order of their rows; a row that is wrong yields why.

        Args:
            limit: only the first so many rows.

        Raises:
            FocalfaceError: when the file breaks off.
            SettingsError: when emotions are numbers and nothing says what they stand for.
        """
        for number, row in enumerate(self._rows(), 1):
            if limit is not None and number > limit:
                return
            place = f"{self.path.name} row {number}"
            try:
                yield self._face(row, number)
            except SettingsError as error:
                raise SettingsError(f"{place}: {error}") from error
            except (ValueError, OSError, cv2.error) as error:
                yield Skipped(place, " ".join(str(error).split()))

    def _rows(self) -> Iterator[dict[str, Any]]:
        if self._is_csv:
            for _, row in self._table.rows():
                yield {name: row[column] for name, column in self._columns.items()}
            return
        try:
            for batch in pq.ParquetFile(self.path).iter_batches(CHUNK):
                for row in batch.to_pylist():
                    yield {name: row[column] for name, column in self._columns.items()}
        except (OSError, pa.ArrowException) as error:
            raise FocalfaceError(f"{self.path} cannot be read to its end: {' '.join(str(error).split())}") from error

    def _face(self, row: Mapping[str, Any], number: int) -> LabelledFace:
        """The face of a row.

        Raises:
            ValueError: what is wrong with the row.
        """
        split, age, emotion = split_of(row), age_of(row), self._reader.emotion(row)
        known, intensities = self._reader.action_units(row)
        shapes = row.get("blendshapes") if self.blendshape_names else None
        if shapes is not None and len(shapes) != len(self.blendshape_names):
            raise ValueError(f"{len(shapes)} blendshapes for {len(self.blendshape_names)} names")
        landmarks = landmarks_of(row)
        image = self._image(row[self._picture])
        if landmarks is None:
            landmarks = self._detected(image, face_box_of(row))
        return LabelledFace(
            image_id=str(row.get("image_id") or self._name(row[self._picture], number)),
            source=str(row.get("source") or (self.path.resolve().parent.name if self._is_csv else self.path.stem)),
            split=split,
            image=image,
            landmarks5=landmarks,
            alignment=align(landmarks),
            tight={name: box for name in SINGLE_REGIONS if (box := region_box_of(row, name))},
            emotion=emotion,
            age=age,
            aus=tuple(au for au, active in known.items() if active),
            known=tuple(known),
            intensities=tuple(intensities.get(au) for au in known) if intensities else None,
            blendshapes=shapes,
        )

    def _name(self, picture: Any, number: int) -> str:
        """What stands for a missing `image_id`: the picture's path, its second face with `#2`, or the row."""
        if not isinstance(picture, str):
            return f"{self.path.stem}:{number}"
        self._seen[picture] += 1
        return picture if self._seen[picture] == 1 else f"{picture}#{self._seen[picture]}"

    def _image(self, value: Any) -> np.ndarray:
        """A picture from its bytes or path: upright, 8-bit, grey where the file is."""
        if isinstance(value, Mapping):  # as the Hugging Face datasets keep pictures
            value = value.get("bytes") or value.get("path")
        name = "the picture"
        if isinstance(value, str) and value.strip():
            name = on_disk(str(self.path.parent / value.strip()))
            if not Path(name).is_file():
                raise ValueError(f"there is no file {name}")
            value = Path(name).read_bytes()
        if not isinstance(value, bytes) or not value:
            raise ValueError("there is no picture")
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_ANYCOLOR)
        if image is None:
            raise ValueError(f"{name} cannot be decoded")
        return np.asarray(image)

    @cached_property
    def _detector(self) -> Any:
        from pipeline.faces.detectors.centerface import CenterFace  # brings onnxruntime, which labels with landmarks can do without

        return CenterFace(min_face=CenterFace.FACE_PIXELS)

    def _detected(self, image: np.ndarray, box: Box | None) -> np.ndarray:
        """(5, 2) landmarks of the face that `box` marks, or of the largest one."""
        x0, y0, x1, y1 = 0, 0, image.shape[1], image.shape[0]
        if box is not None:
            grown = pad(box, BOX_AIR)
            x0, y0, x1, y1 = max(x0, int(grown[0])), max(y0, int(grown[1])), min(x1, int(grown[2])), min(y1, int(grown[3]))
            if x0 >= x1 or y0 >= y1:
                raise ValueError("the face's box lies outside the picture")
        part = image[y0:y1, x0:x1]
        colour = np.repeat(part[..., None], 3, 2) if part.ndim == 2 else part[..., ::-1]
        zoom = float(np.clip(min(part.shape[:2]), *DETECT_SIDES)) / min(part.shape[:2])
        size = (round(part.shape[1] * zoom), round(part.shape[0] * zoom))
        view = cv2.resize(np.ascontiguousarray(colour), size, interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA)
        for border in (0, round(DETECT_BORDER * max(size))):
            found = self._detector.detect([cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT)])[0]
            boxes = (found.boxes - border) / zoom + [x0, y0, x0, y0]
            worth = [overlap(b, box) if box else (b[2] - b[0]) * (b[3] - b[1]) for b in boxes.tolist()]
            if worth and (box is None or max(worth) >= SAME_FACE):
                return np.asarray((found.landmarks5[int(np.argmax(worth))] - border) / zoom + [x0, y0], np.float64)
        raise ValueError("no face is found in the picture" + (" where its box lies" if box else ""))


def _labels_file(path: Path) -> Path:
    """The file of labels that a path stands for."""
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        if len(files) != 1:
            raise FocalfaceError(f"{path} holds {len(files) or 'no'} CSV files: give the one with the labels, or Parquet files")
        return files[0]
    if not path.is_file():
        raise FocalfaceError(f"there is no file {path}")
    return path
