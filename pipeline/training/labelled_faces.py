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
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, mirrored_au

SIDE = CROP_SIZE + 2 * MARGIN
"""Side in pixels of a stored face: the aligned crop with a margin for augmentation."""

UNKNOWN = -1
"""Emotion index of a face without a label."""

MIRRORED_COLUMNS = [AUS_LABELLED.index(mirrored_au(au)) for au in AUS_LABELLED]
"""For each AU of `AUS_LABELLED` the column of its mirror image."""


@dataclass(frozen=True)
class LabelledFaces:
    """N aligned faces with their labels, and R boxes in all; A is the number of `AUS_LABELLED`.

    Attributes:
        pixels: (N, S, S, 3) uint8 RGB, S = CROP_SIZE + 2 * MARGIN; a grey face has three equal channels.
        aus: (N, A) bool, active AUs.
        aus_known: (N, A) bool, AUs that the face has a label for.
        au_probability: (N, A) float32, probability that the AU is active; 0 or 1 where the labels have no probabilities, NaN where unknown.
        au_intensity: (N, A) float32, 0 to 5, NaN where unknown.
        emotion: (N,) int64 indices into `EMOTIONS`, or UNKNOWN.
        votes: (N, 7) float32, share of the annotators for each emotion, NaN without votes.
        age: (N,) float32 recorded years, NaN without a label.
        age_guess: (N,) float32 years that another model estimated, NaN without.
        blendshapes: (N, B) float32 in [0, 1], NaN without a label.
        blendshape_names: the B names.
        source, image_id: (N,) str.
        first_box: (N + 1,) int64; face i owns the boxes [first_box[i], first_box[i + 1]).
        kind: (R,) int8 indices into `KINDS`.
        box: (R, 4) float32, x0, y0, x1, y1 in pixels of the aligned crop.
        visible: (R, A) bool, AUs that the box can show.
        region: (R,) str, the name by which each box is asked for, or `box`.
        dialogues: for each face its dialogues: lists of boxes, counted from first_box[i].
    """

    pixels: np.ndarray
    aus: np.ndarray
    aus_known: np.ndarray
    au_probability: np.ndarray
    au_intensity: np.ndarray
    emotion: np.ndarray
    votes: np.ndarray
    age: np.ndarray
    age_guess: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: tuple[str, ...]
    source: np.ndarray
    image_id: np.ndarray
    first_box: np.ndarray
    kind: np.ndarray
    box: np.ndarray
    visible: np.ndarray
    region: np.ndarray
    dialogues: list[list[list[int]]]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def majority(self) -> np.ndarray:
        """(N,) int64: the emotion with most votes, where there are votes, else `emotion`."""
        voted = ~np.isnan(self.votes[:, 0])
        return np.where(voted, self.votes.argmax(1), self.emotion)

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
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i, data in enumerate(table["image"]):
        image: Any = cv2.imdecode(np.frombuffer(data.as_py(), np.uint8), cv2.IMREAD_COLOR)
        pixels[i] = image[..., ::-1]
    regions = table["regions"].combine_chunks()
    flat = regions.flatten()
    lengths = np.diff(regions.offsets.to_numpy())
    kinds = {name: i for i, name in enumerate(KINDS)}
    emotions = {name: i for i, name in enumerate(EMOTIONS)}
    aus, aus_known = (_au_flags(table[name].combine_chunks()) for name in ("aus", "aus_known"))
    stated = _au_values(table, "au_prob")
    shapes = [row if row else [np.nan] * len(names) for row in table["blendshapes"].to_pylist()]
    return LabelledFaces(
        pixels=pixels,
        aus=aus,
        aus_known=aus_known,
        au_probability=np.where(np.isnan(stated) & aus_known, aus, stated).astype(np.float32),
        au_intensity=_au_values(table, "au_intensities"),
        emotion=np.array([emotions.get(name, UNKNOWN) for name in table["emotion"].to_pylist()], np.int64),
        votes=np.array([row or [np.nan] * len(EMOTIONS) for row in table["emotion_votes"].to_pylist()], np.float32),
        age=_numbers(table["age"]),
        age_guess=_numbers(table["age_guess"]),
        blendshapes=np.asarray(shapes, np.float32).reshape(count, len(names)),
        blendshape_names=names,
        source=np.array(table["source"].to_pylist()),
        image_id=np.array(table["image_id"].to_pylist()),
        first_box=np.concatenate([[0], np.cumsum(lengths)]),
        kind=np.array([kinds[name] for name in flat.field("kind").to_pylist()], np.int8),
        box=np.asarray(flat.field("box").flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, 4),
        visible=_au_flags(flat.field("visible")),
        region=np.array(flat.field("region").to_pylist()),
        dialogues=table["dialogues"].to_pylist(),
    )


def _au_flags(lists: pa.ListArray) -> np.ndarray:
    """(N, A) bool: the AUs of `AUS_LABELLED` that each list names."""
    owner = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    column = {au: i for i, au in enumerate(AUS_LABELLED)}
    named = np.array([column.get(au, -1) for au in lists.flatten().to_pylist()], np.int64)
    units = np.zeros((len(lists), len(AUS_LABELLED)), bool)
    units[owner[named >= 0], named[named >= 0]] = True
    return units


def _au_values(table: pa.Table, name: str) -> np.ndarray:
    """(N, A) float32: a column of values for each face's `aus_known`, NaN where unknown."""
    column = {au: i for i, au in enumerate(AUS_LABELLED)}
    values = np.full((len(table), len(AUS_LABELLED)), np.nan, np.float32)
    for i, (known, row) in enumerate(zip(table["aus_known"].to_pylist(), table[name].to_pylist(), strict=True)):
        for au, value in zip(known, row or (), strict=False):
            if au in column and value is not None:
                values[i, column[au]] = value
    return values


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) float32, NaN for null."""
    return np.array([np.nan if value is None else value for value in column.to_pylist()], np.float32)


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
