"""Where each region of a face lies: boxes in the aligned crop, from five landmarks, and their mapping to the frame and back.

A box is anchored on nearby landmarks, and its edges move with the pose and the mouth: a linear function of four measures of the aligned
landmarks. The coefficients (`pipeline.vocabulary.Placement`) were fitted by robust least squares to the tight boxes of 34,475 labelled
faces (`pipeline.training.fit_geometry`), left and right mirrored onto one another. Only left regions (the image's left) have
coefficients; right ones are placed on the mirrored face.
"""

from __future__ import annotations

import numpy as np

from pipeline.faces.alignment import CROP_SIZE, TEMPLATE
from pipeline.records import Alignment, Face, Request
from pipeline.vocabulary import CUSTOM_BOX, JOINED_REGIONS, REGION, REGIONS, WHOLE_FACE, Box, Placement

PADDING = 0.15
"""Share of its longer side by which a region's tight box grows on every side; more shows more skin around it. `face` is not padded."""

MIN_SIDE = 6.0
"""Least side of a box in crop pixels, so that a far cheek in profile still has a box; more keeps hidden regions larger."""

MEASURE_LIMITS = np.array([13.0, 8.0, 12.0, 11.0])
"""Greatest absolute value of each measure, about that of the faces fitted on: beyond it the linear function would extrapolate."""

MIRROR = [1, 0, 2, 4, 3]
"""Order of the five landmarks on the mirrored face."""


def placement_measures(points: np.ndarray, limits: np.ndarray | float = MEASURE_LIMITS) -> np.ndarray:
    """What the edges of regions depend on: nose x, nose y, mouth width and eye distance, relative to the template.

    Args:
        points: (5, 2) aligned landmarks.
        limits: greatest absolute value of each.

    Returns:
        (4,) crop pixels.
    """
    measures = np.array([points[2, 0], points[2, 1], points[4, 0] - points[3, 0], points[1, 0] - points[0, 0]])
    template = [TEMPLATE[2, 0], TEMPLATE[2, 1], TEMPLATE[4, 0] - TEMPLATE[3, 0], TEMPLATE[1, 0] - TEMPLATE[0, 0]]
    return np.clip(measures - template, -limits, limits)


def _tight(placement: Placement, points: np.ndarray) -> Box:
    """The tight box of a region on (5, 2) aligned landmarks."""
    offsets = np.array(placement.edges) @ np.concatenate([[1.0], placement_measures(points)])
    x0, y0, x1, y1 = np.add(edge_anchors(placement, points), offsets)
    return (x0, y0, x1, y1)


def edge_anchors(placement: Placement, points: np.ndarray) -> Box:
    """The places on (5, 2) aligned landmarks from which a region's x0, y0, x1 and y1 are measured."""
    left, right = placement.left, placement.right
    y = points[[*left, *right], 1].mean()
    return (points[list(left), 0].mean(), y, points[list(right), 0].mean(), y)


def pad(box: Box, share: float = PADDING) -> Box:
    """Grow a box on every side by a share of its longer side."""
    x0, y0, x1, y1 = box
    margin = share * max(x1 - x0, y1 - y0)
    return (x0 - margin, y0 - margin, x1 + margin, y1 + margin)


def _clip(box: Box, width: float, height: float, least: float) -> Box:
    """Clip a box to 0..`width` and 0..`height`, then widen and shift it where needed so that each side is at least `least`."""

    def side(low: float, high: float, end: float) -> tuple[float, float]:
        low, high = min(max(low, 0.0), end), min(max(high, 0.0), end)
        if high - low < least:
            low = min(max((low + high - least) / 2, 0.0), end - least)
            high = low + least
        return float(low), float(high)

    (x0, x1), (y0, y1) = side(box[0], box[2], width), side(box[1], box[3], height)
    return (x0, y0, x1, y1)


def _map(box: Box, linear: np.ndarray, centre: np.ndarray) -> Box:
    """The upright box around the ellipse inscribed in `box`, transformed by `linear` and moved to `centre`.

    Regions are round: the corners of the transformed box would reach far beyond the region.
    """
    half = np.hypot(*(linear * [(box[2] - box[0]) / 2, (box[3] - box[1]) / 2]).T)
    (x0, y0), (x1, y1) = centre - half, centre + half
    return (float(x0), float(y0), float(x1), float(y1))


def place_regions(landmarks5: np.ndarray, alignment: Alignment, padding: float = PADDING) -> dict[str, Box]:
    """Boxes of all named regions in the aligned crop.

    Args:
        landmarks5: (5, 2) frame pixels: image-left eye, image-right eye, nose tip, image-left and image-right mouth corner.
        alignment: frame pixels to crop pixels.
        padding: share of the longer side added on every side (`pad`); 0 gives tight boxes.

    Returns:
        A box in crop pixels, inside the crop and at least `MIN_SIDE` on a side, for each of `vocabulary.REGIONS`, in that order. `face` is
        the extent of the face, forehead to chin; joined regions hold their left and right one.

    Raises:
        ValueError: when `landmarks5` does not hold five points.

    >>> from pipeline.faces.alignment import TEMPLATE, align
    >>> boxes = place_regions(TEMPLATE, align(TEMPLATE))
    >>> [round(side) for side in boxes["mouth"]]
    [36, 70, 76, 93]
    """
    points = alignment.to_crop(np.asarray(landmarks5, np.float64).reshape(5, 2))
    mirrored = (points * [-1, 1] + [CROP_SIZE, 0])[MIRROR]
    boxes: dict[str, Box] = {}
    for name, region in REGION.items():
        if region.placement:
            box = _tight(region.placement, points)
            boxes[name] = box if name == WHOLE_FACE else pad(box, padding)
        elif region.mirror and (placement := REGION[region.mirror].placement):
            x0, y0, x1, y1 = pad(_tight(placement, mirrored), padding)
            boxes[name] = (CROP_SIZE - x1, y0, CROP_SIZE - x0, y1)
    boxes = {name: _clip(box, CROP_SIZE, CROP_SIZE, MIN_SIDE) for name, box in boxes.items()}
    for name, (left, right) in JOINED_REGIONS.items():
        a, b = boxes[left], boxes[right]
        boxes[name] = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    return {name: boxes[name] for name in REGIONS}


def whole_face_request(face: Face) -> Request:
    """The question about a whole face."""
    return Request(face.crop, place_regions(face.landmarks5, face.alignment)[WHOLE_FACE], WHOLE_FACE)


def to_frame_box(crop_box: Box, alignment: Alignment, frame_width: int, frame_height: int) -> Box:
    """Map a box of the aligned crop to an upright box in pixels of the frame, clipped to it and at least one pixel wide and high."""
    x0, y0, x1, y1 = crop_box
    centre = alignment.to_frame(np.array([(x0 + x1) / 2, (y0 + y1) / 2]))
    return _clip(_map(crop_box, np.linalg.inv(alignment.matrix[:, :2]), centre), frame_width, frame_height, 1.0)


def to_crop_box(frame_box: Box, alignment: Alignment) -> Box | None:
    """Map a box in frame pixels to an upright box in the aligned crop, clipped to it; None where it does not touch the crop."""
    x0, y0, x1, y1 = frame_box
    centre = alignment.to_crop(np.array([(x0 + x1) / 2, (y0 + y1) / 2]))
    box = _map(frame_box, alignment.matrix[:, :2], centre)
    if box[0] >= CROP_SIZE or box[1] >= CROP_SIZE or box[2] <= 0 or box[3] <= 0:
        return None
    return _clip(box, CROP_SIZE, CROP_SIZE, MIN_SIDE)


def region_boxes(face: Face, region: str, frame_size: tuple[int, int], box: Box | None = None) -> tuple[Box, Box] | None:
    """Where a region of a face lies, in its crop and in the frame.

    Args:
        face: an aligned face.
        region: a name of `pipeline.vocabulary.REGIONS`, or `CUSTOM_BOX`.
        frame_size: width and height of the frame, in pixels.
        box: for `CUSTOM_BOX`, the rectangle in pixels of the frame.

    Returns:
        The box in pixels of the crop, and the upright box in pixels of the frame, clipped to it; None where a custom box does not touch
        the crop.
    """
    if region != CUSTOM_BOX:
        crop_box = place_regions(face.landmarks5, face.alignment)[region]
        return crop_box, to_frame_box(crop_box, face.alignment, *frame_size)
    assert box is not None, "a custom region needs a box"
    custom = to_crop_box(box, face.alignment)
    if custom is None:
        return None
    width, height = frame_size
    return custom, (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
