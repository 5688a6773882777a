"""Format of a region-level dataset: its columns, its splits, and the margin around its pictures."""

from __future__ import annotations

import pyarrow as pa

FORMAT = 2
"""Version of the format. Version 1 has no `au_prob`, `emotion_votes`, `age_guess`, `sex` and `group`."""

MARGIN = 10
"""Pixels kept around the aligned crop, so that small shifts and rotations in training find real pixels there."""

SPLITS = ("train", "val")

INFO = "dataset.json"
"""File in a dataset folder that says what it was built from and what it holds."""


def _field(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"meaning": meaning})


_REGION = pa.struct(
    [
        _field("kind", pa.string(), "how the box was drawn: a value of pipeline.dataset.boxes.KINDS"),
        _field("region", pa.string(), "name that it is asked for by, or box"),
        _field("box", pa.list_(pa.float32(), 4), "x0, y0, x1, y1 in pixels of the aligned crop, before the margin"),
        _field("visible", pa.list_(pa.string()), "action units that the labels know and the box can show"),
        _field("aus", pa.list_(pa.string()), "those of them that are active"),
        _field("description", pa.string(), "sentence that says the labels of the box; empty where there are none"),
    ]
)

SCHEMA = pa.schema(
    [
        _field("image_id", pa.string(), "identity of the picture"),
        _field("source", pa.string(), "collection that it comes from"),
        _field("split", pa.string(), "train or val"),
        _field("image", pa.binary(), "JPEG of the aligned face with MARGIN pixels around it"),
        _field("emotion", pa.string(), "one of the seven; null where unknown"),
        _field("emotion_votes", pa.list_(pa.float32()), "share of annotators for each of the seven emotions, in order; null where unknown"),
        _field("age", pa.float32(), "years, recorded; null where unknown"),
        _field("age_guess", pa.float32(), "years, another model's estimate: weaker evidence; null where there is none"),
        _field("aus", pa.list_(pa.string()), "active action units among aus_known"),
        _field("aus_known", pa.list_(pa.string()), "action units whose state is known; the others are unknown, not absent"),
        _field("au_prob", pa.list_(pa.float32()), "for each of aus_known the probability that it is active; null without probabilities"),
        _field("au_intensities", pa.list_(pa.float32()), "for each of aus_known its intensity, 0 to 5, or null; null without intensities"),
        _field("blendshapes", pa.list_(pa.float32()), "scores in [0, 1]; names in the schema metadata blendshape_names"),
        _field("landmarks5", pa.list_(pa.float32(), 10), "x, y of five landmarks in pixels of the aligned crop, before the margin"),
        _field("sex", pa.string(), "annotation for error by group only, never a target; null where unknown"),
        _field("group", pa.string(), "annotation for error by group only, never a target; null where unknown"),
        _field("regions", pa.list_(_REGION), "the boxes of the face"),
        _field("dialogues", pa.list_(pa.list_(pa.int32())), "orders in which several boxes are asked about: indices into regions"),
    ]
)
"""One row is one face."""
