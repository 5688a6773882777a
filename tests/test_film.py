"""The annotated video: the original's frames, times and sound, with boxes where the faces are, or with the faces hidden."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from av.stream import Disposition
from PIL import ImageColor

from pipeline.errors import SettingsError, VideoError
from pipeline.execution.drawing import PALETTE
from pipeline.faces.detectors import load_detector
from pipeline.report.film import annotate_video
from pipeline.report.overlay import Overlay, hide_faces
from pipeline.report.positions import FacePosition, FacePositions
from pipeline.report.windows import active_column
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, empty, video_id
from pipeline.video.opening import open_video
from pipeline.vocabulary import AUS, REGIONS
from tests.support.clips import pictures, write_clip
from tests.support.runs import make_run
from tests.support.tables import add_video, new_run

FPS = 5.0
TONE_S = 0.6


def with_tone(path: Path, clip: Path, codec: str) -> Path:
    """A clip's packets, and a second stream: silence, and a tone from `TONE_S` on."""
    rate = 44100
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        audio = out.add_stream(codec, rate=rate)
        assert isinstance(audio, av.AudioStream)
        audio.codec_context.layout = "mono"
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        seconds = np.arange(2 * rate) / rate
        wave = (np.sin(2 * np.pi * 440 * seconds) * (seconds >= TONE_S) * 20000).astype(np.int16)
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """MP3 sound; a face that leaves; none; uneven times with PCM; a stream that starts late with AAC; turned, with odd sides."""
    folder = tmp_path_factory.mktemp("clips")
    clips = {key: folder / name for key, name in {"mp3": "single_face.mp4", "leaves": "face_noface.mov", "none": "no_face.mp4"}.items()}
    for path in clips.values():
        shutil.copy(samples / path.name, path)
    images = pictures(samples / "WolfgangLanger_Pexels.mp4", 30)
    uneven = np.cumsum(np.tile([0.02, 0.05, 0.1], 10))
    level = write_clip(folder / "uneven.mp4", images, times=uneven.tolist())
    clips["uneven"] = with_tone(folder / "uneven-pcm.mkv", level, "pcm_s16le")
    clips["late"] = with_tone(folder / "late.ts", write_clip(folder / "late.mp4", images), "aac")
    odd = write_clip(folder / "odd.mp4", [image[:359, :639] for image in images[:8]], pixels="yuv444p").read_bytes()
    matrix = [
        struct.pack(">9i", *(value << 16 for value in turn), 1 << 30) for turn in ((1, 0, 0, 0, 1, 0, 0, 0), (0, -1, 0, 1, 0, 0, 0, 639))
    ]
    at = odd.index(matrix[0], odd.index(b"tkhd"))
    clips["turned"] = folder / "turned.mp4"
    clips["turned"].write_bytes(odd[:at] + matrix[1] + odd[at + len(matrix[1]) :])
    return clips


@pytest.fixture(scope="module")
def run(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), list(clips.values()), video_fps=FPS)


@pytest.fixture(scope="module")
def films(run: RunFolder, clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {key: annotate_video(run, video_id(path), folder / f"{key}.mp4").path for key, path in clips.items()}


def frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times in seconds from the first frame, and the upright pictures."""
    with av.open(str(path)) as container:
        got = [(frame.time or 0.0, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)) for frame in container.decode(video=0)]
    return [time - got[0][0] for time, _ in got], [image for _, image in got]


def face_rows(run: RunFolder, path: Path) -> list[dict[str, Any]]:
    return [row for row in run.read("faces").to_pylist() if row["video_id"] == video_id(path)]


def reach(image: np.ndarray, colour: str) -> np.ndarray:
    """(H, W): how far each pixel is from a colour."""
    return np.abs(image.astype(int) - ImageColor.getrgb(colour)).max(axis=2)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["mp3", "leaves", "none", "uneven", "late", "turned"])
def test_every_frame_keeps_its_time(clips: dict[str, Path], films: dict[str, Path], clip: str) -> None:
    (times, images), (new_times, new_images) = frames(clips[clip]), frames(films[clip])
    assert len(new_images) == len(images)
    np.testing.assert_allclose(new_times, times, atol=1e-4)
    height, width = images[0].shape[:2]
    assert new_images[0].shape == (height + height % 2, width + width % 2, 3)
    with av.open(str(films[clip])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert next(container.decode(video=0)).rotation == 0
    data = films[clip].read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "plays before it is wholly there"


@pytest.mark.slow
def test_what_is_not_drawn_on_stays(clips: dict[str, Path], films: dict[str, Path]) -> None:
    for clip in ("none", "turned", "mp3"):
        for old, new in list(zip(frames(clips[clip])[1], frames(films[clip])[1], strict=True))[::20]:
            height, width = old.shape[:2]
            change = np.abs(old.astype(int) - new[:height, :width].astype(int)).mean(axis=2)
            # Of a clip with faces, the lower half of pixels: those without box and card.
            assert (change.mean() if clip == "none" else np.sort(change, axis=None)[: change.size // 2].mean()) < 4.0, clip


def sound(path: Path) -> tuple[list[bytes], float, float]:
    """Its packets; when it begins, from the video's first frame; when its tone does, likewise."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(path)) as container:
        first = next(frame.time for frame in container.decode(video=0)) or 0.0
    with av.open(str(path)) as container:
        got = [(frame.time or 0.0, frame.to_ndarray().astype(float), frame.sample_rate) for frame in container.decode(audio=0)]
    peak = max(np.abs(samples).max() for _, samples, _ in got)
    tone = next(
        time + int(np.argmax(np.abs(samples[0]) > peak / 2)) / rate for time, samples, rate in got if np.abs(samples).max() > peak / 2
    )
    return packets, got[0][0] - first, tone - first


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "codec", "copied"), [("mp3", "mp3float", True), ("late", "aac", False), ("uneven", "aac", False)])
def test_sound_is_kept_and_in_step(clips: dict[str, Path], films: dict[str, Path], clip: str, codec: str, copied: bool) -> None:
    with av.open(str(films[clip])) as container:
        assert container.streams.audio[0].codec_context.name == codec
    (packets, start, tone), (new_packets, new_start, new_tone) = sound(clips[clip]), sound(films[clip])
    if copied:
        assert new_packets == packets
    if clip == "late":  # the same packets, without the headers that a transport stream wants
        assert [len(packet) for packet in new_packets] == [len(packet) - 7 for packet in packets]
    assert new_start == pytest.approx(start, abs=0.03)
    assert new_tone == pytest.approx(tone, abs=0.005)
    if clip != "mp3":
        assert new_tone == pytest.approx(TONE_S, abs=0.05)


FLASH_S = 1.2


def flash_and_beep(path: Path, codecs: Sequence[str], seconds: float = 2.0) -> Path:
    """A grey clip that turns white when a tone begins, at `FLASH_S`; a sound track for each codec."""
    rate, fps = 48000, 30
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4" if path.suffix == ".avi" else "libx264", rate=fps, options={"bf": "0"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        tracks = []
        for codec in codecs:
            track = out.add_stream(codec, rate=rate)
            assert isinstance(track, av.AudioStream)
            track.codec_context.layout = "stereo"
            tracks.append(track)
        times = np.arange(round(seconds * rate)) / rate
        wave = (np.sin(2 * np.pi * 440 * times) * (times >= FLASH_S) * 20000).astype(np.int16)
        for number in range(round(seconds * fps)):
            image = np.full((180, 320, 3), 250 if number / fps >= FLASH_S else 60, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(video.encode(frame))
            start, stop = number * rate // fps, (number + 1) * rate // fps
            for track in tracks:
                samples = np.repeat(wave[start:stop], 2)[None]
                piece = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                out.mux(track.encode(piece))
        out.mux(video.encode(None))
        for track in tracks:
            out.mux(track.encode(None))
    return path


def faceless(folder: Path, clip: Path) -> RunFolder:
    """A run that found no face in a clip."""
    run = new_run(folder)
    add_video(run, clip, (empty("faces"), empty("descriptions")))
    return run


def flash_and_tone(path: Path, track: int = 0, after_s: float = 0.0) -> tuple[float, float]:
    """When a clip turns white and when a sound track's tone begins, on the container's clock, from `after_s` on."""
    with av.open(str(path)) as container:
        flash = next(t for f in container.decode(video=0) if (t := f.time or 0.0) >= after_s and f.to_ndarray(format="gray").mean() > 150)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=track):
            loud = np.abs(frame.to_ndarray().astype(float))[0]
            scale = 32768 if frame.format.name.startswith("s16") else 1.0
            if (frame.time or 0.0) >= after_s and loud.max() > 0.3 * scale:
                return flash, (frame.time or 0.0) + int(np.argmax(loud > 0.3 * scale)) / frame.sample_rate
    raise AssertionError("no tone")


@pytest.mark.parametrize(
    ("name", "codecs", "copied"),
    [
        ("clip.mp4", ["aac"], [True]),
        ("clip.mov", ["pcm_s16le", "aac"], [False, True]),
        ("clip.mkv", ["flac", "libopus", "pcm_f32le"], [True, True, False]),
        ("clip.ts", ["mp2", "ac3"], [False, True]),
        ("clip.avi", ["libmp3lame"], [True]),
    ],
)
def test_every_sound_track_is_in_the_film_and_in_step(tmp_path: Path, name: str, codecs: list[str], copied: list[bool]) -> None:
    clip = flash_and_beep(tmp_path / name, codecs)
    run = faceless(tmp_path / "run", clip)
    film = annotate_video(run, video_id(clip), tmp_path / "film.mp4")
    assert film.notes == ()
    with av.open(str(clip)) as source, av.open(str(film.path)) as container:
        names = [stream.codec_context.codec.canonical_name for stream in container.streams.audio]
        before = [stream.codec_context.codec.canonical_name for stream in source.streams.audio]
    assert names == [old if keep else "aac" for old, keep in zip(before, copied, strict=True)]
    for track in range(len(codecs)):
        (flash, tone), (new_flash, new_tone) = (flash_and_tone(path, track) for path in (clip, film.path))
        assert tone - flash == pytest.approx(0, abs=0.06)  # one frame of the codec
        assert new_tone - new_flash == pytest.approx(tone - flash, abs=0.01), "in step"


def test_the_sound_of_joined_recordings_is_in_step_in_each(tmp_path: Path) -> None:
    """Two recordings joined end to end, the second with the time stamps of the first."""
    one = flash_and_beep(tmp_path / "one.ts", ["mp2", "aac"])
    clip = tmp_path / "joined.ts"
    clip.write_bytes(one.read_bytes() * 2)
    run = faceless(tmp_path / "run", clip)
    film = annotate_video(run, video_id(clip), tmp_path / "film.mp4").path
    times, _ = frames(film)
    assert len(times) == 120 and times[-1] == pytest.approx(4 - 1 / 30, abs=0.1)
    for track in (0, 1):
        for after_s in (0.0, times[60] + 0.3):
            flash, tone = flash_and_tone(film, track, after_s)
            assert flash > after_s and tone - flash == pytest.approx(0, abs=0.06)


def test_a_sound_track_that_nobody_can_decode_is_left_out_and_named(tmp_path: Path) -> None:
    """As iPhones write: the first of two tracks has a codec that FFmpeg does not know."""
    data = bytearray(flash_and_beep(tmp_path / "two.mov", ["aac", "aac"]).read_bytes())
    at = data.index(b"mp4a")
    data[at : at + 4] = b"apac"
    box = data.index(b"esds", at)
    data[box : box + 4] = b"dapa"
    clip = tmp_path / "clip.mov"
    clip.write_bytes(data)
    with av.open(str(clip)) as container:
        assert [stream.codec_context is None for stream in container.streams.audio] == [True, False]
    run = faceless(tmp_path / "run", clip)
    film = annotate_video(run, video_id(clip), tmp_path / "film.mp4")
    assert film.notes == ("sound track 1 is left out: its codec is not known here",)
    with av.open(str(film.path)) as container:
        assert len(container.streams.audio) == 1
    flash, tone = flash_and_tone(film.path)
    assert tone - flash == pytest.approx(0, abs=0.04)


def test_the_film_shows_the_stream_that_was_analysed(tmp_path: Path) -> None:
    """Two video tracks, the smaller one the default, and pixels twice as wide as high."""
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as out:
        tracks = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for track, (width, height), aspect in zip(tracks, ((640, 360), (160, 180)), (Fraction(1), Fraction(2)), strict=True):
            assert isinstance(track, av.VideoStream)
            track.width, track.height, track.pix_fmt = width, height, "yuv420p"
            track.codec_context.sample_aspect_ratio = aspect
        tracks[0].disposition = Disposition(0)
        tracks[1].disposition = Disposition.default
        for number in range(20):
            for track, level in zip(tracks, (240, 40 + 5 * number), strict=True):
                assert isinstance(track, av.VideoStream)
                image = np.full((track.height, track.width, 3), level, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(track.encode(frame))
        for track in tracks:
            assert isinstance(track, av.VideoStream)
            out.mux(track.encode(None))
    film = annotate_video(faceless(tmp_path / "run", clip), video_id(clip), tmp_path / "film.mp4").path
    with open_video(clip) as video:
        expected = [frame.image for frame in video.frames()]
    assert expected[0].shape == (180, 320, 3) and expected[0].mean() < 60
    shown = frames(film)[1]
    assert len(shown) == len(expected)
    for old, new in zip(expected, shown, strict=True):
        assert new.shape == old.shape and np.abs(old.astype(int) - new).mean() < 4


@pytest.mark.slow
def test_boxes_are_drawn_where_faces_are_between_samples_too(run: RunFolder, clips: dict[str, Path], films: dict[str, Path]) -> None:
    (times, images), bare = frames(films["mp3"]), frames(clips["mp3"])[1]
    rows = face_rows(run, clips["mp3"])
    checked = 0
    for before, after in itertools.pairwise(rows):
        for time, image, without in zip(times, images, bare, strict=True):
            if before["time_s"] <= time < after["time_s"]:
                share = (time - before["time_s"]) / (after["time_s"] - before["time_s"])
                x0, _, _, y1 = ((1 - share) * np.array(before["box"]) + share * np.array(after["box"])).round().astype(int)
                rows_of_pixels = slice(y1 - 20, y1 - 10)  # under the regions, whose lines lie on the box's
                line, old_line = (np.median(reach(picture[rows_of_pixels, x0 : x0 + 2], PALETTE[0])) for picture in (image, without))
                beside = np.median(reach(image[rows_of_pixels, x0 - 9 : x0 - 5], PALETTE[0]))
                assert line < min(100, old_line - 12, beside - 12), time  # two pixels wide, and 4:2:0 bleeds
                checked += 1
    assert checked > 5 * len(rows)


@pytest.mark.slow
def test_words_leave_the_face_free(clips: dict[str, Path], run: RunFolder, films: dict[str, Path]) -> None:
    """A card is drawn, and where there is room beside the face it does not hide it."""
    by_time = {row["time_s"]: row["box"] for row in face_rows(run, clips["mp3"])}
    for time, old, new in zip(*frames(clips["mp3"]), frames(films["mp3"])[1], strict=True):
        near = [box for seen, box in by_time.items() if abs(seen - time) < 1e-3]
        for x0, y0, x1, y1 in (np.array(box).astype(int) for box in near):
            change = np.abs(old.astype(int) - new.astype(int)).mean(axis=2) > 40
            assert change[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5].mean() < 0.15, "thin lines and names"
            outside = change.copy()
            outside[max(y0 - 30, 0) : y1, x0:x1] = False
            assert outside.mean() > 0.03, "a card"


@pytest.mark.slow
def test_hidden_faces_are_found_no_more(run: RunFolder, clips: dict[str, Path], films: dict[str, Path], tmp_path: Path) -> None:
    detector = load_detector()
    film = annotate_video(run, video_id(clips["mp3"]), tmp_path / "blur.mp4", faces="blur").path
    (_, old), (_, new) = frames(clips["mp3"]), frames(film)
    boxes = {row["frame_index"]: np.array(row["box"]).astype(int) for row in face_rows(run, clips["mp3"])}
    for index in range(0, len(old), 9):
        x0, y0, x1, y1 = min(boxes.items(), key=lambda item: abs(item[0] - index))[1]

        def found(image: np.ndarray, box: tuple[int, int, int, int] = (x0, y0, x1, y1)) -> bool:
            middles = (detector.detect([image])[0].boxes.reshape(-1, 2, 2)).mean(axis=1)
            return any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in middles)

        assert found(old[index]) and not found(new[index]), index
    assert len(new) == len(old)

    hidden = old[0].copy()
    x0, y0, x1, y1 = boxes[0]
    hide_faces(hidden, [FacePosition(1, (x0, y0, x1, y1), np.zeros((5, 2))), FacePosition(2, (-50, -50, -20, -20), np.zeros((5, 2)))])
    detail = [np.abs(np.diff(image[y0:y1, x0:x1].astype(int), axis=0)).mean() for image in (old[0], hidden)]
    assert detail[1] < detail[0] / 3
    assert (hidden != old[0]).any(axis=2)[y0:y1, x0:x1].mean() > 0.9
    beyond = np.ones(hidden.shape[:2], bool)
    beyond[max(y0 - (y1 - y0), 0) : y1 + (y1 - y0), max(x0 - (x1 - x0), 0) : x1 + (x1 - x0)] = False
    assert (hidden == old[0])[beyond].all()


@pytest.mark.parametrize("side", [22, pytest.param(34, marks=pytest.mark.slow)])
def test_faces_of_twenty_pixels_are_drawn(samples: Path, tmp_path: Path, side: int) -> None:
    """The clip shrunk to `side` pixels of height in a 360p frame: its face is 18 to 26 pixels high, its regions a few."""
    shrunk = [np.full((360, 640, 3), 90, np.uint8) for _ in range(20)]
    for frame, image in zip(shrunk, pictures(samples / "WolfgangLanger_Pexels.mp4", 20), strict=True):
        frame[100 : 100 + side, 200 : 200 + side * 16 // 9] = cv2.resize(image, (side * 16 // 9, side), interpolation=cv2.INTER_AREA)
    clip = write_clip(tmp_path / "small.mp4", shrunk, options={"crf": "8"})
    run = make_run(tmp_path / "run", [clip], video_fps=FPS, detect_min_face=10, select_regions="all")
    boxes = [row["box"] for row in face_rows(run, clip)]
    assert boxes and all(box[3] - box[1] < 28 for box in boxes)
    film = annotate_video(run, video_id(clip), tmp_path / "film.mp4").path
    image = frames(film)[1][0]
    x0, y0, x1, y1 = (round(edge) for edge in boxes[0])
    assert (reach(image[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2], PALETTE[0]) < 90).sum() > 2 * (y1 - y0), "the outline"
    assert np.abs(image.astype(int) - frames(clip)[1][0]).max() > 60, "a card"


@pytest.mark.parametrize("size", [(16, 16), (48, 30), (90, 160), (33, 500)])
def test_frames_of_any_size_are_drawn_on(size: tuple[int, int]) -> None:
    """A face as large as the frame, with every region and every action unit active, from 16 pixels on."""
    width, height = size
    for share in (1.0, 0.3, 0.05):
        box = [0.0, 0.0, width * share, height * share]
        points = [(x * width * share, y * height * share) for x, y in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))]
        face = {"video_id": "v", "frame_index": 0, "time_s": 0.0, "track_id": 1, "det_score": 0.9, "box": box}
        face |= {"landmarks5": np.ravel(points).tolist(), "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "sharpness": 1.0}
        words = {"track_id": 1, "window_index": 0, "emotion": "happiness", "emotion_happiness": 0.9, "age": 30.0, "age_low": 20.0}
        words |= {"age_high": 40.0, "description": "The lip corners are pulled up and the lips are parted; the face looks happy."}
        words |= dict.fromkeys(AUS, 0.9) | {active_column(au): True for au in AUS}
        regions = [{"track_id": 1, "window_index": 0, "time_s": 0.0, "region": region, "box": box} for region in REGIONS]
        positions = FacePositions(pa.Table.from_pylist([face], TABLES["faces"]).to_batches(), np.array([0.0]))
        overlay = Overlay(size, positions, pa.Table.from_pylist([words]), pa.Table.from_pylist(regions), 1.0)
        image = np.full((height, width, 3), 128, np.uint8)
        drawn = overlay.draw(image, 0.0)
        assert drawn.shape == image.shape and (drawn != image).any()


def test_tracks_between_and_around_samples() -> None:
    """Hand-made: one track with a gap, sampled at 0, 0.2 ... 1.4 s and seen at 0.2, 0.4, 0.8, 1.0."""
    sampled = np.arange(8) * 0.2

    def row(track: int, time: float, left: float) -> dict[str, Any]:
        return {
            "video_id": "v",
            "frame_index": 0,
            "time_s": time,
            "track_id": track,
            "box": [left, 0, left + 10, 10],
            "landmarks5": [left] * 10,
        }

    rows = [row(1, sampled[i], 10 * i) for i in (1, 2, 4, 5)] + [row(7, 1.4, 3.0)]
    table = pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in TABLES["faces"]]))
    positions = FacePositions(table.to_batches(max_chunksize=2), sampled)

    def left(time: float, extended: bool = False) -> dict[int, Any]:
        return {face.track_id: pytest.approx(face.box[0], abs=1e-4) for face in positions.at(time, extended)}

    assert left(0.2) == {1: 10.0} and left(0.3) == {1: 15.0} and left(0.4) == {1: 20.0} and left(0.9) == {1: 45.0}
    assert left(0.5) == left(0.6) == left(0.1) == left(1.1) == left(2.0) == {}
    assert left(0.5, extended=True) == {1: 25.0} and left(0.6, extended=True) == {1: 30.0}, "a gap is hidden too"
    assert left(0.1, extended=True) == {1: 10.0} and left(1.1, extended=True) == {1: 50.0}, "and the moments around"
    assert left(0.0, extended=True) == left(1.2, extended=True) == {}, "but not where somebody looked and saw no face"
    assert left(1.4) == {7: 3.0} and left(1.39) == {} and left(1.39, extended=True) == {7: 3.0} == left(9.0, extended=True)
    assert positions.bounds(0.2, 0.9) == {1: (10.0, 0.0, 50.0, 10.0)} and positions.bounds(0.5, 0.7) == {}
    assert FacePositions([], sampled).at(0.2) == []


@pytest.mark.slow
def test_no_half_file_stays_and_an_older_one_does(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    out.write_bytes(b"older")
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_video(run, video_id(clips["mp3"]), out, progress=stop)
    assert told == [(done, 72) for done in range(1, 10)]
    assert out.read_bytes() == b"older" and list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_what_cannot_be_is_said_in_a_line(run: RunFolder, clips: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no video 0000"):
        annotate_video(run, "0000", tmp_path / "x.mp4")
    with pytest.raises(SettingsError, match="is the video itself"):
        annotate_video(run, video_id(clips["mp3"]), clips["mp3"])
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write"):
        annotate_video(run, video_id(clips["mp3"]), tmp_path / "file" / "x.mp4")

    moved = clips["none"].with_suffix(".away")
    clips["none"].rename(moved)
    try:
        with pytest.raises(VideoError, match="no longer there"):
            annotate_video(run, video_id(clips["none"]), tmp_path / "x.mp4")
        shutil.copy(clips["mp3"], clips["none"])
        with pytest.raises(VideoError, match="has changed since the run"):
            annotate_video(run, video_id(clips["none"]), tmp_path / "x.mp4")
    finally:
        moved.replace(clips["none"])
    assert not list(tmp_path.glob("*x*"))
