"""Files as people have them: what each kind is read as, and what its row says about it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter.graph import Graph
from av.stream import Disposition
from PIL import Image

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.execution.analysis import analyse_video
from pipeline.faces.detectors import load_detector
from pipeline.schemas import NoteKind, note_kinds
from pipeline.settings import load_settings
from pipeline.video.opening import open_video
from pipeline.video.source import SeekableSource
from tests.support.clips import pictures, write_clip
from tests.support.stamps import RATE, move_clock, read_stamp, set_matrix, stamp, write_stamped

SIZE = (192, 108)


def numbers(video: SeekableSource) -> list[tuple[float, int | None]]:
    """Time and number of every frame."""
    return [(round(frame.time_s, 3), read_stamp(frame.image)) for frame in video.frames()]


def kinds(video: SeekableSource) -> list[str]:
    return [note.kind.value for note in video.notes]


def steady(first: int, count: int, start: int = 0) -> list[tuple[float, int]]:
    """Numbers from `first` on, one a frame."""
    return [(round((start + i) / RATE, 3), first + i) for i in range(count)]


# ---- the beginning and joints


def test_a_stream_that_begins_between_two_keyframes_has_rows_for_what_decodes_and_says_so(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "cut.ts", range(50), b_frames=2, group=20, kept=lambda place: place >= 7)
    with open_video(path) as video:
        assert numbers(video) == steady(20, 30)
        assert video.decoded == 30 and video.problem is None
        assert kinds(video) == ["starts_between_keyframes"]
        assert video.info.start_s == pytest.approx(20 / RATE)
        assert "the first 13 frames" in video.notes[0].text


def test_nothing_but_the_middle_of_a_group_of_pictures_is_damaged(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "middle.mkv", range(20), "vp8", group=40, kept=lambda place: place >= 7)
    with pytest.raises(VideoError) as caught:
        open_video(path)
    assert caught.value.kind == VideoErrorKind.DAMAGED


@pytest.mark.parametrize(("container", "codec", "count"), [("ts", "h264", 3), ("mpg", "mpeg2", 3), ("mkv", "h264", 2), ("webm", "vp9", 2)])
def test_recordings_that_are_joined_with_the_same_times_follow_each_other(tmp_path: Path, container: str, codec: str, count: int) -> None:
    path, begins = tmp_path / f"joined.{container}", range(0, 1000 * count, 1000)
    parts = [write_stamped(tmp_path / f"{first}.{container}", range(first, first + 40), codec, b_frames=2) for first in begins]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path) as video:
        assert numbers(video) == [pair for place, first in enumerate(begins) for pair in steady(first, 40, 40 * place)]
        assert video.info.duration_s == pytest.approx(40 * count / RATE, abs=0.001)
        assert kinds(video) == ["joined"] and video.problem is None
        assert f"{count} recordings" in video.notes[0].text
        assert ("1.60, 3.20 s" if count == 3 else "1.60 s") in video.notes[0].text


def test_a_joint_to_a_recording_that_begins_between_keyframes_shows_nothing_of_the_first_one(tmp_path: Path) -> None:
    first = write_stamped(tmp_path / "a.ts", range(40), b_frames=2)
    second = write_stamped(tmp_path / "b.ts", range(1000, 1040), b_frames=2, kept=lambda place: place >= 5)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_video(path) as video:
        got = dict(numbers(video))
        assert list(got.values()) == [*range(40), *range(1012, 1040)]
        assert got[round(48 / RATE, 3)] == 1012  # its packets begin with number 1004


def test_a_clock_that_wraps_around_is_no_joint(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "wraps.ts", range(40), b_frames=3)
    move_clock(path, 2**33 - 20 * 90000 // RATE)
    with open_video(path) as video:
        assert numbers(video) == steady(0, 40)
        assert video.notes == () and video.problem is None


def test_a_recording_that_leaps_ahead_keeps_its_gap(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "gap.ts", range(40), at=[*range(20), *range(1020, 1040)])
    with open_video(path) as video:
        assert numbers(video) == [*steady(0, 20), *steady(20, 20, 1020)]
        assert video.notes == () and video.problem is None


def test_two_recordings_a_minute_apart_keep_their_gap_and_it_is_said(tmp_path: Path) -> None:
    parts = [write_stamped(tmp_path / f"{first}.ts", range(first, first + 40), at=range(first, first + 40)) for first in (0, 1500)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path) as video:
        assert numbers(video) == [*steady(0, 40), *steady(1500, 40, 1500)]
        assert kinds(video) == ["joined"] and "by 58.40 s" in video.notes[0].text


# ---- times


@pytest.mark.parametrize(("rate", "name", "codec"), [(60, "fast.h264", "h264"), (24, "film.hevc", "hevc"), (30, "old.m2v", "mpeg2")])
def test_a_raw_stream_has_its_own_rate(tmp_path: Path, rate: int, name: str, codec: str) -> None:
    path = write_stamped(tmp_path / name, range(48), codec, rate=rate, b_frames=2)
    with open_video(path) as video:
        assert numbers(video) == [(round(i / rate, 3), i) for i in range(48)]
        assert (video.info.fps, video.info.frame_count) == (rate, 48)
        assert video.info.duration_s == pytest.approx(48 / rate)
        assert kinds(video) == ["stream_rate"] and "the stream's own rate" in video.notes[0].text


def test_a_raw_stream_that_does_not_say_its_rate_is_told_so(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "camera.mjpeg", range(10), "mjpeg")
    with open_video(path) as video:
        assert numbers(video) == steady(0, 10)
        assert "assumed" in video.notes[0].text


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "mov", "ts"])
def test_two_frames_twelve_seconds_apart(tmp_path: Path, container: str) -> None:
    codec = "vp8" if container == "webm" else "h264"
    with open_video(write_stamped(tmp_path / f"two.{container}", [1, 2], codec, at=[0, 300])) as video:
        assert numbers(video) == [(0.0, 1), (12.0, 2)]
        assert video.info.duration_s == pytest.approx(12 + 1 / RATE, abs=0.001)


def test_a_gifs_long_last_frame_counts_as_long_as_it_is_shown(tmp_path: Path) -> None:
    images = [Image.fromarray(stamp(number, (96, 54))) for number in range(4)]
    images[0].save(tmp_path / "long.gif", save_all=True, append_images=images[1:], duration=[100, 100, 100, 5000])
    with open_video(tmp_path / "long.gif") as video:
        assert numbers(video) == [(0.0, 0), (0.1, 1), (0.2, 2), (0.3, 3)]
        assert video.info.duration_s == pytest.approx(5.3) and video.problem is None


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "ts"])
def test_start_s_is_the_first_frames_place_on_the_containers_clock(tmp_path: Path, container: str) -> None:
    path = write_stamped(tmp_path / f"late.{container}", range(20), at=range(10, 30))
    with open_video(path) as video:
        assert numbers(video) == steady(0, 20)
        assert video.info.start_s == pytest.approx(10 / RATE)
        assert video.info.duration_s == pytest.approx(20 / RATE)


def test_avi_stores_no_presentation_times_and_b_frames_come_in_order_all_the_same(tmp_path: Path) -> None:
    with open_video(write_stamped(tmp_path / "b.avi", range(40), b_frames=3)) as video:
        assert numbers(video) == steady(0, 40)


def test_slow_motion_keeps_both_rates(tmp_path: Path) -> None:
    path = write_stamped(
        tmp_path / "slow.mp4", range(10), metadata={"com.android.capture.fps": "240.0"}, muxer={"movflags": "use_metadata_tags"}
    )
    with open_video(path) as video:
        assert kinds(video) == ["slow_motion"]
        assert "240" in video.notes[0].text and "25" in video.notes[0].text
        assert numbers(video) == steady(0, 10)


# ---- which stream


def write_tracks(path: Path, tracks: Sequence[tuple[int, int, tuple[int, int], bool]]) -> Path:
    """A file of several video tracks: each the first number, how many frames, the size, and whether it is the default."""
    with av.open(str(path), "w") as container:
        streams = []
        for _, _, size, default in tracks:
            stream = container.add_stream("mpeg4", rate=RATE, options={"qscale": "2"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = Disposition.default if default else Disposition(0)
            streams.append(stream)
        for place in range(max(count for _, count, _, _ in tracks)):
            for stream, (first, count, size, _) in zip(streams, tracks, strict=True):
                if place < count:
                    frame = av.VideoFrame.from_ndarray(stamp(first + place, size), format="rgb24")
                    frame.pts, frame.time_base = place, Fraction(1, RATE)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("tracks", "read"),
    [
        ([(0, 12, (96, 54), True), (100, 12, SIZE, False)], 0),  # the default one
        ([(0, 12, (96, 54), False), (100, 12, SIZE, True)], 1),
        ([(0, 12, (96, 54), True), (100, 12, SIZE, True)], 1),  # the largest
        ([(0, 1, (320, 240), True), (100, 12, SIZE, False)], 1),  # a cover that is not marked as one
        ([(100, 12, SIZE, False), (0, 1, (320, 240), True)], 0),
    ],
)
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_one_track_for_everything(tmp_path: Path, container: str, tracks: list[tuple[int, int, tuple[int, int], bool]], read: int) -> None:
    first, count, size, _ = tracks[read]
    with open_video(write_tracks(tmp_path / f"tracks.{container}", tracks)) as video:
        assert numbers(video) == steady(first, count)
        assert (video.info.width, video.info.height, video.info.stream_index) == (*size, read)
        assert [number for _, number in (read_picked(video, place) for place in (0, count - 1))] == [first, first + count - 1]
        assert kinds(video) == ["other_tracks"]
        other = tracks[1 - read][2]
        assert f"{'cover' if tracks[1 - read][1] == 1 else 'track'} {1 - read} ({other[0]}x{other[1]})" in video.notes[0].text


def read_picked(video: SeekableSource, index: int) -> tuple[float, int | None]:
    (frame,) = video.pick([index])
    return frame.time_s, read_stamp(frame.image)


# ---- geometry


@pytest.mark.parametrize(
    ("matrix", "stored"),
    [((-1, 0, 0, 1, 320, 0), lambda image: image[:, ::-1]), ((0, 1, 1, 0, 0, 0), lambda image: image.transpose(1, 0, 2))],
    ids=["flipped", "transposed"],
)
def test_faces_of_mirrored_videos_are_where_they_are_shown(samples: Path, tmp_path: Path, matrix: tuple[int, ...], stored: object) -> None:
    images = [np.array(Image.fromarray(image).resize((320, 180))) for image in pictures(samples / "single_face.mp4", 4)]
    upright = write_clip(tmp_path / "upright.mp4", images)
    turned = write_clip(tmp_path / "turned.mp4", [np.ascontiguousarray(stored(image)) for image in images])  # type: ignore[operator]
    set_matrix(turned, matrix)
    detector = load_detector("centerface", min_face=30)
    settings = load_settings(assignments=["video.fps=null", "detect.min_face=30"])
    rows = []
    for path in (upright, turned):
        chunks = list(analyse_video(str(path), settings, detector))
        video = chunks[-1].video
        assert video is not None
        rows.append((video, [face for chunk in chunks for face in chunk.faces.to_pylist()]))
    (plain, faces), (row, others) = rows
    assert [row[name] for name in ("width", "height", "status", "faces")] == [
        plain[name] for name in ("width", "height", "status", "faces")
    ]
    assert note_kinds(row["note"]) == (NoteKind.ORIENTATION,) and plain["note"] is None
    for one, other in zip(faces, others, strict=True):
        assert np.abs(np.array(one["box"]) - other["box"]).max() < 6  # of 74x104 pixels
        assert np.abs(np.array(one["landmarks5"]) - other["landmarks5"]).max() < 3
        assert other["yaw"] == pytest.approx(one["yaw"], abs=4)


@pytest.mark.parametrize(
    ("size", "aspect", "square"),
    [((176, 144), Fraction(16, 11), (256, 144)), ((180, 120), Fraction(8, 9), (180, 135)), ((240, 180), Fraction(4, 3), (320, 180))],
)
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_pixels_are_square_and_the_row_keeps_how_they_are_stored(
    samples: Path, tmp_path: Path, container: str, size: tuple[int, int], aspect: Fraction, square: tuple[int, int]
) -> None:
    image = Image.fromarray(pictures(samples / "WolfgangLanger_Pexels.mp4", 1)[0])
    wide, stored = np.array(image.resize(square)), np.array(image.resize(size))
    path = write_stamped(tmp_path / f"narrow.{container}", range(3), size=size, aspect=aspect, draw=lambda *_: stored)
    with open_video(path) as video:
        frames = list(video.frames())
        info = video.info
    assert (info.width, info.height, info.stored_width, info.stored_height) == (*square, *size)
    assert info.pixel_aspect == pytest.approx(float(aspect), rel=0.001)
    assert kinds(video) == ["pixel_aspect"]
    for frame in frames:
        assert frame.image.shape == wide.shape
        assert np.abs(frame.image.astype(int) - wide).mean() < 6


def test_a_size_that_changes_keeps_one_meaning_of_coordinates(tmp_path: Path) -> None:
    sizes = [((40, 80), (384, 216)), ((80, 120), (108, 192))]
    path = write_stamped(tmp_path / "call.webm", range(40), "vp8", then=[(range(*span), size) for span, size in sizes])
    with open_video(path) as video:
        frames = list(video.frames())
        assert (video.info.width, video.info.height, video.info.stored_width, video.info.stored_height) == (384, 216, *SIZE)
        assert {frame.image.shape for frame in frames} == {(216, 384, 3)}
        assert kinds(video) == ["size_changes"] and "384x216" in video.notes[0].text
    tall = frames[100].image
    left = (384 - 122) // 2
    assert read_stamp(tall[:, left : left + 122]) == 100
    assert tall[:, : left - 2].max() < 12 and tall[:, left + 124 :].max() < 12


# ---- light


def write_interlaced(path: Path, count: int, top_first: bool) -> Path:
    """A bright bar that moves 6 pixels from field to field."""
    with av.open(str(path), "w") as container:
        options = {"flags": "+ildct+ilme", "qscale": "2", "field_order": "tt" if top_first else "bb", "top": str(int(top_first))}
        stream = container.add_stream("mpeg2video", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        graph = Graph()
        source = graph.add_buffer(width=192, height=108, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 25))
        nodes = [source, graph.add("format", "yuv420p"), graph.add("setfield", "tff" if top_first else "bff"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        for place in range(count):
            image = np.full((108, 192, 3), 40, np.uint8)
            for field in (0, 1):
                late = field == (1 if top_first else 0)
                x = 20 + 12 * place + 6 * late
                image[field::2, x : x + 20] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 25)
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))  # type: ignore[arg-type]
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("container", ["ts", "mpg", "mkv"])
@pytest.mark.parametrize("top_first", [True, False])
def test_interlaced_frames_are_deinterlaced(tmp_path: Path, container: str, top_first: bool) -> None:
    path = write_interlaced(tmp_path / f"camcorder.{container}", 12, top_first)
    with av.open(str(path)) as source:
        stored = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with open_video(path) as video:
        frames = list(video.frames())
        assert kinds(video) == ["deinterlaced"]
        picked = list(video.pick([5, 6], {frame.index: frame.time_s for frame in frames}))
    assert [round(frame.time_s * 25) for frame in frames] == list(range(12))
    assert min(combing(image) for image in stored) > 4
    assert max(combing(frame.image) for frame in frames) < 1.5
    for frame in picked:
        assert np.array_equal(frame.image, frames[frame.index].image)
    for place, frame in enumerate(frames[2:10], 2):
        lit = np.flatnonzero(frame.image[20:90].mean((0, 2)) > 130)
        assert 20 + 12 * place - 3 <= lit[0] and lit[-1] <= 20 + 12 * place + 6 + 20 + 3


def combing(image: np.ndarray) -> float:
    """How far rows differ from those between which they lie, more than those differ from each other."""
    rows = image[10:-10].astype(int).mean(2)
    return float((np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2) - np.abs(rows[:-2] - rows[2:]) / 2).clip(0).mean())


def hdr(image: np.ndarray, transfer: str) -> av.VideoFrame:
    """An SDR picture as HDR with white at 203 cd/m2, by FFmpeg's own conversion."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, RATE))
    to = f"out_transfer={transfer}:out_primaries=bt2020:out_color_matrix=bt2020nc:out_range=tv"
    tag = graph.add("setparams", "color_trc=bt709:color_primaries=bt709:colorspace=gbr:range=pc")
    graph.link_nodes(source, tag, graph.add("scale", to), graph.add("format", "yuv420p10le"), graph.add("buffersink")).configure()
    frame.pts, frame.time_base = 0, Fraction(1, RATE)
    graph.push(frame)
    converted = graph.pull()
    assert isinstance(converted, av.VideoFrame)
    return converted


@pytest.mark.parametrize(("transfer", "name"), [("arib-std-b67", "HLG"), ("smpte2084", "PQ")])
def test_hdr_is_shown_as_its_sdr_original(samples: Path, tmp_path: Path, transfer: str, name: str) -> None:
    images = [np.array(Image.fromarray(image).resize((320, 180))) for image in pictures(samples / "WolfgangLanger_Pexels.mp4", 1)]
    path = tmp_path / "phone.mkv"
    with av.open(str(path), "w") as container:
        options = {"x265-params": f"log-level=none:pools=1:crf=10:transfer={transfer}:colorprim=bt2020:colormatrix=bt2020nc:range=limited"}
        stream = container.add_stream("libx265", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p10le"
        for place, image in enumerate(images):
            frame = hdr(image, transfer)
            frame.pts, frame.time_base = place, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as source:
        untouched = next(source.decode(video=0)).to_ndarray(format="rgb24")
    with open_video(path) as video:
        read = list(video.frames())
        assert kinds(video) == ["tone_mapped"] and name in video.notes[0].text
    assert np.abs(untouched.astype(int) - images[0]).mean() > 6
    for shown, image in zip(read, images, strict=True):
        assert np.abs(shown.image.astype(int) - image).mean() < 3.5


COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 210), (128, 128, 128), (240, 240, 240), (12, 12, 12))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "tag"), [("ITU709", 1), ("ITU601", 6)])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_ranges_and_matrices_give_the_right_colours(tmp_path: Path, full_range: bool, matrix: str, tag: int, decoder: str) -> None:
    image = np.repeat(np.repeat(np.array(COLOURS, np.uint8).reshape(2, 3, 3), 48, 0), 64, 1)
    path = tmp_path / "colours.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "8", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = tag, 2 if full_range else 1
        for place in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range="JPEG" if full_range else "MPEG")
            frame.pts, frame.time_base = place, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(path, decoder=decoder) as video:  # type: ignore[arg-type]
        (picture, *_) = [frame.image for frame in video.frames()]
    for row, column in itertools.product(range(2), range(3)):
        block = picture[row * 48 + 12 : row * 48 + 36, column * 64 + 16 : column * 64 + 48].mean((0, 1))
        assert np.abs(block - COLOURS[row * 3 + column]).max() < 4


def test_transparency_shows_the_colour_that_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "alpha.mov"
    image = np.zeros((96, 192, 4), np.uint8)
    image[..., :3], image[:, :96, 3] = (200, 100, 50), 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "argb"
        frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="argb")
        frame.pts, frame.time_base = 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(path) as video:
        (frame_read,) = video.frames()
    assert np.abs(frame_read.image.astype(int) - (200, 100, 50)).max() < 3


# ---- backends and rows


def test_decord_only_reads_what_it_is_proved_to_read(samples: Path, tmp_path: Path) -> None:
    with_b = {"b_frames": 2, "is_open": True}
    plain = write_stamped(tmp_path / "plain.mp4", range(40), **with_b)  # type: ignore[arg-type]
    stream = write_stamped(tmp_path / "stream.ts", range(40), **with_b)  # type: ignore[arg-type]
    narrow = write_stamped(tmp_path / "narrow.mp4", range(40), aspect=Fraction(4, 3))
    expected = {("auto", plain): "decord", ("decord", plain): "decord", ("pyav", plain): "pyav"}
    expected |= {(choice, path): "pyav" for choice in ("auto", "decord", "pyav") for path in (stream, narrow)}
    for (choice, path), decoder in expected.items():
        with open_video(path, decoder=choice) as video:  # type: ignore[arg-type]
            assert video.info.decoder == decoder
            assert [number for _, number in numbers(video)] == list(range(40))


def test_the_row_keeps_what_is_known_of_the_file(samples: Path, tmp_path: Path) -> None:
    images = [np.array(Image.fromarray(image).resize((176, 144))) for image in pictures(samples / "single_face.mp4", 24)]
    path = write_stamped(
        tmp_path / "old.ts",
        range(24),
        "mpeg2",
        size=(176, 144),
        aspect=Fraction(16, 11),
        group=6,
        draw=lambda number, _: images[number],
        kept=lambda place: place >= 3,
    )
    *_, last = analyse_video(str(path), load_settings(assignments=["video.fps=null"]), load_detector("centerface", min_face=30))
    row = last.video
    assert row is not None
    assert (row["width"], row["height"], row["stored_width"], row["stored_height"]) == (256, 144, 176, 144)
    assert row["pixel_aspect"] == pytest.approx(16 / 11, rel=0.001)
    assert (row["frame_count"], row["sampled_frames"]) == (18, 18)
    assert row["start_s"] == pytest.approx(6 / RATE)
    assert note_kinds(row["note"]) == (NoteKind.STARTS_BETWEEN_KEYFRAMES, NoteKind.PIXEL_ASPECT)
    assert (row["error"], row["error_kind"]) == (None, None)


def test_a_second_part_that_the_format_cannot_hold_is_reported(tmp_path: Path) -> None:
    noise = np.random.default_rng(4)

    def draw(number: int, size: tuple[int, int]) -> np.ndarray:
        return noise.integers(0, 255, (size[1], size[0], 3), np.uint8)

    parts = [write_stamped(tmp_path / f"{i}.flv", range(25), draw=draw, size=(320, 180)).read_bytes() for i in range(2)]
    path = tmp_path / "joined.flv"
    path.write_bytes(b"".join(parts))
    with open_video(path) as video:
        assert len(list(video.frames())) == 25
        assert video.problem is not None and video.problem.kind == VideoErrorKind.DAMAGED
        assert "of the file could be read" in video.problem.reason


def test_an_unknown_codec_is_said(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "future.mp4", range(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    with pytest.raises(VideoError) as caught:
        open_video(path)
    assert caught.value.kind == VideoErrorKind.UNKNOWN_CODEC


def test_notes_never_break_the_column() -> None:
    texts = [f"{kind.value}: what, was, done" for kind in NoteKind]
    assert note_kinds("; ".join(texts)) == tuple(NoteKind)
    assert note_kinds(None) == ()
