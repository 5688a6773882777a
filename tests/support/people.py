"""People folders made by hand, of which every person, embedding and picture is known."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.people.embedding import Embedding, EmbeddingStore
from pipeline.people.sheet import refresh
from pipeline.storage.people_folder import People, PeopleFolder, track_rows
from pipeline.storage.run_folder import RunFolder

Tracks = Mapping[tuple[str, int], str | None]
"""video_id and track_id to person_id."""


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (shade, 90, 90)).save(file, "JPEG")
    return file.getvalue()


def link_by_hand(runs: Mapping[str, RunFolder], out: Path, people: Mapping[str, Tracks]) -> PeopleFolder:
    """A people folder over some runs: run name to the person of each track, with an embedding and a picture of each."""
    rows: list[dict[str, Any]] = []
    store = EmbeddingStore(out)
    for name, run in runs.items():
        marks = run.table_marks()
        paths = {row["video_id"]: row["path"] for row in run.videos.to_pylist()}
        for (video, track), person in people[name].items():
            times = run.read("faces", ["time_s", "track_id"], video).to_pandas().query(f"track_id == {track}")["time_s"]
            rows.append(
                {"run": name, "video_id": video, "path": paths[video], "track_id": track, "person_id": person, "mark": marks[video]}
                | {"first_s": times.min(), "last_s": times.max(), "faces": len(times), "quality": 0.5}
                | {"note": None if person else "too small"}
            )
            vector = vector_of(len(rows))
            store.found[name, video, track] = Embedding("by-hand", marks[video], 0.5 + len(rows) / 100, 1, vector, jpeg(20 * len(rows)))
    numbers = [int(row["person_id"][1:]) for row in rows if row["person_id"]]
    about = {"runs": {name: str(run.path.resolve()) for name, run in runs.items()}, "names": {}, "edits": {"together": [], "apart": []}}
    folder = PeopleFolder(out)
    folder.write(People(track_rows(rows), about | {"next": max(numbers, default=0) + 1, "backend": "by-hand", "threshold": 0.5}))
    store.save()
    refresh(folder, store)
    return folder


def vector_of(number: int) -> np.ndarray:
    """The embedding of the `number`-th track."""
    vector = np.random.default_rng(number).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


def persons_of(folder: PeopleFolder) -> dict[tuple[str, int], str | None]:
    """video_id and track_id to person_id, as the tracks table says."""
    return {(row["video_id"], row["track_id"]): row["person_id"] for row in folder.read().tracks.to_pylist()}


def holding(place: Path, needles: Sequence[bytes]) -> list[Path]:
    """Files below a folder that hold one of some bytes."""
    return [file for file in sorted(place.rglob("*")) if file.is_file() and any(needle in file.read_bytes() for needle in needles)]
