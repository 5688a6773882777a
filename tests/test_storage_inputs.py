"""Finding videos: links, hidden places, bins, and names in any Unicode form."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.storage.inputs import find_videos, search
from pipeline.storage.names import VIDEO_SUFFIXES, on_disk
from pipeline.storage.run_folder import video_id

NFC, NFD = (unicodedata.normalize(form, "Zoë é.mp4") for form in ("NFC", "NFD"))


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with its folders of links, and a data set under git-annex with what servers and systems leave beside it."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "archive/p01/talk.mp4", tmp_path / "archive/p02/talk.mp4")
    study = tmp_path / "study"
    study.mkdir()
    for name, target in {
        "p01": "../archive/p01",
        "p02": "../archive/p02",
        "self": ".",
        "up": "..",
        "same.mp4": "../archive/p01/talk.mp4",
    }.items():
        (study / name).symlink_to(target)
    data = tmp_path / "dataset"
    annexed = data / ".git/annex/objects/K/V/key.mp4/key.mp4"
    put(annexed, data / ".Trashes/old.mp4", data / "#recycle/deleted.mp4", data / "$RECYCLE.BIN/S-1/x.mp4", data / "__MACOSX/sub-01/y.mp4")
    put(
        data / "sub-01/@eaDir/talk.mp4/SYNOVIDEO.jpg",
        data / "sub-01/._clip.mp4",
        data / "sub-01/.notes.txt",
        data / "annex/objects/a/b.mp4",
    )
    (data / "sub-01/clip.mp4").symlink_to(annexed)
    return tmp_path


def test_links_to_folders_are_followed_once_and_loops_end(archive: Path) -> None:
    assert find_videos(["study"]) == ["study/p01/talk.mp4", "study/p02/talk.mp4"]
    assert search(["study"]).skipped == {"another path of a file": 1}
    assert find_videos(["study/**/*.mp4"]) == ["study/p01/talk.mp4", "study/p02/talk.mp4"]
    assert find_videos(["archive", "study"]) == ["archive/p01/talk.mp4", "archive/p02/talk.mp4"]
    assert find_videos(["study/same.mp4", "study"]) == ["study/same.mp4", "study/p02/talk.mp4"]


def test_a_path_without_links_is_kept_for_a_file_that_has_one(archive: Path) -> None:
    (archive / "archive/a_link").symlink_to("p02")
    (archive / "archive/a_link.mp4").symlink_to("p01/talk.mp4")
    assert find_videos(["archive"]) == ["archive/p01/talk.mp4", "archive/p02/talk.mp4"]


def test_two_files_of_one_content_are_two_videos(archive: Path) -> None:
    os.link(archive / "archive/p01/talk.mp4", archive / "archive/p01/copy.mp4")
    assert len(find_videos(["archive/p01"])) == 2


def test_hidden_places_bins_and_object_stores_are_skipped_and_counted(archive: Path) -> None:
    found = search(["dataset"])
    assert list(found.marks) == ["dataset/sub-01/clip.mp4"]
    assert found.skipped == {
        "hidden": 3,  # .git, .Trashes, ._clip.mp4
        "recycle bin": 2,
        "system folder": 1,
        "server's thumbnails": 1,
        "git-annex objects": 1,
    }
    assert find_videos(["dataset/*/*.mp4"]) == find_videos(["dataset/**/*.mp4"]) == ["dataset/sub-01/clip.mp4"]
    assert search(["dataset/*/*.mp4"]).skipped == {"recycle bin": 1}


def test_a_hidden_place_that_is_named_is_searched(archive: Path) -> None:
    assert find_videos(["dataset/.Trashes"]) == find_videos(["dataset/.Trashes/*.mp4"]) == ["dataset/.Trashes/old.mp4"]
    assert find_videos(["dataset/sub-01/._clip.mp4"]) == ["dataset/sub-01/._clip.mp4"]


def test_a_dry_run_says_what_was_skipped(archive: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "run", "dataset", "study", "--out", "out", "--dry-run"]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=archive, env=os.environ | {"PYTHONPATH": str(root)})
    assert "videos   3: 3 to do" in ended.stdout
    assert "skipped  9: 3 hidden, 2 recycle bin, 1 another path of a file, 1 git-annex objects" in ended.stdout


def test_raw_and_tape_formats_are_found(tmp_path: Path) -> None:
    names = [f"a.{kind}" for kind in ["h264", "264", "hevc", "265", "m2v", "mjpeg", "dv", "apng", "webp", "MTS", "mod", "vob"]]
    put(*(tmp_path / name for name in names), tmp_path / "a.txt", tmp_path / "a.jpg", tmp_path / "a.srt")
    assert find_videos([str(tmp_path)]) == sorted(str(tmp_path / name) for name in names)
    assert {".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif"} <= VIDEO_SUFFIXES


@pytest.mark.parametrize(("stored", "written"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_a_name_is_found_in_any_unicode_form_under_the_name_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / stored / stored)
    for path in (f"{written}/{written}", str(tmp_path / written / written), written):
        (found,) = find_videos([path])
        assert os.path.basename(found) == stored
        assert video_id(found) == video_id(tmp_path / stored / stored)
    assert on_disk(f"{written}/none.mp4") == f"{written}/none.mp4"
    with pytest.raises(SettingsError, match="there is no file or folder"):
        find_videos([f"{written}/none.mp4"])
