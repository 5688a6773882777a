"""Rolled heads get the landmarks and the pose that they have when upright; where no turned picture shows one, it is not read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.finding import find_faces
from pipeline.faces.pose import head_pose
from pipeline.faces.rolled_heads import ROLLED, place_rolled_heads
from pipeline.records import Face, Frame
from pipeline.video.opening import open_video

CLEAR = 0.7  # the default of `describe.min_readable`


@pytest.fixture(params=["centerface", "scrfd_500m_bnkps.onnx"])
def detector(request: pytest.FixtureRequest) -> Detector:
    known = request.param == "centerface"
    return load_detector(request.param if known else str(request.getfixturevalue("shared") / "models" / request.param))


@pytest.fixture(scope="module")
def portrait(samples: Path) -> np.ndarray:
    return picture(samples / "single_face.jpg")


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def turned(image: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """An image turned anticlockwise about its centre on a larger grey canvas, and the (2, 3) matrix that did it."""
    height, width = image.shape[:2]
    side = int(np.hypot(height, width))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    matrix[:, 2] += (side / 2 - width / 2, side / 2 - height / 2)
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(90, 90, 90)), matrix


def only_face(image: np.ndarray, detector: Detector) -> Face:
    (found,) = find_faces([Frame(0, 0.0, image)], detector)
    (face,) = found.faces
    return face


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of landmarks, in eye distances."""
    return float(np.linalg.norm(one - other, axis=1).mean() / np.linalg.norm(one[1] - one[0]))


@pytest.mark.parametrize("degrees", [-75, -50, -25, 25, 50, 75])
def test_a_rolled_head_is_placed_like_an_upright_one(portrait: np.ndarray, detector: Detector, degrees: int) -> None:
    upright = only_face(portrait, detector)
    image, matrix = turned(portrait, degrees)
    face = only_face(image, detector)
    assert apart(upright.landmarks5 @ matrix[:, :2].T + matrix[:, 2], face.landmarks5) < 0.08
    assert abs(face.roll - upright.roll - degrees) < 5
    assert abs(face.yaw - upright.yaw) < 6 and abs(face.pitch - upright.pitch) < 6
    assert face.readable > CLEAR


@pytest.mark.parametrize("degrees", range(-170, 180, 20))
def test_no_head_is_read_with_landmarks_that_are_far_off(portrait: np.ndarray, detector: Detector, degrees: int) -> None:
    image, matrix = turned(portrait, degrees)
    true = only_face(portrait, detector).landmarks5 @ matrix[:, :2].T + matrix[:, 2]
    (found,) = find_faces([Frame(0, 0.0, image)], detector)
    for face in found.faces:
        assert apart(true, face.landmarks5) < 0.15 or face.readable < CLEAR, face.fault


def test_a_head_that_no_turned_picture_shows_is_doubtful(portrait: np.ndarray) -> None:
    detector = load_detector("centerface")
    [found] = detector.detect([turned(portrait, 50)[0]])
    blank = np.full_like(turned(portrait, 50)[0], 90)
    [placed], [doubtful] = place_rolled_heads([blank], [found], detector)
    assert doubtful == {0}
    assert (placed.landmarks5 == found.landmarks5).all()


def test_upright_heads_are_left_alone(samples: Path) -> None:
    detector = load_detector("centerface")
    image = picture(samples / "multi_face.jpg")
    [found] = detector.detect([image])
    upright = [abs(head_pose(points)[2]) < ROLLED for points in found.landmarks5]
    assert sum(upright) == 4, "one of the five leans her head"
    [placed], [doubtful] = place_rolled_heads([image], [found], detector)
    assert (placed.landmarks5 == found.landmarks5).all((1, 2)).tolist() == upright and not doubtful


def test_a_clip_filmed_with_a_turned_camera_reads_like_the_clip(samples: Path) -> None:
    detector = load_detector("centerface")
    frames = list(open_video(samples / "WolfgangLanger_Pexels.mp4").frames(5, from_s=11.0, to_s=16.0))
    matrices = [turned(frame.image, 35)[1] for frame in frames]
    leaning = [Frame(frame.index, frame.time_s, turned(frame.image, 35)[0]) for frame in frames]
    distances, rolls = [], []
    for key_s in (0.0, 0.5):
        for upright, found, matrix in zip(find_faces(frames, detector, key_s), find_faces(leaning, detector, key_s), matrices, strict=True):
            (one,), (other,) = upright.faces, found.faces
            distances.append(apart(one.landmarks5 @ matrix[:, :2].T + matrix[:, 2], other.landmarks5))
            rolls.append(other.roll - one.roll)
    assert np.median(distances) < 0.08 and np.quantile(distances, 0.95) < 0.15
    assert abs(np.median(rolls) - 35) < 2


def test_labelled_faces(shared: Path, detector: Detector, labelled: Callable[..., list[tuple[np.ndarray, np.ndarray]]]) -> None:
    """At 45 degrees, landmarks lie as near to the labels as on upright faces."""
    distances: dict[int, list[float]] = {0: [], 45: []}
    for image, landmarks in labelled(120):
        for degrees, errors in distances.items():
            leaning, matrix = turned(image, degrees)
            [found] = detector.detect([leaning])
            if len(found) == 1:
                [placed], [doubtful] = place_rolled_heads([leaning], [found], detector)
                if not doubtful:
                    errors.append(apart(landmarks @ matrix[:, :2].T + matrix[:, 2], placed.landmarks5[0]))
    assert len(distances[45]) >= 10
    assert np.median(distances[45]) < np.median(distances[0]) + 0.01


@pytest.fixture(scope="module")
def labelled(shared: Path) -> Callable[..., list[tuple[np.ndarray, np.ndarray]]]:
    """Gives labelled faces that are not turned away: (picture with some room around it, (5, 2) landmarks)."""
    import pyarrow.parquet as pq

    columns = ["image", "source", "yaw", "roll", "landmarks5"]
    rows = pq.read_table(shared / "faces" / "val.parquet", columns=columns).to_pylist()
    frontal = [row for row in rows if row["source"] == "utk" and abs(row["yaw"]) < 20 and abs(row["roll"]) < 8]

    def some(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        faces = []
        for row in frontal[:: len(frontal) // count][:count]:
            image = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            room = cv2.copyMakeBorder(image[..., ::-1], 40, 40, 40, 40, cv2.BORDER_REPLICATE)
            faces.append((np.ascontiguousarray(room), np.array(row["landmarks5"]).reshape(5, 2) + 40))
        return faces

    return some
