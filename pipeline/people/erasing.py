"""Erasing a person from runs: rows, embeddings, pictures, and what was made of them.

What is to be erased is first written to `erasing.json` in the people folder. Each run then changes in one step (`RunFolder.rewrite`), and
the people folder after them. A kill at any moment leaves that file, and the next `focalface people` with the folder completes the work.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import SettingsError, writing
from pipeline.execution.run import counts
from pipeline.people.editing import Key, as_key, key_of, without
from pipeline.people.embedding import EmbeddingStore
from pipeline.people.sheet import refresh
from pipeline.schemas import NoteKind
from pipeline.storage.atomic import replacing
from pipeline.storage.people_folder import FACES_FOLDER, FOLDER, People, PeopleFolder, track_rows
from pipeline.storage.run_folder import RunFolder

JOURNAL = "erasing.json"

_NOTE = re.compile(rf"{NoteKind.ERASED}: the rows of tracks? ([\d, ]+) were erased")
_REPORT = ("index.html", "report.json", "videos", "frames", "films")
_TRENDS = ("*.parquet", "*.csv", "summary.html", "figures")


@dataclass(frozen=True)
class Erased:
    """What was erased.

    Attributes:
        tracks: number of tracks.
        videos: number of videos.
        removed: reports, trends and previews in the run folders that showed the person and are removed with it.
    """

    tracks: int
    videos: int
    removed: tuple[Path, ...]


def erase(folder: PeopleFolder, word: str, progress: Callable[[str, int, int], None] = lambda step, done, total: None) -> Erased:
    """Erase a person from the runs and from the people folder.

    Rows of the faces and descriptions tables, embeddings and pictures go; counts in the videos tables follow, and the note of a video says
    which tracks were erased. Videos themselves are not changed. Reports and trends within the run folders are removed, as they show the
    person; those in other folders stay.

    Args:
        folder: the people folder.
        word: id or name of the person; or a track that is not linked, `VIDEO#TRACK`.
        progress: told what is being done.

    Raises:
        SettingsError: there is no such person, or a run is not there, unfinished, or was made again since the people were linked; nothing
            is erased then.
    """
    finish_erasing(folder, progress)
    people = folder.read()
    rows = _rows(people, word)
    for name in sorted({row["run"] for row in rows}):
        place = Path(people.about["runs"][name])
        if not (place / "videos").is_dir():
            raise SettingsError(f"{place}, the run {name}, is no longer there: put it back to erase from it")
        run = RunFolder(place)
        if (place / "_partial").is_dir():
            raise SettingsError(f"{place} is unfinished (still running, or stopped): let focalface run finish it first")
        marks = run.table_marks()
        if any(marks.get(row["video_id"]) != row["mark"] for row in rows if row["run"] == name):
            raise SettingsError(f"{place} has changed since the people were linked: link again, then erase")
    plan = {"runs": {row["run"]: people.about["runs"][row["run"]] for row in rows}, "tracks": [list(key_of(row)) for row in rows]}
    with writing(folder.path), replacing(folder.path / JOURNAL, durable=True) as file:
        file.write_text(json.dumps(plan, ensure_ascii=False), encoding="utf-8")
    removed = finish_erasing(folder, progress)
    return Erased(len(rows), len({(row["run"], row["video_id"]) for row in rows}), removed)


def _rows(people: People, word: str) -> list[dict[str, Any]]:
    """The tracks that are to be erased."""
    video, hash_sign, number = word.rpartition("#")
    if hash_sign and number.isdigit() and word not in people.names.values():
        names = [
            row
            for row in people.tracks.to_pylist()
            if row["track_id"] == int(number) and video in (row["video_id"], row["path"], Path(row["path"]).name)
        ]
        if len(names) != 1:
            raise SettingsError(f"{len(names)} tracks fit {word}: write the path or video_id of the video before #")
        if names[0]["person_id"] is not None:
            raise SettingsError(f"{word} is a track of {names[0]['person_id']}: erase the person, or split the track off first")
        return names
    return people.members()[people.find(word)]


def finish_erasing(folder: PeopleFolder, progress: Callable[[str, int, int], None] = lambda step, done, total: None) -> tuple[Path, ...]:
    """Complete an erasure that was begun; nothing where there is none.

    Returns:
        What was removed beside the tables.
    """
    journal = folder.path / JOURNAL
    if not journal.is_file():
        return ()
    plan = json.loads(journal.read_text(encoding="utf-8"))
    keys = [as_key(values) for values in plan["tracks"]]
    removed: list[Path] = []
    places = {name: Path(place) for name, place in plan["runs"].items()}
    if folder.path.name == FOLDER and len(places) == 1 and (folder.path.parent / "videos").is_dir():
        places = dict.fromkeys(places, folder.path.parent)  # the run may have been moved
    for number, (name, place) in enumerate(places.items()):
        progress("erasing", number, len(places))
        run = RunFolder(place)
        own = [key for key in keys if key[0] == name]
        _erase_rows(run, own)
        removed += _remove_made(place)
        beside = PeopleFolder(place / FOLDER)
        if beside.exists and beside.path.resolve() != folder.path.resolve():
            inner = next(iter(beside.read().about["runs"]))
            _forget(beside, [(inner, *key[1:]) for key in own], {inner: run})
    _forget(folder, keys, {name: RunFolder(place) for name, place in places.items()})
    journal.unlink()
    return tuple(removed)


def _erase_rows(run: RunFolder, keys: list[Key]) -> None:
    """Erase tracks from the tables of a run, in one step; those that are not there are passed over."""
    gone: dict[str, set[int]] = {}
    for _, video, track, _ in keys:
        gone.setdefault(video, set()).add(track)
    present = {video for video, tracks in gone.items() if tracks & set(run.read("faces", ["track_id"], video)["track_id"].to_pylist())}
    window_s = float(run.info.get("settings", {}).get("select", {}).get("window") or 1.0)
    counted: dict[str, dict[str, Any]] = {}

    def change(table: str, video: str, rows: pa.Table) -> pa.Table:
        if table == "videos":
            return _recounted(rows, counted[video], sorted(gone[video]))
        kept = rows.filter(pc.invert(pc.is_in(rows["track_id"], pa.array(sorted(gone[video]), pa.int32()))))
        about = counted.setdefault(video, {})
        if table == "faces":
            about |= _counts(kept, window_s)
        else:
            about["descriptions"] = kept.num_rows
        return kept

    run.rewrite(sorted(present), change)
    run.update_info(counts=counts(run))


def _counts(faces: pa.Table, window_s: float) -> dict[str, int]:
    """The columns of the videos table that count faces."""
    tracks, windows = faces["track_id"].to_numpy(), np.floor(faces["time_s"].to_numpy() / window_s)
    readable = faces["unreadable"].is_null().to_numpy(zero_copy_only=False)
    pairs = np.stack([tracks, windows])
    all_pairs, with_face = (np.unique(part, axis=1).shape[1] for part in (pairs, pairs[:, readable]))
    counted = {"faces": faces.num_rows, "tracks": len(np.unique(tracks)), "windows": all_pairs}
    return counted | {"unreadable_faces": int((~readable).sum()), "unreadable_windows": all_pairs - with_face}


def _recounted(rows: pa.Table, about: Mapping[str, Any], tracks: list[int]) -> pa.Table:
    """The row of the videos table after tracks were erased."""
    (row,) = rows.to_pylist()
    before = [part for part in (row["note"] or "").split("; ") if part]
    earlier = [int(number) for part in before if (match := _NOTE.fullmatch(part)) for number in match[1].split(", ")]
    numbers = sorted({*earlier, *tracks})
    text = f"{NoteKind.ERASED}: the rows of track{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))} were erased"
    note = "; ".join([*(part for part in before if not _NOTE.fullmatch(part)), text])
    status = "no_faces" if row["status"] == "ok" and not about["faces"] else row["status"]
    known = {name: value for name, value in about.items() if row[name] is not None}
    return pa.Table.from_pylist([row | known | {"note": note, "status": status}], rows.schema)


def _remove_made(place: Path) -> list[Path]:
    """Remove what was made of a run's tables within its folder: preview, report, trends."""
    removed = []
    for path in (place / "preview.png", *((place / "report" / name) for name in _REPORT)):
        if path.exists():
            _remove(path)
            removed.append(path if path.name == "preview.png" else path.parent)
    trends = place / "trends"
    if (trends / "summary.html").is_file():
        for pattern in _TRENDS:
            for path in trends.glob(pattern):
                _remove(path)
        removed.append(trends)
    return list(dict.fromkeys(removed))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _forget(folder: PeopleFolder, keys: list[Key], runs: Mapping[str, RunFolder]) -> None:
    """Remove tracks from a people folder. The other tracks of their videos keep their person and embedding under the tables' new mark."""
    tracks = {key[:3] for key in keys}
    videos = {key[:2] for key in keys}
    marks = {name: run.table_marks() for name, run in runs.items()}

    def mark_of(run: str, video: str, mark: str) -> str:
        was = {key[3] for key in keys if key[:2] == (run, video)}
        return marks[run].get(video, mark) if mark in was else mark

    store = EmbeddingStore(folder.path)
    store.found = {
        key: held.with_mark(mark_of(key[0], key[1], held.mark)) if key[:2] in videos else held
        for key, held in store.found.items()
        if key not in tracks
    }
    store.save()
    if not folder.exists:
        return
    people = folder.read()
    rows = people.tracks.to_pylist()
    renewed = {}
    kept = []
    for row in rows:
        if (row["run"], row["video_id"], row["track_id"]) in tracks:
            continue
        if (row["run"], row["video_id"]) in videos:
            old = key_of(row)
            row["mark"] = mark_of(row["run"], row["video_id"], row["mark"])
            renewed[old] = key_of(row)
        kept.append(row)
    left = {row["person_id"] for row in kept}
    erased = [row for row in people.tracks.to_pylist() if (row["run"], row["video_id"], row["track_id"]) in tracks]
    for row in erased:  # the picture may be one of an erased track
        (folder.path / FACES_FOLDER / f"{row['person_id']}.jpg").unlink(missing_ok=True)
    about = people.about | {
        "names": {person: name for person, name in people.names.items() if person in left},
        "edits": without(people.about["edits"], set(map(key_of, erased)), renewed),
    }
    folder.write(People(track_rows(kept), about))
    refresh(folder, store)
