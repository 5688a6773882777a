"""The page of all people, and a picture of each: made from the tracks table and the tracks' pictures, and made again when these change."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from pipeline.errors import writing
from pipeline.people.embedding import EmbeddingStore
from pipeline.storage.atomic import replacing
from pipeline.storage.people_folder import FACES_FOLDER, People, PeopleFolder

SHEET = "index.html"

PICTURES = 6
"""Pictures of a person on the page, one a track, the best first."""


def refresh(folder: PeopleFolder, store: EmbeddingStore) -> None:
    """Write `people.parquet`, the pictures and the page anew from the tracks table.

    Pictures come from the embeddings' file; where that is gone (`--forget`), a person keeps the picture that there is.

    Args:
        folder: the people folder.
        store: its embeddings.
    """
    people = folder.read()
    members = people.members()
    faces = folder.path / FACES_FOLDER
    with writing(folder.path):
        faces.mkdir(parents=True, exist_ok=True)
        for file in faces.glob("*.jpg"):
            if file.stem not in members:
                file.unlink()
        shown: dict[str, list[bytes]] = {}
        for person, tracks in members.items():
            held = [one for row in tracks if (one := store.found.get((row["run"], row["video_id"], row["track_id"]))) is not None]
            pictures = [one.picture for one in sorted(held, key=lambda one: -one.quality)]
            file = faces / f"{person}.jpg"
            if pictures and not (file.is_file() and file.read_bytes() == pictures[0]):
                with replacing(file) as part:
                    part.write_bytes(pictures[0])
            shown[person] = pictures[:PICTURES] or ([file.read_bytes()] if file.is_file() else [])
        folder.write_table(people)
        with replacing(folder.path / SHEET) as part:
            part.write_text(_page(people, shown), encoding="utf-8")


def _page(people: People, shown: dict[str, list[bytes]]) -> str:
    cards: list[dict[str, Any]] = []
    members = people.members()
    for row in people.table().to_pylist():
        videos = [Path(path).name for path in sorted({track["path"] for track in members[row["person_id"]]})]
        pictures = [base64.b64encode(jpeg).decode() for jpeg in shown.get(row["person_id"], ())]
        tracks = [f"{Path(track['path']).name}#{track['track_id']}" for track in members[row["person_id"]]]
        cards.append({**row, "pictures": pictures, "seen_in": videos, "track_names": tracks})
    unlinked: dict[str, int] = {}
    for track in people.tracks.to_pylist():
        if track["person_id"] is None:
            unlinked[track["note"]] = unlinked.get(track["note"], 0) + 1
    environment = Environment(loader=PackageLoader("pipeline.people"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    cards.sort(key=lambda card: (-card["faces"], card["person_id"]))
    return environment.get_template("people.html.j2").render(cards=cards, unlinked=sorted(unlinked.items()), about=people.about)
