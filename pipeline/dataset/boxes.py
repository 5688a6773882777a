"""Which boxes of a face are asked about, and what each can show."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.faces.alignment import CROP_SIZE
from pipeline.regions.placement import MIN_SIDE, pad
from pipeline.vocabulary import CUSTOM_BOX, JOINED_REGIONS, SINGLE_REGIONS, WHOLE_FACE, Box, region_aus, visible_aus

KINDS = ("whole", "named", "joined", "jittered", "random", "empty")
"""How a box is drawn; the boxes of a face are drawn in this order."""

GRID = 4
"""Corners lie on a grid of this many steps a pixel: exact in float32, so that what a box can show can be computed again from its row."""

WHOLE_PAD = (-0.02, 0.10)
"""The whole face is its regions' extent grown by a share of its side within these; wider shows more hair, less may cut the chin."""

JITTER_PAD = (0.05, 0.30)
"""Jittered boxes are padded within these shares. The pipeline pads by `placement.PADDING`; people who draw a box leave more room."""

JITTER_SHIFT = 0.10
"""Standard deviation of a jittered box's shift, in shares of its longer side; more loses the region more often."""

JITTER_STRETCH = 0.15
"""Standard deviation of the logarithms of a jittered box's width and height; more makes odder shapes."""

PLACEMENT = 0.04
"""Standard deviation of each edge of whole, named and joined boxes, in shares of the root of their area: the error of boxes that are placed
by landmarks."""

KEEPS_NAME = 0.6
"""A jittered box keeps its region's name if it overlaps the region's padded box by this much (intersection over union); otherwise it is a
box without a name. Less would call half a mouth a mouth."""

RANDOM_SIDE = (0.10, 0.95)
"""Width and height of random rectangles, in shares of the crop's side."""

EMPTY_SIDE = (0.08, 0.50)
"""Shorter side of empty boxes; the longer one goes up to the crop's whole side."""

GLIMPSE = 0.2
"""An action unit is glimpsed in a box that holds this share of one of its areas: too little to name it (`MIN_VISIBLE`), but too much to
call the box empty, or at rest if the unit is active (half an open mouth). More would let sentences deny what can be seen."""

EMPTY_TRIES = 200
"""Attempts to draw an empty box before the upper left corner is taken; most faces need about twenty."""

TURNS = (2, 5)
"""Fewest and most boxes in a dialogue."""

OPENS_WITH_WHOLE = 0.6
"""Share of dialogues that begin with the whole face."""


@dataclass(frozen=True)
class Counts:
    """Number of boxes of each kind in a face (of named and joined regions: different ones), and number of dialogues over them."""

    whole: int = 2
    named: int = len(SINGLE_REGIONS)
    joined: int = len(JOINED_REGIONS)
    jittered: int = 4
    random: int = 4
    empty: int = 2
    dialogues: int = 2


@dataclass(frozen=True)
class DrawnRegion:
    """One box of one face.

    Attributes:
        kind: one of `KINDS`.
        region: name by which it is asked for, or `box`.
        box: aligned-crop pixels, inside the crop.
        can_show: the action units that the box can show, labelled or not.
        glimpsed: those of which at least a part shows in it (`GLIMPSE`).
        empty: nothing is to be seen in it: no unit is glimpsed, and on this face no part of eyes, brows or mouth.
    """

    kind: str
    region: str
    box: Box
    can_show: tuple[str, ...]
    glimpsed: tuple[str, ...]
    empty: bool


def draw_regions(tight: Mapping[str, Box], counts: Counts, chance: random.Random) -> list[DrawnRegion]:
    """Draw the boxes of one face.

    Args:
        tight: tight box of each of `SINGLE_REGIONS`, aligned-crop pixels.
        counts: number of each kind.
        chance: source of randomness.
    """
    extent = _union([tight[name] for name in SINGLE_REGIONS])
    padded = {name: pad(tight[name]) for name in SINGLE_REGIONS}
    padded |= {name: _union([padded[side] for side in sides]) for name, sides in JOINED_REGIONS.items()}
    drawn: list[tuple[str, str, Box]] = []
    drawn += [("whole", WHOLE_FACE, _placed(pad(extent, chance.uniform(*WHOLE_PAD)), chance)) for _ in range(counts.whole)]
    drawn += [("named", name, _placed(padded[name], chance)) for name in _some(SINGLE_REGIONS, counts.named, chance)]
    drawn += [("joined", name, _placed(padded[name], chance)) for name in _some(tuple(JOINED_REGIONS), counts.joined, chance)]
    for _ in range(counts.jittered):
        name = chance.choice(tuple(padded))
        box = _fit(_jittered(tight, name, chance))
        drawn.append(("jittered", name if overlap(box, _fit(padded[name])) >= KEEPS_NAME else CUSTOM_BOX, box))
    drawn += [("random", CUSTOM_BOX, _rectangle([chance.uniform(*RANDOM_SIDE) for _ in "wh"], chance)) for _ in range(counts.random)]
    drawn += [("empty", CUSTOM_BOX, _empty(tight, chance)) for _ in range(counts.empty)]
    regions = []
    for kind, region, box in drawn:
        glimpsed = visible_aus(box, GLIMPSE)
        regions.append(DrawnRegion(kind, region, box, region_aus(region, box), glimpsed, not glimpsed and _misses_features(box, tight)))
    return regions


def draw_dialogues(usable: Collection[int], regions: list[DrawnRegion], count: int, chance: random.Random) -> list[list[int]]:
    """Draw orders in which several boxes of one face are asked about.

    Args:
        usable: indices into `regions` of the boxes that have a sentence.
        regions: the boxes of the face.
        count: number of dialogues; there is none if fewer than two boxes are usable.
        chance: source of randomness.

    Returns:
        Indices into `regions`; no box is twice in one dialogue.
    """
    if len(usable) < TURNS[0]:
        return []
    whole = [i for i in usable if regions[i].kind == "whole"]
    dialogues = []
    for _ in range(count):
        opening = [chance.choice(whole)] if whole and chance.random() < OPENS_WITH_WHOLE else []
        rest = [i for i in usable if i not in opening]
        turns = min(chance.randint(*TURNS), len(rest) + len(opening))
        dialogues.append(opening + chance.sample(rest, turns - len(opening)))
    return dialogues


def _some(names: tuple[str, ...], count: int, chance: random.Random) -> list[str]:
    chosen = chance.sample(names, min(count, len(names)))
    return [name for name in names if name in chosen]


def _union(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _fit(box: Box) -> Box:
    """The part of a box that lies in the crop, on the grid, moved and widened if a side is shorter than `MIN_SIDE`."""

    def side(low: float, high: float) -> tuple[float, float]:
        low, high = (min(max(value, 0.0), float(CROP_SIZE)) for value in (low, high))
        if high - low < MIN_SIDE:
            low = min(max((low + high - MIN_SIDE) / 2, 0.0), CROP_SIZE - MIN_SIDE)
            high = low + MIN_SIDE
        low = round(low * GRID) / GRID
        return low, max(round(high * GRID) / GRID, low + MIN_SIDE)

    (x0, x1), (y0, y1) = side(box[0], box[2]), side(box[1], box[3])
    return x0, y0, x1, y1


def _placed(box: Box, chance: random.Random) -> Box:
    """A box as landmarks place it, each edge with a small error."""
    error = PLACEMENT * math.sqrt(_area(box))
    x0, y0, x1, y1 = (edge + chance.gauss(0, error) for edge in box)
    return _fit((x0, y0, x1, y1))


def _jittered(tight: Mapping[str, Box], name: str, chance: random.Random) -> Box:
    """A region's box, shifted, stretched and padded at random."""
    box = _union([tight[side] for side in JOINED_REGIONS.get(name, (name,))])
    x0, y0, x1, y1 = pad(box, chance.uniform(*JITTER_PAD))
    side = max(x1 - x0, y1 - y0)
    x, y = ((x0 + x1) / 2 + chance.gauss(0, JITTER_SHIFT) * side, (y0 + y1) / 2 + chance.gauss(0, JITTER_SHIFT) * side)
    half_w, half_h = (length / 2 * math.exp(chance.gauss(0, JITTER_STRETCH)) for length in (x1 - x0, y1 - y0))
    return x - half_w, y - half_h, x + half_w, y + half_h


def _rectangle(sides: list[float], chance: random.Random) -> Box:
    """A rectangle anywhere in the crop; width and height in shares of the crop's side."""
    width, height = sides
    left, top = chance.uniform(0, 1 - width), chance.uniform(0, 1 - height)
    x0, y0, x1, y1 = (CROP_SIZE * value for value in (left, top, left + width, top + height))
    return _fit((x0, y0, x1, y1))


def _empty(tight: Mapping[str, Box], chance: random.Random) -> Box:
    """A rectangle in which nothing is to be seen: background, hair, a sliver of skin."""
    for _ in range(EMPTY_TRIES):
        short = chance.uniform(*EMPTY_SIDE)
        sides = [short, chance.uniform(short, 1)]
        chance.shuffle(sides)
        box = _rectangle(sides, chance)
        if _misses_features(box, tight) and not visible_aus(box, GLIMPSE):
            return box
    return _CORNER


def _misses_features(box: Box, tight: Mapping[str, Box]) -> bool:
    """Whether hardly any part of this face's eyes, brows and mouth lies in a box."""
    return all(_common(box, tight[name]) < GLIMPSE * _area(tight[name]) for name in _FEATURES)


_FEATURES = ("left_eye", "right_eye", "left_brow", "right_brow", "mouth")
_CORNER: Box = (0.0, 0.0, 12.0, 12.0)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes that are not empty."""
    return _common(a, b) / (_area(a) + _area(b) - _common(a, b))
