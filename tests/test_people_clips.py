"""Real people: those of sample clips are linked across cuts, videos and runs. What decodes and embeds more is slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import load_trends, open_run
from pipeline.people.linking import link
from pipeline.people.recognisers import load_recogniser
from pipeline.report.page_data import load_video
from pipeline.storage.people_folder import PeopleFolder
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.video.opening import open_video
from tests.support.clips import write_clip
from tests.support.runs import make_run
from tests.support.tables import command

pytestmark = pytest.mark.slow

SIZE = (640, 360)
PART = 40
"""Frames between two cuts."""


def frames_of(clip: Path, first: int, count: int) -> list[np.ndarray]:
    """Frames of a clip, fitted into one size."""
    import cv2

    found = []
    with open_video(clip) as video:
        for frame in video.frames(None):
            if first <= frame.index < first + count:
                height, width = frame.image.shape[:2]
                scale = min(SIZE[0] / width, SIZE[1] / height)
                small = cv2.resize(frame.image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
                canvas = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
                canvas[: small.shape[0], : small.shape[1]] = small
                found.append(canvas)
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def clips(samples: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two people in turn: four cuts in `cuts`, and both again, from other moments, in `again`."""
    folder = tmp_path_factory.mktemp("clips")
    woman, man = samples / "WolfgangLanger_Pexels.mp4", shared / "videos" / "sorry.mkv"
    parts = [frames_of(woman, 0, PART), frames_of(man, 0, 30), frames_of(woman, 150, PART), frames_of(man, 30, 30)]
    parts += [frames_of(woman, 300, PART)]
    write_clip(folder / "cuts.mp4", [frame for part in parts for frame in part])
    again = [frames_of(man, 15, 40), frames_of(woman, 400, PART)]
    write_clip(folder / "again.mp4", [frame for part in again for frame in part])
    two = shared / "videos" / "head-pose-face-detection-female-and-male.gif"
    return {"cuts": folder / "cuts.mp4", "again": folder / "again.mp4", "two": two}


OPTIONS = {"video_fps": 8, "describe_sentences": "plain", "select_regions": "face"}


@pytest.fixture(scope="module")
def runs(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder / name, [path], **OPTIONS) for name, path in clips.items()}


def whose(folder: PeopleFolder, path: Path) -> dict[int, str | None]:
    return {row["track_id"]: row["person_id"] for row in folder.read().tracks.to_pylist() if row["video_id"] == video_id(path)}


def test_four_cuts_between_two_people_are_two_people(runs: dict[str, RunFolder], clips: dict[str, Path]) -> None:
    run = runs["cuts"]
    assert command("people", run.path) == 0
    people = open_run(run.path).people.to_pylist()
    assert [person["tracks"] for person in people] == [3, 2]
    opened = open_run(run.path)
    for row in opened.faces.to_pylist():  # frames 0 to 39, 70 to 109 and 140 to 179 show the woman
        shows_woman = row["frame_index"] % 70 < 40
        assert row["person_id"] == ("P001" if shows_woman else "P002"), row["frame_index"]
    assert all((run.path / "people" / person["face"]).read_bytes().startswith(b"\xff\xd8") for person in people)

    trends = load_trends([run.path])
    assert trends.pandas("tracks")["person_id"].tolist() == ["P001", "P002"]
    assert trends.pandas("tracks")["joined"].tolist() == [3, 2]
    (video,) = run.videos.to_pylist()
    assert [name for _, name in load_video(run, video).people.values()] == ["P001", "P002"]


def test_the_same_people_in_two_videos_of_two_runs(runs: dict[str, RunFolder], clips: dict[str, Path], tmp_path: Path) -> None:
    study = PeopleFolder(tmp_path / "study")
    assert command("people", runs["cuts"].path, runs["again"].path, "--out", study.path) == 0
    assert study.read().table()["videos"].to_pylist() == [2, 2]
    first = whose(study, clips["cuts"])
    assert len(set(first.values())) == 2
    assert set(whose(study, clips["again"]).values()) == set(first.values())
    found = load_trends([runs["cuts"].path, runs["again"].path], people=study.path)
    assert found.pandas("by_person").groupby("person_id")["videos"].first().tolist() == [2, 2]


def test_two_faces_of_one_frame_are_never_one_person(runs: dict[str, RunFolder], clips: dict[str, Path]) -> None:
    run = runs["two"]
    assert command("people", run.path, "--threshold", "1.9") == 0  # all faces are near enough
    for _, frame in open_run(run.path).faces.to_pandas().groupby("frame_index"):
        assert frame["person_id"].is_unique
    assert len(set(whose(PeopleFolder(run.path / "people"), clips["two"]).values())) == 2


def test_linking_again_embeds_nothing_and_keeps_names_and_edits(runs: dict[str, RunFolder], clips: dict[str, Path], tmp_path: Path) -> None:
    study = tmp_path / "study"
    first = link([runs["cuts"].path], load_recogniser(), study)
    assert first.embedded == 5
    tracks = [track for track, person in whose(first.folder, clips["cuts"]).items() if person == "P001"]
    assert command("people", study, "--split", "P001", f"cuts.mp4#{tracks[1]}") == command("people", study, "--name", "P003", "Ada") == 0
    second = link([runs["cuts"].path], load_recogniser(), study)
    assert second.embedded == 0
    assert whose(second.folder, clips["cuts"]) == whose(first.folder, clips["cuts"])
    assert second.people.names == {"P003": "Ada"}
    embeddings = study / "embeddings.parquet"
    assert embeddings.stat().st_mode & 0o777 == 0o600  # biometric data: the owner's alone
    assert command("people", study, "--merge", "P001", "Ada") == 0
    third = link([runs["cuts"].path, runs["again"].path], load_recogniser(), study)
    assert third.embedded == 2
    assert command("people", runs["cuts"].path, "--out", study, "--forget") == 0
    assert not embeddings.exists() and PeopleFolder(study).read().names == {"P001": "Ada"}
    assert third.people.names == {"P001": "Ada"} and set(whose(third.folder, clips["again"]).values()) == {"P001", "P002"}


def test_tracks_of_a_video_that_is_gone_or_has_changed_stay_unlinked(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["again"].read_bytes())
    run = make_run(tmp_path / "run", [copy], **OPTIONS)
    copy.write_bytes(clips["cuts"].read_bytes())
    assert command("people", run.path) == 0
    assert "it has changed since the run" in capsys.readouterr().out
    copy.unlink()
    assert command("people", run.path) == 0
    assert "no longer there" in capsys.readouterr().out
    assert set(open_run(run.path).faces["person_id"].to_pylist()) == {None}
    assert not open_run(run.path).people.num_rows
