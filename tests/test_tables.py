"""The run folder: whole videos or none, in order, under their own settings."""

from __future__ import annotations

import itertools
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import FocalfaceError, SettingsError
from pipeline.schemas import TABLES
from pipeline.storage import run_folder as tables
from pipeline.storage.run_folder import RunFolder, empty, file_mark, printable, video_id


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
    folder.update_info(settings={"video": {"fps": 10}})
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


def test_rows_of_an_uncommitted_video_are_removed(folder: RunFolder) -> None:
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
    RunFolder(tmp_path / "tables").begin({})  # a run that was killed before it had anything
    (tmp_path / "tables" / "faces" / "a.mp4").write_text("mine")
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


def test_a_file_is_identified_by_its_path_and_its_last_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"one")
    before = file_mark(clip)
    monkeypatch.chdir(tmp_path)
    assert video_id("clip.mp4") == video_id(clip) == video_id("./clip.mp4")
    clip.write_bytes(b"other")
    assert file_mark(clip) != before
    assert printable(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")) == "caf\ufffd.mp4"


@pytest.fixture
def many(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Twenty videos with three faces each, in a folder that keeps at most eight single files."""
    monkeypatch.setattr(tables, "KEEP_SINGLE", 8)
    monkeypatch.setattr(tables, "MERGE_EVERY", 12)
    for index in range(20):
        key = f"{index:016x}"
        folder.commit(row(key), faces(key, (1, 1), (2, 1), (3, 2)), empty("descriptions"), f"{index}-1")
    return folder


def contents(folder: RunFolder) -> list[list[dict[str, Any]]]:
    return [folder.read(table).to_pylist() for table in TABLES]


def test_many_small_videos_share_a_few_files(many: RunFolder) -> None:
    assert {len(list((many.path / table).iterdir())) for table in TABLES} == {1 + 8}  # twelve were merged on the way
    before, marks = contents(many), many.committed()
    many.merge_small()
    assert {len(list((many.path / table).iterdir())) for table in TABLES} == {2}
    assert contents(many) == before == contents(RunFolder(many.path))
    assert many.committed() == marks == {f"{index:016x}": f"{index}-1" for index in range(20)}
    for table in TABLES:  # any reader of Parquet sees every row once
        assert pq.read_table(many.path / table).num_rows == len(before[list(TABLES).index(table)])
    key = f"{7:016x}"
    assert many.read("faces", video_id=key)["video_id"].to_pylist() == [key] * 3
    assert many.mark(key) == "7-1"
    assert many.file("faces", key)[1]


def test_a_video_done_again_leaves_its_merged_file(many: RunFolder) -> None:
    many.merge_small()
    key = f"{3:016x}"
    many.commit(row(key, "no_faces"), empty("faces"), empty("descriptions"), "9-9")
    assert many.committed() == {f"{index:016x}": f"{index}-1" for index in range(20)} | {key: "9-9"}
    assert many.read("faces").num_rows == 19 * 3
    assert many.read("videos").num_rows == 20
    many.finish()
    assert len(list((many.path / "faces").iterdir())) == 2


def test_large_videos_keep_files_of_their_own(many: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MERGED_BYTES", 4 * (many.path / "faces" / f"{19:016x}.parquet").stat().st_size)
    many.merge_small()
    assert len(list((many.path / "faces").iterdir())) == 1 + 8


@pytest.mark.parametrize("joining", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_kill_during_a_merge_loses_and_doubles_no_row(many: RunFolder, monkeypatch: pytest.MonkeyPatch, joining: bool) -> None:
    before, marks = contents(many), many.committed()
    if not joining:
        many.merge_small()

    class Killed(BaseException):
        pass

    real: dict[str, Any] = {"replace": os.replace, "unlink": Path.unlink}
    for deadline in itertools.count():
        left = [deadline]

        def dying(name: str, *arguments: Any, left: list[int] = left, **options: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real[name](*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *a, dying=dying: dying("replace", *a))
            patch.setattr(Path, "unlink", lambda self, missing_ok=False, dying=dying: dying("unlink", self, missing_ok=missing_ok))
            try:
                if joining:
                    many.merge_small()
                elif parts := many._parts():  # none where the kill came after the commit
                    many._split(min(parts))
                break
            except Killed:
                pass
        assert contents(RunFolder(many.path)) == before, deadline
        many = RunFolder(many.path)
        many.begin({"video": {"fps": 10}})
        assert contents(many) == before
        assert many.committed() == marks
    assert contents(many) == before
    assert deadline > 3


def test_a_full_disk_is_reported_in_one_line_and_keeps_committed_videos(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (1, 1)), empty("descriptions"), "1-1")
    large = faces("b", *((frame, 1) for frame in range(20000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))  # the error is EFBIG here, ENOSPC on a full disk
    try:
        with pytest.raises(FocalfaceError, match=r"cannot write to .*make room, then run the same command to resume"):
            folder.commit(row("b"), large, empty("descriptions"), "1-1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again = RunFolder(folder.path)
    again.begin({"video": {"fps": 10}})
    assert set(again.committed()) == {"a"}
    again.commit(row("b"), large, empty("descriptions"), "1-1")
    assert again.read("faces").num_rows == 1 + 20000


def test_one_video_comes_in_batches_in_order(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (2, 1), (1, 1), (3, 1)), empty("descriptions"), "1-1")
    folder.commit(row("b"), faces("b", (5, 1)), empty("descriptions"), "1-1")
    batches = list(folder.batches("faces", "a", ["frame_index"]))
    assert [index for batch in batches for index in batch["frame_index"].to_pylist()] == [1, 2, 3]
    folder.merge_small()
    assert [index for batch in folder.batches("faces", "b") for index in batch["frame_index"].to_pylist()] == [5]
    assert folder.read("faces", ["time_s"], "b").column_names == ["time_s"]


def test_a_damaged_table_is_named_in_one_line(folder: RunFolder) -> None:
    folder.commit(row("a"), faces("a", (1, 1)), empty("descriptions"), "1-1")
    folder.file("faces", "a")[0].write_bytes(b"PAR1 no table")
    for read in (lambda: folder.read("faces"), lambda: list(folder.batches("faces", "a"))):
        with pytest.raises(SettingsError, match=r"cannot be read \(.+\): run") as caught:
            read()
        assert "\n" not in str(caught.value)
