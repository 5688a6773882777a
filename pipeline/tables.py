"""The run folder: what a run leaves behind, and what makes it able to go on where it was stopped.

    DIR/videos/<video_id>.parquet          one row; its presence is the commit of that video
    DIR/faces/<video_id>.parquet           its faces, perhaps none
    DIR/descriptions/<video_id>.parquet    its descriptions, perhaps none
    DIR/run.json                           versions, settings, model and detector, counts, timing
    DIR/preview.png                        one frame of the run with its words

Every file is written beside its place and renamed into it, the videos row last; so a kill at any moment leaves a video either
whole or not there, and what an uncommitted one left is removed when the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.errors import SettingsError
from pipeline.schemas import TABLES

SORT_KEYS = {
    "videos": ["path"],
    "faces": ["video_id", "frame_index", "track_id"],
    "descriptions": ["video_id", "track_id", "window_index", "region"],
}
"""The order in which each table is written and read."""

_SCRATCH = "_partial"  # readers of Parquet folders skip names with an underscore


def video_id(path: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits that stand for a file: a hash of its absolute path."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16]


def shown(path: str | os.PathLike[str]) -> str:
    """A path, or a text with one in it, as any table can hold it, even where the file system's name is not Unicode."""
    return os.fsencode(path).decode("utf-8", "replace")


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Size and modification time of a file: a changed one is done again."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def empty(table: str) -> pa.Table:
    """A table of `pipeline.schemas.TABLES` without rows."""
    return TABLES[table].empty_table()


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [text for key in keys for text in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)]
    return [] if old == new else [f"{name} was {json.dumps(old)}, now {json.dumps(new)}"]


class RunFolder:
    """The output folder of one run.

    >>> folder = RunFolder("outputs/demo")
    >>> folder.read("faces").num_rows  # doctest: +SKIP
    148
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds; empty where there is no run.

        Raises:
            SettingsError: when it cannot be read.
        """
        file = self.path / "run.json"
        if not file.exists():
            return {}
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{file} cannot be read ({error}): pass --overwrite to start anew, or take another folder"
            ) from error

    def begin(self, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        """Make the folder ready: refuse another run's, remove what uncommitted videos left.

        Args:
            identity: the settings that decide the results, as plain data.
            overwrite: remove an earlier run's tables first.

        Raises:
            SettingsError: the folder holds something else, or a run with other settings; says what differs.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SettingsError(f"{self.path} is a file, not a folder for results")
        if overwrite:
            for name in [*TABLES, _SCRATCH]:
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in ("run.json", "preview.png"):
                (self.path / name).unlink(missing_ok=True)
        info = self.info
        committed = self.committed()
        differing = _differences(info.get("settings"), identity) if info and committed else []
        if differing:
            raise SettingsError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}): "
                "pass --overwrite to start anew, or take another folder"
            )
        if not info and any((self.path / name).exists() for name in TABLES):
            raise SettingsError(f"{self.path} holds tables without a run.json: pass --overwrite, or take another folder")
        try:
            shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
            for name in [*TABLES, _SCRATCH]:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot write to {self.path}: {error.strerror}") from error
        for name in ("faces", "descriptions"):
            for file in (self.path / name).glob("*.parquet"):
                if file.stem not in committed:
                    file.unlink()

    def committed(self) -> dict[str, str]:
        """The videos that are done: video_id to the `fingerprint` that the file had."""
        return {
            file.stem: (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode()
            for file in (self.path / "videos").glob("*.parquet")
        }

    def commit(self, row: Mapping[str, Any], faces: pa.Table, descriptions: pa.Table, fingerprint: str) -> None:
        """Write one video's tables; it is done when this returns.

        Args:
            row: of the videos table.
            faces, descriptions: its rows in any order.
            fingerprint: of the file that was read.
        """
        videos = pa.Table.from_pylist([dict(row)], TABLES["videos"])
        tables = {"faces": faces, "descriptions": descriptions, "videos": videos}
        self.discard(row["video_id"])
        for name, table in tables.items():
            schema = TABLES[name]
            table = table.cast(schema).sort_by([(key, "ascending") for key in SORT_KEYS[name]])
            if name == "videos":
                table = table.replace_schema_metadata({"fingerprint": fingerprint})
            part = self.path / _SCRATCH / f"{name}-{row['video_id']}.parquet"
            pq.write_table(table, part, compression="zstd")
            os.replace(part, self.path / name / f"{row['video_id']}.parquet")

    def discard(self, video_id: str) -> None:
        """Remove a video's tables, the commit first."""
        for name in TABLES:
            (self.path / name / f"{video_id}.parquet").unlink(missing_ok=True)

    def note(self, **values: Any) -> None:
        """Put values into run.json."""
        part = self.path / _SCRATCH / "run.json"
        part.write_text(json.dumps(self.info | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, self.path / "run.json")

    def finish(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)

    def read(self, table: str, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows of one table, in order.

        Args:
            table: `videos`, `faces` or `descriptions`.
            columns: those wanted; all by default.

        Raises:
            SettingsError: when the folder holds no run.
        """
        folder = self.path / table
        if not folder.is_dir():
            raise SettingsError(f"{self.path} holds no run: there is no {folder}")
        schema = TABLES[table]
        rows = ds.dataset(sorted(map(str, folder.glob("*.parquet"))), schema=schema, format="parquet").to_table()
        rows = rows.sort_by([(key, "ascending") for key in SORT_KEYS[table]])
        return rows if columns is None else rows.select(list(columns))
