"""A run folder of which some rows are read: those of a range of time, of an area of the frame, of the largest tracks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from pipeline.settings import Choice
from pipeline.storage.choosing import chosen_rows, video_counts
from pipeline.storage.run_folder import RunFolder, empty


class ChosenRun(RunFolder):
    """Reads like `RunFolder`, without the rows that a choice leaves out; counts in the videos table follow. It is not for writing.

    Attributes:
        choice: which faces count.
    """

    def __init__(self, path: str | os.PathLike[str], choice: Choice) -> None:
        super().__init__(path)
        self.choice = choice
        self._held: tuple[str, dict[str, pa.Table]] = ("", {})  # of the last video, which readers ask for several times

    def read(self, table: str, columns: Iterable[str] | None = None, video_id: str | None = None) -> pa.Table:
        """See `RunFolder.read`."""
        if not self.choice.text or table not in ("videos", "faces", "descriptions"):
            return super().read(table, columns, video_id)
        keys = super().read("videos", ["video_id"], video_id)["video_id"].to_pylist()
        rows = pa.concat_tables([empty(table), *(self._video(key)[table] for key in keys)])
        return rows.select(rows.column_names if columns is None else list(columns))

    def batches(self, table: str, video_id: str, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """See `RunFolder.batches`; here the rows of a video are held in memory."""
        if self.choice.text:
            yield self.read(table, columns, video_id)
        else:
            yield from super().batches(table, video_id, columns)

    def _video(self, key: str) -> dict[str, pa.Table]:
        """The chosen rows of one video, by table."""
        if self._held[0] != key:
            videos, faces, descriptions = (RunFolder.read(self, name, None, key) for name in ("videos", "faces", "descriptions"))
            (row,) = videos.to_pylist()
            if faces.num_rows:
                faces, descriptions = chosen_rows(self.choice, faces, descriptions, (row["width"], row["height"]))
                counts: dict[str, Any] = video_counts(faces, descriptions, self._window_s)
                for name, value in counts.items():
                    place = videos.schema.get_field_index(name)
                    videos = videos.set_column(place, videos.schema.field(name), pa.array([value], videos.schema.field(name).type))
            self._held = key, {"videos": videos, "faces": faces, "descriptions": descriptions}
        return self._held[1]

    @property
    def _window_s(self) -> float:
        return float(self.info.get("settings", {}).get("select", {}).get("window", 1.0))


def choice_of(run: RunFolder) -> Choice:
    """What is chosen of a run's rows; everything where it is a plain `RunFolder`."""
    return run.choice if isinstance(run, ChosenRun) else Choice()


def range_of(run: RunFolder) -> tuple[float, float | None]:
    """The range of time that a run knows about and that is chosen of it, in seconds: from, and to (None: the end)."""
    first, last = own_range(run)
    choice = choice_of(run)
    ends = [end for end in (last, choice.to_s) if end is not None]
    return max(first, choice.from_s), min(ends, default=None)


def own_range(run: RunFolder) -> tuple[float, float | None]:
    """The range of time that a run analysed, in seconds: from, and to (None: the end)."""
    own = run.info.get("settings", {}).get("video", {})
    return float(own.get("from_s") or 0.0), None if own.get("to_s") is None else float(own["to_s"])
