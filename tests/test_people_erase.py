"""Erasing a person: nothing is left in tables, embeddings, pictures and what was made of them, whenever the command is killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import load_trends, open_run
from pipeline.errors import FocalfaceWarning
from pipeline.execution.planning import planned_in
from pipeline.people import erasing
from pipeline.people.embedding import EmbeddingStore
from pipeline.schemas import NoteKind, note_kinds
from pipeline.storage.people_folder import PeopleFolder
from pipeline.storage.run_folder import RunFolder, video_id
from tests.support.people import holding, jpeg, link_by_hand, persons_of, vector_of
from tests.support.tables import add_video, command, new_run, rows_of

PATHS = ("a.mp4", "b.mp4", "c.mp4")
A, B, C = map(video_id, PATHS)
PEOPLE = {(A, 1): "P001", (A, 2): "P002", (B, 1): "P002", (B, 2): "P001", (C, 1): "P003", (C, 2): None}


def make(folder: Path, merged: bool = False) -> tuple[RunFolder, PeopleFolder]:
    """P001 and P002 are in a.mp4 and b.mp4, P003 is in c.mp4 with a track that is not linked."""
    run = new_run(folder / "run")
    for number, path in enumerate(PATHS):
        faces, rows = rows_of(video_id(path), 10, 2, seed=number)
        add_video(run, path, (faces, rows), faces=faces.num_rows, windows=17)
    if merged:
        run.merge_small()
    run.finish()
    return run, link_by_hand({"run": run}, run.path / "people", {"run": PEOPLE})


def check_erased(run: RunFolder, people: PeopleFolder) -> None:
    """P001 is nowhere, and everybody else is as before."""
    fresh = open_run(run.path)
    for table in (fresh.faces, fresh.descriptions):
        tracks = {(row["video_id"], row["track_id"]): row["person_id"] for row in table.to_pylist()}
        assert tracks == {key: person for key, person in PEOPLE.items() if person != "P001"}
    for row in fresh.videos.to_pylist():
        faces, rows = fresh.read("faces", video_id=row["video_id"]), fresh.read("descriptions", video_id=row["video_id"])
        pairs = {(face["track_id"], int(face["time_s"])) for face in faces.to_pylist()}
        counted = (faces.num_rows, len(set(faces["track_id"].to_pylist())), len(pairs), rows.num_rows)
        assert (row["faces"], row["tracks"], row["windows"], row["descriptions"]) == counted
        assert (NoteKind.ERASED in note_kinds(row["note"])) == (row["video_id"] in (A, B))
    assert fresh.info["counts"]["faces"] == fresh.faces.num_rows
    assert "P001" not in persons_of(people).values() and (A, 1) not in persons_of(people)
    assert fresh.people["person_id"].to_pylist() == ["P002", "P003"]
    numbers = [number for number, person in enumerate(PEOPLE.values(), 1) if person == "P001"]
    kept = EmbeddingStore(people.path).found
    assert not [key for key in kept if PEOPLE[key[1], key[2]] == "P001"]
    for number in numbers:
        assert not [key for key, held in kept.items() if np.allclose(held.vector, vector_of(number))]
        assert not holding(run.path, [jpeg(20 * number)])
    assert not holding(run.path, [b"P001"])
    files = [file for file in run.path.rglob("*.parquet") if file.parent.name in ("faces", "descriptions")]
    for file in files:  # no file that does not count is left either
        for row in pq.read_table(file, columns=["video_id", "track_id"], partitioning=None).to_pylist():
            assert PEOPLE[row["video_id"], row["track_id"]] != "P001"
    assert not (people.path / erasing.JOURNAL).exists()


@pytest.mark.parametrize("merged", [False, True])
def test_nothing_of_a_person_is_left(tmp_path: Path, merged: bool, capsys: pytest.CaptureFixture[str]) -> None:
    run, people = make(tmp_path, merged)
    before = open_run(run.path).descriptions.to_pylist()
    (run.path / "preview.png").write_bytes(b"picture")
    assert command("report", run.path) == 0
    load_trends([run.path]).save(run.path / "trends")
    (run.path / "trends" / "summary.html").write_text("P001")
    capsys.readouterr()
    assert command("people", run.path, "--erase", "P001") == 0
    assert "still show the person" in capsys.readouterr().out
    check_erased(run, people)
    assert open_run(run.path).descriptions.to_pylist() == [row for row in before if row["person_id"] != "P001"]
    for name in ("preview.png", "report/index.html", "trends/summary.html", "trends/series.parquet"):
        assert not (run.path / name).exists()
    assert command("people", run.path, "--erase", "P001") == 2
    assert command("people", run.path, "--erase", "c.mp4#2") == 0  # a track that is not linked
    assert open_run(run.path).read("faces", video_id=C)["track_id"].unique().to_pylist() == [1]


class Killed(BaseException):
    """A kill, as far as the files can tell."""


def erase_killed(folder: Path, kill_after: int) -> bool:
    """Erase P001, killed after some steps on files; check what is there then, and after the next command. Whether the kill came in time."""
    run, people = make(folder, merged=kill_after % 2 == 1)
    whole, left = open_run(run.path).faces.num_rows, [kill_after]
    replace, unlink = os.replace, Path.unlink

    def counted(work: Any) -> Any:
        def step(*words: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return work(*words, **options)

        return step

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", counted(replace))
        patched.setattr(Path, "unlink", counted(unlink))
        try:
            erasing.erase(people, "P001")
            return False
        except Killed:
            pass
    now = open_run(run.path)
    assert now.faces.num_rows == whole or (now.faces.num_rows < whole and "P001" not in now.faces["person_id"].to_pylist())
    assert now.videos["faces"].to_pylist() == [now.read("faces", video_id=key).num_rows for key in now.videos["video_id"].to_pylist()]
    if (people.path / erasing.JOURNAL).exists():
        assert command("people", run.path, "--name", "P003", "Cy") == command("people", run.path, "--name", "P003", "") == 0
        check_erased(run, people)
    return True


@pytest.mark.parametrize("kill_after", [1, 4, 8, 13])
def test_a_kill_leaves_before_or_after_and_the_next_command_completes(tmp_path: Path, kill_after: int) -> None:
    assert erase_killed(tmp_path, kill_after)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_before_or_after(tmp_path: Path) -> None:
    moments = [erase_killed(tmp_path / str(kill_after), kill_after) for kill_after in range(64)]
    assert moments[:10] == [True] * 10 and not any(moments[-2:])  # the last ones are later than the end


def test_a_resumed_run_does_not_bring_the_person_back(tmp_path: Path) -> None:
    run, _ = make(tmp_path)
    marks = dict.fromkeys(PATHS, "123-456")  # all files have changed
    assert {video.path: video.state for video in planned_in(run, marks).values()} == dict.fromkeys(PATHS, "changed")
    assert command("people", run.path, "--erase", "P001") == 0
    with pytest.warns(FocalfaceWarning, match="a person was erased from it"):
        states = {video.path: video.state for video in planned_in(run, marks).values()}
    assert states == {"a.mp4": "done", "b.mp4": "done", "c.mp4": "changed"}


def test_erasing_from_a_study_reaches_each_run_and_its_own_people(tmp_path: Path) -> None:
    runs, own = {}, {}
    for name in ("one", "two"):
        runs[name], own[name] = make(tmp_path / name)
    runs = dict(zip(("one", "two"), runs.values(), strict=True))
    study = link_by_hand(runs, tmp_path / "study", dict.fromkeys(runs, PEOPLE))
    assert command("people", study.path, "--erase", "P001") == 0
    for name, run in runs.items():
        check_erased(run, own[name])
    assert set(persons_of(study).values()) == {"P002", "P003", None}
    assert not holding(study.path, [b"P001"])


def test_a_run_that_is_unfinished_or_away_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, people = make(tmp_path)
    (run.path / "_partial").mkdir()
    assert command("people", run.path, "--erase", "P001") == 2
    assert "is unfinished" in capsys.readouterr().err
    (run.path / "_partial").rmdir()
    study = link_by_hand({"run": run}, tmp_path / "study", {"run": PEOPLE})
    os.rename(run.path, tmp_path / "away")
    assert command("people", study.path, "--erase", "P001") == 2
    assert "is no longer there" in capsys.readouterr().err
    assert (A, 1) in persons_of(study)
    assert people.path.name == "people"
