"""Descriptions of images as a table (`pipeline.schemas.IMAGES`): CSV, Parquet or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.execution.description import answer_columns
from pipeline.execution.images import DescribedImage
from pipeline.schemas import IMAGES
from pipeline.storage.atomic import replacing

TABLE_SUFFIXES = (".csv", ".parquet", ".json")

_BOX_NAMES = ("x0", "y0", "x1", "y1")
_LANDMARK_NAMES = tuple(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose_tip", "left_mouth", "right_mouth") for axis in "xy")


def image_rows(image: DescribedImage, model: str) -> Iterator[dict[str, Any]]:
    """The rows of one image: one for each face and region, one for a face that was not readable, or one without a face.

    Args:
        image: from `pipeline.execution.images.describe_images`.
        model: name of the checkpoint that answered.
    """
    about: dict[str, Any] = {"path": image.path, "status": image.status, "error": image.error}
    if not image.faces:
        yield about
    for number, face in enumerate(image.faces, 1):
        about |= {"face": number, "det_score": face.score, "face_box": face.box, "landmarks5": np.ravel(face.landmarks5).tolist()}
        about |= {"readable": face.readable, "unreadable": face.unreadable}
        if not face.regions:
            yield about
        for region in face.regions:
            yield {**about, "region": region.region, "box": region.box, **answer_columns(region.answer), "model": model}


def image_data(image: DescribedImage) -> dict[str, Any]:
    """One image as plain data, for JSON."""
    return {"path": image.path, "status": image.status, "error": image.error, "faces": [face.as_dict() for face in image.faces]}


def write_images(images: Sequence[DescribedImage], out: Path, model: str) -> None:
    """Write a table of images.

    Args:
        images: from `pipeline.execution.images.describe_images`.
        out: a file whose suffix is one of `TABLE_SUFFIXES`. Parquet keeps lists as lists; CSV has a column for each number of a box and
            each coordinate of a landmark, and joins `aus` with spaces; JSON is a list of images with faces with regions.
        model: name of the checkpoint that answered.
    """
    with replacing(out) as temporary:
        if out.suffix.lower() == ".json":
            temporary.write_text(json.dumps([image_data(image) for image in images], indent=2), encoding="utf-8")
            return
        table = pa.Table.from_pylist([row for image in images for row in image_rows(image, model)], IMAGES)
        if out.suffix.lower() == ".parquet":
            pq.write_table(table, temporary)
        else:
            pa.csv.write_csv(_flat(table), temporary)


def _flat(table: pa.Table) -> pa.Table:
    """The table without lists."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for field in table.schema:
        column = table[field.name]
        if field.name == "landmarks5":
            columns |= {name: pc.list_element(column, i) for i, name in enumerate(_LANDMARK_NAMES)}
        elif pa.types.is_fixed_size_list(field.type):
            columns |= {f"{field.name}_{name}": pc.list_element(column, i) for i, name in enumerate(_BOX_NAMES)}
        elif pa.types.is_list(field.type):
            columns[field.name] = pc.binary_join(column, " ")
        else:
            columns[field.name] = column
    return pa.table(columns)
