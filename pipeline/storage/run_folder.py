"""The run folder: what a run leaves behind, and what lets it resume where it was stopped.

    DIR/videos/<video_id>.parquet          one row; its presence commits the video
    DIR/faces/<video_id>.parquet           the faces of the video, perhaps none
    DIR/descriptions/<video_id>.parquet    the descriptions of the video, perhaps none
    DIR/*/part-<number>.parquet            the rows of many small videos together, where a run has many
    DIR/run.json                           versions, settings, model and detector, counts, timing
    DIR/people/                            which tracks show the same person, once linked (`pipeline.storage.people_folder`)
    DIR/preview.png                        one frame of the run with its descriptions

Every file is written beside its place and renamed into it, the row of the videos table last. So a kill at any moment leaves a video
either whole or absent, and the files of an uncommitted video are removed when the run is resumed. Merging videos follows the same
rule: the part of the videos table comes last and counts from then on; the single files that it replaces are then removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import FocalfaceError, SettingsError, one_line, writing
from pipeline.schemas import TABLES, NoteKind, note_kinds
from pipeline.storage.atomic import replacing
from pipeline.storage.people_folder import FOLDER as PEOPLE_FOLDER
from pipeline.storage.people_folder import PeopleFolder, Persons
from pipeline.storage.remote import absolute

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

SORT_KEYS = {
    "videos": ["path"],
    "faces": ["video_id", "frame_index", "track_id"],
    "descriptions": ["video_id", "track_id", "window_index", "region"],
}
"""The order in which each table is written and read."""

KEEP_SINGLE = 64
"""Videos of a finished run that keep files of their own; of more, the small ones are merged. More leaves more files."""

MERGE_EVERY = 512
"""Committed videos after which small ones are merged while a run goes on; more makes larger files, fewer at a time."""

MERGED_BYTES = 64 * 2**20
"""Size up to which videos are merged into one file; a video of more than a quarter of it stays alone. More makes fewer files and takes
more memory."""

BATCH_ROWS = 2**13
"""Rows that `RunFolder.batches` gives at a time; more are faster and take more memory."""

ROW_GROUP = 2**16
"""Rows of a row group, the least that a reader of one video reads; more packs better and reads more."""

_SCRATCH = "_partial"  # readers of Parquet folders skip names that begin with an underscore
_MERGED = "part-"


def video_id(path: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits that identify a file: a hash of its absolute path, or of its URL.

    >>> video_id("s3://films/a.mp4")
    'b785e961aedd60aa'
    """
    return hashlib.sha256(os.fsencode(absolute(os.fspath(path)))).hexdigest()[:16]


def printable(path: str | os.PathLike[str]) -> str:
    """A path, or a text that contains one, as valid Unicode, which tables need. Bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")


def file_mark(path: str | os.PathLike[str]) -> str:
    """Size and modification time of a file, by which a run notices that it has changed; `0-0` where there is no file."""
    try:
        status = os.stat(path)
    except OSError:  # a dangling link, or deleted since the folder was listed: opening the video reports it
        return "0-0"
    return f"{status.st_size}-{status.st_mtime_ns}"


def size_of(mark: str) -> int:
    """Size of a file in bytes, taken from its `file_mark`.

    >>> size_of("1024-1700000000000000000")
    1024
    """
    return int(mark.partition("-")[0])


def open_parquet(files: Iterable[Path], schema: pa.Schema) -> Dataset:
    """Parquet files as one dataset of the given schema; columns that a file lacks are null.

    pyarrow.dataset imports pandas, which takes a quarter of a second, so it is imported here.
    """
    from pyarrow.dataset import dataset

    return dataset(list(map(str, files)), schema=schema, format="parquet")


def empty(table: str) -> pa.Table:
    """A table of `pipeline.schemas.TABLES` without rows."""
    return TABLES[table].empty_table()


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [text for key in keys for text in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)]
    return [] if old == new else [f"{name} was {json.dumps(old)}, now {json.dumps(new)}"]


class RunFolder:
    """The output folder of one run: the one writer and the one reader of its tables.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = RunFolder(place)
    ...     folder.begin({"video": {"fps": 10.0}})
    ...     folder.read("faces").num_rows
    0

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._new = 0
        self._known: tuple[list[tuple[str, int, int]], dict[str, dict[str, str]]] = ([], {})

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json; empty where there is no run.

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
        """Prepare the folder: refuse one of another run, remove the files of uncommitted videos.

        Args:
            identity: the settings that decide the results, as plain data.
            overwrite: remove the tables of an earlier run first.

        Raises:
            SettingsError: the folder holds something else, or a run with other settings; says what differs.
        """
        if overwrite and self.path.is_dir():
            for name in [PEOPLE_FOLDER, *TABLES, _SCRATCH]:
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in ("run.json", "preview.png"):
                (self.path / name).unlink(missing_ok=True)
        self.check(identity)
        with writing(self.path):
            shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
            for name in [*TABLES, _SCRATCH]:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        self._remove_uncounted()

    def _remove_uncounted(self) -> None:
        """Remove files that hold no rows of committed videos, or rows that another file replaces."""
        for name in TABLES:
            counted = set(self.files(name))
            for file in (self.path / name).glob("*.parquet"):
                if file not in counted:
                    file.unlink()

    def check(self, identity: Mapping[str, Any]) -> None:
        """Check that a run with these settings may use the folder; changes nothing.

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
        if not info and any(list((self.path / name).glob("*")) for name in TABLES):  # a run killed at its start leaves empty folders
            raise SettingsError(f"{self.path} holds tables without a run.json: pass --overwrite, or take another folder")

    def committed(self) -> dict[str, str]:
        """The videos that are done: `video_id` to the `file_mark` that the file had."""
        done = {
            file.stem: (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode()
            for file in (self.path / "videos").glob("*.parquet")
            if not file.stem.startswith(_MERGED)
        }
        return done | {key: mark for part in self._parts().values() for key, mark in part.items()}

    def mark(self, video_id: str) -> str:
        """The `file_mark` that a committed video had; empty where the next run should try it again."""
        part = next((held for held in self._parts().values() if video_id in held), None)
        file = self.path / "videos" / f"{video_id}.parquet"
        return part[video_id] if part else (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode()

    def _parts(self) -> dict[str, dict[str, str]]:
        """The merged files that count, each with the marks of its videos."""
        parts = sorted((self.path / "videos").glob(f"{_MERGED}*.parquet"))
        state = [(part.stem, part.stat().st_ino, part.stat().st_mtime_ns) for part in parts]
        if self._known[0] != state:
            held = {part.stem: json.loads((pq.read_schema(part).metadata or {})[b"fingerprints"]) for part in parts}
            self._known = state, held
        return self._known[1]

    def files(self, table: str, video_ids: Collection[str] | None = None) -> list[Path]:
        """The files that hold the rows of a table: those of committed videos, each video in one file.

        Args:
            table: `videos`, `faces` or `descriptions`.
            video_ids: leave out files that hold none of these videos.
        """
        parts = self._parts()
        joined = {key for part in parts.values() for key in part}
        loose = {file.stem for file in (self.path / "videos").glob("*.parquet")} - joined - parts.keys()
        if video_ids is not None:
            wanted = set(video_ids)
            loose, parts = loose & wanted, {name: held for name, held in parts.items() if wanted & held.keys()}
        return sorted(file for file in (self.path / table).glob("*.parquet") if file.stem in parts or file.stem in loose)

    def file(self, table: str, video_id: str) -> tuple[Path, bool]:
        """The file with one video's rows of a table (it may not exist), and whether it holds other videos too."""
        part = next((name for name, held in self._parts().items() if video_id in held), None)
        return self.path / table / f"{part or video_id}.parquet", part is not None

    def commit(self, row: Mapping[str, Any], faces: pa.Table, descriptions: pa.Table, mark: str) -> None:
        """Write the tables of one video; the video is done when this returns.

        Args:
            row: its row of the videos table.
            faces, descriptions: its rows of the other tables, in any order.
            mark: `file_mark` of the file that was read; empty where the next run should try the video again.

        Raises:
            FocalfaceError: when the disk is full or refuses to write.
        """
        videos = pa.Table.from_pylist([dict(row)], TABLES["videos"])
        tables = {"faces": faces, "descriptions": descriptions, "videos": videos}
        self.discard(row["video_id"])
        for name, table in tables.items():
            schema = TABLES[name]
            table = table.cast(schema).sort_by([(key, "ascending") for key in SORT_KEYS[name]])
            if name == "videos":
                table = table.replace_schema_metadata({"fingerprint": mark})
            self._write(name, row["video_id"], [table])
        self._new += 1
        if self._new >= MERGE_EVERY:
            self.merge_small()

    def _write(self, name: str, stem: str, tables: Iterable[pa.Table]) -> None:
        """Write a file of a table, whole or not at all, and safe from a power cut.

        Raises:
            FocalfaceError: when the disk is full or refuses to write.
        """
        first, *others = tables
        place = self.path / name / f"{stem}.parquet"
        try:
            with (
                replacing(place, scratch=self.path / _SCRATCH, durable=True) as temporary,
                temporary.open("wb") as file,
                pq.ParquetWriter(file, first.schema, compression="zstd") as writer,
            ):
                pending = [first]
                for table in others:
                    if sum(part.num_rows for part in pending) >= ROW_GROUP:
                        writer.write_table(pa.concat_tables(pending), ROW_GROUP)
                        pending = []
                    pending.append(table.replace_schema_metadata(first.schema.metadata))
                writer.write_table(pa.concat_tables(pending), ROW_GROUP)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FocalfaceError(f"cannot write to {self.path} ({reason}): make room, then run the same command to resume") from error

    def merge_small(self) -> None:
        """Merge the files of small videos, up to `MERGED_BYTES` a file."""
        self._new = 0
        group: list[str] = []
        size = 0
        alone = [file.stem for file in self.files("videos") if file.stem not in self._parts()]
        for key in alone:
            files = [self.path / name / f"{key}.parquet" for name in ("faces", "descriptions")]
            bytes_here = sum(file.stat().st_size for file in files if file.exists())
            if bytes_here > MERGED_BYTES // 4:
                continue
            if size + bytes_here > MERGED_BYTES:
                self._merge(group)
                group, size = [], 0
            group, size = [*group, key], size + bytes_here
        self._merge(group)

    def rewrite(self, keys: Sequence[str], change: Callable[[str, str, pa.Table], pa.Table]) -> None:
        """Change the rows of some videos in one step: a kill at any moment leaves those of before or of after.

        Args:
            keys: `video_id` of committed videos.
            change: called with a table's name, a `video_id` and its rows; gives the rows that take their place.

        Raises:
            FocalfaceError: when the disk is full or refuses to write.
        """
        with writing(self.path):
            (self.path / _SCRATCH).mkdir(exist_ok=True)
        for key in keys:
            part, shared = self.file("videos", key)
            if shared:
                self._split(part.stem)
        self._merge(list(keys), change)
        self._remove_uncounted()
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)

    def _merge(self, keys: list[str], change: Callable[[str, str, pa.Table], pa.Table] | None = None) -> None:
        """Merge videos into a new file; a single one only where its rows change."""
        if len(keys) < (2 if change is None else 1):
            return
        change = change or (lambda name, key, rows: rows)
        marks, stem = self.committed(), f"{_MERGED}{1 + max((int(name[len(_MERGED) :]) for name in self._parts()), default=0):05}"
        for name in ("faces", "descriptions", "videos"):
            files = {key: file for key in keys if (file := self.path / name / f"{key}.parquet").exists()}
            metadata = {"fingerprints": json.dumps({key: marks[key] for key in keys})} if name == "videos" else None
            tables = (change(name, key, open_parquet([file], TABLES[name]).to_table()) for key, file in files.items())
            self._write(name, stem, (table.replace_schema_metadata(metadata) for table in tables))
        for key in keys:
            self._remove(key)

    def _split(self, stem: str) -> None:
        """Give the videos of a merged file their own files again."""
        marks = self._parts()[stem]
        for name in ("faces", "descriptions", "videos"):
            rows = open_parquet([self.path / name / f"{stem}.parquet"], TABLES[name]).to_table()
            for key, mark in marks.items():
                own = rows.filter(pc.field("video_id") == key)
                self._write(name, key, [own.replace_schema_metadata({"fingerprint": mark} if name == "videos" else None)])
        self._remove(stem)

    def _remove(self, stem: str) -> None:
        for name in TABLES:  # videos first: a video that it does not list does not count
            (self.path / name / f"{stem}.parquet").unlink(missing_ok=True)

    def discard(self, video_id: str) -> None:
        """Remove a video's tables, the commit first."""
        part, shared = self.file("videos", video_id)
        if shared:
            self._split(part.stem)
        self._remove(video_id)

    def update_info(self, **values: Any) -> None:
        """Set values of run.json."""
        scratch = self.path / _SCRATCH
        with replacing(self.path / "run.json", scratch=scratch if scratch.is_dir() else None) as temporary:
            temporary.write_text(json.dumps(self.info | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def finish(self) -> None:
        """Merge the small videos of a large run, and remove the scratch folder."""
        if sum(file.stem not in self._parts() for file in self.files("videos")) > KEEP_SINGLE:
            self.merge_small()
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)

    def read(self, table: str, columns: Iterable[str] | None = None, video_id: str | None = None) -> pa.Table:
        """Rows of one table, in the order of `SORT_KEYS`. A column that an older run did not write is null.

        Args:
            table: `videos`, `faces` or `descriptions`.
            columns: those wanted; all by default.
            video_id: the only video wanted; all by default.

        Raises:
            SettingsError: when the folder holds no run, or a file is damaged.
        """
        folder = self.path / table
        if not folder.is_dir():
            raise SettingsError(f"{self.path} holds no run: there is no {folder}")
        files = self.files(table) if video_id is None else [file for file in [self.file(table, video_id)[0]] if file.exists()]
        wanted = None if video_id is None else pc.field("video_id") == video_id
        names = TABLES[table].names if columns is None else list(columns)
        needed = list(dict.fromkeys([*names, *SORT_KEYS[table]]))
        try:
            rows = open_parquet(files, TABLES[table]).to_table(needed, filter=wanted)
        except (OSError, pa.ArrowException) as error:
            raise SettingsError(f"the {table} table of {self.path} cannot be read ({one_line(error)[:200]}): run again") from error
        return rows.sort_by([(key, "ascending") for key in SORT_KEYS[table]]).select(names)

    def batches(self, table: str, video_id: str, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one video, in order, `BATCH_ROWS` at a time, so that memory does not grow with the length of the video. At least one
        table, perhaps without rows.

        Args:
            table, video_id, columns: as for `read`; none is optional but `columns`.

        Raises:
            SettingsError: when the file is damaged.
        """
        file, merged = self.file(table, video_id)
        if not file.exists() or (merged and file.stat().st_size <= 2 * MERGED_BYTES):  # merged videos are small, but for rewritten ones
            yield self.read(table, columns, video_id)
            return
        fields = [TABLES[table].field(name) for name in (TABLES[table].names if columns is None else columns)]
        try:
            with pq.ParquetFile(file) as parquet:  # a dataset would read ahead
                written = [field.name for field in fields if field.name in parquet.schema_arrow.names]
                if not parquet.metadata.num_rows:
                    yield pa.schema(fields).empty_table()
                for batch in parquet.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys([*written, "video_id"]))):
                    if merged:
                        batch = batch.filter(pc.equal(batch["video_id"], video_id))
                    arrays = [
                        batch[field.name].cast(field.type) if field.name in written else pa.nulls(batch.num_rows, field.type)
                        for field in fields
                    ]
                    yield pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        except (OSError, pa.ArrowException) as error:
            raise SettingsError(f"{file} cannot be read ({one_line(error)[:200]}): run that video again") from error

    @property
    def videos(self) -> pa.Table:
        """The videos table: one row for each video. `.to_pandas()` gives a DataFrame."""
        return self.read("videos")

    @property
    def faces(self) -> pa.Table:
        """The faces table: one row for each face in a sampled frame; with `person_id` where people are linked."""
        return self._with_person("faces")

    @property
    def descriptions(self) -> pa.Table:
        """The descriptions table: one row for each track, window and region; with `person_id` where people are linked."""
        return self._with_person("descriptions")

    def _with_person(self, table: str) -> pa.Table:
        rows, persons = self.read(table), self.persons()
        return rows if persons is None else persons.attach(rows)

    @property
    def people(self) -> pa.Table:
        """The people of this run: one row for each person.

        Raises:
            SettingsError: nobody is linked (`focalface people`).
        """
        return PeopleFolder(self.path / PEOPLE_FOLDER).read().table()

    def persons(self, people: str | os.PathLike[str] | None = None, video_id: str | None = None) -> Persons | None:
        """Which person each track shows; None where people are not linked.

        Args:
            people: a people folder over several runs; by default the run's own.
            video_id: the only video wanted; all by default.
        """
        folder = PeopleFolder(self.path / PEOPLE_FOLDER if people is None else people)
        return folder.persons(self.path, self.table_marks(video_id)) if folder.exists else None

    def erased(self) -> set[str]:
        """Videos from which rows of a person were erased (`focalface people --erase`)."""
        rows = self.read("videos", ["video_id", "note"]).to_pylist()
        return {row["video_id"] for row in rows if NoteKind.ERASED in note_kinds(row["note"])}

    def table_marks(self, video_id: str | None = None) -> dict[str, str]:
        """video_id to a text that changes when the video's tracks do, of committed videos or of one."""
        marks = self.committed() if video_id is None else {video_id: self.mark(video_id)}
        rows = self.read("videos", ["video_id", "faces", "tracks"], video_id).to_pylist()
        return {row["video_id"]: f"{marks.get(row['video_id'], '')}/{row['faces']}/{row['tracks']}" for row in rows}


def open_run(folder: str | os.PathLike[str]) -> RunFolder:
    """Open the folder of a run to read its tables.

    Args:
        folder: the output folder of `focalface run`.

    Raises:
        SettingsError: when it holds no run.

    >>> run = open_run("outputs/demo")  # doctest: +SKIP
    >>> run.faces.to_pandas()[["time_s", "track_id", "yaw"]]  # doctest: +SKIP
    """
    run = RunFolder(folder)
    run.read("videos", ["video_id"])
    return run
