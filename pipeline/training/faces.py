"""The faces of a built dataset, held in memory for training and measuring."""

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
from pipeline.dataset.build import MARGIN
from pipeline.errors import FocalfaceError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

SIDE = CROP_SIZE + 2 * MARGIN

UNKNOWN = -1
"""Emotion index of a face without a label."""


@dataclass(frozen=True)
class Faces:
    """N aligned grey faces with their labels, and R boxes over all of them.

    Attributes:
        pixels: (N, S, S) uint8, S = CROP_SIZE + 2 * MARGIN.
        aus: (N, 16) bool over `AUS_LABELLED`.
        aus_known: (N, 16) bool, the units that this face's labels speak of.
        emotion: (N,) int64 into `EMOTIONS`, or UNKNOWN.
        age: (N,) float32 years, NaN where unlabelled.
        blendshapes: (N, B) float32 in [0, 1], NaN where unlabelled.
        blendshape_names: the B names.
        source, image_id: (N,) str.
        first: (N + 1,) int64; face i has the boxes first[i] to first[i + 1].
        kind: (R,) int8 into `KINDS`.
        box: (R, 4) float32, aligned-crop pixels.
        visible: (R, 16) bool, the units that a box can show.
        description: R sentences.
        dialogues: for each face its orders of boxes, as indexes from first[i] on.
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
    first: np.ndarray
    kind: np.ndarray
    box: np.ndarray
    visible: np.ndarray
    description: pa.Array
    dialogues: list[list[list[int]]]

    def __len__(self) -> int:
        return len(self.pixels)

    def boxes_of(self, face: int, kinds: Sequence[str] = KINDS) -> np.ndarray:
        """Indexes of a face's boxes of these kinds."""
        own = np.arange(self.first[face], self.first[face + 1])
        return own[np.isin(self.kind[own], [KINDS.index(kind) for kind in kinds])]


def load_faces(dataset: Path, split: str, limit: int | None = None) -> Faces:
    """Read one split of a dataset that `focalface dataset build` wrote.

    Args:
        dataset: its folder.
        split: `train` or `val`.
        limit: keep only so many, evenly spread over the split.

    Raises:
        FocalfaceError: when there is no such split.
    """
    files = sorted((dataset / split).glob("*.parquet"))
    if not files:
        raise FocalfaceError(
            f"{dataset}: no {split} faces there; make the dataset with: focalface dataset build FACES.parquet --out {dataset}"
        )
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
    return Faces(
        pixels=pixels,
        aus=_units(table["aus"].combine_chunks()),
        aus_known=_units(table["aus_known"].combine_chunks()),
        emotion=np.array([emotions.get(name, UNKNOWN) for name in table["emotion"].to_pylist()], np.int64),
        age=np.array([np.nan if age is None else age for age in ages], np.float32),
        blendshapes=np.asarray(shapes, np.float32).reshape(count, len(names)),
        blendshape_names=names,
        source=np.array(table["source"].to_pylist()),
        image_id=np.array(table["image_id"].to_pylist()),
        first=np.concatenate([[0], np.cumsum(lengths)]),
        kind=np.array([kinds[name] for name in flat.field("kind").to_pylist()], np.int8),
        box=np.asarray(flat.field("box").flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, 4),
        visible=_units(flat.field("visible")),
        description=flat.field("description"),
        dialogues=table["dialogues"].to_pylist(),
    )


def _units(lists: pa.ListArray) -> np.ndarray:
    """(N, 16) bool: which of `AUS_LABELLED` each list names."""
    owner = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    column = {au: i for i, au in enumerate(AUS_LABELLED)}
    named = np.array([column.get(au, -1) for au in lists.flatten().to_pylist()], np.int64)
    units = np.zeros((len(lists), len(AUS_LABELLED)), bool)
    units[owner[named >= 0], named[named >= 0]] = True
    return units


def mirror_names(names: Sequence[str]) -> list[int]:
    """Index of each name's mirror image (`...Left` with `...Right`); names without a side map to themselves."""
    index = {name: i for i, name in enumerate(names)}
    swap = {"Left": "Right", "Right": "Left"}
    mirrored = []
    for name in names:
        side = next((s for s in swap if name.endswith(s)), None)
        mirrored.append(index[name.removesuffix(side) + swap[side]] if side else index[name])
    return mirrored
