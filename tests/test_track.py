"""Following people through real clips: one id each, through gaps and between detections, and never through a cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, pairwise, permutations
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.alignment import TEMPLATE
from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.finding import find_faces, measure_faces
from pipeline.faces.scene_cuts import SceneCuts, picture_changed, thumbnail
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Detections, Face, Frame, FrameFaces
from pipeline.settings import load_settings
from pipeline.video.opening import open_video

Tracked = list[list[Face]]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("centerface")


@pytest.fixture(scope="module")
def follow(detector: Detector) -> Callable[..., Tracked]:
    def run(source: Path | Sequence[np.ndarray], fps: float | None, detect_every: int = 1) -> Tracked:
        settings = load_settings(options={"detect.every": detect_every} | ({"video.fps": float(fps)} if fps else {"video.fps": "all"}))
        if isinstance(source, Path):
            video = open_video(source)
            frames, tracker = video.frames(fps), FaceTracker(fps or video.info.fps)
        else:
            assert fps is not None
            frames, tracker = iter([Frame(i, i / fps, image) for i, image in enumerate(source)]), FaceTracker(fps)
        key_s = settings.key_s(video.info.fps if isinstance(source, Path) else fps or 0.0)
        return [tracker.update(found) for found in find_faces(frames, detector, key_s)]

    return run


def ids(tracked: Tracked) -> list[list[int]]:
    return [[face.track_id for face in faces] for faces in tracked]


def found_in(frame: Frame, detections: Detections) -> FrameFaces:
    size = (frame.image.shape[1], frame.image.shape[0])
    return FrameFaces(frame.index, frame.time_s, size, thumbnail(frame.image), measure_faces(frame, detections))


def images(path: Path, fps: float, count: int) -> list[np.ndarray]:
    return [cv2.resize(frame.image, (640, 360)) for frame in open_video(path).frames(fps)][:count]


@pytest.mark.parametrize(
    ("detect_every", "fps"), [(1, 10), *(pytest.param(*rates, marks=pytest.mark.slow) for rates in ((3, 10), (1, 5), (3, 5)))]
)
def test_one_person_is_one_track(samples: Path, follow: Callable[..., Tracked], fps: int, detect_every: int) -> None:
    tracked = follow(samples / "WolfgangLanger_Pexels.mp4", fps, detect_every)
    assert max(Counter(chain(*ids(tracked))).values()) >= 0.95 * len(tracked)
    assert ids(tracked)[0] == [1]  # from its first frame on


@pytest.mark.parametrize(("fps", "detect_every"), [(None, 1), (None, 3), (5, 1), (5, 3)])
def test_two_people_are_two_tracks_whatever_their_heads_do(
    shared: Path, follow: Callable[..., Tracked], fps: float | None, detect_every: int
) -> None:
    tracked = follow(next((shared / "videos").glob("*.gif")), fps, detect_every)
    assert ids(tracked) == [[1, 2]] * len(tracked)
    sides = {1: {face.box[0] < 240 for faces in tracked for face in faces if face.track_id == 1}}
    sides[2] = {face.box[0] < 240 for faces in tracked for face in faces if face.track_id == 2}
    assert sorted(map(sorted, sides.values())) == [[False], [True]]  # she stays left and he right: no switch
    assert max(abs(face.roll) for faces in tracked for face in faces) > 30


@pytest.mark.parametrize("detect_every", [1, 4])
def test_no_id_survives_a_cut(samples: Path, follow: Callable[..., Tracked], detect_every: int) -> None:
    first = images(samples / "WolfgangLanger_Pexels.mp4", 10, 30)
    second = images(samples / "single_face.mp4", 10, 15)
    tracked = follow([*first, *second, *first[:10]], 10, detect_every)
    assert ids(tracked) == [[1]] * 30 + [[2]] * 15 + [[3]] * 10


def test_a_flash_and_dimmed_light_are_no_cuts(samples: Path, follow: Callable[..., Tracked]) -> None:
    clip = images(samples / "WolfgangLanger_Pexels.mp4", 10, 30)
    for i in (8, 9):
        clip[i] = (clip[i] * 0.45 + 140).astype(np.uint8)
    clip[15] = np.full_like(clip[15], 255)
    clip[22] = (clip[22] * 0.3).astype(np.uint8)
    got = ids(follow(clip, 10))
    assert got[15] == []
    assert [numbers for i, numbers in enumerate(got) if i != 15] == [[1]] * 29


def test_cuts_are_seen_only_where_they_are(samples: Path, detector: Detector) -> None:
    found = {}
    for name in ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "no_face.mp4", "noface_face.mov"):
        for fps in (2, 10):
            cuts = SceneCuts()
            found[name, fps] = sum(cuts.update(faces).cut for faces in find_faces(open_video(samples / name).frames(fps), detector))
    assert {name for (name, _), count in found.items() if count} == {"noface_face.mov"}  # two shots joined
    assert set(found.values()) == {0, 1}


def window(image: np.ndarray, x: float, y: float, height: float, turn: float = 0.0) -> np.ndarray:
    """What a camera sees that looks at a part of an image: (360, 480, 3).

    Args:
        x, y: centre of the view, as shares of the image's width and height.
        height: of the view, as a share of the image's.
        turn: degrees.
    """
    scale = height * len(image) / 360
    cos, sin = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    matrix = np.array([[cos, -sin, x * image.shape[1]], [sin, cos, y * len(image)]])
    matrix[:, 2] -= matrix[:, :2] @ [240, 180]
    return cv2.warpAffine(image, matrix, (480, 360), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)


CAMERAS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "panned": lambda t: (0.5 + 0.11 * np.sin(2 * np.pi * 1.2 * t), 0.5, 0.8),
    "shaken": lambda t: (0.5 + 0.06 * np.sin(37 * t), 0.5 + 0.08 * np.sin(53 * t + 1), 0.8, 4 * np.sin(41 * t)),
    "zoomed": lambda t: (0.5, 0.5, 0.8 + 0.17 * np.sin(2 * np.pi * t)),
    "punched in": lambda t: (0.5, 0.5, 0.65 if int(2 * t) % 2 else 1.0),
    "turned": lambda t: (0.5, 0.5, 0.8, 20 * np.sin(2 * np.pi * t)),
}


@pytest.mark.parametrize("fps", [5, 10])
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("name", ["WolfgangLanger_Pexels.mp4", "single_face.mp4"])
def test_a_moving_camera_is_no_cut(samples: Path, follow: Callable[..., Tracked], name: str, camera: str, fps: int) -> None:
    frames = [frame for frame in open_video(samples / name).frames(fps) if frame.time_s < 4]
    clip = [window(frame.image, *CAMERAS[camera](frame.time_s)) for frame in frames]
    changed = [picture_changed(thumbnail(one), thumbnail(other)) for one, other in pairwise(clip)]
    if camera == "panned" or (name, camera) == ("single_face.mp4", "punched in"):
        assert any(changed)  # the picture alone would say: a cut
    got = ids(follow(clip, fps))
    assert set(chain(*got)) == {1}
    assert sum(map(bool, got)) >= 0.9 * len(clip)


def test_people_keep_their_ids_when_the_camera_moves_on_by_a_seat(samples: Path, follow: Callable[..., Tracked]) -> None:
    group = cv2.cvtColor(cv2.imread(str(samples / "multi_face.jpg")), cv2.COLOR_BGR2RGB)
    places = [0.4, 0.4, 0.4, 0.55, 0.55, 0.7, 0.7, 0.55, 0.4, 0.4]
    people: dict[int, set[int]] = {}
    for x, faces in zip(places, follow([window(group, x, 0.5, 0.8) for x in places], 5), strict=True):
        assert len(faces) >= 3
        for face in faces:
            at = x * group.shape[1] + ((face.box[0] + face.box[2]) / 2 - 240) * 0.8 * len(group) / 360
            people.setdefault(round(at / 60), set()).add(face.track_id)
    assert all(len(numbers) == 1 for numbers in people.values()), people


def head(samples: Path, detector: Detector, name: str, size: tuple[int, int]) -> np.ndarray:
    """A picture's only face and some of what is around it."""
    image = cv2.cvtColor(cv2.imread(str(samples / name)), cv2.COLOR_BGR2RGB)
    x0, y0, x1, y1 = detector.detect([image])[0].boxes[0]
    height = (y1 - y0) * 1.8
    width = height * size[0] / size[1]
    part = cv2.getRectSubPix(image, (int(width), int(height)), (float(x0 + x1) / 2, float(y0 + y1) / 2))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


PORTRAITS = ("single_face.jpg", "0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "45-m7-di-ph.jpg")


@pytest.mark.parametrize("detect_every", [1, 3])
def test_another_person_at_the_same_place_is_another_track(
    samples: Path, detector: Detector, follow: Callable[..., Tracked], detect_every: int
) -> None:
    portraits = [head(samples, detector, name, (640, 360)) for name in PORTRAITS]
    order = [first for pair in permutations(range(len(portraits)), 2) for first in pair]
    shown = [number for number in order for _ in range(4)]
    owners: dict[int, set[int]] = {}
    for number, faces in zip(shown, follow([portraits[number] for number in shown], 10, detect_every), strict=True):
        for face in faces:
            owners.setdefault(face.track_id, set()).add(number)
    assert all(len(numbers) == 1 for numbers in owners.values())


@pytest.mark.parametrize("background", [None, 90])
@pytest.mark.parametrize("tile", [(320, 360), (120, 150)])
def test_two_people_whose_tiles_change_places_are_never_one_track(
    samples: Path, detector: Detector, follow: Callable[..., Tracked], tile: tuple[int, int], background: int | None
) -> None:
    one, other = (head(samples, detector, name, tile) for name in ("single_face.jpg", "0-f1-su-ph.jpg"))
    clip = []
    for i in range(40):
        left, right = (one, other) if i // 10 % 2 == 0 else (other, one)
        picture = np.full((360, 640, 3), 60 if background is None else background, np.uint8)
        if background is None:
            picture[:, 320:] = (120, 160, 90)
        for x, who in ((160, left), (480, right)):
            picture[180 - tile[1] // 2 : 180 + tile[1] // 2, x - tile[0] // 2 : x + tile[0] // 2] = who
        clip.append(picture)
    owners: dict[int, set[str]] = {}
    tracked = follow(clip, 10)
    for i, faces in enumerate(tracked):
        assert len(faces) == 2
        for face in faces:
            owners.setdefault(face.track_id, set()).add("one" if (face.box[0] < 300) == (i // 10 % 2 == 0) else "other")
    assert all(len(people) == 1 for people in owners.values()), owners


def test_a_short_gap_keeps_the_id_and_a_long_one_does_not(samples: Path) -> None:
    image = images(samples / "single_face.mp4", 10, 1)[0]
    [there] = load_detector("centerface").detect([image])
    nobody = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
    seen = {}
    tracker = FaceTracker(10)
    for i in range(60):
        gone = 10 <= i < 18 or 30 <= i < 45
        faces = tracker.update(found_in(Frame(i, i / 10, image), nobody if gone else there))
        seen[i] = [face.track_id for face in faces]
    assert all(seen[i] == [1] for i in (*range(10), *range(18, 30)))
    assert all(seen[i] == [2] for i in range(45, 60))


@pytest.mark.parametrize("detect_every", [1, 5])
def test_people_who_cross_keep_their_ids(samples: Path, detector: Detector, follow: Callable[..., Tracked], detect_every: int) -> None:
    heads = []
    for name in ("WolfgangLanger_Pexels.mp4", "single_face.mp4"):
        image = images(samples / name, 1, 1)[0]
        x0, y0, x1, y1 = detector.detect([image])[0].boxes[0].astype(int)
        heads.append(cv2.resize(image[max(0, y0 - 30) : y1 + 30, max(0, x0 - 30) : x1 + 30], (90, 110)))
    clip = []
    for place in np.linspace(50, 500, 40).astype(int):  # over four seconds
        picture = np.full((360, 640, 3), 90, np.uint8)
        picture[140:250, 550 - place : 640 - place] = heads[1]
        picture[100:210, place : place + 90] = heads[0]
        clip.append(picture)
    tracked = follow(clip, 10, detect_every)
    assert set(chain(*ids(tracked))) == {1, 2}
    starts = {face.track_id: face.box[0] for face in tracked[0]}
    ends = {face.track_id: face.box[0] for face in tracked[-1]}
    assert {number: x < 320 for number, x in starts.items()} == {number: x > 320 for number, x in ends.items()}


def test_weak_detections_go_on_with_a_track_but_begin_none(samples: Path) -> None:
    image = images(samples / "single_face.mp4", 10, 1)[0]
    [found] = load_detector("centerface").detect([image])
    weak = Detections(found.boxes, np.full(len(found), 0.42, np.float32), found.landmarks5)
    tracker = FaceTracker(10)
    assert tracker.update(found_in(Frame(0, 0.0, image), weak)) == []
    assert [face.track_id for face in tracker.update(found_in(Frame(1, 0.1, image), found))] == [1]
    assert [face.track_id for face in tracker.update(found_in(Frame(2, 0.2, image), weak))] == [1]


def test_faces_are_whole_records_and_unusable_landmarks_are_left_out(samples: Path) -> None:
    image = images(samples / "single_face.mp4", 10, 1)[0]
    [found] = load_detector("centerface").detect([image])
    broken = Detections(
        np.concatenate([found.boxes, [[0, 0, 50, 50]]]).astype(np.float32),
        np.append(found.scores, 0.9).astype(np.float32),
        np.concatenate([found.landmarks5, np.full((1, 5, 2), 25.0)]).astype(np.float32),
    )
    [face] = FaceTracker(10).update(found_in(Frame(7, 0.7, image), broken))
    assert (face.frame_index, face.time_s, face.track_id) == (7, 0.7, 1)
    assert face.det_score == pytest.approx(found.scores[0])
    assert face.box == pytest.approx(found.boxes[0].tolist())
    assert (face.crop.shape, face.crop.dtype) == ((112, 112, 3), np.uint8)
    assert np.abs(face.alignment.to_crop(face.landmarks5) - TEMPLATE).max() < 12
    assert max(abs(face.yaw), abs(face.pitch), abs(face.roll)) < 40
    blurred = Frame(8, 0.8, cv2.GaussianBlur(image, (0, 0), 5))
    assert FaceTracker(10).update(found_in(blurred, found))[0].sharpness < 0.3 * face.sharpness
