"""Every detector on real pictures and clips: all faces and no others, for any batch and any size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.faces.detectors import Detector, load_detector
from pipeline.records import Detections
from pipeline.video.opening import open_video

Load = Callable[..., Detector]


FILES = ("scrfd_500m_bnkps.onnx", "yunet_2026may.onnx", "yunet_s.onnx")


@pytest.fixture(params=["centerface", *FILES])
def load(request: pytest.FixtureRequest) -> Load:
    """Makes the detector under test."""
    if request.param == "centerface":
        return lambda **settings: load_detector("centerface", **settings)
    path = request.getfixturevalue("shared") / "models" / request.param
    return lambda **settings: load_detector(str(path), **settings)


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def looks_like_a_face(box: np.ndarray, landmarks5: np.ndarray) -> bool:
    """For upright faces: landmarks in the box, eyes over nose over mouth, image-left first."""
    left_eye, right_eye, nose, left_corner, right_corner = landmarks5
    inside = (landmarks5 > box[:2]).all() and (landmarks5 < box[2:]).all()
    ordered = left_eye[0] < right_eye[0] and left_corner[0] < right_corner[0]
    return bool(inside and ordered and max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1]))


def test_five_of_five(load: Load, samples: Path) -> None:
    [found] = load().detect([picture(samples / "multi_face.jpg")])
    assert len(found) == 5
    assert (np.diff(found.scores) <= 0).all()
    assert all(looks_like_a_face(*pair) for pair in zip(found.boxes, found.landmarks5, strict=True))
    assert (found.boxes.dtype, found.scores.dtype, found.landmarks5.dtype) == (np.float32,) * 3


def test_nothing_where_there_is_no_face(load: Load, samples: Path) -> None:
    detector = load()
    with open_video(samples / "no_face.mp4") as video:
        images = [frame.image for frame in video.frames(8)]
    found = detector.detect([picture(samples / "free-mountain-vector-01.jpg"), *images])
    assert [len(faces) for faces in found] == [0] * len(found)
    assert (found[0].boxes.shape, found[0].scores.shape, found[0].landmarks5.shape) == ((0, 4), (0,), (0, 5, 2))


def test_the_signing_mans_small_face(load: Load, shared: Path) -> None:
    with open_video(shared / "videos" / "sorry.mkv") as video:
        found = load().detect([frame.image for frame in video.frames(10)])
    assert [len(faces) for faces in found] == [1] * len(found)
    assert all(looks_like_a_face(faces.boxes[0], faces.landmarks5[0]) for faces in found)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    common = np.prod((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))


@pytest.mark.parametrize("file", FILES)
def test_all_detectors_mean_the_same(samples: Path, shared: Path, file: str) -> None:
    image = picture(samples / "multi_face.jpg")
    both: list[Detections] = []
    for spec in ("centerface", str(shared / "models" / file)):
        both += load_detector(spec).detect([image])
    for box, landmarks in zip(both[0].boxes, both[0].landmarks5, strict=True):
        match = int(np.argmax([overlap(box, other) for other in both[1].boxes]))
        assert overlap(box, both[1].boxes[match]) > 0.6
        eyes = np.linalg.norm(landmarks[1] - landmarks[0])
        assert np.linalg.norm(landmarks - both[1].landmarks5[match], axis=1).max() < 0.25 * eyes


@pytest.mark.parametrize("size", [(1000, 667), (333, 271), (500, 333), (97, 64)])
def test_a_batch_gives_what_single_images_give(load: Load, samples: Path, size: tuple[int, int]) -> None:
    detector = load(min_face=10)
    group, single = (cv2.resize(picture(samples / name), size) for name in ("multi_face.jpg", "single_face.jpg"))
    together = detector.detect([group, single, np.ascontiguousarray(group[:, ::-1]), picture(samples / "single_face.jpg")])
    for image, faces in zip([group, single], together, strict=False):
        [alone] = detector.detect([image])
        assert len(alone) >= 1
        np.testing.assert_allclose(faces.boxes, alone.boxes, atol=0.05)
        np.testing.assert_allclose(faces.landmarks5, alone.landmarks5, atol=0.05)
    assert detector.detect([]) == []


@pytest.mark.parametrize("min_face", [20, 40, 80])
def test_faces_of_min_face_are_found(load: Load, samples: Path, min_face: int) -> None:
    image = picture(samples / "multi_face.jpg")  # the smallest face is 96 high
    shrunk = cv2.resize(image, None, fx=1.05 * min_face / 96, fy=1.05 * min_face / 96, interpolation=cv2.INTER_AREA)
    assert len(load(min_face=min_face).detect([shrunk])[0]) == 5


def test_lower_faces_are_left_out(load: Load, samples: Path) -> None:
    image = picture(samples / "multi_face.jpg")
    [whole] = load(min_face=20).detect([image])
    heights = np.sort(whole.boxes[:, 3] - whole.boxes[:, 1])
    assert len(heights) == 5
    for smaller in range(1, 6):  # between two heights, and above all of them
        min_face = float(heights[smaller - 1 : smaller + 1].mean()) if smaller < 5 else float(heights[-1] * 1.2)
        [found] = load(min_face=min_face).detect([image])
        assert ((found.boxes[:, 3] - found.boxes[:, 1]) >= min_face).all()
        surely = (heights > 1.1 * min_face).sum()
        assert surely <= len(found) <= (heights > 0.9 * min_face).sum()


@pytest.mark.parametrize("enlarge", [3, 6])
def test_large_faces_are_found_once_beside_small_ones(load: Load, samples: Path, enlarge: int) -> None:
    large = cv2.resize(picture(samples / "single_face.jpg"), None, fx=enlarge, fy=enlarge)
    [found] = load().detect([large])
    assert len(found) == 1
    assert looks_like_a_face(found.boxes[0], found.landmarks5[0])
    assert found.boxes[0, 3] - found.boxes[0, 1] == pytest.approx(255 * enlarge, rel=0.15)
    group = picture(samples / "multi_face.jpg")
    large[-len(group) :, : group.shape[1]] = group
    [found] = load().detect([large])
    small = found.boxes[:, 3] - found.boxes[:, 1] < 200
    assert (small.sum(), (~small).sum()) == (5, 1)


def test_names_say_what_found_the_faces(shared: Path) -> None:
    assert load_detector("centerface").name == "centerface"
    assert load_detector(str(shared / "models" / "scrfd_500m_bnkps.onnx")).name == "scrfd:scrfd_500m_bnkps.onnx"
    assert load_detector(str(shared / "models" / "yunet_s.onnx")).name == "yunet:yunet_s.onnx"


def test_auto_and_insightface_take_the_pack_on_the_disk(
    samples: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_detector("auto").name == "centerface"
    with pytest.raises(ModelError, match="no insightface pack"):
        load_detector("insightface")
    pack = tmp_path / ".insightface" / "models" / "buffalo_sc"
    pack.mkdir(parents=True)
    os.symlink(shared / "models" / "scrfd_500m_bnkps.onnx", pack / "det_500m.onnx")
    image = picture(samples / "multi_face.jpg")
    for spec in ("auto", "insightface", str(pack)):
        detector = load_detector(spec)
        assert detector.name == "insightface:buffalo_sc"
        assert len(detector.detect([image])[0]) == 5


def test_what_is_no_detector_is_refused_in_one_line(samples: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "text.onnx", tmp_path / "pack"
    text.write_text("not a network")
    empty.mkdir()
    for spec in (str(text), str(empty), str(tmp_path / "missing.onnx"), "nonsense"):
        with pytest.raises(ModelError) as caught:
            load_detector(spec)
        assert spec in str(caught.value)
        assert "\n" not in str(caught.value)
