"""A shared detector gives each caller what it would get alone; a GPU that is missing is reported."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.errors import FocalfaceWarning
from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.detectors.devices import ON_CPU
from pipeline.faces.detectors.shared import SharedDetector
from pipeline.faces.known_places import cut_out
from pipeline.records import Detections
from pipeline.video.opening import open_video
from tests.support.runs import assert_same

WITHOUT_CUDA = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="says what is said where onnxruntime has no CUDA"
)


def same(one: Sequence[Detections], other: Sequence[Detections]) -> bool:
    parts = ("boxes", "scores", "landmarks5")
    return len(one) == len(other) and all(
        np.array_equal(getattr(a, part), getattr(b, part)) for a, b in zip(one, other, strict=True) for part in parts
    )


class _Held(Detector):
    """CenterFace that waits in its first batch until `go` is set, records the size of each batch, and fails on an image of one row."""

    name, device = "held", "cpu"

    def __init__(self) -> None:
        self.detector = load_detector("centerface")
        self.batches: list[int] = []
        self.go = threading.Event()

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.batches.append(len(images))
        assert self.go.wait(60)
        if any(len(image) == 1 for image in images):
            raise ValueError("an image of one row")
        return self.detector.detect(images)


def wait(shared: SharedDetector, waiting: int) -> None:
    """Wait until so many requests are queued."""
    while len(shared._queued) < waiting:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def frames(samples: Path) -> list[np.ndarray]:
    """Frames of two sizes, with faces and without."""
    clips = ("single_face.mp4", "no_face.mp4", "WolfgangLanger_Pexels.mp4")
    return [frame.image for clip in clips for frame, _ in zip(open_video(samples / clip).frames(2), range(4), strict=False)]


def test_queued_requests_run_as_one_batch(frames: list[np.ndarray]) -> None:
    held = _Held()
    shared = SharedDetector(held)

    def ask(start: int) -> list[Detections]:
        return shared.detect(frames[start:] + frames[:start])

    with ThreadPoolExecutor(6) as askers:
        first = askers.submit(ask, 0)
        while not held.batches:
            time.sleep(0.01)
        others = [askers.submit(ask, start) for start in range(1, 6)]
        wait(shared, 5)
        held.go.set()
        found = [one.result() for one in (first, *others)]
    alone = held.detector.detect(frames)
    assert any(len(faces) for faces in alone)
    for start, one in enumerate(found):
        assert same(one, alone[start:] + alone[:start])
    assert held.batches == [len(frames), 5 * len(frames)]


def test_queued_crops_run_as_one_batch_beside_frames(samples: Path, frames: list[np.ndarray]) -> None:
    image = next(iter(open_video(samples / "single_face.mp4").frames(1))).image
    detector = load_detector("centerface")
    x0, y0, _, y1 = detector.detect([image])[0].boxes[0].astype(int)
    crops = [cut_out(image, (x0 - grow, y0 - grow, y1 - y0 + 2 * grow)) for grow in (40, 60, 80)]
    alone = detector.detect_crops(crops)
    assert [len(found) for found in alone] == [1, 1, 1]
    shared = SharedDetector(detector)
    assert shared.crop_search == detector.crop_search
    with ThreadPoolExecutor(6) as askers, shared._detector_lock:
        asked = [askers.submit(shared.detect_crops, [crop]) for crop in crops] + [askers.submit(shared.detect, frames)]
        wait(shared, 4)
    assert same([found for one in asked[:3] for found in one.result()], alone)
    assert same(asked[3].result(), detector.detect(frames))


def test_only_the_request_that_fails_raises(frames: list[np.ndarray]) -> None:
    held = _Held()
    shared = SharedDetector(held)
    with ThreadPoolExecutor(3) as askers:
        first = askers.submit(shared.detect, frames)
        while not held.batches:
            time.sleep(0.01)
        bad, good = askers.submit(shared.detect, [frames[0][:1]]), askers.submit(shared.detect, frames)
        wait(shared, 2)
        held.go.set()
        assert same(first.result(), good.result())
        with pytest.raises(ValueError, match="one row"):
            bad.result()


@WITHOUT_CUDA
def test_a_missing_gpu_is_a_warning(frames: list[np.ndarray]) -> None:
    with pytest.warns(FocalfaceWarning, match="runs on the CPU, not on CUDA: install onnxruntime-gpu"):
        detector = load_detector("centerface", device="cuda")
    assert detector.device == "cpu"
    assert same(detector.detect(frames), load_detector("centerface").detect(frames))


def test_no_warning_where_the_cpu_is_asked_for() -> None:
    with warnings.catch_warnings(action="error"):
        assert load_detector("centerface", device="cpu").device == "cpu"


@WITHOUT_CUDA
@pytest.mark.slow
def test_a_run_whose_analysers_share_a_detector_finds_the_same_and_says_where_it_runs(
    samples: Path, ray_address: str, tmp_path: Path
) -> None:
    said = {}
    for name, *settings in (
        ("own", "execution.executor=two_processes", "detect.device=cpu"),
        ("vain", "execution.executor=two_processes", "detect.device=cuda"),
        ("shared", f"execution.address={ray_address}", "execution.detectors=1", "detect.device=cuda"),
    ):
        words = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "pipeline.cli", "run", str(samples / "single_face.mp4"), "--out", str(tmp_path / name), *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        said[name] = ended.stderr
    assert said == {"own": "", "vain": f"focalface: {ON_CPU}\n", "shared": f"focalface: {ON_CPU}\n"}
    for name in ("vain", "shared"):
        assert_same(tmp_path / "own", tmp_path / name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where there is no GPU")
@pytest.mark.parametrize("executor", ["two_processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_gpu_that_is_not_there_is_not_waited_for(executor: str, samples: Path, tmp_path: Path) -> None:
    words = [str(samples / "single_face.mp4"), "--out", str(tmp_path), "--device", "cuda", "--set", f"execution.executor={executor}"]
    ended = subprocess.run([sys.executable, "-m", "pipeline.cli", "run", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("focalface: device 'cuda': ") and ended.stderr.endswith("; use --device cpu\n")
    assert ended.stderr.count("\n") == 1
