"""Which regions of a face are worth describing in a window of time, and in which frame.

A region moved when it looks other than in most of the window (the median look of its frames) or than the person usually does.
What the calm part of the face shows in the same frame is taken off, and what remains is held against the track's own history.
One pass, bounded memory: crops are kept for open windows only, the past as one mean look and a few thousand numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, log

import numpy as np

from pipeline.records import Alignment, Face, Selection
from pipeline.regions.motion import Registrar, change, difference, normalise
from pipeline.regions.placement import place_regions, region_boxes, to_crop_box
from pipeline.vocabulary import CUSTOM_BOX, JOINED_REGIONS, NEIGHBOURS, REGIONS, SINGLE_REGIONS, WHOLE_FACE, Box

ACTIVE = 2.0
"""Activity from which a region is worth describing; more describes only the stronger movements."""

LEAST_CHANGE = 0.4
"""Change that passes for usual on even the calmest track, in units of `pipeline.regions.motion`; more ignores fine movement and noise."""

MOST_USUAL = 0.65
"""Change beyond which nothing passes for usual; less keeps describing the mouth of someone who never stops talking."""

EXPLAINED = 0.8
"""A region that moves less than this share of a stronger neighbour was pulled along by it; more describes fewer neighbours."""

MAX_REGIONS = 3
"""Most regions that `auto` adds to the face in one window; more describes more of a lively face."""

NEAR_PEAK = 0.7
"""Frames with at least this share of a region's peak change may stand for it; less prefers sharp frames over telling ones."""

ADAPT = 0.2
"""Share of a window's look that goes into the usual look; more gets used to a new expression or light sooner."""

LOST = 1.5
"""Change of the calm part of the face from which the usual look no longer fits (a turned head); less takes it anew sooner."""

HISTORY = 600
"""Frames of a track's past that say what is usual; more gets used to a new habit later."""

MAX_FRAMES = 48
"""Most frames of a window that are kept; beyond it every second one goes. More costs memory and time where windows are long."""

FORGET_S = 60.0
"""Seconds after which a track that is gone is forgotten; more costs memory where many people come and go."""

_UNMOVED = Alignment(np.eye(2, 3))


@dataclass(frozen=True)
class SelectSettings:
    """What to select.

    Attributes:
        window_s: seconds of a window; each of its regions is described in one frame.
        regions: `auto` (the face, and what moves), `all` (every named region), or names of `vocabulary.REGIONS`, with commas or
            as a tuple.
        box: a rectangle in frame pixels to describe instead, as region `box`, on every face that it touches.
    """

    window_s: float = 1.0
    regions: str | tuple[str, ...] = "auto"
    box: Box | None = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The regions asked for, or None where movement decides."""
        if self.box is not None:
            return (CUSTOM_BOX,)
        if self.regions == "auto":
            return None
        if self.regions == "all":
            return REGIONS
        return tuple(self.regions.split(",")) if isinstance(self.regions, str) else self.regions


@dataclass
class _Track:
    """What is kept of one person.

    Attributes:
        window: index of the open window.
        faces: of the open window, thinned to every `stride`-th where they are many; `seen` counts all.
        usual: (112, 112) the person's mean look, or None before the first window; `yaw` its yaw.
        history: changes in past frames, one value for each measured region.
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
    """Chooses, window by window, the regions worth describing of every face.

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
            faces: all of one frame, none or more; frames in order of time.
            frame_size: width and height of the frame in pixels.

        Returns:
            What is chosen in the windows that this frame's time closes, by track.
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
        """The selections of a track's window, by activity, the face first; its changes go into the track's history."""
        changes = self._changes(track)  # [frames, measured]
        track.history.extend(changes)
        past = np.array(track.history)
        median = np.median(past, 0)
        usual = np.clip(median + np.median(np.abs(past - median), 0), LEAST_CHANGE, MOST_USUAL)
        series = dict(zip(self._measured, (changes / usual).T, strict=True))  # each [frames]
        series[WHOLE_FACE] = np.mean([series[name] for name in NEIGHBOURS], 0)
        activity = {name: float(values.max()) for name, values in series.items()}

        names = self.settings.names or _moving(activity)
        frames: dict[str, Face] = {}
        for name in sorted(names, key=lambda name: -activity[name]):
            near = series[name] >= NEAR_PEAK * activity[name] if activity[name] >= ACTIVE / 2 else np.ones(len(changes), bool)
            # Regions share a frame where it is near the peak of both: the describer then looks at it once.
            able = [face for face, ok in zip(track.faces, near, strict=True) if ok]
            frames[name] = max([face for face in able if any(face is other for other in frames.values())] or able, key=_clarity)
        return [self._selection(track, name, frames[name], activity[name]) for name in names]

    def _changes(self, track: _Track) -> np.ndarray:
        """(frames, measured) change of each region in each frame of the window; the track's usual look takes the window's in."""
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
        look = np.median(aligned, 0).astype(np.float32)
        within, _ = self._measure(track, look, aligned, np.abs(yaws - yaw), boxes)
        track.usual = (1 - ADAPT) * track.usual + ADAPT * look
        track.yaw = (1 - ADAPT) * track.yaw + ADAPT * yaw
        return np.maximum(within, against_usual)

    def _register(self, track: _Track, images: list[np.ndarray], reference: np.ndarray) -> tuple[list[np.ndarray], dict[str, Box]]:
        """The window's images brought onto a reference, and the boxes to measure there."""
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
        """(frames, measured) changes against a reference beyond the calm part's, and (frames,) the calm part's own."""
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
        """Whether a box of the crop lies in the frame; past the frame's edge, a moving head looks like a moving region."""
        corners = face.alignment.to_frame(np.array([[box[0], box[1]], [box[2], box[1]], [box[0], box[3]], [box[2], box[3]]]))
        return bool((corners >= 0).all() and (corners <= self._size).all())

    def _selection(self, track: _Track, region: str, face: Face, activity: float) -> Selection:
        boxes = region_boxes(face, region, self._size, self.settings.box)
        assert boxes is not None  # `_touches` has checked it
        window_s = self.settings.window_s
        start_s = track.window * window_s
        return Selection(track.window, start_s, start_s + window_s, face, region, *boxes, activity)


def _moving(activity: dict[str, float]) -> tuple[str, ...]:
    """The face, and the regions that `auto` adds: active, not explained by a stronger neighbour, the most active first."""
    moving: list[str] = []
    for name in sorted(NEIGHBOURS, key=lambda name: -activity[name]):
        pulled = any(name in NEIGHBOURS[other] and activity[name] < EXPLAINED * activity[other] for other in NEIGHBOURS)
        if activity[name] >= ACTIVE and not pulled:
            moving.append(name)
    return (WHOLE_FACE, *moving[:MAX_REGIONS])


def _touches(face: Face, box: Box, frame_size: tuple[int, int]) -> bool:
    """Whether a box in frame pixels lies, in part, in the frame, on the face and on its crop."""
    if box[0] >= frame_size[0] or box[1] >= frame_size[1] or box[2] <= 0 or box[3] <= 0:
        return False
    apart = box[0] >= face.box[2] or box[1] >= face.box[3] or box[2] <= face.box[0] or box[3] <= face.box[1]
    return not apart and to_crop_box(box, face.alignment) is not None


def _clarity(face: Face) -> float:
    """How well a face can be read in a frame: sharp and frontal; 20 degrees of yaw outweigh a sharpness of e times."""
    return log(max(face.sharpness, 1e-3)) - abs(face.yaw) / 20 - abs(face.pitch) / 40
