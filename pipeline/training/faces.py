"""Labelled faces from Parquet, aligned once and held in memory for training and measuring."""

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

from pipeline.align import CROP_SIZE, align, crop
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS

MARGIN = 10
"""Pixels kept around the aligned crop, so that small shifts and turns of augmentation find real pixels there."""

UNKNOWN = -1
"""Emotion index of a face without a label (or with one outside `EMOTIONS`)."""


@dataclass(frozen=True)
class Faces:
    """N aligned grey faces with their labels.

    Attributes:
        pixels: (N, S, S) uint8, S = CROP_SIZE + 2 * MARGIN.
        boxes: region name -> (N, 4) float32, x0, y0, x1, y1 in aligned-crop pixels (before the margin).
        aus: (N, 16) bool over `AUS_LABELLED`.
        emotion: (N,) int64 into `EMOTIONS`, or UNKNOWN.
        age: (N,) float32 years, NaN where unlabelled.
        blendshapes: (N, 52) float32 in [0, 1].
        blendshape_names: the 52 names.
        source: (N,) str.
        image_id: (N,) str.
    """

    pixels: np.ndarray
    boxes: dict[str, np.ndarray]
    aus: np.ndarray
    emotion: np.ndarray
    age: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: tuple[str, ...]
    source: np.ndarray
    image_id: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def load_faces(paths: Sequence[Path], limit: int | None = None) -> Faces:
    """Read and align the faces of one or more labelled Parquet files.

    Args:
        paths: files with the columns `image`, `landmarks5`, `box_<region>`, `aus`, `emotion`, `age`, `blendshapes`, `source`.
        limit: keep only the first so many of each file.

    Raises:
        FileNotFoundError: when a file is missing.
    """
    tables = [pq.read_table(path) for path in paths]
    if limit is not None:
        tables = [table.slice(0, limit) for table in tables]
    names = tuple(json.loads(tables[0].schema.metadata[b"blendshape_names"]))
    table = pa.concat_tables(tables)
    count, side = table.num_rows, CROP_SIZE + 2 * MARGIN
    pixels = np.empty((count, side, side), np.uint8)
    regions = [name for name in table.column_names if name.startswith("box_")]
    corners = {name: np.asarray(table[name].to_pylist(), np.float64) for name in regions}
    boxes = {name.removeprefix("box_"): np.empty((count, 4), np.float32) for name in regions}
    landmarks = np.asarray(table["landmarks5"].to_pylist(), np.float64).reshape(count, 5, 2)
    for i, data in enumerate(table["image"]):
        image: Any = cv2.imdecode(np.frombuffer(data.as_py(), np.uint8), cv2.IMREAD_GRAYSCALE)
        alignment = align(landmarks[i])
        pixels[i] = crop(image, alignment, margin=MARGIN)
        for name in regions:
            x0, y0, x1, y1 = corners[name][i]
            quad = alignment.to_crop(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
            boxes[name.removeprefix("box_")][i] = [*quad.min(0), *quad.max(0)]
    emotion_index = {name: i for i, name in enumerate(EMOTIONS)}
    active = [set(row) for row in table["aus"].to_pylist()]
    return Faces(
        pixels=pixels,
        boxes=boxes,
        aus=np.array([[au in row for au in AUS_LABELLED] for row in active]),
        emotion=np.array([emotion_index.get(name, UNKNOWN) for name in table["emotion"].to_pylist()], np.int64),
        age=np.array([np.nan if age is None else age for age in table["age"].to_pylist()], np.float32),
        blendshapes=np.asarray(table["blendshapes"].to_pylist(), np.float32),
        blendshape_names=names,
        source=np.array(table["source"].to_pylist()),
        image_id=np.array(table["image_id"].to_pylist()),
    )


def mirror_names(names: Sequence[str]) -> list[int]:
    """Index of each name's mirror image (`...Left` with `...Right`); names without a side map to themselves."""
    index = {name: i for i, name in enumerate(names)}
    swap = {"Left": "Right", "Right": "Left"}
    mirrored = []
    for name in names:
        side = next((s for s in swap if name.endswith(s)), None)
        mirrored.append(index[name.removesuffix(side) + swap[side]] if side else index[name])
    return mirrored
