"""Videos and results on a real S3 server on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from pipeline.errors import SettingsError, VideoError
from pipeline.execution.analysis import analyse_video
from pipeline.execution.planning import planned
from pipeline.faces.detectors import load_detector
from pipeline.settings import load_settings
from pipeline.storage import remote as storage
from pipeline.storage.inputs import find_videos, search
from pipeline.storage.remote import Mirror, fetched, find, is_url
from pipeline.storage.run_folder import RunFolder, empty, video_id
from tests.support.servers import bucket, s3_server

ODD = 'deep/it\'s "odd"?x=1&%20 [1].mp4'


@pytest.fixture(scope="module")
def films(samples: Path) -> Iterator[fs.S3FileSystem]:
    """A bucket `films` with a clip under a plain and an odd name, and files that are not videos."""
    with s3_server():
        system = bucket("films")
        clip = (samples / "single_face.mp4").read_bytes()
        for name, content in (
            ("a.mp4", clip),
            (ODD, clip),
            ("deep/.hidden.mp4", b""),
            ("#recycle/b.mp4", b""),
            ("notes.txt", b"passed over"),
        ):
            with system.open_output_stream(f"films/{name}") as stream:
                stream.write(content)
        yield system
        storage._filesystem.cache_clear()


def names(system: fs.FileSystem, folder: str) -> set[str]:
    entries = system.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return {entry.path.removeprefix(f"{folder}/") for entry in entries if entry.type == fs.FileType.File}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://films", ["a.mp4", ODD]),
        ("s3://films/", ["a.mp4", ODD]),
        ("s3://films/deep", [ODD]),
        (f"s3://films/{ODD}", [ODD]),
        ("s3://films/*.mp4", ["a.mp4"]),
        ("s3://films/**/*odd*", [ODD]),
    ],
)
def test_files_folders_and_patterns_are_found_as_on_a_disk(films: fs.FileSystem, url: str, found: list[str]) -> None:
    assert find_videos([url]) == [f"s3://films/{name}" for name in found]


def test_hidden_files_and_bins_are_skipped_there_too(films: fs.FileSystem) -> None:
    assert search(["s3://films"]).skipped == {"hidden": 1, "recycle bin": 1}
    assert search(["s3://films/**/*.mp4"]).skipped == {"hidden": 1, "recycle bin": 1}
    assert find_videos(["s3://films/#recycle"]) == ["s3://films/#recycle/b.mp4"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://films/none.mp4", "there is no file or folder s3://films/none.mp4"),
        ("s3://films/*.avi", "no file matches s3://films/*.avi"),
        ("s3://nowhere/", "there is no file or folder s3://nowhere/"),
        ("nosuch://films", "cannot open nosuch://films: Protocol not known: nosuch"),
    ],
)
def test_missing_objects_are_reported_in_one_line(films: fs.FileSystem, url: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        find_videos([url])
    assert str(raised.value) == says


def test_a_url_does_not_depend_on_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = video_id("s3://films/a.mp4"), video_id("a.mp4")
    monkeypatch.chdir(tmp_path)
    assert video_id("s3://films/a.mp4") == before[0] != before[1] != video_id("a.mp4")
    assert is_url("s3://films") and not is_url("films/s3") and not is_url("C:/films") and not is_url("odd: name")


def test_a_fetched_file_has_the_same_bytes_and_is_removed_after_use(films: fs.FileSystem, samples: Path) -> None:
    with fetched(f"s3://films/{ODD}") as file:
        assert Path(file).read_bytes() == (samples / "single_face.mp4").read_bytes()
        assert "odd" not in file
    assert not Path(file).parent.exists()
    with pytest.raises(VideoError, match=r"s3://films/gone\.mp4: cannot be fetched"), fetched("s3://films/gone.mp4"):
        pass


def test_a_changed_object_has_another_mark(films: fs.S3FileSystem) -> None:
    def write(content: bytes) -> str:
        with films.open_output_stream("films/other/b.mp4") as stream:
            stream.write(content)
        return find("s3://films/other", lambda name: True)[0]["s3://films/other/b.mp4"]

    assert write(b"one") != write(b"three")
    films.delete_file("films/other/b.mp4")


def test_a_remote_video_gives_the_rows_of_a_local_one(films: fs.FileSystem, samples: Path) -> None:
    settings, detector = load_settings(assignments=["video.fps=2"]), load_detector("centerface")
    (*_, here) = analyse_video(str(samples / "single_face.mp4"), settings, detector)
    (*_, there) = analyse_video(f"s3://films/{ODD}", settings, detector)
    assert here.video is not None and there.video is not None
    assert there.video["path"] == f"s3://films/{ODD}"
    differing = {"video_id", "path"}
    assert {key: value for key, value in there.video.items() if key not in differing} == {
        key: value for key, value in here.video.items() if key not in differing
    }
    assert here.video["faces"] > 0
    (*_, gone) = analyse_video("s3://films/notes.txt", settings, detector)
    assert gone.video is not None
    assert gone.video["status"] == "failed" and gone.video["error"].startswith("not a video")


def commit(folder: RunFolder, key: str, mark: str) -> None:
    folder.commit({"video_id": key, "path": key, "status": "no_faces"}, empty("faces"), empty("descriptions"), mark)


@pytest.mark.parametrize("place", ["s3://films/out/run", "memory://out/run"])
def test_a_run_resumes_from_its_copy(films: fs.FileSystem, place: str) -> None:
    with Mirror(place) as mirror:
        folder = RunFolder(mirror.path)
        folder.begin({})
        for key in ("a", "b"):
            commit(folder, key, "1")
        folder.update_info(settings={})
        mirror.push(now=True)
    assert not mirror.path.exists()
    with Mirror(place) as mirror:
        folder = RunFolder(mirror.path)
        assert folder.committed() == {"a": "1", "b": "1"}
        folder.begin({})
        commit(folder, "b", "2")
        folder.discard("a")
        folder.finish()
    with Mirror(place) as mirror:
        assert RunFolder(mirror.path).committed() == {"b": "2"}
        assert RunFolder(mirror.path).read("videos")["path"].to_pylist() == ["b"]
        assert not any("_" in path.name for path in mirror.path.rglob("*"))


def test_after_a_kill_between_any_two_requests_the_copy_holds_no_commit_without_its_rows(
    films: fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a push was cut off anywhere, each commit in the copy has its tables, of the same state of the run."""

    class Killed(BaseException):
        pass

    with Mirror("s3://films/killed") as mirror:
        folder = RunFolder(mirror.path)
        folder.begin({})
        for key in ("a", "b", "c"):
            commit(folder, key, "old")
        mirror.push(now=True)
        commit(folder, "a", "new")
        folder.discard("b")
        commit(folder, "d", "new")
        steps = 0
        while True:
            steps += 1
            left = iter(range(steps))

            def counted(do: Callable[[Mirror, str], None], left: Iterator[int] = left) -> Callable[[Mirror, str], None]:
                def step(mirror: Mirror, file: str) -> None:
                    if next(left, None) is None:
                        raise Killed
                    do(mirror, file)

                return step

            with monkeypatch.context() as patch:
                patch.setattr(Mirror, "_write", counted(Mirror._write))
                patch.setattr(Mirror, "_remove", counted(Mirror._remove))
                there = dict(mirror._there)
                try:
                    mirror.push(now=True)
                    finished = True
                except Killed:
                    finished = False
            held = names(films, "films/killed")
            for name in held:
                if name.startswith("videos/"):
                    assert {name.replace("videos", table) for table in ("faces", "descriptions")} <= held
            if finished:
                break
            mirror._there = {**there, **mirror._there}
            for name in set(mirror._there) - held:
                del mirror._there[name]
        assert {name for name in held if name.startswith("videos/")} == {f"videos/{key}.parquet" for key in "acd"}
        assert steps > 3


def test_a_place_that_cannot_be_written_is_reported_in_one_line(films: fs.FileSystem) -> None:
    mirror = Mirror("s3://nosuch-bucket/run").__enter__()
    commit_to = RunFolder(mirror.path)
    commit_to.begin({})
    commit_to.update_info(settings={})
    with pytest.raises(SettingsError, match=r"cannot write to s3://nosuch-bucket/run"):
        mirror.__exit__(None, None, None)
    assert not mirror.path.exists()


def test_a_plain_path_is_its_own(tmp_path: Path) -> None:
    with Mirror(tmp_path / "run") as mirror:
        assert mirror.path == tmp_path / "run"
        mirror.push(now=True)
    with Mirror(f"file://{tmp_path}/run") as mirror:
        assert mirror.path == tmp_path / "run"
    assert os.listdir(tmp_path) == []


def test_videos_that_could_not_be_fetched_are_tried_again(films: fs.FileSystem, tmp_path: Path) -> None:
    (chunk,) = analyse_video("s3://films/gone.mp4", load_settings(), load_detector("centerface"))
    assert chunk.retry and chunk.video is not None
    assert chunk.video["status"] == "failed" and "cannot be fetched" in chunk.video["error"]
    assert chunk.video["error_kind"] == "unreachable"
    folder = RunFolder(tmp_path / "run")
    folder.begin({})
    for name, fingerprint in ((ODD, ""), ("a.mp4", find("s3://films/a.mp4", lambda _: True)[0]["s3://films/a.mp4"])):
        row = {"video_id": video_id(f"s3://films/{name}"), "path": name, "status": "failed"}
        folder.commit(row, empty("faces"), empty("descriptions"), fingerprint)
    states = {video.path: video.state for video in planned(search(["s3://films"]).marks, folder.committed()).values()}
    assert states[f"s3://films/{ODD}"] == "changed"
    assert states["s3://films/a.mp4"] == "done"
