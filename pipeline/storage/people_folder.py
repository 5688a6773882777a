"""The people folder: which tracks show the same person, in one run or in several.

    RUN/people/ or DIR/
        tracks.parquet        a row for each track, with its person; names, edits and thresholds in its metadata
        people.parquet        a row for each person, made from tracks.parquet
        faces/<person>.jpg    a picture of each person
        index.html            all people, to look at
        embeddings.parquet    what recognises the tracks; biometric data, read by `focalface people` alone

`tracks.parquet` decides. It is replaced in one step, and the other files are made from it, so a kill at any moment leaves the people of
before or of after.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import SettingsError, one_line, writing
from pipeline.schemas import PEOPLE, PERSON_ID, PERSON_TRACKS
from pipeline.storage.atomic import replacing

FOLDER = "people"
"""Name of the people folder within a run folder."""

TRACKS_FILE, PEOPLE_FILE, EMBEDDINGS_FILE, FACES_FOLDER = "tracks.parquet", "people.parquet", "embeddings.parquet", "faces"

TrackKey = tuple[str, str, int]
"""run, video_id and track_id."""

_ABOUT = b"people"


@dataclass(frozen=True)
class People:
    """What a people folder says.

    Attributes:
        tracks: rows of `pipeline.schemas.PERSON_TRACKS`, in the order of run, path and track.
        about: plain data: `runs` (name to folder), `names` (person_id to name), `edits`, `backend`, `threshold`, `next` (number of the next
            new person).
    """

    tracks: pa.Table
    about: dict[str, Any]

    @property
    def names(self) -> dict[str, str]:
        """person_id to the name that was given."""
        return dict(self.about.get("names", {}))

    def members(self) -> dict[str, list[dict[str, Any]]]:
        """person_id to the rows of its tracks, by person_id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.tracks.to_pylist():
            if row["person_id"] is not None:
                found.setdefault(row["person_id"], []).append(row)
        return dict(sorted(found.items()))

    def find(self, word: str) -> str:
        """The person_id that a word stands for: an id, or a name.

        Raises:
            SettingsError: there is no such person.
        """
        people = self.members()
        if word in people:
            return word
        named = [person for person, name in self.names.items() if name == word and person in people]
        if named:
            return named[0]
        some = ", ".join([*(f"{person} ({self.names[person]})" if person in self.names else person for person in people)][:8])
        raise SettingsError(f"there is no person {word!r}; {f'some of them: {some}' if some else 'no one is linked'}")

    def table(self) -> pa.Table:
        """A row of `pipeline.schemas.PEOPLE` for each person."""
        rows = []
        for person, tracks in self.members().items():
            videos = sorted({(row["path"], row["run"], row["video_id"]) for row in tracks})
            first = min(row["first_s"] for row in tracks if (row["path"], row["run"], row["video_id"]) == videos[0])
            last = max(row["last_s"] for row in tracks if (row["path"], row["run"], row["video_id"]) == videos[-1])
            rows.append(
                {
                    "person_id": person,
                    "name": self.names.get(person),
                    "tracks": len(tracks),
                    "videos": len(videos),
                    "first_video": videos[0][0],
                    "first_s": first,
                    "last_video": videos[-1][0],
                    "last_s": last,
                    "faces": sum(row["faces"] for row in tracks),
                    "face": f"{FACES_FOLDER}/{person}.jpg",
                }
            )
        return pa.Table.from_pylist(rows, PEOPLE)


@dataclass(frozen=True)
class Persons:
    """The people of one run, for readers of its tables.

    Attributes:
        of: (video_id, track_id) to person_id.
        names: person_id to the name that was given.

    >>> persons = Persons({("v", 1): "P001", ("v", 3): "P001"}, {"P001": "Ada"})
    >>> persons.lead("v", 3), persons.label("P001")
    (1, 'Ada')
    """

    of: Mapping[tuple[str, int], str]
    names: Mapping[str, str] = field(default_factory=dict)
    _leads: dict[tuple[str, str], int] = field(init=False, default_factory=dict, repr=False)
    _counts: Counter[tuple[str, str]] = field(init=False, default_factory=Counter, repr=False)

    def __post_init__(self) -> None:
        for (video, track), person in sorted(self.of.items()):
            self._leads.setdefault((video, person), track)
            self._counts[video, person] += 1

    def lead(self, video_id: str, track_id: int) -> int:
        """The lowest of the video's tracks that show the same person; the track itself where it is not linked."""
        person = self.of.get((video_id, track_id))
        return track_id if person is None else self._leads[video_id, person]

    def count(self, video_id: str, person_id: str) -> int:
        """Number of the person's tracks in a video."""
        return self._counts[video_id, person_id]

    def within(self, run: str) -> Persons:
        """The same people under ids that begin with their run, so that those of several runs stay apart."""
        of = {track: f"{run}/{person}" for track, person in self.of.items()}
        return Persons(of, {f"{run}/{person}": name for person, name in self.names.items()})

    def label(self, person_id: str) -> str:
        """The person's name; the id where it has none."""
        return self.names.get(person_id, person_id)

    def attach(self, table: pa.Table) -> pa.Table:
        """A table with `video_id` and `track_id`, with `person_id` after `track_id`."""
        videos, tracks = table["video_id"].combine_chunks(), table["track_id"].to_numpy()
        coded = videos.dictionary_encode() if videos.type != pa.dictionary(pa.int32(), pa.string()) else videos
        numbers, names = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
        people: list[str | None] = [None] * len(tracks)
        pairs, places = np.unique(np.stack([numbers, tracks]).astype(np.int64), axis=1, return_inverse=True)
        found = [self.of.get((names[video], int(track))) for video, track in pairs.T.tolist()]
        people = [found[place] for place in places.reshape(-1).tolist()]
        return table.add_column(table.column_names.index("track_id") + 1, PERSON_ID, pa.array(people, pa.string()))


class PeopleFolder:
    """A people folder: the one writer and the one reader of its tables.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Whether people are linked here."""
        return (self.path / TRACKS_FILE).is_file()

    def read(self) -> People:
        """What the folder says.

        Raises:
            SettingsError: nobody is linked here, or the file is damaged.
        """
        if not self.exists:
            raise SettingsError(f"{self.path} holds no people: link them with focalface people RUN")
        try:
            tracks = pq.read_table(self.path / TRACKS_FILE, partitioning=None)
            about = json.loads((tracks.schema.metadata or {})[_ABOUT])
            return People(tracks.cast(PERSON_TRACKS), about)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            reason = one_line(error)[:200]
            text = f"{self.path / TRACKS_FILE} cannot be read ({reason}): link again with focalface people --overwrite"
            raise SettingsError(text) from error

    def write(self, people: People) -> None:
        """Replace what the folder says: `tracks.parquet` first, in one step, then the table that is made from it.

        Raises:
            SettingsError: the folder cannot be written.
        """
        text = json.dumps(people.about, ensure_ascii=False)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            tracks = people.tracks.cast(PERSON_TRACKS).replace_schema_metadata({_ABOUT: text})
            with replacing(self.path / TRACKS_FILE, durable=True) as file:
                pq.write_table(tracks, file, compression="zstd")
            self.write_table(people)

    def write_table(self, people: People) -> None:
        """Write the table that is made from `tracks.parquet`."""
        with replacing(self.path / PEOPLE_FILE, durable=True) as file:
            pq.write_table(people.table(), file, compression="zstd")

    def persons(self, run: str | os.PathLike[str], marks: Mapping[str, str]) -> Persons | None:
        """The people of one run.

        Args:
            run: the run's folder.
            marks: video_id to its `RunFolder.table_marks`; links of videos that were analysed again since are left out.

        Returns:
            None where nobody is linked here, or the folder is about other runs.
        """
        if not self.exists:
            return None
        people = self.read()
        name = self._name_of(Path(run), people.about.get("runs", {}))
        if name is None:
            return None
        own = [row for row in people.tracks.to_pylist() if row["run"] == name and row["person_id"] is not None]
        of = {(row["video_id"], row["track_id"]): row["person_id"] for row in own if marks.get(row["video_id"]) == row["mark"]}
        return Persons(of, people.names)

    def _name_of(self, run: Path, runs: Mapping[str, str]) -> str | None:
        """The name under which a run is known here: by its place, else by its folder's name where only one has it."""
        if self.path.resolve().parent == run.resolve() and len(runs) == 1:
            return next(iter(runs))
        places = [name for name, place in runs.items() if Path(place).resolve() == run.resolve()]
        places = places or [name for name, place in runs.items() if Path(place).name == run.resolve().name]
        return places[0] if len(places) == 1 else None


def track_rows(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of `PERSON_TRACKS` in their order."""
    ordered = sorted(rows, key=lambda row: (row["run"], row["path"], row["video_id"], row["track_id"]))
    return pa.Table.from_pylist([dict(row) for row in ordered], PERSON_TRACKS)
