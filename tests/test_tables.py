"""The run folder: whole videos or none, in order, under their own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SettingsError
from pipeline.schemas import TABLES
from pipeline.tables import RunFolder, empty, fingerprint, shown, video_id


def row(key: str, status: str = "ok") -> dict[str, Any]:
    return {"video_id": key, "path": f"{key}.mp4", "status": status}


def faces(key: str, *places: tuple[int, int]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"video_id": key, "frame_index": frame, "time_s": frame / 25, "track_id": track}
            | {"box": [0, 0, 9, 9], "landmarks5": [0.0] * 10}
            for frame, track in places
        ],
        TABLES["faces"],
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"video": {"fps": 10}})
    folder.note(settings={"video": {"fps": 10}})
    return folder


def test_rows_come_back_in_order_and_in_the_schema(folder: RunFolder) -> None:
    folder.commit(row("b"), faces("b", (3, 1), (1, 2), (1, 1)), empty("descriptions"), "1-1")
    folder.commit(row("a"), faces("a", (7, 1)), empty("descriptions"), "1-1")
    read = folder.read("faces")
    assert read.schema.equals(TABLES["faces"], check_metadata=False)
    assert list(zip(*(read[name].to_pylist() for name in ("video_id", "frame_index", "track_id")), strict=True)) == [
        ("a", 7, 1),
        ("b", 1, 1),
        ("b", 1, 2),
        ("b", 3, 1),
    ]
    assert folder.read("videos")["path"].to_pylist() == ["a.mp4", "b.mp4"]


def test_a_run_without_faces_leaves_readable_tables(folder: RunFolder) -> None:
    folder.commit(row("a", "no_faces"), empty("faces"), empty("descriptions"), "1-1")
    folder.finish()
    for table, schema in TABLES.items():
        assert pq.read_table(folder.path / table).schema.equals(schema, check_metadata=False)
        assert folder.read(table).num_rows == (1 if table == "videos" else 0)


def test_what_an_uncommitted_video_left_is_removed(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (1, 1)), empty("descriptions"), "1-1")
    folder.commit(row("b"), faces("b", (1, 1)), empty("descriptions"), "1-1")
    (folder.path / "videos" / "b.parquet").unlink()  # as if killed before the commit
    (folder.path / "_partial" / "faces-c.parquet").write_bytes(b"half")
    again = RunFolder(folder.path)
    again.begin({"video": {"fps": 10}})
    assert set(again.committed()) == {"a"}
    assert again.read("faces")["video_id"].to_pylist() == ["a"]
    assert not list((folder.path / "_partial").iterdir())


def test_a_video_done_again_is_there_once(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (1, 1), (2, 1)), empty("descriptions"), "1-1")
    folder.commit(row("a"), faces("a", (5, 1)), empty("descriptions"), "2-2")
    assert folder.read("faces")["frame_index"].to_pylist() == [5]
    assert folder.committed() == {"a": "2-2"}


def test_another_runs_settings_are_refused_by_name(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (1, 1)), empty("descriptions"), "1-1")
    with pytest.raises(SettingsError, match=r"video\.fps was 10, now 5.*--overwrite"):
        RunFolder(folder.path).begin({"video": {"fps": 5}})
    assert folder.read("faces").num_rows == 1
    RunFolder(folder.path).begin({"video": {"fps": 5}}, overwrite=True)
    assert folder.committed() == {}
    assert not list((folder.path / "faces").iterdir())


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError, match="is a file"):
        RunFolder(file).begin({})
    (tmp_path / "tables" / "faces").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"without a run\.json"):
        RunFolder(tmp_path / "tables").begin({})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        RunFolder(tmp_path / "broken").begin({})
    with pytest.raises(SettingsError, match="holds no run"):
        RunFolder(tmp_path).read("faces")


def test_overwriting_touches_nothing_but_the_run(folder: RunFolder) -> None:
    (folder.path / "notes.txt").write_text("mine")
    folder.begin({}, overwrite=True)
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_a_file_is_known_by_its_place_and_its_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"one")
    before = fingerprint(clip)
    monkeypatch.chdir(tmp_path)
    assert video_id("clip.mp4") == video_id(clip) == video_id("./clip.mp4")
    clip.write_bytes(b"other")
    assert fingerprint(clip) != before
    assert shown(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")) == "caf\ufffd.mp4"
