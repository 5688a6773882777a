"""A long video that several analysers share ends in the rows of one that read it alone, whatever the file and whichever analyser fails."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import VideoError
from pipeline.execution import segment_queue as queues
from pipeline.execution.analysis import analyse_video
from pipeline.execution.chunks import Chunk
from pipeline.execution.resources import BYTES_PER_HELPER, useful_analysers
from pipeline.execution.segment_queue import QueueLost, Segment, SegmentQueue
from pipeline.execution.segment_sharing import SegmentWorker
from pipeline.faces.detectors import load_detector
from pipeline.faces.finding import find_faces
from pipeline.records import FrameFaces
from pipeline.settings import Settings, load_settings
from pipeline.speed.clips import repeat_clip
from pipeline.video.backends.decord import DECORD_MAX_BYTES
from pipeline.video.backends.pyav import PyavVideo
from pipeline.video.decoder_process import Decoder
from pipeline.video.opening import open_video
from pipeline.video.segments import cut, segment_frames
from tests.support.clips import pictures, write_clip
from tests.support.processes import kill_at_work, seconds_at_work
from tests.support.runs import assert_same

SIZE = (192, 108)
GROUP = {"g": "30"}
OPTIONS = ["video.fps=4", "detect.min_face=32", "select.window=4"]
SEGMENT_S = 40.0
SCENES, SCENE = 3, 70
TIMES = DECORD_MAX_BYTES // (SCENES * SCENE * 3 * SIZE[0] * SIZE[1]) + 1
FRAMES = TIMES * SCENES * SCENE


def settings(*more: str) -> Settings:
    return load_settings(assignments=[*OPTIONS, *more])


# ---- material


@pytest.fixture(scope="module")
def films(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nearly five minutes of two people and an empty scene, and the same with some packets of the middle destroyed."""
    folder = tmp_path_factory.mktemp("films")
    scenes = [pictures(samples / name, SCENE) for name in ("WolfgangLanger_Pexels.mp4", "no_face.mp4", "single_face.mp4")]
    clip = write_clip(folder.parent / "clip.mp4", [image for scene in scenes for image in scene], size=SIZE, options=GROUP)
    whole = repeat_clip(clip, TIMES * SCENES * SCENE / 30, folder / "film.mp4")
    with av.open(str(whole)) as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(whole.read_bytes())
    for position, size in packets[5003:5006]:
        content[position : position + size] = b"\xff" * size
    (folder / "hole.mp4").write_bytes(content)
    return folder


# ---- decoding


@pytest.mark.parametrize(
    ("name", "codec", "options", "times"),
    [
        ("closed.ts", "libx264", GROUP, None),
        ("open.mp4", "libx264", {"x264-params": "keyint=30:open-gop=1:bframes=3"}, None),
        ("open.mkv", "libx265", GROUP | {"x265-params": "log-level=none"}, None),
        ("late_and_variable.mkv", "libx264", GROUP, [5 + i / 30 + (i > 90) * 0.4 + (i % 3) * 0.007 for i in range(200)]),
        ("all.avi", "mjpeg", {}, None),
    ],
)
def test_segments_give_the_frames_of_one_pass(
    samples: Path, tmp_path: Path, name: str, codec: str, options: dict[str, str], times: list[float] | None
) -> None:
    images = pictures(samples / "WolfgangLanger_Pexels.mp4", 200)
    path = write_clip(tmp_path / name, images, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", times, SIZE, options)
    with open_video(path, decoder="pyav") as video:
        cuts = cut(video, 1.5)
        assert len(cuts) > 2
        for fps in (None, 7.0):
            parts = [list(segment_frames(video, fps, *ends)) for ends in zip(cuts, [*cuts[1:], len(video.times)], strict=True)]
            for one, other in zip([frame for part in parts for frame in part], video.frames(fps), strict=True):
                assert (one.index, one.time_s) == (other.index, other.time_s)
                assert np.array_equal(one.image, other.image)


def test_segments_of_whole_periods_find_what_one_pass_finds(samples: Path, tmp_path: Path) -> None:
    images = [image for name in ("WolfgangLanger_Pexels.mp4", "no_face.mp4") for image in pictures(samples / name, 70)]
    path = write_clip(tmp_path / "clip.mp4", images, size=(320, 180), options=GROUP)
    detector = load_detector("centerface", min_face=32)
    with open_video(path, decoder="pyav") as video:
        for key_s in (0.3, 0.5):
            every = {found.time_s: found for found in find_faces(video.frames(10.0), detector, key_s)}
            cuts, parts = cut(video, 1.0), []
            assert len(cuts) > 3
            for ends in zip(cuts, [*cuts[1:], len(video.times)], strict=True):
                parts.append(list(find_faces(segment_frames(video, 10.0, *ends, period_s=key_s), detector, key_s)))
            for part, after in pairwise(parts):
                assert part[-1].time_s == after[0].time_s, "a segment ends with the first frame of the next one, which knows what follows"
            found = [face for part in parts[:-1] for face in part[:-1]] + parts[-1]
            assert sum(len(one.faces) for one in found) > 15
            assert [as_data(one) for one in found] == [as_data(one) for one in every.values()]


def as_data(found: FrameFaces) -> tuple[object, ...]:
    """All that was found in a frame, for comparing."""
    faces = [(face.box, face.det_score, face.landmarks5.tolist(), face.crop.tobytes(), face.readable) for face in found.faces]
    return found.frame_index, found.time_s, found.thumbnail.tobytes(), faces


def test_a_keyframe_that_is_none_is_found_out(samples: Path, tmp_path: Path) -> None:
    images = pictures(samples / "WolfgangLanger_Pexels.mp4", 120)
    path = write_clip(tmp_path / "refresh.ts", images, size=SIZE, options={"x264-params": "intra-refresh=1:keyint=30"})
    with open_video(path, decoder="pyav") as video:
        first, last, *_ = cut(video, 1.0)
        with pytest.raises(VideoError, match="depend on where decoding begins"):
            list(segment_frames(video, None, first, last))


def test_what_is_short_or_not_certain_stays_whole(samples: Path, films: Path) -> None:
    with open_video(films / "film.mp4") as video:
        assert cut(video, 0) == cut(video, 200.0) == [0]
        assert len(cut(video, SEGMENT_S)) == int(video.info.duration_s / SEGMENT_S)
        assert isinstance(video, PyavVideo)
        assert len(cut(video, 0.1)) == len(video.keyframes[0])
    with open_video(samples / "single_face.mp4") as video:
        assert video.info.decoder == "decord"
        assert cut(video, 0.5) == [0]
    with open_video(samples / "no_face.mp4") as video:  # packets that are never shown
        assert video.info.decoder == "pyav"
        assert cut(video, 0.5) == [0]


@pytest.mark.parametrize("name", ["film.mp4", "hole.mp4"])
def test_frames_are_found_by_their_times(films: Path, name: str) -> None:
    with open_video(films / name) as video:
        read = [frame for frame in video.frames(0.5) if frame.index > 4000]  # the hole is behind 5000
        read = [read[place] for place in (0, 15, 17, 18, 40, 70)]
        got = list(video.pick([frame.index for frame in read], {frame.index: frame.time_s for frame in read}))
    for one, other in zip(got, read, strict=True):
        assert (one.index, one.time_s) == (other.index, other.time_s)
        assert np.array_equal(one.image, other.image)


# ---- sharing


@pytest.fixture
def decoders() -> Iterator[tuple[Decoder, Decoder]]:
    with Decoder(60, 4096) as one, Decoder(60, 4096) as other:
        yield one, other


def said(chunks: list[Chunk]) -> list[object]:
    """Everything in chunks but the time they took."""
    return [
        (chunk.index, chunk.frames, chunk.share, chunk.faces.to_pylist(), chunk.video)
        + tuple(
            (s.window_index, s.region, s.crop_box, s.box, s.activity, s.face.frame_index, s.face.crop.tobytes()) for s in chunk.selections
        )
        for chunk in chunks
    ]


@pytest.fixture(scope="module")
def alone(films: Path) -> dict[str, list[object]]:
    """What one analyser says of each film."""
    detector = load_detector("centerface", min_face=32)
    return {path.name: said(list(analyse_video(str(path), settings(), detector))) for path in sorted(films.iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("film.mp4", marks=pytest.mark.slow), "hole.mp4"])
def test_two_say_what_one_says(films: Path, alone: dict[str, list[object]], name: str, decoders: tuple[Decoder, Decoder]) -> None:
    queue, options, path = SegmentQueue(1, 2), settings(f"video.segment_s={SEGMENT_S}"), str(films / name)
    detectors = [load_detector("centerface", min_face=32) for _ in decoders]
    workers = [SegmentWorker(queue, options, detector, decoder.open) for detector, decoder in zip(detectors, decoders, strict=True)]
    given: dict[int, int] = {}
    deliver = queue.deliver

    def counting(segment: Segment, parts: list[object]) -> None:
        given[threading.get_ident()] = given.get(threading.get_ident(), 0) + bool(parts)
        deliver(segment, parts)

    queue.deliver = counting  # type: ignore[method-assign]
    helper = threading.Thread(target=workers[1].help_others)
    helper.start()
    chunks = list(analyse_video(path, options, detectors[0], decoders[0].open, workers[0]))
    queue.finish(path)
    helper.join()
    assert said(chunks) == alone[name]
    assert given.get(helper.ident or 0, 0) > 0
    row = chunks[-1].video
    assert row is not None and row["status"] == "ok" and row["tracks"] > 75
    assert row["error"] == (None if name == "film.mp4" else f"{FRAMES - 3} of {FRAMES} frames could be decoded")
    stages = {stage for chunk in chunks for stage in chunk.stage_seconds}
    assert stages == {"fetch", "decode", "detect", "track", "select"}


@pytest.mark.slow
def test_helpers_that_fail_or_never_come_back_cost_nothing_but_time(
    films: Path, alone: dict[str, list[object]], decoders: tuple[Decoder, Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "PATIENCE_S", 2.0)
    queue, path = SegmentQueue(1, 2), str(films / "film.mp4")
    options, detector = settings(f"video.segment_s={SEGMENT_S}"), load_detector("centerface", min_face=32)

    def lost(part: object) -> object:
        raise QueueLost

    worker = SegmentWorker(queue, options, detector, decoders[0].open, load=lost)  # type: ignore[arg-type]
    chunks = analyse_video(path, options, detector, decoders[0].open, worker)
    first = next(chunks)
    segments = [queue.claim() for _ in range(3)]
    assert all(segments)
    queue.deliver(segments[1], [])  # type: ignore[arg-type]
    queue.deliver(segments[2], ["what another's memory held"])  # type: ignore[arg-type]
    assert said([first, *chunks]) == alone["film.mp4"]


def test_the_queue_gives_each_segment_to_one_and_not_too_far_ahead() -> None:
    segments = [Segment("a", i, 10 * i, 10 * i + 10) for i in range(9)]
    queue = SegmentQueue(2, 2)
    assert queue.claim() is None
    queue.add(segments)
    assert [queue.claim() for _ in range(5)] == [*segments[1:5], None]  # the first is the owner's, the sixth too far
    assert queue.collect(segments[0]) is None
    assert [queue.claim("a"), queue.claim("a")] == [segments[0], None]
    queue.deliver(segments[1], ["seen"])
    queue.deliver(segments[1], ["seen again"])
    assert queue.collect(segments[1]) == ["seen"]
    queue.deliver(segments[0], ["too late"])
    assert [queue.claim(), queue.claim()] == [segments[5], None]
    queue.finish("a")
    queue.deliver(segments[5], ["for nobody"])
    queue.report_progress(segments[5])
    assert queue.claim() is None and not queue.is_over()
    queue.finish("b")
    assert queue.is_over()


def test_helpers_go_when_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, segments = SegmentQueue(2, 2), [Segment("a", i, 10 * i, 10 * i + 10) for i in range(3)]
    queue.add(segments)
    assert queue.claim() == segments[1] and not queue.is_over()
    monkeypatch.setattr(queues, "QUIET_S", 0.1)
    time.sleep(0.2)
    assert queue.is_over()  # the analyser that had the other video is lost; a helper takes its place
    queue.report_progress(segments[1])
    assert not queue.is_over()


# ---- whole runs


def test_there_is_work_for_more_analysers_than_videos_where_these_are_large(tmp_path: Path) -> None:
    small, large = str(tmp_path / "small.mp4"), str(tmp_path / "large.mp4")
    Path(small).write_bytes(b"1")
    with open(large, "wb") as file:
        file.truncate(10 * BYTES_PER_HELPER)
    assert useful_analysers([small, large], settings(), 16) == 11
    assert useful_analysers([small] * 20, settings(), 16) == 20
    assert useful_analysers([small, large], settings("video.segment_s=0"), 16) == 2
    assert useful_analysers([large], settings("execution.analysers=3"), 16) == 3


@pytest.mark.slow
def test_a_shared_run_that_is_killed_ends_with_the_tables_of_one_that_was_not_shared(films: Path, tmp_path: Path) -> None:
    def command(out: Path, *more: str) -> list[str]:
        items = [*OPTIONS, "execution.executor=ray", "video.fps=1", "select.window=8", "select.regions=mouth", *more]
        sets = [word for item in items for word in ("--set", item)]
        return [sys.executable, "-m", "pipeline.cli", "run", str(films), "--out", str(out), *sets]

    at_work_s = seconds_at_work(command(tmp_path / "alone", "video.segment_s=0"))
    shared = command(tmp_path / "shared", "execution.analysers=3", f"video.segment_s={SEGMENT_S}")
    with subprocess.Popen(shared, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as job:
        kill_at_work(job, random.Random(3).uniform(0.2, 0.8) * at_work_s)
    ended = subprocess.run(shared, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert_same(tmp_path / "shared", tmp_path / "alone")
