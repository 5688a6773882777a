"""A whole report: pages, per-frame tables, files for annotation tools and annotated films of a run's videos, and the index over them.

`report.json` in the report's folder keeps which files were made for which video and from what, so that a second report writes only
what has changed, and what could not be written, so that the index can show it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pipeline import __version__
from pipeline.errors import FocalfaceError, writing
from pipeline.execution import drawing
from pipeline.report import bids
from pipeline.report.elan import write_elan
from pipeline.report.export import COLUMNS_FILE, export_frames
from pipeline.report.film import annotate_video
from pipeline.report.index import write_index
from pipeline.report.linked import state_of
from pipeline.report.page import is_report_page, write_page
from pipeline.report.pictures import Faces, why_without_pictures
from pipeline.storage.atomic import replacing
from pipeline.storage.chosen_run import choice_of
from pipeline.storage.output_names import unique_names
from pipeline.storage.run_folder import RunFolder

LEDGER = "report.json"
"""Name of the file that keeps what a report has made."""

SAVE_EVERY_S = 5.0
"""Seconds between two writes of the ledger; a report that is killed makes at most the files of that time again."""

Progress = Callable[[str, int, int], None]
"""Called with a step's name, the steps done and the steps in all."""


@dataclass(frozen=True)
class Outputs:
    """What to write for each video beside its page.

    Attributes:
        faces: `show`, `blur` (unrecognisable) or `none` (no pictures).
        frames: formats of the per-frame tables (`pipeline.report.export.FORMATS`); none by default.
        columns: their column layout (`pipeline.report.export.LAYOUTS`).
        empty_frames: rows for sampled frames without a face; None for the layout's own habit.
        film: an annotated video.
        elan: an ELAN file beside the page.
        bids: events for a BIDS dataset.
    """

    faces: Faces = "show"
    frames: tuple[str, ...] = ()
    columns: str = "focalface"
    empty_frames: bool | None = None
    film: bool = False
    elan: bool = False
    bids: bool = False


@dataclass
class Report:
    """What came of a report.

    Attributes:
        index: the file to open first.
        pages: how many pages were written; the others were up to date.
        failures: video_id to the outputs that could not be written, each with the reason in one line.
        film_notes: video_id to what its film lacks, such as a sound track that cannot be decoded.
        films_with_faces: annotated films in the folder that show faces, those of earlier reports included.
        first_error: the exception behind the first of them.
    """

    index: Path
    pages: int = 0
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    film_notes: dict[str, list[str]] = field(default_factory=dict)
    films_with_faces: int = 0
    first_error: Exception | None = None


@dataclass(frozen=True)
class _Made:
    """What a file was made from.

    Attributes:
        tables: hash of the video's tables and of the video file; a file made from others is out of date.
        variant: hash of the options and of the code.
        faces: whether it shows faces: `show`, `blur` or `none`.
    """

    tables: str
    variant: str
    faces: Faces


@dataclass
class _Entry:
    """What the ledger keeps of one video: its file name, its files by kind, what could not be written, and what its film lacks."""

    name: str
    made: dict[str, _Made] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_report(
    run: RunFolder,
    out: Path,
    outputs: Outputs | None = None,
    videos: Sequence[Mapping[str, Any]] | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Report:
    """Write pages and all else that is asked for of a run's videos, then the index.

    An output that cannot be written costs neither the video's other outputs nor the other videos; `Report.failures` and the index name
    it. Files of an earlier report that are still right are kept; those of videos that the run no longer has are removed.

    Args:
        run: the run folder.
        out: the report's folder.
        outputs: what to write; pages alone by default.
        videos: rows of the videos table to report on; all by default. The index lists all in either case.
        progress: told what is being done.

    Raises:
        SettingsError: the folder holds no run, or the report's folder cannot be written.
    """
    outputs = outputs or Outputs()
    known = run.read("videos").to_pylist()
    chosen = known if videos is None else list(videos)
    ledger = _Ledger(out, {row["video_id"]: row["path"] for row in known})
    marks = run.committed()
    report = Report(out / "index.html")
    try:
        if outputs.bids:
            bids.write_dataset_description(out / bids.FOLDER)
        for number, row in enumerate(chosen, 1):
            if row["status"] == "failed":
                continue  # the run has nothing of it; the index shows why
            label = f"video {number}/{len(chosen)}"
            tables = _tables(run, row["video_id"], marks)
            video = _Video(run, row, marks.get(row["video_id"], ""), tables, ledger, report)
            video.write(outputs, partial(_labelled, progress, label))
        files = {row["video_id"]: ledger.files(row["video_id"], _tables(run, row["video_id"], marks)) for row in known}
        failed = {key: entry.failed for key, entry in ledger.entries.items() if entry.failed}
        report.film_notes = {key: entry.notes for key, entry in ledger.entries.items() if entry.notes and "film" in entry.made}
        for key, fault in write_index(run, known, out, files, failed, report.film_notes, outputs.faces == "show").items():
            report.failures.setdefault(key, {"index": fault})
        report.films_with_faces = ledger.films_with_faces()
    finally:
        ledger.save()
    return report


def _labelled(progress: Progress, label: str, what: str, done: int, total: int) -> None:
    progress(f"{label}: {what}", done, total)


def _tables(run: RunFolder, key: str, marks: Mapping[str, str]) -> str:
    """Changes when a video's tables, or the file that they were made from, do."""
    files = [run.file(table, key)[0] for table in ("videos", "faces", "descriptions")]
    states = [f"{file.stat().st_size}-{file.stat().st_mtime_ns}" if file.is_file() else "" for file in files]
    return _hash(*states, marks.get(key, ""), state_of(run, key))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class _Video:
    """Writes the outputs of one video and notes what came of each."""

    def __init__(self, run: RunFolder, row: Mapping[str, Any], mark: str, tables: str, ledger: _Ledger, report: Report) -> None:
        self._run, self._row, self._mark, self._tables = run, row, mark, tables
        self._key: str = row["video_id"]
        self._ledger, self._report = ledger, report
        self._entry = ledger.entries[self._key]

    def write(self, outputs: Outputs, progress: Progress) -> None:
        """Write all that is asked for and is not up to date."""
        self._entry.failed = {}
        run, key, faces, path = self._run, self._key, outputs.faces, partial(self._ledger.path, self._key)
        reason = why_without_pictures(self._row, self._mark, faces)
        with self._writing(["page"], faces, reason) as kinds:
            if kinds:
                write_page(run, self._row, path("page"), self._mark, faces, partial(progress, "pictures"))
                self._report.pages += 1
        layout = "" if outputs.columns == "focalface" else f"{outputs.columns}."
        tables = {f"{layout}{name}": name for name in outputs.frames}
        with self._writing([*tables, f"{layout}{COLUMNS_FILE}"] if tables else [], "none", str(outputs.empty_frames)) as kinds:
            if kinds:
                progress("per-frame tables", 0, 1)
                formats = [name for kind, name in tables.items() if kind in kinds]
                options: dict[str, Any] = {"columns": outputs.columns, "empty_frames": outputs.empty_frames}
                export_frames(run, key, path(f"{layout}table").with_suffix(""), formats=formats or list(outputs.frames), **options)
        with self._writing(["eaf"] if outputs.elan else [], "none") as kinds:
            if kinds:
                progress("ELAN file", 0, 1)
                write_elan(run, self._row, path("eaf"))
        with self._writing(self._ledger.event_kinds(key) if outputs.bids else [], "none") as kinds:
            if kinds:
                progress("BIDS events", 0, 1)
                table, sidecar = map(path, self._ledger.event_kinds(key))
                bids.write_events(run, self._row, table, sidecar)
        shown: Literal["show", "blur"] = "blur" if faces == "blur" else "show"
        with self._writing(["film"] if outputs.film else [], shown) as kinds:
            if kinds:
                film = annotate_video(run, key, path("film"), faces=shown, progress=partial(progress, "film"))
                self._entry.notes = list(film.notes)

    @contextmanager
    def _writing(self, kinds: Sequence[str], faces: Faces, *options: str) -> Iterator[list[str]]:
        """Outputs that are made together: those that are not up to date; notes that they were written, or why they could not be."""
        entry, made = self._entry, _Made(self._tables, _hash(_code(), faces, repr(choice_of(self._run)), *options), faces)
        todo = [kind for kind in kinds if entry.made.get(kind) != made or not self._ledger.path(self._key, kind).is_file()]
        try:
            yield todo
        except Exception as error:  # whatever it is, the other outputs are written
            reason = str(error) if isinstance(error, FocalfaceError) else f"{type(error).__name__}: {error}"
            for kind in todo:
                entry.failed[kind] = " ".join(reason.split())
                entry.made.pop(kind, None)
            self._report.failures[self._key] = entry.failed
            self._report.first_error = self._report.first_error or error
        else:
            entry.made |= dict.fromkeys(todo, made)
        self._ledger.save_sometimes()


class _Ledger:
    """The files of a report's folder, by video and kind: `page`, `eaf`, `film`, the ending of a per-frame table, or the place of a BIDS
    file."""

    FOLDERS = ("videos", "frames", "films")

    def __init__(self, out: Path, paths: Mapping[str, str]) -> None:
        """Read the ledger of an earlier report, and remove the files of videos that are no more or have another name now.

        Args:
            out: the report's folder; made where it is not there.
            paths: video_id to path of every video of the run.

        Raises:
            SettingsError: when the folder cannot be written.
        """
        self._out = out
        self._saved = time.monotonic()
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            earlier = self._read()
            if not earlier and is_report_page(out / "index.html"):  # of a release that named files by video_id and kept no ledger
                for file in (file for folder in self.FOLDERS for file in (out / folder).glob("*")):
                    if len(file.stem) == 16 and set(file.stem) <= set("0123456789abcdef"):
                        file.unlink()
            names = unique_names(paths)
            self.entries = {key: _Entry(name) for key, name in names.items()}
            self._events = bids.event_files(names, paths)
            for key, entry in earlier.items():
                if key in names and entry.name == names[key]:
                    self.entries[key] = entry
                    continue
                for kind in entry.made:
                    self._path(entry.name, kind).unlink(missing_ok=True)

    def _read(self) -> dict[str, _Entry]:
        try:
            held = json.loads((self._out / LEDGER).read_text(encoding="utf-8"))
            return {
                key: _Entry(**entry | {"made": {kind: _Made(**made) for kind, made in entry["made"].items()}})
                for key, entry in held["videos"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or not one: all is made anew
            return {}

    def event_kinds(self, key: str) -> list[str]:
        """The kinds of a video's BIDS files, which are their places in the report's folder: the table, and its sidecar."""
        return [f"{bids.FOLDER}/{self._events[key]}.{ending}" for ending in ("tsv", "json")]

    def path(self, key: str, kind: str) -> Path:
        """Where a video's output goes; its folder is made."""
        path = self._path(self.entries[key].name, kind)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, name: str, kind: str) -> Path:
        if kind.startswith(f"{bids.FOLDER}/"):
            return self._out / kind
        folder, ending = {"page": ("videos", "html"), "eaf": ("videos", "eaf"), "film": ("films", "mp4")}.get(kind, ("frames", kind))
        return self._out / folder / f"{name}.{ending}"

    def files(self, key: str, tables: str) -> list[str]:
        """A video's files that are there and up to date, relative to the report's folder; the page first."""
        entry = self.entries[key]
        kinds = sorted((kind for kind, made in entry.made.items() if made.tables == tables), key=lambda kind: (kind != "page", kind))
        return [file.relative_to(self._out).as_posix() for kind in kinds if (file := self._path(entry.name, kind)).is_file()]

    def films_with_faces(self) -> int:
        """How many films show faces."""
        films = [(entry.name, made) for entry in self.entries.values() if (made := entry.made.get("film"))]
        return sum(made.faces == "show" and self._path(name, "film").is_file() for name, made in films)

    def save_sometimes(self) -> None:
        """Save if the last time is a while ago."""
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the ledger."""
        held = {key: asdict(entry) for key, entry in self.entries.items() if entry.made or entry.failed}
        with writing(self._out), replacing(self._out / LEDGER) as part:
            part.write_text(json.dumps({"videos": held}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        self._saved = time.monotonic()


@cache
def _code() -> str:
    """Changes when the code that makes a report does."""
    digest = hashlib.sha256(__version__.encode())
    files = [file for file in Path(__file__).parent.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    for file in [*sorted(files), Path(drawing.__file__)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
