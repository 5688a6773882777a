"""Searching whole frames only at key frames loses no face: known faces, new ones, those who leave, cross or come in; and saves the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.detectors.suppression import overlaps
from pipeline.faces.finding import find_faces
from pipeline.records import Detections, Frame, FrameFaces
from pipeline.settings import load_settings
from pipeline.video.opening import open_video

FPS, KEY_S = 10, 0.5
KEY = 5  # frames from one key frame to the next


class Counting:
    """CenterFace that notes how many whole frames and crops it is shown."""

    def __init__(self, spec: str = "centerface") -> None:
        self.detector = load_detector(spec)
        self.name, self.device, self.crop_search = self.detector.name, self.detector.device, self.detector.crop_search
        self.whole = self.crops = 0

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.whole += len(images)
        return self.detector.detect(images)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.crops += len(images)
        return self.detector.detect_crops(images)


@pytest.fixture
def detector() -> Counting:
    return Counting()


def film(images: Iterable[np.ndarray]) -> list[Frame]:
    return [Frame(i, i / FPS, image) for i, image in enumerate(images)]


def boxes(found: FrameFaces) -> np.ndarray:
    return np.array([face.box for face in found.faces]).reshape(-1, 4)


def compare(frames: Sequence[Frame], detector: Detector, key_s: float = KEY_S) -> tuple[float, float, list[float]]:
    """The search at key frames against that of every whole frame: share of faces kept, faces more by frame, and landmark distances in
    eye distances."""
    kept = total = more = 0
    distances = []
    for every, found in zip(find_faces(frames, detector), find_faces(frames, detector, key_s), strict=True):
        total += len(every.faces)
        more += max(0, len(found.faces) - len(every.faces))
        if not every.faces or not found.faces:
            continue
        overlap = overlaps(boxes(every), boxes(found))
        for face, row in zip(every.faces, overlap, strict=True):
            if row.max() > 0.5:
                kept += 1
                eyes = np.linalg.norm(face.landmarks5[1] - face.landmarks5[0])
                other = found.faces[int(row.argmax())].landmarks5
                distances.append(float(np.linalg.norm(face.landmarks5 - other, axis=1).mean() / eyes))
    return kept / max(1, total), more / len(frames), distances


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A room without anybody: a smooth picture with some edges, as a camera at rest sees it."""
    picture = cv2.resize(np.random.default_rng(4).integers(60, 190, (4, 6, 3), np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)
    return cv2.rectangle(picture, (60, 200), (220, 330), (90, 70, 60), -1)


@pytest.fixture(scope="module")
def head(samples: Path) -> np.ndarray:
    """(130, 110, 3) a person's head."""
    image = cv2.cvtColor(cv2.imread(str(samples / "single_face.jpg")), cv2.COLOR_BGR2RGB)
    x0, y0, x1, y1 = load_detector("centerface").detect([image])[0].boxes[0].astype(int)
    return cv2.resize(image[max(0, y0 - 40) : y1 + 40, max(0, x0 - 40) : x1 + 40], (110, 130), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def shown(scene: np.ndarray, head: np.ndarray) -> Callable[..., np.ndarray]:
    """The scene with heads at places, each frame with a camera's own noise."""
    noise = np.random.default_rng(5)

    def picture(*places: int) -> np.ndarray:
        image = scene.copy()
        for x in places:
            left, right = max(0, x), min(640, x + 110)
            if left < right:
                image[100:230, left:right] = head[:, left - x : right - x]
        return cv2.add(image, noise.normal(0, 3, image.shape).astype(np.int16), dtype=cv2.CV_8U)

    return picture


def counts(frames: Sequence[Frame], detector: Detector) -> list[int]:
    return [len(found.faces) for found in find_faces(frames, detector, KEY_S)]


def test_a_clip_keeps_its_faces_and_their_landmarks(samples: Path, detector: Counting) -> None:
    frames = list(open_video(samples / "WolfgangLanger_Pexels.mp4").frames(FPS, to_s=6.0))
    kept, more, distances = compare(frames, detector)
    assert (kept, more) == (1, 0)
    assert np.median(distances) < 0.08
    assert detector.crops >= len(frames)
    assert detector.whole < len(frames) * 1.35, "the search of every frame included"


def of_any_size(path: Path, out: Path) -> Path:
    """An SCRFD file whose network has a fixed input size, as one that takes any size, as insightface's packs have it."""
    model = onnx.load(str(path))
    for axis, size in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        if axis >= 2:
            size.dim_param = f"side{axis}"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_{output.name}"
    del model.graph.value_info[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(0, np.float32), "no_part"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    for node in model.graph.node:
        if node.op_type == "Resize":  # to fixed sizes
            del node.input[1:]
            node.input.extend(["no_part", "twice"])
    onnx.save(model, str(out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("file", ["centerface", "yunet_2026may.onnx", "scrfd_500m_bnkps.onnx"])
def test_all_clips_keep_their_faces(samples: Path, shared: Path, tmp_path: Path, file: str) -> None:
    path = shared / "models" / file
    spec = file if file == "centerface" else str(path)
    if file.startswith("scrfd"):
        assert load_detector(spec).crop_search is None, "a crop takes as long as a frame where the input size is fixed"
        spec = str(of_any_size(path, tmp_path / file))
    detector = Counting(spec)
    clips = [
        samples / name for name in ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "no_face.mp4", "face_noface.mov", "noface_face.mov")
    ]
    for clip in [*clips, *(shared / "videos").glob("*.gif"), shared / "videos" / "sorry.mkv"]:
        video = open_video(clip)
        for fps in (10.0, None):
            key_s = load_settings(options={"video.fps": fps or "all"}).key_s(video.info.fps)
            kept, more, distances = compare(list(video.frames(fps, to_s=5.0)), detector, key_s)
            print(f"{file} {clip.name} {fps}: kept {kept:.4f}, more {more:.3f}, landmarks {np.median(distances or [0]):.3f}")
            assert kept >= 0.99 or clip.name == "no_face.mp4"
            assert more < 0.01
    assert detector.crops > 0


@pytest.mark.slow
def test_a_crowd_keeps_its_faces(samples: Path, detector: Counting) -> None:
    group = cv2.cvtColor(cv2.imread(str(samples / "multi_face.jpg")), cv2.COLOR_BGR2RGB)
    crowd = np.tile(cv2.resize(group, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA), (4, 4, 1))
    shifts = [np.array([[1, 0, 30 * np.sin(0.2 * i) - 60], [0, 1, 20 * np.cos(0.13 * i) - 40]]) for i in range(25)]
    frames = film(cv2.warpAffine(crowd, shift, (1920, 1080)) for shift in shifts)
    kept, more, distances = compare(frames, detector)
    assert kept >= 0.99
    assert more < 0.1
    assert np.median(distances) < 0.08
    assert detector.crops > 20 * len(frames) * 0.5


def test_a_face_that_appears_between_key_frames_is_found_at_once(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    for first in (6, 7, 8, 9):
        frames = film(shown(*([300] if i >= first else [])) for i in range(16))
        assert counts(frames, detector) == [0] * first + [1] * (16 - first)


def test_a_face_that_comes_in_from_the_side_is_found_as_soon_as_whole_frames_show_it(
    shown: Callable[..., np.ndarray], detector: Counting
) -> None:
    frames = film(shown(640 - 40 * i) for i in range(14))
    kept, more, _ = compare(frames, detector)
    assert (kept, more) == (1, 0)


def test_a_face_that_comes_and_goes_between_two_key_frames_is_found(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    frames = film(shown(60, *([400] if i in (6, 7, 8) else [])) for i in range(13))
    assert counts(frames, detector) == [1] * 6 + [2] * 3 + [1] * 4


def test_a_face_that_leaves_is_gone_at_once(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    for last in (6, 7, 9):
        frames = film(shown(*([300] if i <= last else [])) for i in range(16))
        assert counts(frames, detector) == [1] * (last + 1) + [0] * (15 - last)


def test_two_faces_that_cross_are_found_as_in_whole_frames(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    frames = film(shown(20 + 12 * i, 500 - 12 * i) for i in range(40))
    kept, more, _ = compare(frames, detector)
    assert (kept, more) == (1, 0)


def test_an_empty_scene_at_rest_is_searched_at_key_frames_alone(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    frames = film(shown() for _ in range(41))
    assert counts(frames, detector) == [0] * 41
    assert (detector.whole, detector.crops) == (9, 0)


def test_a_face_at_rest_is_searched_once_a_frame(shown: Callable[..., np.ndarray], detector: Counting) -> None:
    frames = film(shown(300) for _ in range(41))
    assert counts(frames, detector) == [1] * 41
    assert (detector.whole, detector.crops) == (9, 41)


@pytest.mark.parametrize(("fps", "every", "frames"), [(10.0, "auto", 5), (24.0, "auto", 12), (2.0, "auto", 1), (10.0, 3, 3), (10.0, 50, 5)])
def test_key_frames_are_at_most_half_a_second_apart(
    shown: Callable[..., np.ndarray], detector: Counting, fps: float, every: object, frames: int
) -> None:
    key_s = load_settings(options={"video.fps": fps, "detect.every": every}).key_s(60.0)
    film = [Frame(i, i / fps, shown()) for i in range(25)]
    assert not any(found.faces for found in find_faces(film, detector, key_s))
    assert detector.whole == len(range(0, 24, frames)) + 1


def test_batches_do_not_change_what_is_found(samples: Path, detector: Counting) -> None:
    frames = list(open_video(samples / "WolfgangLanger_Pexels.mp4").frames(FPS, to_s=2.5))
    one, other = (
        [
            [(face.box, face.det_score, face.landmarks5.tolist()) for face in found.faces]
            for found in find_faces(frames, detector, KEY_S, batch)
        ]
        for batch in (3, 30)
    )
    assert one == other
