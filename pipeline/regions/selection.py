"""Which regions of a face are worth describing in a window of time, and in which frame.

A region moves when it differs from its median appearance in the window, or from the track's usual appearance. The change of the
calmest part of the face in the same frame is subtracted, and the rest is divided by the track's usual change: the region's activity.
One pass, bounded memory: crops are kept for open windows only, the past as one mean image and a few thousand numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, log

import numpy as np

from pipeline.records import Alignment, Face, Selection
from pipeline.regions.motion import Registrar, change, difference, normalise
from pipeline.regions.placement import place_regions, region_boxes, to_crop_box
from pipeline.vocabulary import CUSTOM_BOX, JOINED_REGIONS, NEIGHBOURS, REGIONS, SINGLE_REGIONS, WHOLE_FACE, Box

ACTIVE = 2.0
"""Activity from which a region is worth describing; more describes only stronger movements."""

LEAST_CHANGE = 0.4
"""Least usual change of a track, in units of `pipeline.regions.motion`; more ignores fine movement and noise."""

MOST_USUAL = 0.65
"""Greatest usual change of a track; less keeps describing the mouth of someone who never stops talking."""

EXPLAINED = 0.8
"""A region that moves less than this share of a stronger neighbour was pulled along by it; more describes fewer neighbours."""

MAX_REGIONS = 3
"""Most regions that `auto` adds to the face in one window; more describes more of a lively face."""

NEAR_PEAK = 0.7
"""Least share of a region's peak change in the frame that is described; less prefers sharp frames over telling ones."""

ADAPT = 0.2
"""Weight of a window's appearance in the track's usual appearance; more adapts sooner to a new expression or light."""

LOST = 1.5
"""Change of the calm part of the face from which the usual appearance no longer applies (a turned head); less resets it sooner."""

HISTORY = 600
"""Past frames of a track from which its usual change is computed; more adapts later to a new habit."""

MAX_FRAMES = 48
"""Most frames of a window that are kept; beyond it every second one is dropped. More costs memory and time where windows are long."""

FORGET_S = 60.0
"""Seconds after which an ended track is forgotten; more costs memory where many people come and go."""

_UNMOVED = Alignment(np.eye(2, 3))


@dataclass(frozen=True)
class SelectSettings:
    """What to select.

    Attributes:
        window_s: length of a window in seconds.
        regions: `auto` (the face, and what moves), `all` (every named region), or names of `vocabulary.REGIONS`, with commas or
            as a tuple.
        box: a rectangle in frame pixels to describe instead, as region `box`, on every face that it touches.
        frame: `window` describes all regions of a face in one frame of the window, `region` each in a frame near its own peak.
    """

    window_s: float = 1.0
    regions: str | tuple[str, ...] = "auto"
    box: Box | None = None
    frame: str = "window"

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the regions asked for, or None where movement decides."""
        if self.box is not None:
            return (CUSTOM_BOX,)
        if self.regions == "auto":
            return None
        if self.regions == "all":
            return REGIONS
        return tuple(self.regions.split(",")) if isinstance(self.regions, str) else self.regions


@dataclass
class _Track:
    """State of one track.

    Attributes:
        window: index of the open window.
        last_s: time of the last face.
        faces: of the open window, thinned to every `stride`-th where there are many; `seen` counts all.
        usual: (112, 112) running mean of the normalised crops, None before the first window; `yaw` is its yaw.
        history: change of each measured region in past frames.
    """

    window: int
    last_s: float = 0.0
    faces: list[Face] = field(default_factory=list)
    seen: int = 0
    stride: int = 1
    usual: np.ndarray | None = None
    yaw: float = 0.0
    history: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def add(self, face: Face) -> None:
        self.last_s = face.time_s
        if self.seen % self.stride == 0:
            if len(self.faces) == MAX_FRAMES:
                self.faces, self.stride = self.faces[::2], self.stride * 2
            if self.seen % self.stride == 0:
                self.faces.append(face)
        self.seen += 1


class RegionSelector:
    """Chooses, for each window and track, the regions worth describing and the frame to describe them in.

    >>> selector = RegionSelector(SelectSettings(window_s=1.0))
    >>> selector.add([], (640, 360))
    []
    """

    def __init__(self, settings: SelectSettings) -> None:
        self.settings = settings
        self._tracks: dict[int, _Track] = {}
        self._size = (0, 0)
        # Values of each frame's changes: single regions first, then joined ones, then the custom box.
        self._measured = (*SINGLE_REGIONS, *JOINED_REGIONS, *([CUSTOM_BOX] if settings.box is not None else []))

    def add(self, faces: Sequence[Face], frame_size: tuple[int, int]) -> list[Selection]:
        """Take the faces of the next sampled frame.

        Args:
            faces: all faces of one frame; frames in order of time.
            frame_size: width and height of the frame in pixels.

        Returns:
            The selections of the windows that end before this frame, by track.
        """
        if not faces:
            return []
        self._size = frame_size
        now = faces[0].time_s
        window = floor(now / self.settings.window_s)
        chosen = self._close(before=window)
        self._tracks = {key: track for key, track in self._tracks.items() if now - track.last_s <= FORGET_S}
        for face in faces:
            if self.settings.box is None or _touches(face, self.settings.box, frame_size):
                track = self._tracks.setdefault(face.track_id, _Track(window))
                track.window = window
                track.add(face)
        return chosen

    def finish(self) -> list[Selection]:
        """Close the windows that are still open, at the end of the video."""
        return self._close(before=None)

    def _close(self, before: int | None) -> list[Selection]:
        chosen: list[Selection] = []
        for _, track in sorted(self._tracks.items()):
            if track.faces and (before is None or track.window < before):
                chosen += self._choose(track)
                track.faces, track.seen, track.stride = [], 0, 1
        return chosen

    def _choose(self, track: _Track) -> list[Selection]:
        """The selections of a track's window, the face first, then by activity; adds the window's changes to the track's history."""
        changes = self._changes(track)  # [frames, measured]
        track.history.extend(changes)
        past = np.array(track.history)
        median = np.median(past, 0)
        usual = np.clip(median + np.median(np.abs(past - median), 0), LEAST_CHANGE, MOST_USUAL)
        series = dict(zip(self._measured, (changes / usual).T, strict=True))  # each [frames]
        series[WHOLE_FACE] = np.mean([series[name] for name in NEIGHBOURS], 0)
        activity = {name: float(values.max()) for name, values in series.items()}

        names = self.settings.names or _moving(activity)
        near_peak = {
            name: series[name] >= NEAR_PEAK * activity[name] if activity[name] >= ACTIVE / 2 else np.ones(len(changes), bool)
            for name in sorted(names, key=lambda name: (name == WHOLE_FACE, -activity[name]))
        }
        clarity = np.array([_clarity(face) for face in track.faces])
        frames = (_one_frame if self.settings.frame == "window" else _frame_for_each)(near_peak, clarity)
        return [self._selection(track, name, track.faces[frames[name]], activity[name]) for name in names]

    def _changes(self, track: _Track) -> np.ndarray:
        """(frames, measured) change of each region in each frame of the window; updates the track's usual appearance."""
        images = [normalise(face.crop) for face in track.faces]
        yaws = np.array([face.yaw for face in track.faces])
        yaw = float(np.median(yaws))
        against_usual = np.zeros((len(images), len(self._measured)))
        if track.usual is not None:
            aligned, boxes = self._register(track, images, track.usual)
            against_usual, calm = self._measure(track, track.usual, aligned, np.abs(yaws - track.yaw), boxes)
            if np.median(calm) > LOST:
                track.usual = None
        if track.usual is None:
            aligned, boxes = self._register(track, images, images[len(images) // 2])
            track.usual, track.yaw = np.median(aligned, 0).astype(np.float32), yaw
            against_usual[:] = 0
        typical = np.median(aligned, 0).astype(np.float32)
        within, _ = self._measure(track, typical, aligned, np.abs(yaws - yaw), boxes)
        track.usual = (1 - ADAPT) * track.usual + ADAPT * typical
        track.yaw = (1 - ADAPT) * track.yaw + ADAPT * yaw
        return np.maximum(within, against_usual)

    def _register(self, track: _Track, images: list[np.ndarray], reference: np.ndarray) -> tuple[list[np.ndarray], dict[str, Box]]:
        """The window's images registered to a reference, and the boxes to measure there."""
        registrar = Registrar(reference)
        aligned, marks = [], []
        for face, image in zip(track.faces, images, strict=True):
            moved, points = registrar.register(image, face.alignment.to_crop(face.landmarks5))
            aligned.append(moved)
            marks.append(points)
        placed = place_regions(np.median(marks, 0), _UNMOVED, padding=0.0)
        boxes = {name: placed[name] for name in SINGLE_REGIONS}
        if self.settings.box is not None:
            custom = [to_crop_box(self.settings.box, face.alignment) for face in track.faces]
            x0, y0, x1, y1 = np.median([box for box in custom if box is not None], 0)
            boxes[CUSTOM_BOX] = (x0, y0, x1, y1)
        return aligned, boxes

    def _measure(
        self, track: _Track, reference: np.ndarray, aligned: list[np.ndarray], turns: np.ndarray, boxes: dict[str, Box]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(frames, measured) changes against a reference less the calm part's change, and (frames,) the calm part's change."""
        rows = []
        for face, image, turn in zip(track.faces, aligned, turns, strict=True):
            differences = difference(reference, image, float(turn))
            inside = {name: name == CUSTOM_BOX or self._in_frame(face, box) for name, box in boxes.items()}
            squares = {name: change(differences, box) * inside[name] for name, box in boxes.items()}
            squares |= {name: (squares[left] + squares[right]) / 2 for name, (left, right) in JOINED_REGIONS.items()}
            rows.append([squares[name] for name in self._measured])
        changes = np.sqrt(rows)
        calm = np.quantile(changes[:, [self._measured.index(name) for name in NEIGHBOURS]], 0.25, axis=1)
        return np.maximum(changes - calm[:, None], 0.0), calm

    def _in_frame(self, face: Face, box: Box) -> bool:
        """Whether a box of the crop lies inside the frame: beyond its edge, a moving head would count as a moving region."""
        corners = face.alignment.to_frame(np.array([[box[0], box[1]], [box[2], box[1]], [box[0], box[3]], [box[2], box[3]]]))
        return bool((corners >= 0).all() and (corners <= self._size).all())

    def _selection(self, track: _Track, region: str, face: Face, activity: float) -> Selection:
        boxes = region_boxes(face, region, self._size, self.settings.box)
        assert boxes is not None  # `_touches` has checked it
        window_s = self.settings.window_s
        start_s = track.window * window_s
        return Selection(track.window, start_s, start_s + window_s, face, region, *boxes, activity)


def _one_frame(near_peak: Mapping[str, np.ndarray], clarity: np.ndarray) -> dict[str, int]:
    """The clearest frame near the peak of the most active region and, as far as possible, of the others.

    Args:
        near_peak: for each region, the most active first: (frames,) whether a frame is near its peak.
        clarity: (frames,) how well the face can be read.

    Returns:
        Region to the frame's place in the window.
    """
    able = np.ones(len(clarity), bool)
    for near in near_peak.values():
        if (able & near).any():
            able &= near
    return dict.fromkeys(near_peak, int(np.argmax(np.where(able, clarity, -np.inf))))


def _frame_for_each(near_peak: Mapping[str, np.ndarray], clarity: np.ndarray) -> dict[str, int]:
    """As `_one_frame`, but a frame near its own peak for each region. Regions share frames where possible, which saves vision passes."""
    frames: dict[str, int] = {}
    for name, near in near_peak.items():
        shared = [place for place in dict.fromkeys(frames.values()) if near[place]]
        frames[name] = max(shared or np.flatnonzero(near).tolist(), key=lambda place: clarity[place])
    return frames


def _moving(activity: dict[str, float]) -> tuple[str, ...]:
    """The regions that `auto` selects: the face, then active ones that no stronger neighbour explains, the most active first."""
    moving: list[str] = []
    for name in sorted(NEIGHBOURS, key=lambda name: -activity[name]):
        pulled = any(name in NEIGHBOURS[other] and activity[name] < EXPLAINED * activity[other] for other in NEIGHBOURS)
        if activity[name] >= ACTIVE and not pulled:
            moving.append(name)
    return (WHOLE_FACE, *moving[:MAX_REGIONS])


def _touches(face: Face, box: Box, frame_size: tuple[int, int]) -> bool:
    """Whether a box in frame pixels overlaps the frame, the face and its crop."""
    if box[0] >= frame_size[0] or box[1] >= frame_size[1] or box[2] <= 0 or box[3] <= 0:
        return False
    apart = box[0] >= face.box[2] or box[1] >= face.box[3] or box[2] <= face.box[0] or box[3] <= face.box[1]
    return not apart and to_crop_box(box, face.alignment) is not None


def _clarity(face: Face) -> float:
    """How well a face can be read: sharp and frontal. 20 degrees of yaw, or 40 of pitch, cancel e times the sharpness."""
    return log(max(face.sharpness, 1e-3)) - abs(face.yaw) / 20 - abs(face.pitch) / 40
