"""Little work is done without Ray, by a process beside this one; it may come down, and takes nobody with it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest

from pipeline.describe.backends import load_describer
from pipeline.errors import ModelError
from pipeline.execution.describer_process import DescriberProcess
from pipeline.execution.executors import RAY_WORTH_BYTES, choose_executor
from pipeline.execution.executors.two_processes import TwoProcessExecutor
from pipeline.records import Request
from pipeline.settings import load_settings
from tests.support.processes import orphan

FACE = (0.0, 0.0, 112.0, 112.0)


@pytest.fixture
def requests() -> list[Request]:
    """Two faces of noise, one asked about twice."""
    faces = np.random.default_rng(5).integers(0, 256, (2, 112, 112, 3), np.uint8)
    return [Request(faces[0], FACE, "face"), Request(faces[0], (20.0, 60.0, 90.0, 100.0), "mouth"), Request(faces[1], FACE, "face")]


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


def test_it_answers_as_a_describer_here(requests: list[Request]) -> None:
    here = load_describer(threads=1)
    with DescriberProcess(model="nano", threads=1) as process:
        coming = [process.submit(requests), process.submit([]), process.submit(requests[1:])]  # while it is still being loaded
        whole, nothing, fewer = (one.result() for one in coming)
    assert whole.answers == here.describe(requests)
    assert fewer.answers == here.describe(requests[1:])
    assert (nothing.answers, whole.model) == ([], "nano")
    assert whole.seconds > 0


def test_one_that_comes_down_is_begun_anew(requests: list[Request]) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        before = process.submit(requests).result().answers
        first = process.pid
        os.kill(first, signal.SIGKILL)
        assert process.submit(requests).result().answers == before
        assert process.pid != first


def test_one_that_comes_down_again_is_said_in_one_line(requests: list[Request]) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        coming = process.submit(requests)

        def kill() -> None:
            while not coming.done():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                time.sleep(0.05)

        killer = Thread(target=kill)
        killer.start()
        with pytest.raises(ModelError, match=r"^the describer was killed \(SIGKILL\), most likely for want of memory$"):
            coming.result()
        killer.join()


def test_a_model_that_cannot_be_opened_is_said_as_ever(requests: list[Request], tmp_path: Path) -> None:
    with DescriberProcess(model=str(tmp_path)) as process, pytest.raises(ModelError, match=r"no config\.json there"):
        process.submit(requests).result()


def test_what_it_fails_at_is_said_and_it_goes_on(requests: list[Request]) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        bad = process.submit([Request(np.zeros((112, 112), np.uint8), FACE, "face")])
        with pytest.raises(ModelError, match=r"^the describer failed: \w+Error: .+$"):
            bad.result()
        assert len(process.submit(requests).result().answers) == len(requests)


def test_one_that_is_left_answers_nobody(requests: list[Request]) -> None:
    with DescriberProcess(model="nano", threads=1) as process:
        coming = [process.submit(requests) for _ in range(3)]
        child = psutil.Process(process.pid)
    assert not child.is_running()
    for one in coming[1:]:
        assert one.cancelled()
    with pytest.raises(ModelError):
        coming[0].result()


def test_it_ends_with_whoever_started_it() -> None:
    orphan("pipeline.execution.describer_process", "DescriberProcess(model='nano')").wait(60)


def test_a_broken_file_and_a_whole_one_go_through_without_ray(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with TwoProcessExecutor(settings("video.fps=2")) as executor:
        found = list(executor.results([str(tmp_path / "text.mp4"), str(samples / "single_face.mp4")]))
    rows = [result.chunk.video for result in found if result.chunk.video]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert sum(result.descriptions.num_rows for result in found) == rows[1]["descriptions"] > 0
    assert {result.model for result in found} == {"nano"}
