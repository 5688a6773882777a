"""Labelled faces from Parquet, or from pictures with a CSV of labels, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.label_file import JoinedLabels, LabelFile
from pipeline.dataset.labels import (
    LabelOptions,
    LabelReader,
    UnitLabels,
    age_of,
    face_box_of,
    is_label_column,
    landmarks_of,
    region_box_of,
    split_of,
    text_of,
)
from pipeline.dataset.rivals import settle_rivals
from pipeline.errors import FocalfaceError, SettingsError, one_line
from pipeline.faces.alignment import align
from pipeline.records import Alignment
from pipeline.vocabulary import SINGLE_REGIONS, Box


@dataclass(frozen=True)
class LabelledFace:
    """One face with what its labels know.

    Attributes:
        image_id: identity of the picture.
        source: collection that it comes from.
        split: `train` or `val`.
        image: (H, W, 3) BGR or (H, W) grey, uint8.
        landmarks5: (5, 2) pixels of the image.
        alignment: pixels of the image to pixels of the aligned crop.
        tight: tight boxes of single regions, pixels of the image; empty where the labels have none.
        emotion: one of `pipeline.vocabulary.EMOTIONS`, or None.
        emotion_votes: share of the annotators for each of these emotions, or None.
        age: recorded age in years, or None.
        age_guess: age that another model estimated, or None.
        units: action units.
        blendshapes: as many as the source has names for, or None.
        sex, group: annotations for error by group; never a target.
    """

    image_id: str
    source: str
    split: str
    image: np.ndarray
    landmarks5: np.ndarray
    alignment: Alignment
    tight: Mapping[str, Box]
    emotion: str | None
    emotion_votes: tuple[float, ...] | None
    age: float | None
    age_guess: float | None
    units: UnitLabels
    blendshapes: Sequence[float] | None
    sex: str | None
    group: str | None

    @property
    def known(self) -> tuple[str, ...]:
        """The action units that the labels know of this face."""
        return tuple(self.units.active)

    @property
    def aus(self) -> tuple[str, ...]:
        """The active ones among them."""
        return tuple(au for au, active in self.units.active.items() if active)


@dataclass(frozen=True)
class SkippedRow:
    """A row that gave no face: where it is, and the reason."""

    row: str
    reason: str


class Source:
    """One file of labelled faces.

    Attributes:
        path: of the file.
        rows: number of rows.
        blendshape_names: from its metadata; empty without.
        joined: whether its labels come from a file of their own.
    """

    def __init__(self, path: Path, options: LabelOptions, labels: JoinedLabels | None = None) -> None:
        """Open a Parquet file, a CSV file, or a folder with one CSV file.

        Args:
            path: of the file or folder.
            options: how to read labels that do not explain themselves.
            labels: labels by `image_id`; taken instead of the source's own if they have at least one of its pictures.

        Raises:
            FocalfaceError: it is none of these, or has no column of pictures.
        """
        self._file = LabelFile(_labels_file(path))
        self.path, self.rows = self._file.path, self._file.rows
        columns = self._file.columns
        if "image" not in columns and "file" not in columns:
            raise FocalfaceError(f"{self.path} has no column `image` or `file`; it has {', '.join(columns) or 'none'}")
        self._picture = "image" if "image" in columns else "file"
        self.blendshape_names: list[str] = self._file.metadata.get("blendshape_names", [])
        self.joined = labels is not None and self._has_pictures_of(labels)
        self._labels = labels if self.joined else None
        if self._labels:
            self._reader = LabelReader(self._labels.columns, options, self._labels.metadata)
        else:
            self._reader = LabelReader(columns, options, self._file.metadata)
        self._landmarks: Any = None
        self._seen: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        self._without_labels = 0

    def _has_pictures_of(self, labels: JoinedLabels) -> bool:
        column = "image_id" if "image_id" in self._file.columns else "file"
        return column in self._file.columns and any(str(row[column]) in labels for row in self._file.read([column]))

    def notes(self) -> list[str]:
        """What a person should know about how the labels were read; complete after all faces were read."""
        notes = []
        if self._labels:
            notes.append(f"{self.path.name}: labels are those of {self._labels.path.name}")
        if self._without_labels:
            notes.append(f"{self.path.name}: {self._without_labels} pictures are not in the labels file, so their labels are unknown")
        if self._reader.ignored:
            columns = ", ".join(self._file.columns.get(name, name).strip() for name in self._reader.ignored)
            notes.append(f"{self.path.name}: not action units of focalface, so ignored: {columns}")
        notes += [f"{self.path.name}: {what} in {count} faces, by its intensity" for what, count in self._settled.most_common()]
        if self._reader.unknown_emotions:
            words = ", ".join(f"{word} ({count})" for word, count in self._reader.unknown_emotions.most_common())
            notes.append(f"{self.path.name}: not emotions of focalface, so left out: {words}")
        return notes

    def faces(self, limit: int | None = None) -> Iterator[LabelledFace | SkippedRow]:
        """The faces in the order of their rows; for a row that is wrong, the reason.

        Args:
            limit: read only this many rows.

        Raises:
            FocalfaceError: the file breaks off.
            SettingsError: emotions are numbers and nothing says what they stand for.
        """
        for number, row in enumerate(self._file.read(), 1):
            if limit is not None and number > limit:
                return
            place = f"{self.path.name} row {number}"
            try:
                yield self._face(row, number)
            except SettingsError as error:
                raise SettingsError(f"{place}: {error}") from error
            except (ValueError, OSError) as error:
                yield SkippedRow(place, one_line(error))

    def _face(self, row: dict[str, Any], number: int) -> LabelledFace:
        """The face of a row.

        Raises:
            ValueError: what is wrong with the row.
        """
        from pipeline.dataset.pictures import LandmarkFinder, decode_picture  # imports OpenCV

        image_id = str(row.get("image_id") or self._name(row[self._picture], number))
        if self._labels:
            joined = self._labels.row(image_id)
            self._without_labels += joined is None
            row = {name: value for name, value in row.items() if not is_label_column(name)} | (joined or {})
        split, age, emotion = split_of(row), age_of(row), self._reader.emotion(row)
        units, settled = settle_rivals(self._reader.action_units(row))
        shapes = row.get("blendshapes") if self.blendshape_names else None
        if shapes is not None and len(shapes) != len(self.blendshape_names):
            raise ValueError(f"{len(shapes)} blendshapes for {len(self.blendshape_names)} names")
        landmarks = landmarks_of(row)
        image = decode_picture(row[self._picture], self.path.parent)
        if landmarks is None:
            self._landmarks = self._landmarks or LandmarkFinder()
            landmarks = self._landmarks.find(image, face_box_of(row))
        self._settled.update(settled)
        return LabelledFace(
            image_id=image_id,
            source=str(row.get("source") or (self.path.resolve().parent.name if self._file.is_csv else self.path.stem)),
            split=split,
            image=image,
            landmarks5=landmarks,
            alignment=align(landmarks),
            tight={name: box for name in SINGLE_REGIONS if (box := region_box_of(row, name))},
            emotion=emotion,
            emotion_votes=self._reader.emotion_votes(row),
            age=age,
            age_guess=age_of(row, "age_guess"),
            units=units,
            blendshapes=shapes,
            sex=text_of(row, "sex"),
            group=text_of(row, "group"),
        )

    def _name(self, picture: Any, number: int) -> str:
        """Stand-in for a missing `image_id`: the picture's path, its second face with `#2`, or the row."""
        if not isinstance(picture, str):
            return f"{self.path.stem}:{number}"
        self._seen[picture] += 1
        return picture if self._seen[picture] == 1 else f"{picture}#{self._seen[picture]}"


def _labels_file(path: Path) -> Path:
    """The file of labels that a path stands for."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.csv"))
    if len(files) != 1:
        raise FocalfaceError(f"{path} holds {len(files) or 'no'} CSV files: give the one with the labels, or Parquet files")
    return files[0]
