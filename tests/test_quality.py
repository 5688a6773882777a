"""How readable a face is: what lowers the score, how faces below the threshold are treated, and a clip with a hand before a face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipeline
from pipeline.describe.backends import Describer, load_describer
from pipeline.execution.executors.in_process import InProcessExecutor
from pipeline.execution.preview import annotate
from pipeline.execution.run import run
from pipeline.faces.covering import covering_maps
from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.finding import measure_faces
from pipeline.faces.readability import PARTS, Quality, readability
from pipeline.records import Detections, Face, Frame
from pipeline.schemas import READ_COLUMNS
from pipeline.settings import MIN_READABLE, load_settings
from pipeline.storage.run_folder import RunFolder
from pipeline.trends import analysis
from pipeline.video.opening import open_video
from pipeline.vocabulary import FAULTS

CLEAR = Quality(eyes=60, sharpness=300, yaw=0, pitch=0, outside=0, covered=0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("centerface")


@pytest.fixture(scope="module")
def describer() -> Describer:
    return load_describer()


def run_clip(folder: Path, samples: Path, detector: Detector, describer: Describer, **options: object) -> RunFolder:
    """A range of the demo clip, whole faces only, without the model's sentences."""
    options = {"select.regions": "face", "describe.sentences": "plain"} | options
    settings = load_settings(options=options)
    clip = str(samples / "WolfgangLanger_Pexels.mp4")
    return run([clip], folder, settings, executor=InProcessExecutor(settings, detector, describer))


@pytest.fixture(scope="module")
def smile(samples: Path, detector: Detector) -> tuple[np.ndarray, Detections]:
    """A frame of the demo clip without a hand, and its face."""
    with open_video(samples / "WolfgangLanger_Pexels.mp4") as video:
        frame = next(video.frames(from_s=13.0))
    return frame.image, detector.detect([frame.image])[0]


@pytest.fixture(scope="module")
def gated(samples: Path, detector: Detector, describer: Describer, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The demo clip from 2 to 11 s, at 4 frames a second: a hand is before the face from 3.8 to 9.4 s."""
    options = {"video.fps": 4.0, "video.from_s": 2, "video.to_s": 11}
    return run_clip(tmp_path_factory.mktemp("gated"), samples, detector, describer, **options)


def face_of(image: np.ndarray, found: Detections) -> Face:
    (face,) = measure_faces(Frame(0, 0.0, image), found)
    return face


def shifted(found: Detections, scale: float, move: tuple[float, float] = (0, 0)) -> Detections:
    """The same face in a picture that was scaled, then moved."""
    return Detections(found.boxes * scale + np.tile(move, 2), found.scores, found.landmarks5 * scale + np.array(move))


@pytest.mark.parametrize(
    ("worse", "fault"),
    [
        ({"eyes": 8, "sharpness": 5}, "too small"),
        ({"sharpness": 5}, "blurred"),
        ({"yaw": -35}, "turned away"),
        ({"pitch": 30}, "turned away"),
        ({"outside": 0.4}, "cut off"),
        ({"covered": 0.4}, "covered"),
    ],
)
def test_every_fault_lowers_the_score_and_is_named(worse: dict[str, float], fault: str) -> None:
    score, named = readability(Quality(**(vars(CLEAR) | worse)))
    assert score < readability(CLEAR)[0] == 1
    assert named == fault
    assert fault in FAULTS


def test_more_blur_is_less_readable(smile: tuple[np.ndarray, Detections]) -> None:
    image, found = smile
    scores = [face_of(cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image, found).readable for sigma in (0, 3, 6, 12)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95 > 0.8 > scores[-1]
    assert face_of(cv2.GaussianBlur(image, (0, 0), 12), found).fault == "blurred"


def test_a_smaller_face_is_less_readable(smile: tuple[np.ndarray, Detections]) -> None:
    image, found = smile
    faces = [
        face_of(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), shifted(found, scale))
        for scale in (1, 0.2, 0.08, 0.04)
    ]
    scores = [round(face.readable, 2) for face in faces]
    assert scores == sorted(scores, reverse=True)
    assert faces[-1].fault == "too small"
    assert scores[-1] < MIN_READABLE


def test_a_face_beyond_the_edge_of_the_frame_is_less_readable(smile: tuple[np.ndarray, Detections]) -> None:
    image, found = smile
    centre = int(found.landmarks5[0, :, 0].mean())
    whole = face_of(image, found)
    half = face_of(image[:, centre:], shifted(found, 1, (-centre, 0)))
    assert half.readable < whole.readable
    assert half.fault == "cut off"


@pytest.mark.parametrize("level", [30, 120, 220])
def test_a_thing_before_the_mouth_is_seen_where_it_is(smile: tuple[np.ndarray, Detections], level: int) -> None:
    image, found = smile
    clear = face_of(image, found)
    (x0, y0), (x1, y1) = found.landmarks5[0].min(0), found.landmarks5[0].max(0)
    hidden = image.copy()
    cv2.rectangle(hidden, (int(x0 - 20), int(y0 + 0.8 * (y1 - y0))), (int(x1 + 20), int(y1 + 60)), (level, level, level), -1)
    covered = face_of(hidden, found)
    before, after = covering_maps([clear.crop, covered.crop])
    assert before.max() < 0.5
    assert after[9:11, 5:9].mean() > 0.5  # the mouth
    assert after[3:5, 4:10].mean() < 0.2  # the eyes
    assert covered.readable < clear.readable
    assert covered.fault == "covered"
    assert PARTS.sum() == pytest.approx(1)


def test_the_hand_before_the_face_is_found(gated: RunFolder) -> None:
    faces = gated.faces.to_pandas()
    hand = faces[faces["time_s"].between(4.0, 5.6)]
    assert len(hand) >= 6
    assert set(hand["unreadable"]) == {"covered"}
    clear = faces[(faces["time_s"] < 2.4) | (faces["time_s"] > 9.6)]
    assert len(clear) >= 6
    assert clear["unreadable"].isna().all()
    assert clear["readable"].min() > 0.9
    at_the_mouth = faces[faces["time_s"].between(7.0, 9.2)]
    assert at_the_mouth["readable"].max() < clear["readable"].min()


def test_fields_of_unreadable_faces_are_null_and_all_others_are_read(gated: RunFolder) -> None:
    faces = gated.faces
    below = pc.less(faces["readable"], pa.scalar(MIN_READABLE, pa.float32()))
    assert pc.is_valid(faces["unreadable"]).equals(below)
    hidden, seen = faces.filter(below), faces.filter(pc.invert(below))
    assert hidden.num_rows > 0 < seen.num_rows
    assert all(hidden[name].null_count == hidden.num_rows for name in READ_COLUMNS)
    assert seen["emotion"].null_count == 0 == seen["AU12"].null_count
    assert gated.info["settings"]["describe"]["min_readable"] == MIN_READABLE


def test_a_window_is_described_in_a_readable_frame_or_not_at_all(gated: RunFolder) -> None:
    faces, described = gated.faces.to_pandas(), gated.descriptions.to_pandas()
    readable = set(faces[faces["unreadable"].isna()]["frame_index"])
    assert set(described["frame_index"]) <= readable
    assert (described["readable"] >= MIN_READABLE).all()
    windows = {index: set(part["frame_index"]) for index, part in faces.groupby(faces["time_s"].floordiv(1).astype(int))}
    assert set(described["window_index"]) == {index for index, frames in windows.items() if frames & readable}
    (row,) = gated.videos.to_pylist()
    assert row["unreadable_faces"] == faces["unreadable"].notna().sum() > 0
    assert row["unreadable_windows"] == len(windows) - described["window_index"].nunique() > 0


def test_trends_take_unreadable_frames_as_unknown(gated: RunFolder) -> None:
    faces, found = gated.faces.to_pandas(), analysis.load([gated.path])
    series = found.pandas("series")
    hidden = faces[faces["unreadable"].notna()]["time_s"]
    inside = [bool(((series["time_s"] <= time_s) & (series["end_s"] > time_s) & series["gap"]).any()) for time_s in hidden]
    assert all(inside)
    assert series[series["gap"]]["AU12"].isna().all()
    (track,) = found["tracks"].to_pylist()
    assert track["seen_s"] < track["last_s"] - track["first_s"]
    (video,) = found["videos"].to_pylist()
    assert video["unreadable_s"] == pytest.approx(track["last_s"] - track["first_s"] - track["seen_s"], abs=0.05)


def test_threshold_0_reads_every_face(samples: Path, detector: Detector, describer: Describer, tmp_path: Path) -> None:
    options = {"video.fps": 2.0, "video.from_s": 4, "video.to_s": 6, "describe.min_readable": 0}
    everything = run_clip(tmp_path / "all", samples, detector, describer, **options)
    assert everything.faces["unreadable"].null_count == everything.faces.num_rows == 4
    assert everything.faces["emotion"].null_count == 0
    assert everything.descriptions["window_index"].unique().to_pylist() == [4, 5]


def test_an_unreadable_face_of_a_photograph_is_named_and_not_read(samples: Path, detector: Detector, describer: Describer) -> None:
    with open_video(samples / "WolfgangLanger_Pexels.mp4") as video:
        frame = next(video.frames(from_s=5.0))
    (face,) = pipeline.describe_image(frame.image, detector=detector)
    assert (face.unreadable, face.regions) == ("covered", ())
    pictures = [annotate(frame.image, [replace(face, unreadable=fault)]) for fault in ("covered", "blurred")]
    assert pictures[0].size == pictures[1].size and pictures[0] != pictures[1]  # the picture says why
    (read,) = pipeline.describe_image(frame.image, detector=detector, describer=describer, min_readable=0)
    assert read.unreadable is None
    assert read.regions[0].answer.emotion
