"""Region selection: clips in which one part of a real face moves, and only that, with noise, flicker, head motion and jitter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.alignment import CROP_SIZE, align, crop
from pipeline.faces.detectors import load_detector
from pipeline.faces.finding import find_faces
from pipeline.faces.pose import head_pose
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Face, Selection
from pipeline.regions.selection import ACTIVE, FORGET_S, MAX_FRAMES, RegionSelector, SelectSettings
from pipeline.video.opening import open_video
from pipeline.vocabulary import CUSTOM_BOX, REGIONS, WHOLE_FACE

FPS = 10
LANDMARKS = {
    "single_face.jpg": [[230.7, 247.5], [314.2, 244.5], [267.3, 299.3], [236.0, 325.2], [318.1, 323.0]],
    "0-f15-hao-ph.jpg": [[189.5, 247.2], [315.6, 251.7], [251.2, 323.6], [188.2, 369.0], [309.0, 373.2]],
    "15-f13-anc-ph.jpg": [[155.1, 261.2], [285.5, 261.2], [208.2, 321.5], [168.6, 395.4], [270.9, 395.3]],
}
"""Landmarks of the sample pictures, as a detector gave them."""


def bump(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((x - centre) / width) ** 2) / 2)


def pull(kind: str, x: np.ndarray, y: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where, in crop pixels from each point, a full movement fetches its look; smooth, and nothing but near the region."""
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    mouth_x, mouth_y = (marks[3] + marks[4]) / 2
    if kind == "open mouth":
        dy = -5 * np.tanh((y - mouth_y) / 4) * bump(x, mouth_x, 14) * bump(y, mouth_y, 11)
    elif kind == "half-open mouth":
        dy = -3 * np.tanh((y - mouth_y) / 4) * bump(x, mouth_x, 14) * bump(y, mouth_y, 11)
    elif kind == "raised brows":
        dy = sum(4 * bump(x, eye[0], 13) * bump(y, eye[1] - 9.5, 5) for eye in marks[:2])
    elif kind == "closed eyes":
        dy = sum(-6 * bump(x, eye[0], 9) * bump(y, eye[1], 4) for eye in marks[:2])
    return dx, dy


def film(
    samples: Path, picture: str, kind: str, strength: Sequence[float], *, noise: float = 3.0, jitter: float = 0.7, track: int = 1
) -> Iterator[tuple[list[Face], tuple[int, int]]]:
    """The faces of a clip of one picture in which the head moves a little and `kind` is done with each frame's `strength`."""
    image = cv2.cvtColor(cv2.imread(str(samples / picture)), cv2.COLOR_BGR2RGB)
    landmarks, chance = np.array(LANDMARKS[picture]), np.random.default_rng(7)
    alignment, centre = align(landmarks), landmarks.mean(0)
    marks, back = alignment.to_crop(landmarks), np.linalg.inv(alignment.matrix[:, :2])
    height, width = image.shape[:2]
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    for index, share in enumerate(strength):
        t = index / FPS
        angle, scale = np.radians(2.5 * np.sin(2.5 * t)), 1 + 0.03 * np.sin(1.7 * t + 1)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = np.array([8 * np.sin(1.9 * t), 5 * np.cos(3.1 * t)])
        source = (pixels - centre - shift) @ np.linalg.inv(turn).T + centre
        if share:
            at = alignment.to_crop(source)
            source += share * np.stack(pull(kind, at[..., 0], at[..., 1], marks), -1) @ back.T
        x, y = source[..., 0].astype(np.float32), source[..., 1].astype(np.float32)
        frame = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        lit = frame * (1 + 0.05 * np.sin(2.1 * index)) + chance.normal(0, noise, frame.shape)
        seen = (landmarks - centre) @ turn.T + centre + shift + chance.normal(0, jitter, (5, 2))
        yield [look(np.clip(lit, 0, 255).astype(np.uint8), seen, index, track)], (width, height)


def look(frame: np.ndarray, landmarks: np.ndarray, index: int, track: int = 1) -> Face:
    alignment = align(landmarks)
    picture = crop(frame, alignment)
    sharpness = float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
    (x0, y0), (x1, y1) = landmarks.min(0) - 50, landmarks.max(0) + 50
    pose = head_pose(landmarks)
    return Face(index, index / FPS, track, 0.9, (x0, y0, x1, y1), landmarks.astype(np.float32), *pose, sharpness, alignment, picture)


def select(clip: Iterable[tuple[list[Face], tuple[int, int]]], settings: SelectSettings | None = None) -> list[Selection]:
    selector = RegionSelector(settings or SelectSettings())
    return [chosen for faces, size in clip for chosen in selector.add(faces, size)] + selector.finish()


def focal(selections: Sequence[Selection]) -> list[list[str]]:
    """The regions beside the face, window by window."""
    windows = sorted({selection.window_index for selection in selections})
    return [[s.region for s in selections if s.window_index == window and s.region != WHOLE_FACE] for window in windows]


def again_and_again(seconds: int) -> list[float]:
    return [(1 - np.cos(2 * np.pi * 1.3 * i / FPS)) / 2 for i in range(seconds * FPS)]


@pytest.mark.parametrize("picture", LANDMARKS)
@pytest.mark.parametrize(
    ("kind", "region"),
    [("open mouth", "mouth"), ("half-open mouth", "mouth"), ("raised brows", "brows"), ("closed eyes", "eyes")],
)
def test_what_moves_is_selected_and_nothing_else(samples: Path, picture: str, kind: str, region: str) -> None:
    chosen = select(film(samples, picture, kind, again_and_again(3)))
    assert focal(chosen) == [[region]] * 3
    assert min(s.activity for s in chosen if s.region == region) >= ACTIVE


@pytest.mark.parametrize("picture", LANDMARKS)
@pytest.mark.parametrize(("noise", "jitter"), [(3.0, 0.7), (8.0, 1.2)])
def test_a_still_face_has_its_face_described_in_every_window_and_no_more(samples: Path, picture: str, noise: float, jitter: float) -> None:
    chosen = select(film(samples, picture, "", [0.0] * 40, noise=noise, jitter=jitter))
    assert [(s.window_index, s.region) for s in chosen] == [(window, WHOLE_FACE) for window in range(4)]
    assert max(s.activity for s in chosen) < 1


def test_the_frame_described_shows_the_peak(samples: Path) -> None:
    blink = [0.0] * 20
    blink[4], blink[5], blink[6] = 0.5, 1.0, 0.5
    first = next(s for s in select(film(samples, "single_face.jpg", "closed eyes", blink)) if s.region == "eyes")
    assert first.window_index == 0 and first.face.frame_index in (4, 5, 6)


def eyes_then_mouth(samples: Path, frame: str) -> list[Selection]:
    """A window in which the eyes close in its frames 12 and 13 and the mouth opens in 17 and 18."""
    eyes, mouth = ([float(i in peak) for i in range(20)] for peak in ((12, 13), (17, 18)))
    closing, opening = film(samples, "single_face.jpg", "closed eyes", eyes), film(samples, "single_face.jpg", "open mouth", mouth)
    clip = [one if i < 15 else other for i, (one, other) in enumerate(zip(closing, opening, strict=True))]
    return [s for s in select(clip, SelectSettings(frame=frame)) if s.window_index == 1]


PEAKS = {"eyes": (12, 13), "mouth": (17, 18)}


def test_all_regions_of_a_window_are_described_in_one_frame_near_the_strongest_peak(samples: Path) -> None:
    chosen = eyes_then_mouth(samples, "window")
    assert {WHOLE_FACE, *PEAKS} <= {s.region for s in chosen}
    assert len({id(s.face.crop) for s in chosen}) == 1
    strongest = max((s for s in chosen if s.region != WHOLE_FACE), key=lambda s: s.activity).region
    assert chosen[0].face.frame_index in PEAKS[strongest]


def test_each_region_is_described_near_its_own_peak_where_that_is_asked_for(samples: Path) -> None:
    chosen = eyes_then_mouth(samples, "region")
    frames = {s.region: s.face.frame_index for s in chosen}
    assert all(frames[region] in PEAKS[region] for region in PEAKS)
    assert {s.region: s.activity for s in chosen} == {s.region: s.activity for s in eyes_then_mouth(samples, "window")}


@pytest.mark.parametrize("frame", ["window", "region"])
def test_regions_share_a_frame_where_it_serves_both(samples: Path, frame: str) -> None:
    chosen = select(film(samples, "single_face.jpg", "open mouth", again_and_again(2)), SelectSettings(frame=frame))
    for window in (0, 1):
        face, mouth = (s for s in chosen if s.window_index == window)
        assert face.face.crop is mouth.face.crop


def test_a_sharper_frame_near_the_peak_is_taken(samples: Path) -> None:
    clip = list(film(samples, "single_face.jpg", "open mouth", again_and_again(1)))
    taken = select(clip)[0].face.frame_index
    faces, size = clip[taken]
    clip[taken] = [replace(face, sharpness=face.sharpness / 100) for face in faces], size
    assert select(clip)[0].face.frame_index != taken


def test_a_slow_change_and_a_look_that_stays_are_seen(samples: Path) -> None:
    slowly = [0.0] * 10 + list(np.linspace(0, 1, 20)) + [1.0] * 10
    assert [*focal(select(film(samples, "15-f13-anc-ph.jpg", "open mouth", slowly)))] == [[], ["mouth"], ["mouth"], ["mouth"]]


def test_a_habit_is_less_remarkable_than_the_same_on_a_calm_face(samples: Path) -> None:
    once = [*[0.0] * 5, 1.0, *[0.0] * 4]
    calm = select(film(samples, "single_face.jpg", "open mouth", [0.0] * 30 + once))
    talking = select(film(samples, "single_face.jpg", "open mouth", again_and_again(3) + once))
    after_calm, after_talk = (next(s.activity for s in chosen if s.window_index == 3 and s.region == "mouth") for chosen in (calm, talking))
    assert after_calm > 1.2 * after_talk


def test_all_and_names_give_exactly_these_in_every_window(samples: Path) -> None:
    def regions(asked: str | tuple[str, ...]) -> list[tuple[int, str]]:
        clip = film(samples, "single_face.jpg", "", [0.0] * 15)
        return [(s.window_index, s.region) for s in select(clip, SelectSettings(regions=asked))]

    assert regions("all") == [(window, name) for window in (0, 1) for name in REGIONS]
    assert regions("left_eye,mouth") == regions(("left_eye", "mouth")) == [(w, name) for w in (0, 1) for name in ("left_eye", "mouth")]


def test_boxes_lie_in_the_crop_and_in_the_frame(samples: Path) -> None:
    for s in select(film(samples, "single_face.jpg", "", [0.0] * 5), SelectSettings(regions="all")):
        assert 0 <= s.crop_box[0] < s.crop_box[2] <= CROP_SIZE and 0 <= s.crop_box[1] < s.crop_box[3] <= CROP_SIZE
        assert 0 <= s.box[0] < s.box[2] <= 572 and 0 <= s.box[1] < s.box[3] <= 562
        centre = s.face.alignment.to_frame(np.array([(s.crop_box[0] + s.crop_box[2]) / 2, (s.crop_box[1] + s.crop_box[3]) / 2]))
        assert [(s.box[0] + s.box[2]) / 2, (s.box[1] + s.box[3]) / 2] == pytest.approx(centre, abs=0.1)


def test_a_custom_box_is_described_instead_on_the_faces_that_it_touches(samples: Path) -> None:
    mouth = (225.0, 300.0, 330.0, 350.0)
    chosen = select(film(samples, "single_face.jpg", "open mouth", again_and_again(2)), SelectSettings(box=mouth))
    assert [(s.window_index, s.region, s.box) for s in chosen] == [(0, CUSTOM_BOX, mouth), (1, CUSTOM_BOX, mouth)]
    assert min(s.activity for s in chosen) >= ACTIVE
    beside = SelectSettings(box=(500.0, 10.0, 560.0, 60.0))
    assert select(film(samples, "single_face.jpg", "", [0.0] * 5), beside) == []
    beyond = SelectSettings(box=(200.0, 300.0, 900.0, 900.0))
    assert {s.box for s in select(film(samples, "single_face.jpg", "", [0.0] * 5), beyond)} == {(200.0, 300.0, 572.0, 562.0)}
    reaching = [
        ([replace(face, box=(0.0, 0.0, 900.0, 562.0)) for face in faces], size)
        for faces, size in film(samples, "single_face.jpg", "", [0.0])
    ]
    assert select(reaching, SelectSettings(box=(573.0, 200.0, 700.0, 300.0))) == []


def test_windows_close_as_time_passes_and_tracks_keep_apart(samples: Path) -> None:
    one = list(film(samples, "single_face.jpg", "open mouth", again_and_again(3)))
    two = list(film(samples, "15-f13-anc-ph.jpg", "", [0.0] * 30, track=2))
    selector = RegionSelector(SelectSettings())
    closed = [selector.add([*a, *b] if index < 15 else a, size) for index, ((a, size), (b, _)) in enumerate(zip(one, two, strict=True))]
    closed.append(selector.finish())
    assert [index for index, chosen in enumerate(closed) if chosen] == [10, 20, 30]
    keys = [[(s.window_index, s.face.track_id, s.region) for s in chosen] for chosen in closed if chosen]
    assert keys == [
        [(0, 1, "face"), (0, 1, "mouth"), (0, 2, "face")],
        [(1, 1, "face"), (1, 1, "mouth"), (1, 2, "face")],
        [(2, 1, "face"), (2, 1, "mouth")],
    ]
    assert all((s.start_s, s.end_s) == (s.window_index, s.window_index + 1) for chosen in closed for s in chosen)
    assert all(s.start_s <= s.face.time_s < s.end_s for chosen in closed for s in chosen)
    assert selector.finish() == []


def test_the_same_clip_gives_the_same_selections(samples: Path) -> None:
    def described() -> list[tuple[object, ...]]:
        chosen = select(film(samples, "single_face.jpg", "raised brows", again_and_again(2)))
        return [(s.window_index, s.region, s.face.frame_index, s.box, s.activity) for s in chosen]

    assert described() == described()


def test_memory_is_bounded(samples: Path) -> None:
    (face,), size = next(film(samples, "single_face.jpg", "", [0.0]))
    selector = RegionSelector(SelectSettings(window_s=1000.0))
    values = {name: getattr(face, name) for name in face.__dataclass_fields__}
    for index in range(500):
        selector.add([Face(**(values | {"frame_index": index, "time_s": index / FPS}))], size)
    kept = selector._tracks[1].faces
    assert MAX_FRAMES / 2 <= len(kept) <= MAX_FRAMES
    assert kept[0].frame_index == 0 and kept[-1].frame_index > 450
    selector.add([Face(**(values | {"track_id": 2, "time_s": 1001 + FORGET_S}))], size)
    assert list(selector._tracks) == [2]


def test_a_real_smile_with_a_blink(samples: Path) -> None:
    """In `single_face.mp4` a man starts to smile and blinks in the first second, and goes on smiling."""
    chosen: list[Selection] = []
    with open_video(samples / "single_face.mp4") as video:
        selector, size = RegionSelector(SelectSettings()), (video.info.width, video.info.height)
        tracker = FaceTracker(FPS)
        for found in find_faces(video.frames(FPS), load_detector("centerface")):
            chosen += selector.add(tracker.update(found), size)
    chosen += selector.finish()
    regions = focal(chosen)
    assert {"eyes", "mouth"} <= set(regions[0])
    assert all(window[0] == "mouth" for window in regions[1:])
