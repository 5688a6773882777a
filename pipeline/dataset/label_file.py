"""Files of labels: one way to read Parquet and CSV tables row by row, and tables that are joined to pictures by `image_id`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.labels import is_label_column
from pipeline.errors import FocalfaceError, one_line
from pipeline.storage.tables import read_table

CHUNK = 256
"""Rows of a Parquet file in memory at a time."""


class LabelFile:
    """A table of labels, Parquet or CSV.

    Attributes:
        path: of the file.
        is_csv: whether it is a CSV.
        columns: name in lower case -> name in the file.
        rows: number of rows.
        metadata: the JSON values of the Parquet schema's metadata (`au_names`, `au_thresholds` ...); empty for a CSV.

    Raises:
        FocalfaceError: from the constructor, when the file cannot be read as such a table.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FocalfaceError(f"there is no file {path}")
        self.path = path
        self.is_csv = path.suffix.lower() == ".csv"
        self.metadata: dict[str, Any] = {}
        try:
            if self.is_csv:
                self._csv = read_table(path)
                names, self.rows = list(self._csv.columns), sum(1 for _ in self._csv.rows())
            else:
                file = pq.ParquetFile(path)
                names, self.rows = file.schema_arrow.names, file.metadata.num_rows
                self.metadata = json_metadata(file.schema_arrow.metadata)
        except (OSError, ValueError, pa.ArrowException, FocalfaceError) as error:
            raise FocalfaceError(f"{path} cannot be read as labelled faces: {one_line(error)}") from error
        self.columns = {name.strip().lower(): name for name in names}

    def read(self, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows, keyed by the lower-case names of the columns.

        Args:
            columns: lower-case names to read; all by default.

        Raises:
            FocalfaceError: the file breaks off.
        """
        wanted = {key: name for key, name in self.columns.items() if columns is None or key in columns}
        try:
            if self.is_csv:
                for _, row in self._csv.rows():
                    yield {key: row[name] for key, name in wanted.items()}
                return
            for batch in pq.ParquetFile(self.path).iter_batches(CHUNK, columns=list(wanted.values())):
                for row in batch.to_pylist():
                    yield {key: row[name] for key, name in wanted.items()}
        except (OSError, pa.ArrowException, FocalfaceError) as error:
            raise FocalfaceError(f"{self.path} cannot be read to its end: {one_line(error)}") from error


class JoinedLabels:
    """Labels in a file of their own, joined to pictures by `image_id`.

    A source of which at least one picture is in the file takes all its labels from there; its own label columns do not count, and a
    picture that is missing from the file has no labels.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "codes.csv")
    ...     _ = path.write_text("image_id,AU12,emotion\\nanna,1,happy\\n")
    ...     labels = JoinedLabels(path)
    ...     labels.row("anna"), labels.row("bert")
    ({'au12': '1', 'emotion': 'happy'}, None)

    Attributes:
        path: of the file.
        columns: lower-case names of its label columns.
        metadata: as of `LabelFile`.

    Raises:
        FocalfaceError: from the constructor, when the file cannot be read, has no `image_id` or no labels, or names a picture twice.
    """

    def __init__(self, path: Path) -> None:
        file = LabelFile(path)
        self.path, self.metadata = path, file.metadata
        self.columns = [name for name in file.columns if is_label_column(name)]
        if "image_id" not in file.columns or not self.columns:
            lacking = "labels" if "image_id" in file.columns else "column image_id"
            raise FocalfaceError(f"{path} has no {lacking}, which --labels needs; its columns are {', '.join(file.columns) or 'none'}")
        self._rows: dict[str, dict[str, Any]] = {}
        for row in file.read([*self.columns, "image_id"]):
            image_id = str(row.pop("image_id"))
            if image_id in self._rows:
                raise FocalfaceError(f"{path} has two rows for the image_id {image_id}")
            self._rows[image_id] = row

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def row(self, image_id: str) -> dict[str, Any] | None:
        """The labels of a picture; None where the file has none."""
        return self._rows.get(image_id)


def json_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The metadata whose values are JSON; others (such as pandas' own) are left out."""
    values = {}
    for name in (b"blendshape_names", b"au_names", b"au_thresholds", b"emotion_names"):
        if metadata and name in metadata:
            values[name.decode()] = json.loads(metadata[name])
    return values
