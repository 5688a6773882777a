"""A decoder that hangs, crashes or starves takes down its file at most: real clips, real signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.errors import VideoError
from pipeline.execution.analysis import analyse_video
from pipeline.faces.detectors import Detector, load_detector
from pipeline.records import Detections
from pipeline.settings import load_settings
from pipeline.video.decoder_process import AHEAD, TRIES, Decoder
from pipeline.video.opening import open_video
from tests.support.clips import pictures, write_clip
from tests.support.processes import orphan

FRAMES = 40
SIZE = (160, 90)


@pytest.fixture(scope="module")
def clip(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames of a real clip."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", pictures(samples / "single_face.mp4", FRAMES), size=SIZE)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """One that gives up after a second and a half."""
    with Decoder(timeout_s=1.5, memory_mb=4096) as decoder:
        yield decoder


def signalled(decoder: Decoder, how: signal.Signals) -> None:
    assert decoder.pid is not None
    os.kill(decoder.pid, how)


@pytest.mark.parametrize("fps", [None, 7.0])
def test_frames_are_those_of_a_decoder_in_this_process(decoder: Decoder, samples: Path, clip: Path, fps: float | None) -> None:
    for path in (clip, samples / "single_face.mp4", clip):  # one process, pictures of other sizes in between
        with decoder.open(str(path)) as watched, open_video(path) as video:
            assert watched.info == video.info
            for one, other in zip(watched.frames(fps), video.frames(fps), strict=True):
                assert (one.index, one.time_s) == (other.index, other.time_s)
                assert np.array_equal(one.image, other.image)
            assert (watched.decoded, watched.problem) == (video.decoded, None)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL])
def test_after_one_failure_another_decoder_goes_on_behind_the_last_frame(decoder: Decoder, clip: Path, how: signal.Signals) -> None:
    first = decoder.pid
    with decoder.open(str(clip)) as video, open_video(clip) as whole:
        frames = []
        for frame in video.frames():
            frames.append(frame)
            if len(frames) == 5:
                signalled(decoder, how)
        for one, other in zip(frames, whole.frames(), strict=True):
            assert (one.index, one.time_s) == (other.index, other.time_s)
            difference = np.abs(one.image.astype(int) - other.image).mean()
            assert difference == 0 if how == signal.SIGKILL else difference < 1  # decoders round colours differently
        assert (video.decoded, video.problem) == (FRAMES, None)
        assert video.info.decoder == ("decord" if how == signal.SIGKILL else "pyav")
    assert decoder.pid != first
    assert first is not None
    assert not psutil.pid_exists(first)


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        (signal.SIGSTOP, "hung", "the decoder made no progress for 1.5 s (video.timeout_s) after "),
        (signal.SIGSEGV, "crashed", "the decoder crashed (SIGSEGV) after "),
        (signal.SIGKILL, "crashed", "the decoder was killed (SIGKILL), most likely for want of memory after "),
    ],
)
def test_what_came_before_the_last_failure_is_kept(decoder: Decoder, clip: Path, how: signal.Signals, kind: str, reason: str) -> None:
    with decoder.open(str(clip)) as video:
        indices = []
        for frame in video.frames():
            indices.append(frame.index)
            if len(indices) in (3, 15):
                signalled(decoder, how)
        assert video.problem is not None
        assert video.problem.kind == kind
        assert video.problem.reason.startswith(reason)
    assert 15 <= len(indices) <= 15 + AHEAD  # frames on their way arrive
    assert indices == list(range(len(indices)))
    with decoder.open(str(clip)) as video:  # and the next file finds a decoder
        assert len(list(video.frames())) == FRAMES


def test_a_file_that_downs_every_decoder_fails_with_the_reason(clip: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "still.mp4"  # what opens and never gives a byte
    os.mkfifo(pipe)
    with Decoder(timeout_s=1.0, memory_mb=4096) as decoder:
        with pytest.raises(VideoError, match="not a regular file"):
            decoder.open(str(pipe))
        link = tmp_path / "gone.mp4"
        link.symlink_to(tmp_path / "nowhere")
        with pytest.raises(VideoError, match=f"{link}: no such file"):
            decoder.open(str(link))
        _kill_when_it_asks(decoder, times=TRIES)
        with pytest.raises(VideoError, match=r"clip\.mp4: the decoder was killed"):
            decoder.open(str(clip))
        with decoder.open(str(clip)) as video:
            assert len(list(video.frames())) == FRAMES


def _kill_when_it_asks(decoder: Decoder, times: int) -> None:
    """Kill the process at each of the next requests, having it stopped before so that it cannot answer."""
    send, left = decoder.send, [times]

    def killing(request: dict[str, object]) -> None:
        if left[0]:
            left[0] -= 1
            if decoder.pid is None:
                decoder._start()
            signalled(decoder, signal.SIGSTOP)
            send(request)
            signalled(decoder, signal.SIGKILL)
        else:
            send(request)

    decoder.send = killing  # type: ignore[method-assign]


@pytest.mark.slow
def test_memory_ends_at_its_limit(samples: Path, tmp_path: Path) -> None:
    images = [np.tile(image, (13, 12, 1))[:4320, :7680] for image in pictures(samples / "WolfgangLanger_Pexels.mp4", 2)]
    large = write_clip(tmp_path / "8k.mp4", images, "mpeg4")
    small = write_clip(tmp_path / "small.mp4", images[:1], size=SIZE)
    with Decoder(timeout_s=60, memory_mb=256) as decoder:
        with pytest.raises(VideoError, match=r"more memory than video\.memory_mb allows"), decoder.open(str(large)) as video:
            list(video.frames())
        with decoder.open(str(small)) as video:
            assert len(list(video.frames())) == 1
    with Decoder(timeout_s=60, memory_mb=4096) as decoder, decoder.open(str(large)) as video:
        assert [frame.image.shape for frame in video.frames()] == [(4320, 7680, 3)] * 2


def test_a_video_left_early_does_not_reach_into_the_next(decoder: Decoder, clip: Path) -> None:
    with decoder.open(str(clip)) as video:
        assert next(video.frames()).index == 0
    with decoder.open(str(clip)) as video:
        assert [frame.index for frame in video.frames()] == list(range(FRAMES))


def test_waiting_for_the_next_stage_is_no_hang(decoder: Decoder, clip: Path) -> None:
    with decoder.open(str(clip)) as video:
        for count, _ in enumerate(video.frames()):
            if count == 2:
                time.sleep(2.0)  # longer than the decoder may take
        assert (video.decoded, video.problem) == (FRAMES, None)


def test_it_dies_with_the_process_that_started_it() -> None:
    orphan("pipeline.video.decoder_process", "Decoder(60, 4096)").wait(20)


def test_a_crash_leaves_the_rows_before_it(decoder: Decoder, clip: Path) -> None:
    class Killing(Detector):
        """A detector by whose third batch the decoder is dead, twice."""

        name, device = "killing", "cpu"

        def __init__(self) -> None:
            self.detector = load_detector("centerface")
            self.calls = 0

        def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
            self.calls += 1
            if self.calls in (1, 3):
                signalled(decoder, signal.SIGSEGV)
            return self.detector.detect(images)

    settings = load_settings(assignments=["video.fps=null", "detect.min_face=20"])
    *_, last = analyse_video(str(clip), settings, Killing(), decoder.open)
    assert last.video is not None
    assert last.video["status"] == "ok"
    assert last.video["error"].startswith("the decoder crashed (SIGSEGV) after ")
    assert 24 <= last.video["sampled_frames"] < FRAMES
    assert last.video["faces"] > 0
