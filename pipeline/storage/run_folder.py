"""The run folder: what a run leaves behind, and what makes it able to go on where it was stopped.

    DIR/videos/<video_id>.parquet          one row; its presence is the commit of that video
    DIR/faces/<video_id>.parquet           its faces, perhaps none
    DIR/descriptions/<video_id>.parquet    its descriptions, perhaps none
    DIR/*/part-<number>.parquet            the same of many small videos together, where a run has many
    DIR/run.json                           versions, settings, model and detector, counts, timing
    DIR/preview.png                        one frame of the run with its words

Every file is written beside its place and renamed into it, the videos row last; so a kill at any moment leaves a video either
whole or not there, and what an uncommitted one left is removed when the run goes on. Putting videos together follows the same rule:
the part of the videos table comes last and counts from then on, the single files behind it are then removed.
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
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.errors import FocalfaceError, SettingsError, writing
from pipeline.schemas import TABLES
from pipeline.storage.remote import absolute

SORT_KEYS = {
    "videos": ["path"],
    "faces": ["video_id", "frame_index", "track_id"],
    "descriptions": ["video_id", "track_id", "window_index", "region"],
}
"""The order in which each table is written and read."""

LOOSE = 64
"""Videos of a finished run that keep files of their own; of more, the small ones are put together. More leaves more files."""

GATHER = 512
"""Committed videos after which small ones are put together while a run goes on; more makes larger files, fewer at a time."""

PART_BYTES = 64 * 2**20
"""Size up to which videos' tables go into one file; one of more than a quarter of it stays alone. More makes fewer files and takes
more memory."""

ROW_GROUP = 2**16
"""Rows of a row group, the least that a reader of one video reads; more packs better and reads more."""

_SCRATCH = "_partial"  # readers of Parquet folders skip names with an underscore
_PART = "part-"


def video_id(path: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits that stand for a file: a hash of its absolute path, or of its URL."""
    return hashlib.sha256(os.fsencode(absolute(os.fspath(path)))).hexdigest()[:16]


def shown(path: str | os.PathLike[str]) -> str:
    """A path, or a text with one in it, as any table can hold it, even where the file system's name is not Unicode."""
    return os.fsencode(path).decode("utf-8", "replace")


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Size and modification time of a file: a changed one is done again. Of one that is not there: 0-0."""
    try:
        status = os.stat(path)
    except OSError:  # a dangling link, or gone since the folder was listed: reading it will say so
        return "0-0"
    return f"{status.st_size}-{status.st_mtime_ns}"


def size_in(mark: str) -> int:
    """The bytes of a file, as its `fingerprint` has them."""
    return int(mark.partition("-")[0])


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
        self._new = 0
        self._known: tuple[list[tuple[str, int, int]], dict[str, dict[str, str]]] = ([], {})

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
            raise SettingsError(f"{file} cannot be read ({error}): pass --overwrite to start anew, or take another folder") from error

    def begin(self, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        """Make the folder ready: refuse another run's, remove what uncommitted videos left.

        Args:
            identity: the settings that decide the results, as plain data.
            overwrite: remove an earlier run's tables first.

        Raises:
            SettingsError: the folder holds something else, or a run with other settings; says what differs.
        """
        if overwrite and self.path.is_dir():
            for name in [*TABLES, _SCRATCH]:
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in ("run.json", "preview.png"):
                (self.path / name).unlink(missing_ok=True)
        self.check(identity)
        with writing(self.path):
            shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
            for name in [*TABLES, _SCRATCH]:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            counted = set(self.files(name))
            for file in (self.path / name).glob("*.parquet"):
                if file not in counted:
                    file.unlink()

    def check(self, identity: Mapping[str, Any]) -> None:
        """See whether a run with these settings may use the folder; changes nothing.

        Raises:
            SettingsError: see `begin`.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SettingsError(f"{self.path} is a file, not a folder for results")
        info = self.info
        differing = _differences(info.get("settings"), identity) if info and self.committed() else []
        if differing:
            raise SettingsError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}): "
                "pass --overwrite to start anew, or take another folder"
            )
        if not info and any(list((self.path / name).glob("*")) for name in TABLES):  # empty ones are of a run killed at its beginning
            raise SettingsError(f"{self.path} holds tables without a run.json: pass --overwrite, or take another folder")

    def committed(self) -> dict[str, str]:
        """The videos that are done: video_id to the `fingerprint` that the file had."""
        done = {
            file.stem: (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode()
            for file in (self.path / "videos").glob("*.parquet")
            if not file.stem.startswith(_PART)
        }
        return done | {key: mark for part in self._parts().values() for key, mark in part.items()}

    def mark(self, video_id: str) -> str:
        """One video's `fingerprint` in the run, or nothing."""
        part = next((held for held in self._parts().values() if video_id in held), None)
        file = self.path / "videos" / f"{video_id}.parquet"
        return part[video_id] if part else (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode()

    def _parts(self) -> dict[str, dict[str, str]]:
        """The parts that count, each with its videos and their fingerprints."""
        parts = sorted((self.path / "videos").glob(f"{_PART}*.parquet"))
        state = [(part.stem, part.stat().st_ino, part.stat().st_mtime_ns) for part in parts]
        if self._known[0] != state:
            held = {part.stem: json.loads((pq.read_schema(part).metadata or {})[b"fingerprints"]) for part in parts}
            self._known = state, held
        return self._known[1]

    def files(self, table: str) -> list[Path]:
        """The files that hold the rows of a table: those of committed videos, each video in one of them."""
        parts = self._parts()
        joined = {key for part in parts.values() for key in part}
        loose = {file.stem for file in (self.path / "videos").glob("*.parquet")} - joined - parts.keys()
        return sorted(file for file in (self.path / table).glob("*.parquet") if file.stem in parts or file.stem in loose)

    def file(self, table: str, video_id: str) -> tuple[Path, bool]:
        """Where one video's rows of a table are, if anywhere, and whether other videos' are there too."""
        part = next((name for name, held in self._parts().items() if video_id in held), None)
        return self.path / table / f"{part or video_id}.parquet", part is not None

    def commit(self, row: Mapping[str, Any], faces: pa.Table, descriptions: pa.Table, fingerprint: str) -> None:
        """Write one video's tables; it is done when this returns.

        Args:
            row: of the videos table.
            faces, descriptions: its rows in any order.
            fingerprint: of the file that was read; none where the next run is to try again.
        """
        videos = pa.Table.from_pylist([dict(row)], TABLES["videos"])
        tables = {"faces": faces, "descriptions": descriptions, "videos": videos}
        self.discard(row["video_id"])
        for name, table in tables.items():
            schema = TABLES[name]
            table = table.cast(schema).sort_by([(key, "ascending") for key in SORT_KEYS[name]])
            if name == "videos":
                table = table.replace_schema_metadata({"fingerprint": fingerprint})
            self._write(name, row["video_id"], [table])
        self._new += 1
        if self._new >= GATHER:
            self.gather()

    def _write(self, name: str, stem: str, tables: Iterable[pa.Table]) -> None:
        """A file of a table, whole or not at all, and safe from a power cut.

        Raises:
            FocalfaceError: when the disk is full or does not take it.
        """
        scratch = self.path / _SCRATCH / f"{name}-{stem}.parquet"
        first, *others = tables
        try:
            with scratch.open("wb") as file:
                with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
                    held = [first]
                    for table in others:
                        if sum(part.num_rows for part in held) >= ROW_GROUP:
                            writer.write_table(pa.concat_tables(held), ROW_GROUP)
                            held = []
                        held.append(table.replace_schema_metadata(first.schema.metadata))
                    writer.write_table(pa.concat_tables(held), ROW_GROUP)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self.path / name / f"{stem}.parquet")
        except OSError as error:
            reason = error.strerror or str(error)
            raise FocalfaceError(f"cannot write to {self.path} ({reason}): make room; the same command then goes on") from error

    def gather(self) -> None:
        """Put small videos' tables together, `PART_BYTES` at a time."""
        self._new = 0
        group: list[str] = []
        size = 0
        alone = [file.stem for file in self.files("videos") if file.stem not in self._parts()]
        for key in alone:
            files = [self.path / name / f"{key}.parquet" for name in ("faces", "descriptions")]
            bytes_here = sum(file.stat().st_size for file in files if file.exists())
            if bytes_here > PART_BYTES // 4:
                continue
            if size + bytes_here > PART_BYTES:
                self._join(group)
                group, size = [], 0
            group, size = [*group, key], size + bytes_here
        self._join(group)

    def _join(self, keys: list[str]) -> None:
        """Put videos into a new part."""
        if len(keys) < 2:
            return
        marks, stem = self.committed(), f"{_PART}{1 + max((int(name[len(_PART) :]) for name in self._parts()), default=0):05}"
        for name in ("faces", "descriptions", "videos"):
            files = [file for key in keys if (file := self.path / name / f"{key}.parquet").exists()]
            metadata = {"fingerprints": json.dumps({key: marks[key] for key in keys})} if name == "videos" else None
            tables = (ds.dataset([str(file)], schema=TABLES[name], format="parquet").to_table() for file in files)
            self._write(name, stem, (table.replace_schema_metadata(metadata) for table in tables))
        for key in keys:
            self._remove(key)

    def _split(self, stem: str) -> None:
        """Give the videos of a part files of their own again."""
        marks = self._parts()[stem]
        for name in ("faces", "descriptions", "videos"):
            rows = ds.dataset([str(self.path / name / f"{stem}.parquet")], schema=TABLES[name], format="parquet").to_table()
            for key, mark in marks.items():
                own = rows.filter(pc.field("video_id") == key)
                self._write(name, key, [own.replace_schema_metadata({"fingerprint": mark} if name == "videos" else None)])
        self._remove(stem)

    def _remove(self, stem: str) -> None:
        for name in TABLES:  # videos first: what it does not list does not count
            (self.path / name / f"{stem}.parquet").unlink(missing_ok=True)

    def discard(self, video_id: str) -> None:
        """Remove a video's tables, the commit first."""
        part, shared = self.file("videos", video_id)
        if shared:
            self._split(part.stem)
        self._remove(video_id)

    def note(self, **values: Any) -> None:
        """Put values into run.json."""
        part = self.path / _SCRATCH / "run.json"
        part.write_text(json.dumps(self.info | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, self.path / "run.json")

    def finish(self) -> None:
        """Put the small videos of a large run together and remove the scratch folder."""
        if sum(file.stem not in self._parts() for file in self.files("videos")) > LOOSE:
            self.gather()
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)

    def read(self, table: str, columns: Iterable[str] | None = None, video_id: str | None = None) -> pa.Table:
        """All rows of one table, in order.

        Args:
            table: `videos`, `faces` or `descriptions`.
            columns: those wanted; all by default.
            video_id: of the only video wanted; all by default.

        Raises:
            SettingsError: when the folder holds no run.
        """
        folder = self.path / table
        if not folder.is_dir():
            raise SettingsError(f"{self.path} holds no run: there is no {folder}")
        schema = TABLES[table]
        files = self.files(table) if video_id is None else [file for file in [self.file(table, video_id)[0]] if file.exists()]
        wanted = None if video_id is None else pc.field("video_id") == video_id
        rows = ds.dataset(list(map(str, files)), schema=schema, format="parquet").to_table(filter=wanted)
        rows = rows.sort_by([(key, "ascending") for key in SORT_KEYS[table]])
        return rows if columns is None else rows.select(list(columns))
