"""Little work is done without Ray, by a describing process beside this one, which may die without harm."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pyarrow as pa
import pytest

from pipeline.describe.backends import load_describer
from pipeline.describe.claims import Claims, claims, grade
from pipeline.errors import ModelError
from pipeline.execution.analysis import analyse_video
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.describer_process import DescriberProcess
from pipeline.execution.description import describe_chunk
from pipeline.execution.executors import RAY_WORTH_BYTES, choose_executor
from pipeline.execution.executors.two_processes import TwoProcessExecutor
from pipeline.execution.run import run
from pipeline.faces.detectors import load_detector
from pipeline.schemas import FACE_COLUMNS, READ_COLUMNS
from pipeline.settings import load_settings
from pipeline.vocabulary import EMOTIONS
from tests.support.processes import orphan


@pytest.fixture(scope="module")
def chunk(samples: Path) -> Chunk:
    """A real clip, analysed."""
    return next(analyse_video(str(samples / "single_face.mp4"), settings("video.fps=3", "describe.batch_size=6"), load_detector()))


def settings(*assignments: str):  # type: ignore[no-untyped-def]
    return load_settings(assignments=assignments)


@pytest.mark.parametrize(
    ("assignments", "sizes", "little"),
    [
        ((), [1000], True),
        ((), [RAY_WORTH_BYTES], False),
        ((), [RAY_WORTH_BYTES // 2, RAY_WORTH_BYTES // 2], False),
        ((), [10] * 15, True),
        ((), [10] * 16, False),  # each has to be opened
        (("execution.executor=ray",), [1000], False),
        (("execution.executor=two_processes",), [RAY_WORTH_BYTES] * 9, True),
        (("execution.address=auto",), [1000], False),
        (("execution.analysers=2",), [1000], False),
        (("execution.describer_resource=words",), [1000], False),
        (("execution.dashboard_host=127.0.0.1",), [1000], False),
    ],
)
def test_little_work_does_without_ray(assignments: tuple[str, ...], sizes: list[int], little: bool) -> None:
    assert (choose_executor(settings(*assignments), sizes) == "two_processes") == little


def untimed(result: Result) -> tuple[pa.Table, pa.Table]:
    """What a result says, but for the time it took."""
    return result.chunk.faces, result.descriptions


def test_the_first_chunk_holds_the_first_window_alone(samples: Path) -> None:
    """The first words of a long video need not wait until a batch is full."""
    first, *later = analyse_video(str(samples / "WolfgangLanger_Pexels.mp4"), settings("video.fps=2"), load_detector())
    assert {selection.window_index for selection in first.selections} == {0}
    assert first.frames <= 4 and first.faces.num_rows == first.frames
    assert later and all(selection.window_index > 0 for chunk in later for selection in chunk.selections)


def test_a_video_shorter_than_a_window_is_one_chunk(samples: Path) -> None:
    (only,) = analyse_video(str(samples / "single_face.mp4"), settings("video.fps=3", "select.window=600"), load_detector())
    assert only.selections and only.video is not None


def test_it_describes_as_a_describer_in_this_process_does(chunk: Chunk) -> None:
    here = describe_chunk(chunk, load_describer(threads=1))
    fewer = replace(chunk, selections=chunk.selections[1:])
    with DescriberProcess(model="nano", threads=1) as process:
        futures = [process.submit(one) for one in (chunk, fewer)]  # while the model is still being loaded
        whole, rest = (one.result() for one in futures)
    assert untimed(whole) == untimed(here)
    assert rest.descriptions.equals(here.descriptions.slice(1))
    assert whole.model.name == "nano" and whole.chunk.stage_seconds["describe"] > 0


@pytest.mark.slow
def test_a_describer_that_dies_is_started_again(chunk: Chunk) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        before = process.submit(chunk).result()
        first = process.pid
        os.kill(first, signal.SIGKILL)
        assert untimed(process.submit(chunk).result()) == untimed(before)
        assert process.pid != first


def test_a_describer_that_dies_again_is_reported_in_one_line(chunk: Chunk) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        future = process.submit(chunk)

        def kill() -> None:
            while not future.done():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                time.sleep(0.05)

        killer = Thread(target=kill)
        killer.start()
        with pytest.raises(ModelError, match=r"^the describer was killed \(SIGKILL\), most likely for want of memory$"):
            future.result()
        killer.join()


def test_a_model_that_cannot_be_opened_is_reported(chunk: Chunk, tmp_path: Path) -> None:
    with DescriberProcess(model=str(tmp_path)) as process, pytest.raises(ModelError, match=r"no config\.json there"):
        process.submit(chunk).result()


@pytest.mark.slow
def test_a_describer_goes_on_after_a_chunk_that_it_fails_at(chunk: Chunk) -> None:
    flat = replace(chunk.selections[0].face, crop=np.zeros((112, 112), np.uint8))
    bad = replace(chunk, selections=(replace(chunk.selections[0], face=flat),))
    with DescriberProcess(model="nano", threads=1) as process:
        with pytest.raises(ModelError, match=r"^the describer failed: \w+Error: .+$"):
            process.submit(bad).result()
        assert process.submit(chunk).result().descriptions.num_rows == len(chunk.selections)


def test_a_describer_that_is_closed_answers_nothing_more(chunk: Chunk) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        futures = [process.submit(chunk) for _ in range(3)]
        child = psutil.Process(process.pid)
    assert not child.is_running()
    for one in futures[1:]:
        assert one.cancelled()
    with pytest.raises(ModelError):
        futures[0].result()


@pytest.mark.parametrize(("frames", "everywhere"), [("all", True), ("described", False)])
def test_faces_have_the_scores_of_the_frames_that_are_read(frames: str, everywhere: bool, samples: Path, tmp_path: Path) -> None:
    """And a face in a frame has one number for each, in both tables."""
    chosen = settings("video.fps=4", f"describe.frames={frames}", "select.regions=face", "execution.executor=in_process")
    found = run([str(samples / "single_face.mp4")], tmp_path / "run", chosen)
    faces, descriptions = found.faces.to_pandas(), found.descriptions.to_pandas()
    read = faces[faces["emotion"].notna()]
    assert (len(read) == len(faces)) == everywhere and len(read) >= len(descriptions) > 0
    both = read.merge(descriptions, on=["track_id", "frame_index"], suffixes=("", "_described"))
    assert len(both) == len(descriptions)
    for name in READ_COLUMNS:
        assert both[name].equals(both[f"{name}_described"].rename(name)), name
    assert np.allclose(read[[f"emotion_{name}" for name in EMOTIONS]].sum(axis=1), 1, atol=1e-5)
    assert read["AU12"].between(0, 1).all() and read["AU12_intensity"].between(0, 5).all()


@pytest.mark.parametrize(
    ("clip", "regions"),
    [
        ("single_face.mp4", "mouth,eyes"),
        pytest.param("WolfgangLanger_Pexels.mp4", "auto", marks=pytest.mark.slow),
        pytest.param("WolfgangLanger_Pexels.mp4", "chin", marks=pytest.mark.slow),
    ],
)
def test_emotion_and_age_are_the_faces_in_every_row_about_it(clip: str, regions: str, samples: Path, tmp_path: Path) -> None:
    """In the faces table, in every region's row, and in every sentence."""
    chosen = settings("video.fps=4", f"select.regions={regions}", "describe.batch_size=8", "execution.executor=in_process")
    found = run([str(samples / clip)], tmp_path / "run", chosen)
    faces, descriptions = found.faces.to_pandas(), found.descriptions.to_pandas()
    both = descriptions.merge(faces, on=["track_id", "frame_index"], suffixes=("", "_face"))
    assert len(both) == len(descriptions) > 1
    for name in FACE_COLUMNS:
        assert both[name].equals(both[f"{name}_face"].rename(name)), name
    assert (descriptions.groupby(["track_id", "frame_index"])[["age_low", "age_high"]].nunique() == 1).all(axis=None)
    for row in descriptions.to_dict("records"):
        grades = frozenset((au, word) for au in row["aus"] if (word := grade(row.get(f"{au}_intensity"))))
        said = Claims(frozenset(row["aus"]), frozenset([row["emotion"]]), frozenset([round(row["age"])]), grades)
        assert claims(row["description"]) == said


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it() -> None:
    orphan("pipeline.execution.describer_process", "DescriberProcess(model='nano')").wait(60)


@pytest.mark.slow
def test_a_broken_file_and_a_whole_one_go_through_without_ray(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with TwoProcessExecutor(settings("video.fps=2")) as executor:
        found = list(executor.results([str(tmp_path / "text.mp4"), str(samples / "single_face.mp4")]))
    rows = [result.chunk.video for result in found if result.chunk.video]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert sum(result.descriptions.num_rows for result in found) == rows[1]["descriptions"] > 0
    assert {result.model.name for result in found} == {"nano"}
