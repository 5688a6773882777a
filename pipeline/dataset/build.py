"""From labelled faces to a region-level dataset: a folder of Parquet, a row a face with many boxes, each with its labels and words."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.dataset.boxes import Counts, Region, draw_dialogues, draw_regions
from pipeline.dataset.card import SHEET, card_text, contact_sheet
from pipeline.dataset.labels import Labels
from pipeline.dataset.source import LabelledFace, Skipped, Source
from pipeline.describe.sentences import compose
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import crop
from pipeline.regions.placement import place_regions, to_crop_box
from pipeline.vocabulary import SINGLE_REGIONS, Box

FORMAT = 1
"""Version of the schema."""

MARGIN = 10
"""Pixels kept around the aligned crop, so that small shifts and turns of augmentation find real pixels there."""

JPEG_QUALITY = 92
"""Of the aligned faces; higher makes the files larger and cannot bring back what the sources lost."""

ROW_GROUP = 512
"""Faces in a row group, and in memory while building."""

PART_ROWS = 8192
"""Faces in a file."""

ENOUGH_KNOWN = 0.5
"""A region is only said to be at rest where the labels know at least this share of the units that it can show, and none that is active
is even glimpsed in it."""

SKIPPED_NAMED = 100
"""Skipped rows that `dataset.json` names; the others are counted."""

SPLITS = ("train", "val")

_REGION = pa.struct(
    [
        ("kind", pa.string()),
        ("region", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),
        ("visible", pa.list_(pa.string())),
        ("aus", pa.list_(pa.string())),
        ("description", pa.string()),
    ]
)

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("image", pa.binary()),
        ("emotion", pa.string()),
        ("age", pa.float32()),
        ("aus", pa.list_(pa.string())),
        ("aus_known", pa.list_(pa.string())),
        ("au_intensities", pa.list_(pa.float32())),
        ("blendshapes", pa.list_(pa.float32())),
        ("landmarks5", pa.list_(pa.float32(), 10)),
        ("regions", pa.list_(_REGION)),
        ("dialogues", pa.list_(pa.list_(pa.int32()))),
    ]
)
"""A row a face. `image`: JPEG of the aligned face with `MARGIN` pixels around. `au_intensities`: 0 to 5 for each of `aus_known`, null
where there is none. `landmarks5` and each region's `box`: aligned-crop pixels, before the margin. Of a region: `kind` of
`pipeline.dataset.boxes.KINDS`, `visible` the known units that the box can show, `aus` the active ones among them, `description` ""
where the labels have nothing to say. `dialogues`: orders of indexes into `regions`."""


def build(
    paths: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    counts: Counts | None = None,
    labels: Labels | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Build a dataset folder; it appears complete or not at all.

    Args:
        paths: Parquet files, CSV files or folders of pictures with a CSV file.
        out: the folder to make.
        seed: with a face's `image_id` it decides that face's boxes and words, whatever other faces there are.
        counts: boxes of each kind a face.
        labels: how to read labels that do not explain themselves.
        limit: only the first so many rows of each source.
        overwrite: replace the dataset in `out`.
        progress: told how many rows are done, of how many.

    Returns:
        What `dataset.json` holds.

    Raises:
        FocalfaceError: when a source cannot be read, or no face comes of them.
        SettingsError: when `out` is taken.
    """
    counts, labels = counts or Counts(), labels or Labels()
    _check_out(out, overwrite)
    sources = [Source(path, labels) for path in paths]
    names = next((source.blendshape_names for source in sources if source.blendshape_names), [])
    if any(source.blendshape_names not in ([], names) for source in sources):
        raise FocalfaceError("the sources name different blendshapes: build a dataset of each")
    total = sum(min(source.rows, limit or source.rows) for source in sources)
    partial = out.resolve().with_name(f"{out.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tally, about, done = Tally(), [], 0
    skipped: list[Skipped] = []
    skips = 0
    try:
        partial.mkdir(parents=True)
        writers = {split: _Writer(partial / split, names) for split in SPLITS}
        for source in sources:
            faces = 0
            for item in source.faces(limit):
                if isinstance(item, Skipped):
                    skips += 1
                    skipped += [item] if skips <= SKIPPED_NAMED else []
                else:
                    row = example(item, counts, seed)
                    writers[row["split"]].add(row)
                    tally.add(row)
                    faces += 1
                done += 1
                progress(done, total)
            about.append({"file": source.path.name, "rows": min(source.rows, limit or source.rows), "faces": faces})
        for writer in writers.values():
            writer.close()
        if not any(part["faces"] for part in about):
            first = f"; the first reason: {skipped[0].row}: {skipped[0].reason}" if skipped else ""
            raise FocalfaceError(f"no face comes of {', '.join(map(str, paths))}{first}")
        info = {
            "format": FORMAT,
            "focalface": __version__,
            "seed": seed,
            "settings": {"boxes": asdict(counts), "labels": asdict(labels), "limit": limit},
            "sources": about,
            "counts": tally.counts(),
            "warnings": [text for source in sources for text in source.notes()],
            "skipped": skips,
            "skipped_first": [asdict(item) for item in skipped],
        }
        (partial / "dataset.json").write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(card_text(info), encoding="utf-8")
        contact_sheet(partial, seed=seed).save(partial / SHEET)
        if overwrite:
            shutil.rmtree(out, ignore_errors=True)
        os.replace(partial, out)
    except OSError as error:
        raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def example(face: LabelledFace, counts: Counts, seed: int) -> dict[str, Any]:
    """The row of `SCHEMA` that a face becomes."""
    chance = random.Random(hashlib.sha256(f"{seed}/{face.image_id}".encode()).digest())
    alignment = face.alignment
    picture = crop(face.image, alignment, margin=MARGIN)
    if picture.ndim == 3 and (picture == picture[..., :1]).all():
        picture = picture[..., 0]
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    placed = place_regions(face.landmarks5, alignment, padding=0)
    given = {name: to_crop_box(box, alignment) for name, box in face.tight.items()}
    tight: dict[str, Box] = {name: given.get(name) or placed[name] for name in SINGLE_REGIONS}
    age = None if face.age is None else float(np.float32(face.age))
    face = replace(face, age=age)
    drawn = draw_regions(tight, counts, chance)
    regions = [_described(face, region, chance) for region in drawn]
    usable = [i for i, region in enumerate(regions) if region["description"]]
    return {
        "image_id": face.image_id,
        "source": face.source,
        "split": face.split,
        "image": data.tobytes(),
        "emotion": face.emotion,
        "age": face.age,
        "aus": list(face.aus),
        "aus_known": list(face.known),
        "au_intensities": face.intensities,
        "blendshapes": face.blendshapes,
        "landmarks5": alignment.to_crop(face.landmarks5).ravel().tolist(),
        "regions": regions,
        "dialogues": draw_dialogues(usable, drawn, counts.dialogues, chance),
    }


def _described(face: LabelledFace, region: Region, chance: random.Random) -> dict[str, Any]:
    """A box with the labels that it can show, and a sentence that says them."""
    visible = [au for au in face.known if au in region.can_show]
    active = [au for au in visible if au in face.aus]
    at_rest = not set(face.aus) & set(region.glimpsed) and len(visible) >= max(1, ENOUGH_KNOWN * len(region.can_show))
    return {
        "kind": region.kind,
        "region": region.region,
        "box": region.box,
        "visible": visible,
        "aus": active,
        "description": compose(
            active if active or at_rest else None,
            face.emotion,
            None if face.age is None else round(face.age),
            chance,
            empty=region.empty,
        ),
    }


class Tally:
    """What a dataset holds, counted while it is built."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[str]]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Count one row."""
        split = self._counts.setdefault(row["split"], {})

        def count(what: str, keys: Sequence[str]) -> None:
            split.setdefault(what, Counter()).update(keys)

        count("faces", [row["source"]])
        count("emotions", [row["emotion"] or "unlabelled"])
        count("ages", ["unlabelled" if row["age"] is None else f"{int(row['age'] // 10) * 10}s"])
        count("aus", row["aus"])
        count("aus_known", row["aus_known"])
        count("dialogues", [str(len(turns)) for turns in row["dialogues"]])
        count("kinds", [region["kind"] for region in row["regions"]])
        count("regions", [region["region"] for region in row["regions"]])
        count("region_visible", [au for region in row["regions"] for au in region["visible"]])
        count("region_aus", [au for region in row["regions"] for au in region["aus"]])

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """split -> what -> name -> how many."""
        return {
            split: {what: dict(sorted(counter.items())) for what, counter in self._counts[split].items()}
            for split in SPLITS
            if split in self._counts
        }


class _Writer:
    """Rows of one split into numbered Parquet files."""

    def __init__(self, folder: Path, blendshape_names: Sequence[str]) -> None:
        self._folder = folder
        self._schema = SCHEMA.with_metadata({"format": str(FORMAT), "blendshape_names": json.dumps(list(blendshape_names))})
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._file: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            if self._file is None:
                self._folder.mkdir(exist_ok=True)
                path = self._folder / f"part-{self._written // PART_ROWS:04}.parquet"
                self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._file.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._written += len(self._rows)
            self._rows = []
        if self._file and self._written % PART_ROWS == 0:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self._flush()
        if self._file:
            self._file.close()
            self._file = None


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "dataset.json").is_file():
        raise SettingsError(f"{out} is there and is no dataset: take another folder for --out")
    if not overwrite:
        raise SettingsError(f"{out} holds a dataset: pass --overwrite to replace it, or take another folder")
