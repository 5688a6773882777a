"""Finding the faces of each frame: the part of the work that needs pixels, and the only one.

The whole frame is searched at key frames. Between two of them the detector looks only where they show faces
(`pipeline.faces.known_places`), and at whole frames in which something else moves. Rolled heads are then looked at turned upright
(`pipeline.faces.rolled_heads`). Nothing is carried across a key frame, so segments of a long video can go through `find_faces` on different
machines; `pipeline.faces.tracking.FaceTracker` then joins the results in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipeline.faces.alignment import align, crop
from pipeline.faces.covering import covering_maps
from pipeline.faces.detectors import Detector
from pipeline.faces.detectors.crops import CropSearch
from pipeline.faces.known_places import MOVED, Place, cut_out, joined, known_places, matches, movement, places_of
from pipeline.faces.pose import head_pose
from pipeline.faces.readability import face_quality, readability, sharpness
from pipeline.faces.rolled_heads import place_rolled_heads
from pipeline.faces.scene_cuts import picture_changed, thumbnail
from pipeline.records import Detections, Face, Frame, FrameFaces
from pipeline.video.sampling import period_of
from pipeline.vocabulary import TURNED_AWAY

READ_AHEAD_BYTES = 256 * 2**20
"""Frames held in memory, in bytes; more makes larger batches of large frames, and puts key frames of these further apart."""


@dataclass
class _Searched:
    """A frame on its way.

    Attributes:
        frame: with its pixels.
        small: its thumbnail.
        key: whether the whole of it is searched, whatever it shows.
        whole: what the search of the whole frame found, if there was one.
        found: its faces, once they are known.
    """

    frame: Frame
    small: np.ndarray
    key: bool
    whole: Detections | None = None
    found: Detections | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frame.image.shape[1], self.frame.image.shape[0]


def find_faces(frames: Iterable[Frame], detector: Detector, key_s: float = 0.0, batch: int = 8) -> Iterator[FrameFaces]:
    """Find and measure the faces of a stretch of video.

    The first frame of each period of `key_s` is a key frame (`pipeline.video.sampling.period_of`), and so are the frames on both sides of a
    change of the picture, the last frame, and large frames as memory demands.

    Args:
        frames: in order, from `Video.frames`.
        detector: from `pipeline.faces.detectors.load_detector`.
        key_s: seconds between two key frames; 0: the whole of every frame is searched.
        batch: frames read ahead, so that the detector gets several at once.

    Yields:
        The faces of every frame, in order, with `track_id` 0.
    """
    if detector.crop_search is None:
        key_s = 0.0
    waiting: list[_Searched] = []
    held = since_key = 0
    for frame in frames:
        now = _Searched(frame, thumbnail(frame.image), key=not key_s or not waiting)
        if waiting and key_s:
            last = waiting[-1]
            now.key = period_of(frame.time_s, key_s) != period_of(last.frame.time_s, key_s) or since_key > READ_AHEAD_BYTES // 2
            if picture_changed(last.small, now.small):
                last.key = now.key = True
        waiting.append(now)
        held += frame.image.nbytes
        since_key = frame.image.nbytes if now.key else since_key + frame.image.nbytes
        if now.key and (len(waiting) > batch or held > READ_AHEAD_BYTES // 2):
            yield from _searched(waiting, detector, key_s > 0)
            waiting, held = waiting[-1:], since_key
    if waiting:
        waiting[-1].key = True
        yield from _searched(waiting, detector, key_s > 0, at_end=True)


def _searched(waiting: Sequence[_Searched], detector: Detector, in_crops: bool, at_end: bool = False) -> Iterator[FrameFaces]:
    """Search frames and measure their faces: all but the last frame, which goes with the frames behind it; at the end that one too.

    Args:
        waiting: frames; the first and the last are key frames.
        in_crops: whether crops are searched too.
    """
    _search_whole([now for now in waiting if now.key and now.whole is None], detector)
    if in_crops:
        _search_crops(waiting, detector, at_end)
    done = waiting if at_end else waiting[:-1]
    found = [now.found for now in done if now.found is not None]
    placed, doubtful = place_rolled_heads([now.frame.image for now in done], found, detector)
    for now, detections, rows in zip(done, placed, doubtful, strict=True):
        yield FrameFaces(now.frame.index, now.frame.time_s, now.size, now.small, measure_faces(now.frame, detections, rows))


def _search_whole(frames: Sequence[_Searched], detector: Detector) -> None:
    if frames:
        for now, whole in zip(frames, detector.detect([now.frame.image for now in frames]), strict=True):
            now.whole = now.found = whole


def _search_crops(waiting: Sequence[_Searched], detector: Detector, at_end: bool) -> None:
    """Search the frames between key frames, and place the faces of whole frames anew in crops, so that all are placed alike.

    A frame is searched whole where crops do not suffice (`_Stretch.unclear`).
    """
    search = detector.crop_search
    keys = [place for place, now in enumerate(waiting) if now.key]
    assert search is not None
    stretches = [_Stretch(waiting[one : other + 1], search) for one, other in pairwise(keys)]
    if at_end:
        stretches.append(_Stretch(waiting[-1:], search))
    probes = [stretch.probe for stretch in stretches if stretch.probe is not None]
    _search_whole([probe.now for probe in probes], detector)
    _look([look for stretch in stretches for look in stretch.looks], detector)
    unclear = [look for stretch in stretches for look in stretch.unclear()]
    _search_whole([look.now for look in unclear], detector)
    _look(unclear, detector)


@dataclass(frozen=True)
class _Look:
    """Places to look at in a frame.

    Attributes:
        now: the frame.
        places: where faces are expected.
        share: of the time between the key frames that has passed.
    """

    now: _Searched
    places: Sequence[Place]
    share: float

    def windows(self, search: CropSearch) -> list[tuple[int, int, int]]:
        """The crops to search (`Place.window`); none where they take longer than the whole frame."""
        places = self.places if self.now.whole is None else places_of(self.now.whole, self.places, self.share)
        return [place.window(search.side) for place in places] if search.pays(len(places), self.now.size) else []


def _look(looks: Sequence[_Look], detector: Detector) -> None:
    """Search the crops of all looks together, and set what their frames show."""
    search = detector.crop_search
    assert search is not None
    windows = [look.windows(search) for look in looks]
    crops = [cut_out(look.now.frame.image, window) for look, around in zip(looks, windows, strict=True) for window in around]
    found = iter(detector.detect_crops(crops) if crops else [])
    for look, around in zip(looks, windows, strict=True):
        look.now.found = joined([next(found) for _ in around], around, look.now.size, search.min_face, look.now.whole)


class _Stretch:
    """A key frame and the frames up to the next one.

    Attributes:
        looks: one for each of these frames, without the next key frame.
        probe: at the frame in which most moves where no face is known; None where nothing does, or every frame is searched whole.
    """

    def __init__(self, frames: Sequence[_Searched], search: CropSearch) -> None:
        first, last = frames[0], frames[-1]
        assert first.whole is not None and last.whole is not None
        places = known_places(first.whole, last.whole) if len(frames) > 2 else []
        begin_s, length_s = first.frame.time_s, last.frame.time_s - first.frame.time_s
        self._least = min(len(first.whole), len(last.whole))
        self.looks = [_Look(now, places, (now.frame.time_s - begin_s) / length_s if length_s else 0.0) for now in frames[:-1] or frames]
        self._between = self.looks[1:]
        self._pays = search.pays(len(places), first.size)
        moved = [movement(look.now.small, (first.small, last.small), places, first.size) for look in self._between] if self._pays else []
        self._moving = [change >= MOVED for change in moved]
        self.probe = self._between[int(np.argmax(moved))] if any(self._moving) else None

    def unclear(self) -> list[_Look]:
        """The looks at frames that have to be searched whole, once the crops have been searched.

        There crops take longer; or a face that both key frames show is missing; or there are fewer faces than in each of them (one
        moved too far to be a pair); or a face that one key frame shows is missing in every frame, or where something moves; or
        something moves, and the probe shows a face that neither key frame shows.
        """
        if not self._pays:
            return self._between
        found = [matches(look.places, look.share, look.now.found) for look in self._between if look.now.found is not None]
        ever = [any(row is not None for row in rows) for rows in zip(*found, strict=True)]
        stranger = any(
            len(look.now.found or ()) > sum(row is not None for row in rows)
            for look, rows in zip(self._between, found, strict=True)
            if look is self.probe
        )
        unclear = []
        for look, rows, moving in zip(self._between, found, self._moving, strict=True):
            missing = sum(row is not None for row in rows) < self._least or any(
                row is None and (place.both or moving or not anywhere) for place, row, anywhere in zip(look.places, rows, ever, strict=True)
            )
            if look.now.whole is None and (missing or (moving and stranger)):
                unclear.append(look)
        return unclear


def measure_faces(frame: Frame, found: Detections, doubtful: Collection[int] = ()) -> tuple[Face, ...]:
    """Align and measure the faces of a frame.

    Args:
        frame: of the video.
        found: its faces.
        doubtful: rows of faces whose landmarks cannot be relied on; they are not readable.

    Returns:
        A face for each detection, with `track_id` 0. Those whose landmarks are unusable are left out.
    """
    faces, sure = [], []
    for row, (box, score, landmarks5) in enumerate(zip(found.boxes, found.scores, found.landmarks5, strict=True)):
        try:
            alignment = align(landmarks5)
        except ValueError:
            continue
        aligned = crop(frame.image, alignment)
        yaw, pitch, roll = head_pose(landmarks5)
        face = Face(
            frame_index=frame.index,
            time_s=frame.time_s,
            track_id=0,
            det_score=float(score),
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            landmarks5=landmarks5,
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            sharpness=sharpness(aligned),
            alignment=alignment,
            crop=aligned,
        )
        faces.append(face)
        sure.append(row not in doubtful)
    size = (frame.image.shape[1], frame.image.shape[0])
    covering = covering_maps([face.crop for face in faces])
    return tuple(_rated(face, size, part, known) for face, part, known in zip(faces, covering, sure, strict=True))


def _rated(face: Face, frame_size: tuple[int, int], covering: np.ndarray, sure: bool) -> Face:
    """A face with its readability: none where its landmarks are not sure."""
    if not sure:
        return replace(face, readable=0.0, fault=TURNED_AWAY)
    quality = face_quality(face.alignment, frame_size, covering, sharpness=face.sharpness, yaw=face.yaw, pitch=face.pitch)
    score, fault = readability(quality)
    return replace(face, readable=score, fault=fault)
