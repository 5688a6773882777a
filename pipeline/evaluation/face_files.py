"""Opening files of labelled faces. Nothing heavy is imported here, so that a wrong path is answered at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.label_file import json_metadata
from pipeline.dataset.labels import LabelOptions, LabelReader, is_label_column
from pipeline.dataset.schema import INFO
from pipeline.errors import FocalfaceError, one_line

COLUMNS = ("image_id", "source", "image", "landmarks5", "emotion", "age", "aus")
"""Columns that a file of labelled faces must have. The values of `emotion`, `age` and `aus` may be null."""

MEASURED = ("eye_distance", "sharpness", "yaw", "pitch", "readable")
"""Columns that are measured where a file does not have them (`pipeline.evaluation.measures`)."""

DATASET_COLUMN = "regions"
"""Column by which a dataset of `focalface dataset build` is recognised: its pictures are aligned already and its boxes are given."""


@dataclass(frozen=True)
class FaceFile:
    """One Parquet file of labelled faces.

    Attributes:
        parquet: the open file.
        reader: reads its label columns.
        is_dataset: whether it belongs to a dataset of `focalface dataset build`.
    """

    parquet: pq.ParquetFile
    reader: LabelReader
    is_dataset: bool

    @property
    def rows(self) -> int:
        """Number of faces."""
        return int(self.parquet.metadata.num_rows)


@dataclass
class LabelOrigin:
    """Where the labels of a file come from, as far as its columns tell.

    Attributes:
        aus: of action units.
        emotion: of emotions, by source.
        age: of ages.
    """

    aus: str = "listed in the file, origin not stated"
    emotion: dict[str, str] = field(default_factory=dict)
    age: str = "recorded"


def open_faces(path: Path, columns: Collection[str] = ()) -> list[FaceFile]:
    """Open the files of labelled faces at a path, and check their columns.

    Args:
        path: a file; a dataset folder (its split `val` is taken); or a folder of such files.
        columns: columns that are needed beside `COLUMNS`.

    Raises:
        FocalfaceError: there is no such file, one is something else, or they hold no face.
    """
    if not path.exists():
        raise FocalfaceError(f"there is no file or folder {path}")
    paths = [path]
    if path.is_dir():
        paths = sorted((path / "val").glob("*.parquet")) or sorted(path.glob("*.parquet"))
    if not paths and (path / INFO).is_file():
        raise FocalfaceError(f"{path}: none of its faces has the split val, and the benchmark asks about these alone")
    try:
        files = [pq.ParquetFile(file) for file in paths]
    except (OSError, pa.ArrowException) as error:
        raise FocalfaceError(f"{path}: not a Parquet file of labelled faces ({one_line(error)})") from error
    for file in files:
        names = file.schema_arrow.names
        if missing := sorted({*COLUMNS, *columns} - {*names, *MEASURED}):
            needed = ", ".join(dict.fromkeys([*COLUMNS, *columns]))
            raise FocalfaceError(f"{path}: columns {', '.join(missing)} are missing; needed are {needed}")
    if not sum(file.metadata.num_rows for file in files):
        raise FocalfaceError(f"{path}: no faces in it" + (" (looked for val/*.parquet, then *.parquet)" if path.is_dir() else ""))
    return [
        FaceFile(
            file,
            LabelReader(file.schema_arrow.names, LabelOptions(), json_metadata(file.schema_arrow.metadata)),
            DATASET_COLUMN in file.schema_arrow.names,
        )
        for file in files
    ]


def count_faces(files: Sequence[FaceFile], limit: int | None = None) -> int:
    """Number of faces in files, at most `limit`."""
    count = sum(file.rows for file in files)
    return min(count, limit or count)


def read_rows(file: FaceFile, batch_rows: int, columns: Collection[str] = ()) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file in batches: the columns that a question is made of, its labels, and `columns`."""
    names = file.parquet.schema_arrow.names
    wanted = [name for name in names if name in COLUMNS or name == DATASET_COLUMN or is_label_column(name) or name in columns]
    for batch in file.parquet.iter_batches(batch_rows, columns=wanted):
        yield batch.to_pylist()


def read_pictures(path: Path, image_ids: Collection[str]) -> dict[str, bytes]:
    """The encoded pictures of some faces, by `image_id`."""
    chosen = pc.field("image_id").isin(list(image_ids))
    found: dict[str, bytes] = {}
    for file in open_faces(path):
        for batch in file.parquet.iter_batches(columns=["image_id", "image"]):
            found |= {row["image_id"]: row["image"] for row in batch.filter(chosen).to_pylist()}
    return found


def label_origin(path: Path) -> LabelOrigin:
    """Where the labels at a path come from, as far as the columns of the files tell."""
    origin = LabelOrigin()
    for file in open_faces(path):
        names = file.parquet.schema_arrow.names
        if "au_prob" in names:
            origin.aus = "machine labels: probabilities of models (au_prob)"
        elif "au_thresholds" in json_metadata(file.parquet.schema_arrow.metadata):
            origin.aus = "machine labels: scores of a model over thresholds"
        columns = [name for name in ("source", "emotion", "emotion_votes") if name in names]
        for batch in file.parquet.iter_batches(columns=columns):
            table = pa.Table.from_batches([batch])
            for source in pc.unique(table["source"]).to_pylist():
                part = table.filter(pc.field("source") == source)
                if part["emotion"].null_count < part.num_rows:
                    voted = "emotion_votes" in names and part["emotion_votes"].null_count < part.num_rows
                    origin.emotion[source] = "majority of annotators" if voted else "label of the collection"
    return origin
