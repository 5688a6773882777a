"""What is written is there whole, or the old content stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage.atomic import replacing


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError), replacing(file) as temporary:  # noqa: PT011, PT012
        temporary.write_text("half")
        (tmp_path / "nowhere" / "b.txt").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_folders_appear_whole_and_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".made.part").mkdir()
    (tmp_path / ".made.part" / "old").write_text("of a killed process")
    with replacing(tmp_path / "made", durable=True) as temporary:
        temporary.mkdir()
        (temporary / "b.txt").write_text("b")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
