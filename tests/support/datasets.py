"""Datasets that tests build: faces of noise, and the rows of what came of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.faces.alignment import TEMPLATE


def rows_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The faces of one split of a dataset."""
    return [row for path in sorted((folder / split).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def fake_faces(path: Path, count: int, **columns: list[Any]) -> Path:
    """A Parquet file of grey noise with landmarks: whatever has no need of a real face."""
    noise = np.random.default_rng(0)
    images = []
    for _ in range(count):
        data = io.BytesIO()
        Image.fromarray(noise.integers(0, 255, (60, 60), np.uint8)).save(data, "PNG")
        images.append(data.getvalue())
    landmarks = [(TEMPLATE / 2 + noise.normal(0, 1, (5, 2))).ravel().tolist() for _ in range(count)]
    table = {"image_id": [f"face {i}" for i in range(count)], "image": images, "landmarks5": landmarks, **columns}
    pq.write_table(pa.table(table), path)
    return path
