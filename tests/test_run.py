"""The main job end to end: real clips and bad files, through Ray and two processes, interrupted, killed and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import floor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.describe.claims import claims
from pipeline.errors import SettingsError
from pipeline.execution.analysis import analyse_video, face_rows
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.planning import PlannedVideo
from pipeline.execution.resources import WorkerPlan, plan_workers
from pipeline.execution.run import RunWriter
from pipeline.faces.detectors import Detector, load_detector
from pipeline.records import Detections, ModelInfo
from pipeline.settings import load_settings
from pipeline.storage.inputs import find_videos
from pipeline.storage.run_folder import RunFolder, empty
from pipeline.vocabulary import AUS, EMOTIONS, REGION_AUS
from tests.support.runs import assert_same

CLIPS = ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "no_face.mp4", "face_noface.mov", "noface_face.mov")
FPS = 3


def command(inputs: list[Path], out: Path, *more: str, executor: str = "ray") -> list[str]:
    words = ["--out", str(out), "--fps", str(FPS), "--set", f"execution.executor={executor}", *more]
    return [sys.executable, "-m", "pipeline.cli", "run", *map(str, inputs), *words]


def process(inputs: list[Path], out: Path, *more: str, executor: str = "ray") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(inputs, out, *more, executor=executor), capture_output=True, text=True, check=False)


def stop_when(sign: Callable[[], bool], how: signal.Signals, inputs: list[Path], out: Path, executor: str = "ray") -> tuple[int, str]:
    """Start a run and send it a signal as soon as `sign` is true; returns its exit code and its stderr."""
    with subprocess.Popen(command(inputs, out, executor=executor), stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        while running.poll() is None and not sign():
            time.sleep(0.02)
        os.kill(running.pid, how)
        return running.wait(), running.stderr.read() if running.stderr else ""


@pytest.fixture(scope="module")
def archive(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five clips, and a folder with bad files and odd names."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    with av.open(str(folder / "whole.mkv"), "w") as target, av.open(str(samples / "single_face.mp4")) as source:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (folder / "whole.mkv").read_bytes()
    (folder / "whole.mkv").unlink()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "truncated.mkv").write_bytes(content[: len(content) * 6 // 10])
    (folder / "notes.txt").write_text("not searched")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.MP4")).write_text("a name that is not Unicode")
    return [*(samples / name for name in CLIPS), folder]


@pytest.fixture(scope="module")
def done(archive: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, subprocess.CompletedProcess[str]]:
    """One whole run, on a Ray that it starts."""
    out = tmp_path_factory.mktemp("out") / "run"
    ended = process(archive, out)
    assert ended.returncode == 0, ended.stderr
    return RunFolder(out), ended


@pytest.fixture(scope="module")
def run(done: tuple[RunFolder, subprocess.CompletedProcess[str]]) -> RunFolder:
    return done[0]


@pytest.fixture(scope="module")
def videos(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Rows of the videos table by file name."""
    return {Path(row["path"]).name: row for row in run.read("videos").to_pylist()}


def rows(run: RunFolder, table: str, video: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in run.read(table).to_pylist() if row["video_id"] == video["video_id"]]


def test_every_file_has_a_row(videos: dict[str, dict[str, Any]]) -> None:
    assert {name: row["status"] for name, row in videos.items()} == {
        "WolfgangLanger_Pexels.mp4": "ok",
        "single_face.mp4": "ok",
        "no_face.mp4": "no_faces",
        "face_noface.mov": "ok",
        "noface_face.mov": "ok",
        "text.mp4": "failed",
        "empty.mp4": "failed",
        "truncated.mkv": "ok",
        "caf\ufffd.MP4": "failed",
    }
    for row in videos.values():
        assert (row["error"] is not None) == (row["status"] == "failed" or "truncated" in row["path"]), row
        assert (row["error_kind"] is not None) == (row["error"] is not None), row
        assert "\n" not in (row["error"] or "")


def test_counts_match_the_tables(run: RunFolder, videos: dict[str, dict[str, Any]]) -> None:
    for video in videos.values():
        faces, descriptions = rows(run, "faces", video), rows(run, "descriptions", video)
        assert (video["faces"], video["descriptions"]) == (len(faces), len(descriptions))
        assert video["tracks"] == len({face["track_id"] for face in faces})
        assert video["windows"] == len({(face["track_id"], floor(face["time_s"])) for face in faces})
        assert (video["status"] == "ok") == (len(faces) > 0)
        assert video["sampled_frames"] <= (video["frame_count"] or 0)
    info = run.info
    assert info["counts"]["videos"] == len(videos)
    assert info["counts"]["failed"] == 3
    assert info["counts"]["error_kinds"] == {"empty": 1, "not_a_video": 2, "truncated": 1}
    assert info["counts"]["faces"] == run.read("faces").num_rows
    assert info["model"] == "nano"
    assert info["versions"]["focalface"] == info["settings"]["focalface"]
    assert info["settings"]["video"]["fps"] == FPS
    assert info["timing"]["videos"] == len(videos)


def test_one_person_is_one_track_with_the_times_of_the_container(samples: Path, run: RunFolder, videos: dict[str, dict[str, Any]]) -> None:
    video = videos["WolfgangLanger_Pexels.mp4"]
    faces = rows(run, "faces", video)
    most = max(sum(face["track_id"] == track for face in faces) for track in {face["track_id"] for face in faces})
    assert most >= 0.95 * video["sampled_frames"]
    times = [face["time_s"] for face in faces if face["track_id"] == 1]
    assert times == sorted(set(times))
    with av.open(str(samples / "WolfgangLanger_Pexels.mp4")) as container:
        stream = container.streams.video[0]
        stamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        assert stream.time_base is not None
        container_times = [float((stamp - stamps[0]) * stream.time_base) for stamp in stamps]
    for face in faces:
        assert face["time_s"] == pytest.approx(container_times[face["frame_index"]], abs=0.5 / video["fps"])
    assert video["sampled_frames"] == pytest.approx(FPS * video["duration_s"], abs=2)


def test_every_window_with_a_readable_face_is_described(run: RunFolder, videos: dict[str, dict[str, Any]]) -> None:
    for video in videos.values():
        faces, descriptions = rows(run, "faces", video), rows(run, "descriptions", video)
        readable = {(face["track_id"], floor(face["time_s"])) for face in faces if face["unreadable"] is None}
        assert {(row["track_id"], row["window_index"]) for row in descriptions} == readable
        places = {(face["track_id"], face["frame_index"]): face["time_s"] for face in faces}
        for row in descriptions:
            assert places[row["track_id"], row["frame_index"]] == row["time_s"]
            assert row["start_s"] <= row["time_s"] < row["end_s"]


def test_scores_are_null_exactly_where_they_cannot_be_known(run: RunFolder) -> None:
    known = set(json.loads((Path(__file__).parents[1] / "pipeline/models/nano/focal.json").read_text())["aus"])
    descriptions = run.read("descriptions").to_pylist()
    assert descriptions
    for row in descriptions:
        assert {au for au in AUS if row[au] is not None} == known & set(REGION_AUS[row["region"]])
        assert set(row["aus"]) <= {au for au in AUS if row[au] is not None}
        assert sum(row[f"emotion_{name}"] for name in EMOTIONS) == pytest.approx(1, abs=1e-5)
        assert row["emotion"] == max(EMOTIONS, key=lambda name: row[f"emotion_{name}"])
        assert row["age_low"] <= row["age"] <= row["age_high"]
        assert row["model"] == "nano"


def test_sentences_state_only_what_the_fields_say(run: RunFolder) -> None:
    for row in run.read("descriptions").to_pylist():
        said = claims(row["description"])
        assert said.aus <= set(row["aus"]), row["description"]
        assert said.emotions <= {row["emotion"]}, row["description"]
        assert said.ages <= {round(row["age"])}, row["description"]


def test_boxes_lie_in_the_frame(run: RunFolder, videos: dict[str, dict[str, Any]]) -> None:
    for video in videos.values():
        for row in rows(run, "descriptions", video):
            x0, y0, x1, y1 = row["box"]
            assert 0 <= x0 < x1 <= video["width"]
            assert 0 <= y0 < y1 <= video["height"]


def test_the_run_prints_what_it_found_and_nothing_else(done: tuple[RunFolder, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = done
    assert all(re.fullmatch(r"\d/9 videos.* left", line) for line in ended.stderr.splitlines())  # a slow run shows its progress
    assert "9: 5 with faces, 1 without, 3 failed" in ended.stdout
    assert "text.mp4" in ended.stdout
    assert str(folder.path / "preview.png") in ended.stdout
    with Image.open(folder.path / "preview.png") as picture:
        assert picture.height >= 720
        assert np.asarray(picture).std() > 20


@pytest.mark.slow
def test_a_killed_and_interrupted_run_resumes(archive: list[Path], run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "again"
    code, words = stop_when(lambda: any((out / "videos").glob("*.parquet")), signal.SIGKILL, archive, out)
    assert code == -signal.SIGKILL
    committed = RunFolder(out).committed()
    assert 1 <= len(committed) < 9
    begun = (out / "run.json").stat().st_ino
    # The resumed run replaces run.json when it starts. A further commit is no reliable sign: it may be the last one.
    code, words = stop_when(lambda: (out / "run.json").stat().st_ino != begun, signal.SIGINT, archive, out)
    assert code == 130
    assert words.endswith("focalface: stopped; run the same command again to resume\n")
    assert "Traceback" not in words
    first = next((out / "videos").glob("*.parquet"))
    written = first.stat().st_mtime_ns
    ended = process(archive, out, executor="two_processes")  # another executor resumes
    assert ended.returncode == 0, ended.stderr
    assert first.stat().st_mtime_ns == written
    assert_same(run.path, out)


@pytest.mark.slow
def test_two_processes_write_the_tables_that_ray_writes(archive: list[Path], run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "little"
    ended = process(archive, out, executor="two_processes")
    assert ended.returncode == 0, ended.stderr
    assert_same(run.path, out)
    assert run.info["counts"] == RunFolder(out).info["counts"]


def test_small_runs_skip_ray_and_paths_stay_as_typed(
    run: RunFolder, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    ended = process([samples / "no_face.mp4", Path("empty.mp4")], Path("run"), executor="auto")
    assert ended.returncode == 0, ended.stderr
    assert "\nfailed: empty.mp4: empty file\n" in ended.stdout
    assert (run.info["execution"]["executor"], RunFolder("run").info["execution"]["executor"]) == ("ray", "two_processes")
    assert {row["error"] for row in RunFolder("run").read("videos").to_pylist()} == {None, "empty.mp4: empty file"}


@pytest.mark.slow
def test_a_killed_and_interrupted_run_of_two_processes_resumes(archive: list[Path], run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "little"
    stop_when(lambda: any((out / "videos").glob("*.parquet")), signal.SIGKILL, archive, out, executor="two_processes")
    assert 1 <= len(RunFolder(out).committed()) < 9
    begun = (out / "run.json").stat().st_ino
    code, words = stop_when(lambda: (out / "run.json").stat().st_ino != begun, signal.SIGINT, archive, out, executor="two_processes")
    assert (code, words) == (130, "focalface: stopped; run the same command again to resume\n")
    ended = process(archive, out, executor="two_processes")
    assert ended.returncode == 0, ended.stderr
    assert_same(run.path, out)


def test_a_second_run_does_nothing(archive: list[Path], run: RunFolder) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*") if file.is_file()}
    ended = process(archive, run.path)
    assert ended.returncode == 0
    assert "9: 5 with faces, 1 without, 3 failed" in ended.stdout
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*") if file.is_file()} == before


def test_other_settings_are_refused_by_name(archive: list[Path], run: RunFolder) -> None:
    ended = process(archive, run.path, "--window", "2", "--min-face", "30")
    assert ended.returncode == 2
    assert "detect.min_face was 40, now 30; select.window was 1.0, now 2.0" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_only_a_changed_file_is_done_again(archive: list[Path], run: RunFolder) -> None:
    before = {file: file.stat().st_mtime_ns for file in (run.path / "videos").iterdir()}
    (archive[-1] / "text.mp4").write_text("not a video either")
    assert process(archive, run.path, executor="two_processes").returncode == 0
    after = {file: file.stat().st_mtime_ns for file in (run.path / "videos").iterdir()}
    assert set(after) == set(before)
    assert sum(after[file] != before[file] for file in before) == 1


def test_a_missing_model_is_reported_in_one_line(samples: Path, tmp_path: Path) -> None:
    ended = process([samples / "single_face.mp4"], tmp_path / "out", "--model", str(tmp_path))
    assert ended.returncode == 2
    assert ended.stderr == f"focalface: {tmp_path}: no config.json there; give the folder of a Hugging Face checkpoint\n"
    RunFolder(tmp_path / "out").begin(load_settings().identity())  # nothing was done, so other settings are accepted


def test_chunks_depend_on_their_content_only(samples: Path) -> None:
    detector = load_detector("centerface")
    path = str(samples / "single_face.mp4")
    few = list(analyse_video(path, load_settings(assignments=["describe.batch_size=2", "select.regions=all"]), detector))
    first, rest = analyse_video(path, load_settings(assignments=["describe.batch_size=4096", "select.regions=all"]), detector)
    assert len(few) > 10
    assert [chunk.index for chunk in few] == list(range(len(few)))
    assert all(len(chunk.selections) <= 2 for chunk in few)
    assert all(chunk.video is None for chunk in few[:-1])
    assert {selection.window_index for selection in first.selections} == {0}  # the first window alone, so that its words come early
    assert pa.concat_tables(chunk.faces for chunk in few).equals(pa.concat_tables([first.faces, rest.faces]))
    regions = [selection.region for chunk in few for selection in chunk.selections]
    assert regions == [selection.region for chunk in (first, rest) for selection in chunk.selections]
    assert few[-1].video == rest.video
    assert sum(chunk.frames for chunk in few) == first.frames + rest.frames


class _Breaking(Detector):
    """A detector that raises an unexpected error after some frames."""

    name = "breaking"
    device = "cpu"

    def __init__(self) -> None:
        self.seen = 0

    def detect(self, images: Any) -> list[Detections]:
        self.seen += len(images)
        if self.seen > 16:
            raise RuntimeError("out of\nluck")
        return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))] * len(images)


def test_an_unexpected_error_becomes_a_row(samples: Path) -> None:
    (*_, last) = analyse_video(str(samples / "single_face.mp4"), load_settings(assignments=["video.fps=null"]), _Breaking())
    assert last.video is not None
    assert (last.video["status"], last.video["error"]) == ("failed", "RuntimeError: out of luck")
    assert last.video["error_kind"] == "internal"
    assert last.video["faces"] == 0


def test_results_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({})
    row = {"video_id": "a", "path": "/here/a.mp4", "status": "ok", "error": None, "sampled_frames": 0, "faces": 0, "descriptions": 0}
    committed: list[int] = []
    none = face_rows("a", [])
    nano = ModelInfo("nano", {"AU12": 0.5})
    results = [
        Result(Chunk("a", i, 1, 1.0, none, (), (), elapsed_s=1.0, video=row if i == 2 else None), empty("descriptions"), nano)
        for i in (2, 0, 0, 1)
    ]
    writer = RunWriter(folder, on_commit=lambda: committed.append(len(committed)))
    for result, videos_done in zip(results, (0, 0, 0, 1), strict=True):
        writer.write([result], {"a": PlannedVideo("a.mp4", "1-1", "todo")})
        assert len(committed) == videos_done
    (written,) = folder.read("videos").to_pylist()
    assert (written["path"], written["elapsed_s"]) == ("a.mp4", 3.0)


@pytest.mark.parametrize(
    ("has", "videos", "shared_out"),
    [
        ({"CPU": 2, "memory": 8 << 30}, 9, WorkerPlan(1, 1, 0, on_gpu=False, detect_on_gpu=False, reserve_memory=True)),
        ({"CPU": 16, "memory": 64 << 30}, 99, WorkerPlan(13, 3, 0, on_gpu=False, detect_on_gpu=False, reserve_memory=True)),
        ({"CPU": 16, "memory": 64 << 30}, 4, WorkerPlan(4, 3, 0, on_gpu=False, detect_on_gpu=False, reserve_memory=True)),
        ({"CPU": 64, "memory": 32 << 30}, 99, WorkerPlan(8, 12, 0, on_gpu=False, detect_on_gpu=False, reserve_memory=True)),
        ({"CPU": 2, "memory": 2 << 30}, 9, WorkerPlan(1, 1, 0, on_gpu=False, detect_on_gpu=False, reserve_memory=False)),
        ({"CPU": 16, "GPU": 2, "memory": 64 << 30}, 99, WorkerPlan(16, 2, 2, on_gpu=True, detect_on_gpu=True, reserve_memory=True)),
    ],
)
def test_both_stages_fit_on_any_machine(has: dict[str, float], videos: int, shared_out: WorkerPlan) -> None:
    assert plan_workers(load_settings(), has, videos) == shared_out


def test_a_gpu_is_shared_by_both_stages() -> None:
    has = {"CPU": 8, "GPU": 1, "decode": 8}
    for assignments, parts in (
        ((), (0.75, 0.25)),
        (("detect.device=cpu",), (1.0, 0.0)),
        (("execution.analyser_resource=decode",), (1.0, 0.0)),  # decoding happens on other nodes: no frames are sent to the GPU
        (("execution.analyser_resource=decode", "detect.device=cuda"), (0.75, 0.25)),
    ):
        assert plan_workers(load_settings(assignments=assignments), has, 9).gpu_shares == parts
    few = plan_workers(load_settings(assignments=["execution.detectors=2"]), {"CPU": 8, "memory": 64 << 30}, 9)
    assert (few.analysers, few.describers, few.detectors, few.gpu_shares) == (5, 1, 2, (1.0, 0.0))


def test_inputs_are_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.txt", "sub/c.MOV", "sub/._c.mov", "sub/d.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert find_videos(["."]) == ["./a.mp4", "./sub/c.MOV", "./sub/d.mkv"]
    assert find_videos(["b.txt", "a.mp4"]) == ["b.txt", "a.mp4"]
    assert find_videos(["sub/*.mkv", "sub", str(tmp_path / "sub/d.mkv")]) == ["sub/d.mkv", "sub/c.MOV"]
    assert find_videos(["**/*.mp4"]) == ["a.mp4"]
    for missing, says in (("none.mp4", "there is no file or folder none.mp4"), ("*.avi", r"no file matches \*\.avi")):
        with pytest.raises(SettingsError, match=says):
            find_videos([missing])
