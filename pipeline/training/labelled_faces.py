"""The labelled faces of a dataset split, held in memory for training and validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.boxes import KINDS
from pipeline.dataset.schema import MARGIN
from pipeline.faces.alignment import CROP_SIZE
from pipeline.training.preconditions import split_files
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

SIDE = CROP_SIZE + 2 * MARGIN
"""Side in pixels of a stored face: the aligned crop with a margin for augmentation."""

UNKNOWN = -1
"""Emotion index of a face without a label."""


@dataclass(frozen=True)
class LabelledFaces:
    """N aligned grey faces with their labels, and R boxes in all.

    Attributes:
        pixels: (N, S, S) uint8, S = CROP_SIZE + 2 * MARGIN.
        aus: (N, 16) bool over `AUS_LABELLED`.
        aus_known: (N, 16) bool, AUs that the face has a label for.
        emotion: (N,) int64 indices into `EMOTIONS`, or UNKNOWN.
        age: (N,) float32 years, NaN without a label.
        blendshapes: (N, B) float32 in [0, 1], NaN without a label.
        blendshape_names: the B names.
        source, image_id: (N,) str.
        first_box: (N + 1,) int64; face i owns the boxes [first_box[i], first_box[i + 1]).
        kind: (R,) int8 indices into `KINDS`.
        box: (R, 4) float32, x0, y0, x1, y1 in pixels of the aligned crop.
        visible: (R, 16) bool, AUs that the box can show.
        description: R sentences.
        dialogues: for each face its dialogues: lists of boxes, counted from first_box[i].
    """

    pixels: np.ndarray
    aus: np.ndarray
    aus_known: np.ndarray
    emotion: np.ndarray
    age: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: tuple[str, ...]
    source: np.ndarray
    image_id: np.ndarray
    first_box: np.ndarray
    kind: np.ndarray
    box: np.ndarray
    visible: np.ndarray
    description: pa.Array
    dialogues: list[list[list[int]]]

    def __len__(self) -> int:
        return len(self.pixels)

    def boxes_of(self, face: int, kinds: Sequence[str] = KINDS) -> np.ndarray:
        """Indices of the boxes of one face, of these kinds."""
        own = np.arange(self.first_box[face], self.first_box[face + 1])
        return own[np.isin(self.kind[own], [KINDS.index(kind) for kind in kinds])]


def load_faces(dataset: Path, split: str, limit: int | None = None) -> LabelledFaces:
    """Read one split of a dataset that `focalface dataset build` wrote.

    Args:
        dataset: the dataset's folder.
        split: `train` or `val`.
        limit: maximum number of faces; they are spread evenly over the split.

    Raises:
        FocalfaceError: when the dataset has no such split.
    """
    files = split_files(dataset, split)
    table = pa.concat_tables([pq.read_table(path) for path in files])
    if limit is not None and limit < len(table):
        table = table.take(np.linspace(0, len(table) - 1, limit).astype(np.int64))
    names = tuple(json.loads((table.schema.metadata or {}).get(b"blendshape_names", b"[]")))
    count = len(table)
    pixels = np.empty((count, SIDE, SIDE), np.uint8)
    for i, data in enumerate(table["image"]):
        image: Any = cv2.imdecode(np.frombuffer(data.as_py(), np.uint8), cv2.IMREAD_GRAYSCALE)
        pixels[i] = image
    regions = table["regions"].combine_chunks()
    flat = regions.flatten()
    lengths = np.diff(regions.offsets.to_numpy())
    kinds = {name: i for i, name in enumerate(KINDS)}
    emotions = {name: i for i, name in enumerate(EMOTIONS)}
    ages = table["age"].to_pylist()
    shapes = [row if row else [np.nan] * len(names) for row in table["blendshapes"].to_pylist()]
    return LabelledFaces(
        pixels=pixels,
        aus=_au_flags(table["aus"].combine_chunks()),
        aus_known=_au_flags(table["aus_known"].combine_chunks()),
        emotion=np.array([emotions.get(name, UNKNOWN) for name in table["emotion"].to_pylist()], np.int64),
        age=np.array([np.nan if age is None else age for age in ages], np.float32),
        blendshapes=np.asarray(shapes, np.float32).reshape(count, len(names)),
        blendshape_names=names,
        source=np.array(table["source"].to_pylist()),
        image_id=np.array(table["image_id"].to_pylist()),
        first_box=np.concatenate([[0], np.cumsum(lengths)]),
        kind=np.array([kinds[name] for name in flat.field("kind").to_pylist()], np.int8),
        box=np.asarray(flat.field("box").flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, 4),
        visible=_au_flags(flat.field("visible")),
        description=flat.field("description"),
        dialogues=table["dialogues"].to_pylist(),
    )


def _au_flags(lists: pa.ListArray) -> np.ndarray:
    """(N, 16) bool: the AUs of `AUS_LABELLED` that each list names."""
    owner = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    column = {au: i for i, au in enumerate(AUS_LABELLED)}
    named = np.array([column.get(au, -1) for au in lists.flatten().to_pylist()], np.int64)
    units = np.zeros((len(lists), len(AUS_LABELLED)), bool)
    units[owner[named >= 0], named[named >= 0]] = True
    return units


def mirror_names(names: Sequence[str]) -> list[int]:
    """Index of each name's mirror image (`...Left` and `...Right`); a name without a side maps to itself.

    >>> mirror_names(["jawOpen", "mouthSmileLeft", "mouthSmileRight"])
    [0, 2, 1]
    """
    index = {name: i for i, name in enumerate(names)}
    swap = {"Left": "Right", "Right": "Left"}
    mirrored = []
    for name in names:
        side = next((s for s in swap if name.endswith(s)), None)
        mirrored.append(index[name.removesuffix(side) + swap[side]] if side else index[name])
    return mirrored
