"""One embedding a track, from the video, or from an earlier time.

`embeddings.parquet` in the people folder keeps them with a small picture of each track, so that linking again decodes only new videos. It
holds biometric data: only `focalface people` reads it, nothing exports it, and only its owner may read the file.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.errors import VideoError, VideoErrorKind, one_line, writing
from pipeline.faces.alignment import align, crop
from pipeline.people.crops import Track
from pipeline.people.recognisers import Recogniser, unit
from pipeline.storage.atomic import replacing
from pipeline.storage.people_folder import EMBEDDINGS_FILE, TrackKey
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.video_files import video_file
from pipeline.video.opening import open_video

SAVE_EVERY_S = 30.0
"""Seconds between two saves of the embeddings; a command that is killed makes at most those of that time again."""

BATCH = 32
"""Crops that are embedded together."""

PICTURE_MARGIN = 24
"""Pixels around the aligned face of 112 in a track's picture: hair and chin help people to recognise a person."""

PICTURE_QUALITY = 85

SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), False),
        pa.field("video_id", pa.string(), False),
        pa.field("track_id", pa.int32(), False),
        pa.field("backend", pa.string(), False),
        pa.field("mark", pa.string(), False),
        pa.field("quality", pa.float32()),
        pa.field("crops", pa.int32(), False),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("picture", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Embedding:
    """What is kept of a track.

    Attributes:
        backend: name of the recogniser.
        mark: of the video's tables (`RunFolder.table_marks`).
        quality: of its best face.
        crops: number of faces that were embedded.
        vector: (D,) float32 of length 1.
        picture: its best face, as JPEG.
    """

    backend: str
    mark: str
    quality: float
    crops: int
    vector: np.ndarray
    picture: bytes

    def with_mark(self, mark: str) -> Embedding:
        """The same under another mark, where the track itself is as it was."""
        return replace(self, mark=mark)


class EmbeddingStore:
    """The embeddings of a people folder."""

    def __init__(self, folder: Path) -> None:
        """Read those that are there; a file that cannot be read counts as none."""
        self._file = folder / EMBEDDINGS_FILE
        self._saved = time.monotonic()
        self.found: dict[TrackKey, Embedding] = {}
        try:
            rows = pq.read_table(self._file, schema=SCHEMA, partitioning=None).to_pylist() if self._file.is_file() else []
        except (OSError, pa.ArrowException):
            rows = []
        for row in rows:
            vector = np.array(row["embedding"], np.float32)
            held = Embedding(row["backend"], row["mark"], row["quality"], row["crops"], vector, row["picture"])
            self.found[row["run"], row["video_id"], row["track_id"]] = held

    def get(self, key: TrackKey, backend: str, mark: str) -> Embedding | None:
        """The embedding of a track, if it is of this backend and the video's tables have not changed since."""
        held = self.found.get(key)
        return held if held is not None and (held.backend, held.mark) == (backend, mark) else None

    def save_sometimes(self) -> None:
        """Save if the last time is a while ago."""
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file, readable for its owner alone; remove it where nothing is left.

        Raises:
            SettingsError: it cannot be written.
        """
        rows = [
            {"run": run, "video_id": video, "track_id": track, "embedding": held.vector.tolist()}
            | {name: getattr(held, name) for name in ("backend", "mark", "quality", "crops", "picture")}
            for (run, video, track), held in sorted(self.found.items())
        ]
        with writing(self._file):
            if not rows:
                self._file.unlink(missing_ok=True)
                return
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._file, durable=True) as part:
                os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
                pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part, compression="zstd")
        self._saved = time.monotonic()


def embed_video(
    run: RunFolder,
    video: Mapping[str, Any],
    tracks: Sequence[Track],
    recogniser: Recogniser,
    mark: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, Embedding]:
    """Embed tracks of one video, which is decoded again where their chosen faces are.

    Args:
        run: the run folder.
        video: the video's row of the videos table.
        tracks: those wanted, with chosen faces.
        recogniser: embeds them.
        mark: of the video's tables.
        progress: called with (faces read, faces to read).

    Returns:
        track_id to embedding; without tracks of which no frame decodes any more.

    Raises:
        VideoError: the file is missing, has changed, or cannot be read.
    """
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    best: dict[int, tuple[float, bytes]] = {}
    for batch in _batched(_crops(run, video, tracks, recogniser, progress), BATCH):
        vectors = recogniser.embed([one[2] for one in batch])
        for (track, quality, _, picture), vector in zip(batch, vectors, strict=True):
            sums[track] = sums.get(track, 0) + vector
            counts[track] = counts.get(track, 0) + 1
            if track not in best or quality > best[track][0]:
                best[track] = (quality, picture)
    return {
        track: Embedding(recogniser.name, mark, best[track][0], counts[track], unit(total[None])[0], best[track][1])
        for track, total in sorted(sums.items())
    }


_Crop = tuple[int, float, np.ndarray, bytes]
"""track_id, quality, crop and picture of a face."""


def _crops(
    run: RunFolder, video: Mapping[str, Any], tracks: Sequence[Track], recogniser: Recogniser, progress: Callable[[int, int], None]
) -> Iterator[_Crop]:
    wanted: dict[int, list[tuple[Track, int]]] = {}
    times: dict[int, float] = {}
    for track in tracks:
        for place, frame in enumerate(track.frames.tolist()):
            wanted.setdefault(frame, []).append((track, place))
            times[frame] = float(track.times[place])
    path, done, total = video_file(run, video), 0, sum(map(len, wanted.values()))
    try:
        with open_video(path) as opened:
            for frame in opened.pick(wanted, times):
                for track, place in wanted[frame.index]:
                    landmarks = track.landmarks[place]
                    try:
                        aligned = crop(frame.image, align(landmarks, recogniser.template), recogniser.side)
                        picture = crop(frame.image, align(landmarks), margin=PICTURE_MARGIN)
                    except ValueError:  # landmarks that coincide
                        continue
                    yield track.track_id, float(track.quality[place]), aligned, _jpeg(picture)
                    done += 1
                    progress(done, total)
    except MemoryError as error:
        raise VideoError(VideoErrorKind.MEMORY, f"it needs more memory than there is ({one_line(error)})", str(path)) from error


def _batched(items: Iterable[_Crop], size: int) -> Iterator[list[_Crop]]:
    held: list[_Crop] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def _jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=PICTURE_QUALITY)
    return file.getvalue()
