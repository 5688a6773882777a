"""Linking: from run folders to people. An embedding of each track, clusters of them, and ids that stay when more is linked later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FocalfaceError, SettingsError, VideoError
from pipeline.people import crops
from pipeline.people.clustering import cluster, sharing_frames
from pipeline.people.editing import as_key, key_of, person_id
from pipeline.people.embedding import EmbeddingStore, embed_video
from pipeline.people.erasing import finish_erasing
from pipeline.people.recognisers import Recogniser
from pipeline.people.sheet import refresh
from pipeline.storage.people_folder import FOLDER, People, PeopleFolder, TrackKey, track_rows
from pipeline.storage.run_folder import RunFolder

Progress = Callable[[str, int, int], None]
"""Called with a step's name, the steps done and the steps in all."""


@dataclass(frozen=True)
class Linked:
    """What came of linking.

    Attributes:
        folder: the people folder.
        people: what it says.
        problems: path of a video to why its tracks are not linked.
        embedded: tracks that were embedded now; the others were known.
    """

    folder: PeopleFolder
    people: People
    problems: dict[str, str]
    embedded: int


@dataclass
class _Found:
    """What the runs hold."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    apart: list[tuple[TrackKey, TrackKey]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    embedded: int = 0


def folder_of(runs: Sequence[Path], out: Path | None) -> Path:
    """The people folder of runs: `people` in the folder of the one run, or else `out`.

    Raises:
        SettingsError: several runs and no `out`.
    """
    if out is not None:
        return out
    if len(runs) > 1:
        raise SettingsError("several runs need --out DIR for the people that they share")
    return runs[0] / FOLDER


def link(
    runs: Sequence[Path],
    recogniser: Recogniser,
    out: Path | None = None,
    threshold: float | None = None,
    overwrite: bool = False,
    progress: Progress = lambda step, done, total: None,
) -> Linked:
    """Link the tracks of some runs that show the same person.

    A track whose video is missing or has changed, or that shows no face well enough, stays unlinked, with a note. Linking again keeps the
    ids and names of people, and what was merged and split by hand; it decodes only what is new.

    Args:
        runs: folders of `focalface run`.
        recogniser: from `pipeline.people.recognisers.load_recogniser`.
        out: the people folder; by default `people` in the folder of the one run.
        threshold: mean distance up to which tracks are one person; by default the recogniser's.
        overwrite: forget earlier people, names and edits.
        progress: told what is being done.

    Raises:
        SettingsError: a folder holds no run, there is no threshold, or the people folder cannot be written.
    """
    threshold = recogniser.threshold if threshold is None else threshold
    if threshold is None:
        raise SettingsError(f"the threshold of {recogniser.name} is not known: measure it (--measure FACES.parquet) and give --threshold")
    folder = PeopleFolder(folder_of(runs, out))
    finish_erasing(folder)
    earlier = folder.read() if folder.exists and not overwrite else None
    places = _named({} if earlier is None else earlier.about["runs"], runs)
    store = EmbeddingStore(folder.path)
    found = _Found()
    for name, place in places.items():
        _look(name, RunFolder(place), recogniser, store, found, progress)
    store.save()
    progress("linking", 0, 1)
    people = _linked(found, store, recogniser, threshold, places, earlier)
    folder.write(people)
    known = {(row["run"], row["video_id"], row["track_id"]) for row in found.rows}
    store.found = {key: held for key, held in store.found.items() if key in known}
    store.save()
    refresh(folder, store)
    return Linked(folder, people, found.problems, found.embedded)


def _named(earlier: Mapping[str, str], runs: Sequence[Path]) -> dict[str, str]:
    """Run name to folder: known runs keep their names; a new one gets its folder's name, or its path where that is taken."""
    places = dict(earlier)
    for run in runs:
        place = str(run.resolve())
        if place not in places.values():
            places[place if run.resolve().name in places else run.resolve().name] = place
    return places


def _look(name: str, run: RunFolder, recogniser: Recogniser, store: EmbeddingStore, found: _Found, progress: Progress) -> None:
    """Look at all tracks of a run, and embed those that are not known."""
    marks = run.table_marks()
    videos = [video for video in run.read("videos").to_pylist() if video["status"] == "ok"]
    for number, video in enumerate(videos, 1):
        label, key, path = f"{name}: video {number}/{len(videos)}", video["video_id"], video["path"]
        progress(label, 0, 1)
        mark = marks[key]
        faces = run.read("faces", crops.COLUMNS, key)
        tracks = crops.choose(faces)
        pairs = sharing_frames(faces["frame_index"].to_numpy(), faces["track_id"].to_numpy())
        found.apart += [((name, key, one), (name, key, other)) for one, other in pairs]
        usable = [track for track in tracks if not track.note]
        todo = [track for track in usable if store.get((name, key, track.track_id), recogniser.name, mark) is None]
        problem = ""
        if todo:
            try:
                new = embed_video(run, video, todo, recogniser, mark, partial(progress, label))
                store.found |= {(name, key, track): held for track, held in new.items()}
                found.embedded += len(new)
            except VideoError as error:
                problem = error.reason
                found.problems[path] = problem
            store.save_sometimes()
        for track in tracks:
            held = store.get((name, key, track.track_id), recogniser.name, mark)
            missing = problem or "none of its faces can be decoded any more"
            found.rows.append(
                {"run": name, "video_id": key, "path": path, "track_id": track.track_id, "person_id": None, "first_s": track.first_s}
                | {"last_s": track.last_s, "faces": track.faces, "quality": None if held is None else held.quality, "mark": mark}
                | {"note": track.note or (missing if held is None else None)}
            )


def _linked(
    found: _Found, store: EmbeddingStore, recogniser: Recogniser, threshold: float, places: Mapping[str, str], earlier: People | None
) -> People:
    """Cluster what was found, and name the clusters."""
    linkable = [row for row in found.rows if row["note"] is None]
    rows = sorted(linkable, key=lambda row: (row["path"], row["run"], row["first_s"], row["track_id"]))
    place = {(row["run"], row["video_id"], row["track_id"]): number for number, row in enumerate(rows)}
    apart = [(place[one], place[other]) for one, other in found.apart if one in place and other in place]
    about: dict[str, Any] = dict(earlier.about) if earlier else {"names": {}, "edits": {"together": [], "apart": []}, "next": 1}
    current = {key_of(row): number for number, row in enumerate(rows)}

    def here(group: Sequence[Sequence[Any]]) -> list[int]:
        """Rows of the tracks of an edit that are still there; those of a video that was analysed again are others by now."""
        return [current[key] for key in map(as_key, group) if key in current]

    together = [pair for group in about["edits"]["together"] for pair in pairwise(here(group))]
    apart += [(one, other) for first, second in about["edits"]["apart"] for one in here(first) for other in here(second)]
    vectors = np.array([store.found[row["run"], row["video_id"], row["track_id"]].vector for row in rows], np.float32)
    try:
        labels = cluster(vectors, threshold, apart, together) if rows else np.zeros(0, np.int64)
    except FocalfaceError as error:
        raise SettingsError(str(error)) from error
    names, following = _ids(labels, rows, earlier, int(about["next"]))
    for row, label in zip(rows, labels.tolist(), strict=True):
        row["person_id"] = names[label]
    kept = {person: name for person, name in about["names"].items() if person in names.values()}
    about |= {"runs": dict(places), "names": kept, "edits": about["edits"], "next": following}
    about |= {"backend": recogniser.name, "threshold": threshold}
    return People(track_rows(found.rows), about)


def _ids(labels: np.ndarray, rows: Sequence[Mapping[str, Any]], earlier: People | None, following: int) -> tuple[dict[int, str], int]:
    """A person_id for each cluster: that of the earlier person with whom it shares most tracks, or a new one."""
    known = {} if earlier is None else {key_of(row): row["person_id"] for row in earlier.tracks.to_pylist() if row["person_id"]}
    shared = Counter[tuple[int, str]]()
    for row, label in zip(rows, labels.tolist(), strict=True):
        if person := known.get(key_of(row)):
            shared[label, person] += 1
    names: dict[int, str] = {}
    for (label, person), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if label not in names and person not in names.values():
            names[label] = person
    for label in sorted(set(labels.tolist()) - names.keys()):
        names[label] = person_id(following)
        following += 1
    return names, following
