"""Reading videos: the same frames and times from either decoder, upright, and what bad files get."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import VideoError
from pipeline.faces.detectors.devices import has_gpu
from pipeline.video.decoder_process import Decoder
from pipeline.video.opening import open_video
from pipeline.video.sampling import TICK_TOLERANCE_S
from tests.support.clips import pictures, write_clip

CLIPS = ["WolfgangLanger_Pexels.mp4", "single_face.mp4", "no_face.mp4", "face_noface.mov", "noface_face.mov"]
FRAMES = {
    "WolfgangLanger_Pexels.mp4": 472,
    "single_face.mp4": 72,
    "no_face.mp4": 95,
    "face_noface.mov": 169,
    "noface_face.mov": 169,
}


def test_opencv_decodes_png_beside_the_decoders(samples: Path) -> None:
    """decord brings a zlib of its own: loaded before OpenCV, it leaves OpenCV unable to decode a PNG."""
    script = """
import sys
from pipeline.video.opening import open_video
with open_video(sys.argv[1]) as video:
    assert video.info.decoder == "decord"
    next(video.frames())
import cv2, numpy
print(cv2.imdecode(cv2.imencode(".png", numpy.eye(9, dtype="uint8"))[1], cv2.IMREAD_GRAYSCALE).sum())
"""
    words = [sys.executable, "-c", script, str(samples / "single_face.mp4")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.stdout == "9\n", ended.stderr


@pytest.mark.parametrize("name", CLIPS)
def test_decoders_agree_and_times_are_the_containers(samples: Path, name: str) -> None:
    ours, reference = open_video(samples / name), open_video(samples / name, decoder="pyav")
    with av.open(str(samples / name)) as container:
        stamps = [frame.time or 0.0 for frame in container.decode(video=0)]
    count = 0
    for frame, other, stamp in zip(ours.frames(), reference.frames(), stamps, strict=True):
        assert (frame.index, other.index) == (count, count)
        assert frame.time_s == pytest.approx(stamp - stamps[0], abs=1e-6)
        assert other.time_s == pytest.approx(frame.time_s, abs=1e-6)
        assert np.abs(frame.image.astype(int) - other.image).mean() < 1.0
        count += 1
    assert count == ours.decoded == reference.decoded == ours.info.frame_count == FRAMES[name]
    assert ours.problem is None


def test_decord_reads_what_it_counts_rightly_and_pyav_the_rest(samples: Path) -> None:
    decoders = {name: open_video(samples / name).info.decoder for name in CLIPS}
    assert decoders.pop("no_face.mp4") == "pyav"  # decord counts three packets that are never shown
    assert set(decoders.values()) == {"decord"}


def test_info(samples: Path) -> None:
    info = open_video(samples / CLIPS[0]).info
    assert (info.codec, info.width, info.height, info.frame_count) == ("h264", 640, 360, 472)
    assert info.fps == pytest.approx(24000 / 1001)
    assert info.duration_s == pytest.approx(472 * 1001 / 24000)


@pytest.mark.parametrize(("name", "count", "decoder"), [("*.gif", 56, "pyav"), ("sorry.mkv", 73, "decord")])
def test_gif_and_matroska(shared: Path, name: str, count: int, decoder: str) -> None:
    path = next((shared / "videos").glob(name))
    with open_video(path) as video:
        frames = list(video.frames())
        assert len(frames) == count
        assert video.info.decoder == decoder
        assert video.problem is None
    assert frames[0].time_s == 0.0
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("fps", [1.0, 5.0, 10.0, 23.0])
def test_sampling_takes_the_first_frame_at_or_after_each_instant(samples: Path, fps: float) -> None:
    video = open_video(samples / CLIPS[0])
    every = [frame.time_s for frame in video.frames()]
    sampled = [frame.time_s for frame in video.frames(fps)]
    instants = np.arange(0, every[-1], 1 / fps)
    assert sampled == [min(time for time in every if time >= instant - TICK_TOLERANCE_S) for instant in instants]


def test_rates_at_or_above_the_videos_own_give_every_frame(samples: Path) -> None:
    with open_video(samples / "single_face.mp4") as video:
        assert [frame.index for frame in video.frames(60)] == list(range(72))


def test_variable_frame_rate(samples: Path, tmp_path: Path) -> None:
    times = np.cumsum(np.tile([0.02, 0.05, 0.1], 10))
    path = write_clip(tmp_path / "vfr.mp4", pictures(samples / CLIPS[0], 30), times=times.tolist())
    got = [frame.time_s for frame in open_video(path).frames()]
    assert np.abs(np.array(got) - (times - times[0])).max() < 0.002
    assert [frame.time_s for frame in open_video(path).frames(2)] == pytest.approx([0.0, 0.56, 1.0, 1.5], abs=0.07)


@pytest.mark.parametrize(
    ("turn", "matrix"),
    [
        (1, (0, -1, 0, 1, 0, 0, 0, 640)),  # display matrices, first two columns; the turn is np.rot90's
        (2, (-1, 0, 0, 0, -1, 0, 640, 360)),
        (3, (0, 1, 0, -1, 0, 0, 360, 0)),
    ],
)
def test_rotated_videos_come_upright(samples: Path, tmp_path: Path, turn: int, matrix: tuple[int, ...]) -> None:
    images = pictures(samples / CLIPS[0], 5)
    data = write_clip(tmp_path / "level.mp4", images).read_bytes()
    level = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    at = data.index(level, data.index(b"tkhd"))
    turned = struct.pack(">9i", *(value << 16 for value in matrix), 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data[:at] + turned + data[at + len(level) :])
    video = open_video(path)
    assert video.info.decoder == "pyav"
    frames = list(video.frames())
    assert len(frames) == 5
    for frame, image in zip(frames, images, strict=True):
        upright = np.rot90(image, turn)
        assert frame.image.shape == upright.shape == (video.info.height, video.info.width, 3)
        assert np.abs(frame.image.astype(int) - upright).mean() < 4


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size", "options"),
    [
        ("odd.mkv", "libx264", "yuv444p", (333, 271), {}),
        ("ten_bit.mp4", "libx265", "yuv420p10le", (640, 360), {"x265-params": "log-level=none"}),
        ("open_gop.mp4", "libx265", "yuv420p", (320, 180), {"x265-params": "keyint=12:open-gop=1:bframes=4:log-level=none"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", (320, 180), {}),
        ("old.avi", "mpeg4", "yuv420p", (320, 180), {}),
    ],
)
def test_formats(samples: Path, tmp_path: Path, name: str, codec: str, pixels: str, size: tuple[int, int], options: dict[str, str]) -> None:
    images = pictures(samples / CLIPS[0], 48)[::2]
    with open_video(write_clip(tmp_path / name, images, codec, pixels, size=size, options=options)) as video:
        frames = list(video.frames())
        assert (video.info.width, video.info.height) == size
        assert video.problem is None
    assert len(frames) == len(images)
    for i, (frame, image) in enumerate(zip(frames, images, strict=True)):
        source = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(*size).to_ndarray(format="rgb24").astype(int)
        assert frame.time_s == pytest.approx(i / 30, abs=0.002)
        assert np.abs(frame.image - source).mean() < 8


def test_one_frame(samples: Path, tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "one.mp4", pictures(samples / CLIPS[0], 1)))
    assert [(frame.index, frame.time_s) for frame in video.frames(5)] == [(0, 0.0)]
    assert video.info.duration_s > 0


@pytest.mark.parametrize(("name", "size"), [(CLIPS[0], 1_000_000), ("sorry.mkv", 120_000)])
def test_a_truncated_file_keeps_the_frames_that_decode(
    samples: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str, size: int
) -> None:
    source = samples / name if name in CLIPS else request.getfixturevalue("shared") / "videos" / name
    path = tmp_path / name
    path.write_bytes(source.read_bytes()[:size])
    whole = list(open_video(source).frames())
    video = open_video(path)
    frames = list(video.frames())
    assert len(whole) / 3 < len(frames) < len(whole)
    assert video.problem is not None and video.problem.kind == "truncated"
    assert "cut short" in video.problem.reason
    for frame, original in zip(frames[:-5], whole, strict=False):  # the last few lean on what is missing
        assert frame.time_s == pytest.approx(original.time_s)
        assert np.abs(frame.image.astype(int) - original.image).mean() < 1.0


def test_frames_that_do_not_decode_are_left_out_not_made_up(samples: Path, tmp_path: Path) -> None:
    source = samples / CLIPS[0]
    with av.open(str(source)) as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for position, size in packets[200:203]:
        data[position : position + size] = b"\xff" * size
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    video = open_video(path)
    frames = list(video.frames())
    assert video.info.decoder == "pyav"  # changed on the way: decord would have filled in
    assert len(frames) == video.decoded == 469
    assert video.problem is not None
    assert (video.problem.kind, video.problem.reason) == ("damaged", "469 of 472 frames could be decoded")
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(frames))
    assert frames[-1].time_s == pytest.approx(471 * 1001 / 24000)


_SLOW_READER = """
import json, sys, time
import psutil
from pipeline.video.opening import open_video
resident = []
for _ in open_video(sys.argv[1]).frames():
    time.sleep(0.005)  # the decoder could be far ahead
    resident.append(psutil.Process().memory_info().rss)
print(json.dumps(resident))
"""
"""Run as a process of its own: in the tests' process, memory also moves for other reasons."""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_even_if_frames_are_taken_slowly(samples: Path, tmp_path: Path) -> None:
    options = {"preset": "ultrafast"}
    path = write_clip(tmp_path / "large.mp4", pictures(samples / CLIPS[0], 220), size=(1280, 720), options=options)
    resident = json.loads(subprocess.run([sys.executable, "-c", _SLOW_READER, str(path)], check=True, capture_output=True).stdout)
    assert max(resident[60:]) - resident[30] < 30 * 2**20  # thirty frames of 720p would be 83 MB


def test_bad_files_are_told_in_one_line(samples: Path, tmp_path: Path) -> None:
    text, empty, headless = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "headless.mov"
    text.write_text("not a video\n" * 50)
    (tmp_path / "notes.txt").write_text("not a video\n" * 50)
    empty.touch()
    headless.write_bytes((samples / "noface_face.mov").read_bytes()[:100_000])  # its index is at the end
    expected = {
        tmp_path / "missing.mp4": ("missing", "no such file"),
        tmp_path: ("not_a_file", "a folder"),
        empty: ("empty", "empty file"),
        text: ("not_a_video", "not a video"),
        tmp_path / "notes.txt": ("not_a_video", "not a video"),
        headless: ("not_a_video", "damaged beyond reading"),
        write_sound(tmp_path / "sound.m4a"): ("no_video", "audio only"),
    }
    for path, (kind, reason) in expected.items():
        with pytest.raises(VideoError) as caught:
            open_video(path)
        assert caught.value.kind == kind
        assert reason in caught.value.reason
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        assert "\n" not in str(caught.value)


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        assert isinstance(stream, av.AudioStream)
        tone = np.sin(np.arange(1024 * 40) * 0.06).astype(np.float32)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_names_that_ffmpeg_would_read_as_protocols(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b %03d ü.mp4").write_bytes((samples / "single_face.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    with open_video("a:b %03d ü.mp4") as video:
        assert sum(1 for _ in video.frames()) == 72


@pytest.mark.skipif(has_gpu() or Path("/dev/dri").exists(), reason="says what happens where there is no such device")
@pytest.mark.parametrize("hardware", ["cuda", *(pytest.param(device, marks=pytest.mark.slow) for device in ("vaapi", "qsv"))])
def test_without_the_device_the_cpu_decodes(hardware: str, samples: Path) -> None:
    for name in ("single_face.mp4", "face_noface.mov"):
        with open_video(samples / name) as plain, open_video(samples / name, hardware=hardware) as asked:
            assert asked.info == plain.info
            for one, other in zip(plain.frames(5), asked.frames(5), strict=True):
                assert np.array_equal(one.image, other.image)
        with Decoder(60, 4096, hardware) as decoder, decoder.open(str(samples / name)) as watched:
            assert len(list(watched.frames(5))) > 10
            assert ":" not in watched.info.decoder
