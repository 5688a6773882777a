"""`focalface bench`: both sides of every row give the same answers, and the rows have the documented form. No times are tested."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cli import main
from pipeline.errors import FocalfaceError
from pipeline.records import Answer
from pipeline.settings import load_settings
from pipeline.speed.agreement import same_answers, same_faces
from pipeline.speed.clips import first_seconds, link_copies, repeat_clip, sample_clip
from pipeline.speed.detection import measure as measure_detection
from pipeline.speed.published import QUALITIES, SPEEDS
from pipeline.speed.rows import AIMS
from pipeline.speed.scale import measure_run
from pipeline.speed.timed_process import TimedProcess
from pipeline.video.opening import open_video


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows that `focalface bench --quick` writes for the first second of the clip."""
    folder = tmp_path_factory.mktemp("bench")
    piece = first_seconds(sample_clip(), 1.0, folder / "piece.mp4")
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--quick", "--repeats", "1", "--video", str(piece), "--json", str(folder / "out.json")])
    assert ended.value.code == 0
    return list(json.loads((folder / "out.json").read_text()))


@pytest.mark.slow
def test_a_row_has_the_documented_form(written: list[dict[str, Any]]) -> None:
    assert [row["name"] for row in written] == list(AIMS)
    for row in written:
        assert row["unit"] == "s"
        assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"])
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert min(row["ours"], row["theirs"], row["ours_peak_mb"], row["theirs_peak_mb"], row["count"]) > 0
        assert row["machine"]["cores"] >= 1
        assert row["machine"]["versions"]["torch"]


@pytest.mark.parametrize("name", AIMS)
@pytest.mark.slow
def test_both_sides_give_the_same_answers(written: list[dict[str, Any]], name: str) -> None:
    (row,) = (row for row in written if row["name"] == name)
    assert row["same_answers"], row["differences"]


@pytest.mark.slow
def test_the_run_row_breaks_its_time_down(written: list[dict[str, Any]]) -> None:
    details = written[0]["details"]
    assert {"decode", "detect", "track", "select", "describe", "write"} <= details["run"]["stage_seconds"].keys()
    assert all(0 <= share <= 1 for share in details["run"]["waits"].values())
    assert details["decode_frames_per_s"].keys() == {"1", "2"}


@pytest.mark.slow
def test_the_startup_row_breaks_its_time_down(written: list[dict[str, Any]]) -> None:
    (row,) = (row for row in written if row["name"] == "startup")
    steps = row["details"]["first_words_of_a_run"]
    assert steps.keys() == {"command_line", "imports", "first_row", "describer"}
    assert min(steps.values()) > 0


@pytest.mark.slow
def test_the_series_row_reads_every_frame(written: list[dict[str, Any]]) -> None:
    (row,) = (row for row in written if row["name"] == "series")
    run = row["details"]["run_with_every_frame"]
    assert row["count"] == run["frames"] > 20, "one face in each frame of a second of film"
    assert run["frames_per_s"] == pytest.approx(run["frames"] / run["seconds"])


def test_published_figures_name_their_machine_and_protocol() -> None:
    for speed in SPEEDS:
        assert speed.frames_per_s > 0
        assert all((speed.tool, speed.machine, speed.protocol, speed.source))
    assert {quality.tool.split()[0] for quality in QUALITIES} == {"py-feat", "OpenFace", "LibreFace"}


@pytest.mark.slow
def test_the_first_row_on_ray_is_timed() -> None:
    piece = sample_clip().with_name("single_face.mp4")
    with TimedProcess("breakdown.first_row", str(piece), load_settings(assignments=["video.fps=2"]), "ray") as process:
        found = process.wait_ready().run().result
    assert found.keys() == {"imports", "ray", "first_row_on_ray"}
    assert min(found.values()) > 0


def test_a_piece_of_a_clip_is_its_beginning(tmp_path: Path) -> None:
    piece = open_video(first_seconds(sample_clip(), 0.5, tmp_path / "piece.mp4"))
    whole = open_video(sample_clip()).frames()
    count = 0
    for frame, same in zip(piece.frames(), whole, strict=False):
        assert np.array_equal(frame.image, same.image)
        count += 1
    assert 8 <= count <= 12  # half a second at 23.98


def test_a_lost_face_is_reported() -> None:
    box = np.array([[10.0, 10, 50, 60]])
    assert same_faces([box], [box + 2])[0]
    same, differences = same_faces([box], [np.concatenate([box, box + 100])])
    assert not same
    assert "1 of 2" in differences
    assert not same_faces([np.empty((0, 4))], [box])[0]
    assert not same_faces([box, box], [box])[0]
    assert same_faces([box], [np.empty((0, 5))])[0]


def test_a_different_answer_is_reported() -> None:
    answer = Answer({"AU12": 0.7}, ("AU12",), {"neutral": 1.0}, "neutral", 30.0, 25.0, 35.0, "So it is.")
    assert same_answers([answer], [answer])[0]
    for other in (
        Answer({"AU12": 0.702}, ("AU12",), {"neutral": 1.0}, "neutral", 30.0, 25.0, 35.0, "So it is."),
        Answer({"AU12": 0.7}, (), {"neutral": 1.0}, "neutral", 30.0, 25.0, 35.0, "So it is."),
        Answer({"AU12": 0.7}, ("AU12",), {"neutral": 1.0}, "neutral", 30.0, 25.0, 35.0, "So it was."),
    ):
        assert not same_answers([answer], [other])[0]


@pytest.mark.slow
def test_a_failing_job_names_its_reason() -> None:
    with (
        TimedProcess("focalface_jobs.describe", "no-such-folder/", []) as process,
        pytest.raises(FocalfaceError, match=r"focalface_jobs\.describe: ModelError"),
    ):
        process.wait_ready()
    with TimedProcess("timed_process.command", ["false"]) as process, pytest.raises(FocalfaceError, match="exit code 1"):
        process.wait_ready().run()


@pytest.mark.slow
def test_a_shape_is_measured_against_the_limits_of_the_device(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--shape", "tiny", "--device", "cpu", "--quick", "--repeats", "1", "--json", str(tmp_path / "out.json")])
    assert ended.value.code == 0
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["name"] == "describe_tiny"
    assert row["same_answers"], row["differences"]
    assert 0 < row["fraction_of_limit"] < 1
    assert all(0 < row["limits"][part] < row[part] for part in ("reading_s", "writing_s"))
    assert all(error < 1e-5 for error in row["score_errors"].values())
    assert row["regions"] == 8


def test_detection_is_compared_on_two_devices() -> None:
    with open_video(sample_clip()) as clip:
        frames = [frame.image for frame in islice(clip.frames(), 2)]
    small, large = measure_detection(frames, "centerface", 1, device="cpu")
    assert (small["name"], small["frames"], large["name"]) == ("detect_360", 2, "detect_1080")
    assert small["same_answers"] and large["same_answers"]
    assert "2 of 2 faces kept" in small["differences"]


@pytest.mark.slow
def test_a_run_is_measured_with_its_processes(tmp_path: Path) -> None:
    piece = first_seconds(sample_clip(), 0.5, tmp_path / "piece.mp4")
    film = repeat_clip(piece, 2.0, tmp_path / "film.mp4")
    with open_video(film) as long, open_video(piece) as short:
        assert long.info.duration_s == pytest.approx(2.0, abs=0.5)
        frames = [frame.image for frame in long.frames()]
        for index, frame in enumerate(short.frames()):
            assert np.array_equal(frame.image, frames[index])
    run = measure_run("videos", 3, link_copies(film, tmp_path / "films", 3), tmp_path / "out", [])
    assert (run.videos, run.files) == (3, 9)
    assert run.frames == 3 * len(list(open_video(film).frames(10)))
    assert 0 < run.run_seconds < run.seconds
    assert run.peak_mb.keys() == {"driver", "analyser", "decoder", "describer"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("words", [["--shape", "3b"], ["--gpu"]])
def test_without_a_gpu_a_large_shape_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words])
    assert ended.value.code == 2
    assert "torch sees none here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "nothing"], "no row nothing; rows are run, startup"),
        (["--gpu", "--scale"], "--gpu and --scale: choose one of them"),
        (["--gpu", "--only", "run"], "--gpu has no rows to choose from"),
        (["--json", "nowhere/out.json"], "no folder nowhere"),
        (["--video", "nothing.mp4"], "nothing.mp4: no such file"),
    ],
)
def test_a_wrong_argument_is_refused_before_any_work(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
