"""People changed by hand: merge, split, name. Edits are kept as constraints, so that linking again respects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.people.clustering import sharing_frames
from pipeline.people.embedding import EmbeddingStore
from pipeline.people.sheet import refresh
from pipeline.storage.people_folder import People, PeopleFolder, track_rows
from pipeline.storage.run_folder import RunFolder

Key = tuple[str, str, int, str]
"""run, video_id, track_id and the mark of the video's tables."""


def key_of(row: Mapping[str, Any]) -> Key:
    """The key of a row of the tracks table."""
    return str(row["run"]), str(row["video_id"]), int(row["track_id"]), str(row["mark"])


def as_key(values: Sequence[Any]) -> Key:
    """A key, from the list that JSON keeps of it."""
    return str(values[0]), str(values[1]), int(values[2]), str(values[3])


def person_id(number: int) -> str:
    """The id of the `number`-th person.

    >>> person_id(7)
    'P007'
    """
    return f"P{number:03d}"


def merge(folder: PeopleFolder, one: str, other: str) -> str:
    """Make two people one: the first keeps its id, and its name or else the second one's.

    Args:
        folder: the people folder.
        one, other: ids or names.

    Returns:
        The id that stays.

    Raises:
        SettingsError: there is no such person, or both are on screen in one frame.
    """
    people = folder.read()
    kept, gone = people.find(one), people.find(other)
    if kept == gone:
        raise SettingsError(f"{one} and {other} are the same person already")
    members = people.members()
    _refuse_together(people, members[kept], members[gone])
    group = {key_of(row) for row in (*members[kept], *members[gone])}
    edits = people.about["edits"]
    together = [keys for keys in _groups(edits["together"]) if not keys & group]
    apart: list[tuple[set[Key], set[Key]]] = []
    for first, second in _pairs(edits["apart"]):
        apart += [(first, second - group), (first - group, second & group)] if first & group and second & group else [(first, second)]
    rows = people.tracks.to_pylist()
    for row in rows:
        if row["person_id"] == gone:
            row["person_id"] = kept
    names = people.names
    inherited = names.pop(gone, None)
    if inherited and kept not in names:
        names[kept] = inherited
    _write(folder, people, rows, names=names, edits=_plain([*together, group], apart))
    return kept


def split(folder: PeopleFolder, person: str, words: Sequence[str]) -> str:
    """Make some tracks of a person a person of their own.

    Args:
        folder: the people folder.
        person: id or name.
        words: the tracks: `VIDEO#TRACK`, where VIDEO is the file's name, path or video_id, or just `TRACK` where only one fits.

    Returns:
        The id of the new person.

    Raises:
        SettingsError: there is no such person or track, a track's name fits several, or no track would be left.
    """
    people = folder.read()
    source = people.find(person)
    members = people.members()[source]
    chosen = {key_of(row) for word in words for row in [_track(members, word, source)]}
    rest = {key_of(row) for row in members} - chosen
    if not rest:
        raise SettingsError(f"{source} has no other tracks: a split leaves at least one")
    edits = people.about["edits"]
    groups = [part for keys in _groups(edits["together"]) for part in (keys - chosen, keys & chosen)]
    new = person_id(int(people.about["next"]))
    rows = people.tracks.to_pylist()
    for row in rows:
        if row["person_id"] == source and key_of(row) in chosen:
            row["person_id"] = new
    constraints = _plain([*groups, chosen], [*_pairs(edits["apart"]), (chosen, rest)])
    _write(folder, people, rows, edits=constraints, next=int(people.about["next"]) + 1)
    return new


def name(folder: PeopleFolder, person: str, given: str) -> str:
    """Give a person a name; an empty one takes it away.

    Returns:
        The person's id.

    Raises:
        SettingsError: there is no such person, or another one has the name or has it as its id.
    """
    people = folder.read()
    own = people.find(person)
    given = " ".join(given.split())
    if given and (given in people.members() or any(held == given and key != own for key, held in people.names.items())):
        raise SettingsError(f"another person is called {given!r}: merge the two, or give another name")
    names = {key: held for key, held in people.names.items() if key != own} | ({own: given} if given else {})
    _write(folder, people, people.tracks.to_pylist(), names=names)
    return own


def _write(folder: PeopleFolder, people: People, rows: Iterable[Mapping[str, Any]], **about: Any) -> None:
    folder.write(People(track_rows(rows), people.about | about))
    refresh(folder, EmbeddingStore(folder.path))


def _groups(groups: Sequence[Sequence[Sequence[Any]]]) -> list[set[Key]]:
    return [set(map(as_key, keys)) for keys in groups]


def _pairs(pairs: Sequence[Sequence[Sequence[Sequence[Any]]]]) -> list[tuple[set[Key], set[Key]]]:
    return [(set(map(as_key, first)), set(map(as_key, second))) for first, second in pairs]


def _plain(together: Iterable[set[Key]], apart: Iterable[tuple[set[Key], set[Key]]]) -> dict[str, Any]:
    """Constraints as plain data, without those that say nothing."""
    return {
        "together": [sorted(keys) for keys in together if len(keys) > 1],
        "apart": [[sorted(first), sorted(second)] for first, second in apart if first and second],
    }


def without(edits: Mapping[str, Any], gone: set[Key], renewed: Mapping[Key, Key]) -> dict[str, Any]:
    """Constraints without some tracks, and with the present keys of others."""

    def present(keys: set[Key]) -> set[Key]:
        return {renewed.get(key, key) for key in keys if key not in gone}

    groups = [present(keys) for keys in _groups(edits["together"])]
    return _plain(groups, [(present(first), present(second)) for first, second in _pairs(edits["apart"])])


def _refuse_together(people: People, one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> None:
    """Raise SettingsError if two people are on screen in one frame."""
    for run, video in sorted({(row["run"], row["video_id"]) for row in one} & {(row["run"], row["video_id"]) for row in other}):
        place = Path(people.about["runs"][run])
        if not place.is_dir():
            raise SettingsError(f"{place}, the run {run}, is no longer there: put it back to merge people of it")
        faces = RunFolder(place).read("faces", ["frame_index", "time_s", "track_id"], video)
        first, second = ({row["track_id"] for row in rows if (row["run"], row["video_id"]) == (run, video)} for rows in (one, other))
        frames, tracks = faces["frame_index"].to_numpy(), faces["track_id"].to_numpy()
        for a, b in sharing_frames(frames, tracks):
            if (a in first and b in second) or (a in second and b in first):
                shared = np.intersect1d(frames[tracks == a], frames[tracks == b])
                at = faces["time_s"].to_numpy()[np.flatnonzero(frames == shared[0])[0]]
                path = next(row["path"] for row in one if row["video_id"] == video)
                raise SettingsError(f"they are two people: both are on screen in {path} at {at:.2f} s")


def _track(members: Sequence[Mapping[str, Any]], word: str, person: str) -> Mapping[str, Any]:
    """The track of a person that a word stands for."""
    video, _, number = word.rpartition("#")
    if not number.isdigit():
        raise SettingsError(f"{word!r} is no track: write VIDEO#NUMBER, as clip.mp4#3")
    fitting = [
        row
        for row in members
        if row["track_id"] == int(number) and (not video or video in (row["video_id"], row["path"], Path(row["path"]).name))
    ]
    if not fitting:
        some = ", ".join(f"{Path(row['path']).name}#{row['track_id']}" for row in members[:8])
        raise SettingsError(f"{person} has no track {word}; it has {some}")
    if len(fitting) > 1:
        raise SettingsError(f"{len(fitting)} tracks of {person} fit {word}: write the video's path or video_id before #")
    return fitting[0]
