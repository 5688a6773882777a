"""Where faces are between two frames that were searched whole, so that the detector need not look elsewhere.

The faces of the frame before and of the frame after are paired; each pair, and each face without a partner, is a place at which the
frames between show a face too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.faces.detectors.suppression import MAX_OVERLAP, overlaps, suppress
from pipeline.records import Detections

REACH = 1.0
"""Two faces are a pair if their centres are nearer than this many of their sides; more pairs faster faces, and needs larger crops."""

SAME_SIZE = 1.5
"""Neither of a pair is this many times as high as the other; more pairs faces that come nearer faster."""

MARGIN = 0.5
"""Share of a face that its crop adds on every side; more finds faces that move less evenly, at a lower resolution."""

EDGE = 0.02
"""A box that comes nearer to the edge of its crop than this share of the crop is cut off there."""

CELL = 8
"""Crops begin at multiples of this many input pixels, counted from the corner of the frame."""

SIDE_STEP = 2**0.25
"""Sides of crops are rounded to powers of this factor; more changes them less often, and shows faces at more different sizes."""

_UNIT = 32
"""Sides of crops are multiples of this many pixels of the frame."""

AROUND = 1.0
"""Share of a face by which its surroundings go beyond it on every side: what moves there is its hair, its shoulders, a hand. More finds
fewer of those who come in beside a known face before the next key frame, less searches more frames for nothing."""

MOVED = 24.0
"""Change of a colour (0 to 255) of a thumbnail's pixel, against both frames that were searched, from which something moves there. A
face of 40 pixels that comes in changes 98% of pictures of 1920 pixels by more, a face of 60 all of them; a camera at rest stays below 12.
Higher misses some until the next key frame, lower takes faint shadows for movement."""


@dataclass(frozen=True)
class Place:
    """Where a face is between two frames.

    Attributes:
        before, after: (4,) box of the face in the frame before, and after; equal where only one frame shows it.
        both: whether both frames show it, so that every frame between should too.
    """

    before: np.ndarray
    after: np.ndarray
    both: bool

    def expected(self, share: float) -> np.ndarray:
        """(4,) box in a frame between.

        Args:
            share: of the time between the two frames that has passed.
        """
        return self.before + share * (self.after - self.before)

    def window(self, input_side: int) -> tuple[int, int, int]:
        """The square to search: left, top and side, in pixels of the frame; it may go over the frame's edge.

        All frames have the same one, and its place and side are rounded, so that a face at rest falls on the same cells of the network
        from one key frame to the next: where the network puts it varies with its place between them.

        Args:
            input_side: side of the network's input for a crop, in pixels.
        """
        low, high = np.minimum(self.before, self.after)[:2], np.maximum(self.before, self.after)[2:]
        face = max((box[2:] - box[:2]).max() for box in (self.before, self.after))
        shift = np.abs(_centre(self.after) - _centre(self.before)).max()
        steps = np.log(((1 + 2 * MARGIN) * face + shift) / _UNIT) / np.log(SIDE_STEP)
        side = _UNIT * max(1, round(SIDE_STEP ** round(steps)))
        cell = CELL * side / input_side
        left, top = np.round(np.round(((low + high) - side) / 2 / cell) * cell).astype(int).tolist()
        return left, top, side


def known_places(before: Detections, after: Detections) -> list[Place]:
    """Pair the faces of two frames, the nearest first; a face without a partner is a place of its own."""
    one, other = (found.boxes.astype(np.float64) for found in (before, after))
    sides = [(boxes[:, 2:] - boxes[:, :2]).max(1) for boxes in (one, other)]
    larger, smaller = np.maximum.outer(*sides), np.minimum.outer(*sides)
    apart = np.linalg.norm(_centre(one)[:, None] - _centre(other)[None], axis=2) / larger
    apart[larger >= SAME_SIZE * smaller] = np.inf
    pairs: dict[int, int] = {}
    for place in np.argsort(apart, axis=None, kind="stable").tolist():
        row, column = divmod(place, max(1, len(other)))
        if apart[row, column] >= REACH:
            break
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    places = [Place(one[row], other[column], True) for row, column in sorted(pairs.items())]
    alone = [box for row, box in enumerate(one) if row not in pairs] + [box for row, box in enumerate(other) if row not in pairs.values()]
    return places + [Place(box, box, False) for box in alone]


def cut_out(image: np.ndarray, window: tuple[int, int, int]) -> np.ndarray:
    """(side, side, 3) a square part of an image; black beyond its edge."""
    left, top, side = window
    part = image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if part.shape[:2] == (side, side):
        return part
    whole = np.zeros((side, side, 3), np.uint8)
    whole[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]] = part
    return whole


def joined(
    found: Sequence[Detections],
    windows: Sequence[tuple[int, int, int]],
    size: tuple[int, int],
    min_face: float,
    whole: Detections | None = None,
) -> Detections:
    """The faces of a frame from those of its crops, each once; without those that the edge of a crop cuts off.

    Args:
        found: one for each crop, in its pixels.
        windows: left, top and side of each crop.
        size: width and height of the frame.
        min_face: least height of a face, in pixels of the frame.
        whole: what the search of the whole frame found, if there was one: faces that no crop shows are taken from it.
    """
    boxes, scores, landmarks = [np.empty((0, 4))], [np.empty(0)], [np.empty((0, 5, 2))]
    for faces, (left, top, side) in zip(found, windows, strict=True):
        entire = (faces.boxes.min(1) > EDGE * side) & (faces.boxes.max(1) < (1 - EDGE) * side)
        boxes.append(faces.boxes[entire] + np.array([left, top] * 2))
        scores.append(faces.scores[entire])
        landmarks.append(faces.landmarks5[entire] + np.array([left, top]))
    near = suppress(np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks), size, min_face)
    if whole is None:
        return near
    rest = ~(overlaps(whole.boxes, near.boxes) > MAX_OVERLAP).any(1)
    parts = [
        (faces.boxes, faces.scores, faces.landmarks5)
        for faces in (near, Detections(whole.boxes[rest], whole.scores[rest], whole.landmarks5[rest]))
    ]
    every = Detections(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))
    order = np.argsort(-every.scores, kind="stable")
    return Detections(every.boxes[order], every.scores[order], every.landmarks5[order])


def matches(places: Sequence[Place], share: float, found: Detections) -> list[int | None]:
    """Which face of a frame is at each place: its row, none for two of them; None where the place shows none.

    Args:
        places: where faces are expected.
        share: of the time between the two frames that were searched that has passed.
        found: faces of the frame.
    """
    centres = _centre(found.boxes)
    free = set(range(len(found)))
    rows: list[int | None] = []
    for place in places:
        box = place.expected(share)
        shift = np.abs(_centre(place.after) - _centre(place.before)).max()
        reach = MARGIN * (box[2:] - box[:2]).max() + shift / 2
        apart = np.abs(centres - _centre(box)).max(1)
        near = [row for row in np.argsort(apart, kind="stable").tolist() if row in free and apart[row] <= reach]
        rows.append(near[0] if near else None)
        free.difference_update(near[:1])
    return rows


def places_of(found: Detections, places: Sequence[Place] = (), share: float = 0.0) -> list[Place]:
    """The places of a frame's own faces: those of `places` that show one, and one more for each other face."""
    rows = matches(places, share, found)
    other = [Place(box, box, False) for row, box in enumerate(found.boxes.astype(np.float64)) if row not in rows]
    return [place for place, row in zip(places, rows, strict=True) if row is not None] + other


def movement(small: np.ndarray, keys: Sequence[np.ndarray], places: Sequence[Place], size: tuple[int, int]) -> int:
    """How much moves where no face is known: the greatest change of a colour, 0 to 255.

    Args:
        small: thumbnail of the frame (`pipeline.faces.scene_cuts.thumbnail`).
        keys: thumbnails of the frames that were searched: what one of them shows is known.
        places: of known faces.
        size: width and height of the frame.
    """
    change = np.min([cv2.absdiff(small, key).max(2) for key in keys], axis=0)
    height, width = change.shape
    for place in places:
        low, high = np.minimum(place.before, place.after)[:2], np.maximum(place.before, place.after)[2:]
        reach = AROUND * (high - low)
        x0, y0 = np.floor((low - reach) * (width, height) / size).astype(int).clip(0)
        x1, y1 = np.ceil((high + reach) * (width, height) / size).astype(int).clip(0)
        change[y0:y1, x0:x1] = 0
    return int(change.max())


def _centre(boxes: np.ndarray) -> np.ndarray:
    """(..., 2) centres of (..., 4) boxes."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2
