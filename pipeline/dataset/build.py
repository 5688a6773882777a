"""Building a dataset folder from labelled faces."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.dataset.boxes import Counts
from pipeline.dataset.card import SHEET, card_text, contact_sheet
from pipeline.dataset.examples import example
from pipeline.dataset.labels import LabelOptions
from pipeline.dataset.preconditions import open_sources
from pipeline.dataset.schema import FORMAT, INFO, SCHEMA, SPLITS
from pipeline.dataset.source import SkippedRow
from pipeline.errors import FocalfaceError, SettingsError

ROW_GROUP = 512
"""Faces in a row group, and in memory while building."""

PART_ROWS = 8192
"""Faces in a file."""

SKIPPED_NAMED = 100
"""Skipped rows that `dataset.json` names; the others are counted."""


def build(
    paths: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    counts: Counts | None = None,
    options: LabelOptions | None = None,
    labels: Path | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Build a dataset folder; it appears complete or not at all.

    Args:
        paths: Parquet files, CSV files or folders of pictures with a CSV file.
        out: the folder to make.
        seed: decides a face's boxes and sentences, together with its `image_id`; the other faces do not matter.
        counts: boxes of each kind in a face.
        options: how to read labels that do not explain themselves.
        labels: table of labels, Parquet or CSV, joined to the pictures by `image_id` (`pipeline.dataset.label_file.JoinedLabels`).
        limit: read only this many rows of each source.
        overwrite: replace the dataset in `out`.
        progress: called with the rows done and the rows in all.

    Returns:
        The content of `dataset.json`.

    Raises:
        FocalfaceError: a source or the labels cannot be read, or no face comes of them.
        SettingsError: `out` is taken.
    """
    counts, options = counts or Counts(), options or LabelOptions()
    sources = open_sources(paths, out, options, labels, overwrite)
    names = next((source.blendshape_names for source in sources if source.blendshape_names), [])
    total = sum(min(source.rows, limit or source.rows) for source in sources)
    partial = out.resolve().with_name(f"{out.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tally, built_from, done = Tally(), [], 0
    skipped: list[SkippedRow] = []
    skipped_count = 0
    try:
        partial.mkdir(parents=True)
        writers = {split: _Writer(partial / split, names) for split in SPLITS}
        for source in sources:
            faces = 0
            for item in source.faces(limit):
                if isinstance(item, SkippedRow):
                    skipped_count += 1
                    skipped += [item] if skipped_count <= SKIPPED_NAMED else []
                else:
                    row = example(item, counts, seed)
                    writers[row["split"]].add(row)
                    tally.add(row)
                    faces += 1
                done += 1
                progress(done, total)
            built_from.append({"file": source.path.name, "rows": min(source.rows, limit or source.rows), "faces": faces})
            if source.joined and labels:
                built_from[-1]["labels"] = labels.name
        for writer in writers.values():
            writer.close()
        if not any(part["faces"] for part in built_from):
            first = f"; the first reason: {skipped[0].row}: {skipped[0].reason}" if skipped else ""
            raise FocalfaceError(f"no face comes of {', '.join(map(str, paths))}{first}")
        info = {
            "format": FORMAT,
            "focalface": __version__,
            "seed": seed,
            "settings": {"boxes": asdict(counts), "labels": asdict(options), "limit": limit},
            "sources": built_from,
            "counts": tally.counts(),
            "warnings": [text for source in sources for text in source.notes()] + _empty_splits(tally),
            "skipped": skipped_count,
            "skipped_first": [asdict(item) for item in skipped],
        }
        (partial / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
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


def _empty_splits(tally: Tally) -> list[str]:
    """What follows from a split without faces; a dataset for evaluation alone is a fair thing to build."""
    counted = tally.counts()
    if "train" not in counted:
        return ["every row has the split val: the dataset serves evaluation, and `focalface train` needs rows with the split train as well"]
    if "val" not in counted:
        return ["no row has the split val: `focalface train` and `focalface eval` need some as well"]
    return []


class Tally:
    """Counts of what a dataset holds, kept while it is built."""

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
        count("evidence", _evidence(row))
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


def _evidence(row: dict[str, Any]) -> list[str]:
    """The kinds of labels that a face has beyond the plain ones."""
    kinds = {"au_prob": "action unit probabilities", "au_intensities": "action unit intensities", "emotion_votes": "emotion votes"}
    return [name for column, name in kinds.items() if row[column] is not None] + ["guessed age"] * (row["age_guess"] is not None)


class _Writer:
    """Writes the rows of one split into numbered Parquet files."""

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
