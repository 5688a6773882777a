"""Who is in a run: its people for a report, and the run as one person's rows where a report is about that person."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import SettingsError
from pipeline.settings import EVERYTHING, Choice
from pipeline.storage.chosen_run import ChosenRun
from pipeline.storage.people_folder import FOLDER, PeopleFolder, Persons
from pipeline.storage.run_folder import RunFolder

SHOWN = 60
"""People with a picture on the index; the people folder's own page has all."""


class LinkedRun(ChosenRun):
    """A run with its people, or with the rows of some of them alone.

    Attributes:
        people_folder: over several runs; None for the run's own.
        only: ids of the people to whom reading is limited; empty for no limit.
        linked: its people; nobody where people are not linked.
    """

    def __init__(
        self, path: str | os.PathLike[str], people: Path | None = None, only: Sequence[str] = (), choice: Choice = EVERYTHING
    ) -> None:
        """Open a run.

        Args:
            path: the run folder.
            people: a people folder over several runs; by default the run's own, where it has one.
            only: ids and names of the only people to read.
            choice: which faces count; the largest are chosen among those of everybody.

        Raises:
            SettingsError: the people folder says nothing about the run, or there is no such person.
        """
        super().__init__(path, choice)
        self.people_folder, self.only = people, frozenset[str]()
        linked = self.persons(people)
        if people is not None and linked is None:
            raise SettingsError(f"--people {people} says nothing about {path}: link it with focalface people {path} --out {people}")
        self.linked = linked or Persons({})
        present = sorted(set(self.linked.of.values()))
        self.only = frozenset(person for person in present if person in only or self.linked.label(person) in only)
        if only and not self.only:
            known = ", ".join(map(self.linked.label, present[:8]))
            some = f"some of them: {known}" if known else f"no one is linked; link people with focalface people {path}"
            raise SettingsError(f"--person {', '.join(only)}: there is no such person in {path}; {some}")

    def videos_with(self) -> set[str]:
        """Videos with one of the people that are read."""
        return {video for (video, _), person in self.linked.of.items() if person in self.only}

    def read(self, table: str, columns: Iterable[str] | None = None, video_id: str | None = None) -> pa.Table:
        """See `RunFolder.read`; without the rows of others."""
        if not self.only or table == "videos":
            return super().read(table, columns, video_id)
        names = None if columns is None else list(columns)
        wanted = None if names is None else list(dict.fromkeys([*names, "video_id", "track_id"]))
        rows = self._own(super().read(table, wanted, video_id))
        return rows if names is None else rows.select(names)

    def batches(self, table: str, video_id: str, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """See `RunFolder.batches`; without the rows of others."""
        if not self.only or table == "videos":
            yield from super().batches(table, video_id, columns)
            return
        names = None if columns is None else list(columns)
        wanted = None if names is None else list(dict.fromkeys([*names, "video_id", "track_id"]))
        for rows in super().batches(table, video_id, wanted):
            yield self._own(rows) if names is None else self._own(rows).select(names)

    def _own(self, rows: pa.Table) -> pa.Table:
        keys = zip(rows["video_id"].to_pylist(), rows["track_id"].to_pylist(), strict=True)
        return rows.filter(pa.array([self.linked.of.get(key) in self.only for key in keys], pa.bool_()))


def persons_in(run: RunFolder, video_id: str) -> Persons:
    """The people of a run, at least those of one video; nobody where people are not linked."""
    return run.linked if isinstance(run, LinkedRun) else run.persons(video_id=video_id) or Persons({})


def state_of(run: RunFolder, video_id: str) -> str:
    """Changes when the people of a video, or their names, do."""
    persons = persons_in(run, video_id)
    own = sorted((track, person, persons.label(person)) for (video, track), person in persons.of.items() if video == video_id)
    return f"{own} {sorted(run.only) if isinstance(run, LinkedRun) else ''}"


def listed_people(run: RunFolder, pictures: bool) -> list[dict[str, Any]]:
    """The people of a run for its index, those with the most tracks first: id, name, picture (base64 or empty) and their videos.

    Args:
        run: the run folder.
        pictures: whether faces may be shown.
    """
    persons = run.linked if isinstance(run, LinkedRun) else run.persons() or Persons({})
    seen: dict[str, dict[str, int]] = {}
    for (video, _), person in persons.of.items():
        if not isinstance(run, LinkedRun) or not run.only or person in run.only:
            counts = seen.setdefault(person, {})
            counts[video] = counts.get(video, 0) + 1
    folder = run.people_folder if isinstance(run, LinkedRun) and run.people_folder is not None else run.path / FOLDER
    found: list[dict[str, Any]] = []
    for person, counts in sorted(seen.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        file = PeopleFolder(folder).path / "faces" / f"{person}.jpg"
        shown = pictures and len(found) < SHOWN and file.is_file()
        picture = base64.b64encode(file.read_bytes()).decode() if shown else ""
        about = {"id": person, "name": persons.label(person), "tracks": sum(counts.values()), "videos": sorted(counts)}
        found.append(about | {"picture": picture})
    return found
