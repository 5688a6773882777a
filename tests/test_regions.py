"""Region boxes: held against labelled faces, and against what every later stage relies on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.faces.alignment import CROP_SIZE, TEMPLATE, align
from pipeline.records import Alignment
from pipeline.regions.placement import MIN_SIDE, PADDING, pad, place_regions, to_crop_box, to_frame_box
from pipeline.vocabulary import JOINED_REGIONS, REGION_AUS, REGIONS, SINGLE_REGIONS, Box, visible_aus

UNMOVED = Alignment(np.eye(2, 3))


def iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("padding", [PADDING, 0.0])
def test_boxes_agree_with_labelled_faces(shared: Path, padding: float) -> None:
    columns = ["landmarks5", "yaw", *(f"box_{region}" for region in SINGLE_REGIONS)]
    rows = pq.read_table(shared / "faces" / "val.parquet", columns=columns).to_pylist()
    scores: dict[str, list[float]] = {region: [] for region in SINGLE_REGIONS}
    for row in rows:
        if abs(row["yaw"]) <= 30:
            landmarks = np.array(row["landmarks5"]).reshape(5, 2)
            alignment = align(landmarks)
            boxes = place_regions(landmarks, alignment, padding)
            for region in SINGLE_REGIONS:
                # Labelled boxes may run over the picture's edge; a shifted frame without edges nearby keeps them whole.
                shift = Alignment(np.column_stack([alignment.matrix[:, :2], alignment.to_crop(np.array([-500.0, -500.0]))]))
                x0, y0, x1, y1 = to_frame_box(boxes[region], shift, 1200, 1200)
                scores[region].append(iou((x0 - 500, y0 - 500, x1 - 500, y1 - 500), pad(row[f"box_{region}"], padding)))
    means = {region: float(np.mean(values)) for region, values in scores.items()}
    print(
        f"\nmean IoU, {len(scores['mouth'])} faces, padding {padding}:",
        {region: round(mean, 3) for region, mean in means.items()},
    )
    least = 0.7 if padding else 0.55
    for region in ("left_eye", "right_eye", "left_brow", "right_brow", "mouth"):
        assert means[region] >= least, region
    assert min(means.values()) >= least - 0.05


def test_every_named_region_has_a_box_inside_the_crop_whatever_the_landmarks() -> None:
    rng = np.random.default_rng(0)
    for spread in (0, 1, 5, 20, 80):
        landmarks = TEMPLATE * 3 + rng.normal(0, spread, (5, 2))
        boxes = place_regions(landmarks, align(landmarks))
        assert tuple(boxes) == REGIONS
        for x0, y0, x1, y1 in boxes.values():
            assert 0 <= x0 <= x1 - MIN_SIDE and 0 <= y0 <= y1 - MIN_SIDE and max(x1, y1) <= CROP_SIZE


def test_each_region_holds_just_the_action_units_that_it_can_show() -> None:
    boxes = place_regions(TEMPLATE, UNMOVED)
    assert {region: visible_aus(box) for region, box in boxes.items()} == REGION_AUS


def test_left_mirrors_right_and_joined_holds_both() -> None:
    landmarks = TEMPLATE + [[1, 0], [0, 1], [5, 2], [0, 0], [-2, 1]]
    boxes = place_regions(landmarks, UNMOVED)
    flipped = place_regions((landmarks * [-1, 1] + [CROP_SIZE, 0])[[1, 0, 2, 4, 3]], UNMOVED)
    for joined, (left, right) in JOINED_REGIONS.items():
        x0, y0, x1, y1 = flipped[right]
        assert boxes[left] == pytest.approx((CROP_SIZE - x1, y0, CROP_SIZE - x0, y1))
        whole = np.array([boxes[left], boxes[right]])
        assert boxes[joined] == pytest.approx((*whole[:, :2].min(0), *whole[:, 2:].max(0)))


def test_an_opening_mouth_lowers_the_lower_lip_and_the_chin() -> None:
    opened = TEMPLATE + [[0, 0], [0, 0], [0, 0], [3, 2], [-3, 2]]
    before, after = place_regions(TEMPLATE, UNMOVED), place_regions(opened, align(opened))
    wide = TEMPLATE + [[0, 0], [0, 0], [0, 0], [-4, -2], [4, -2]]
    assert after["chin"][3] != before["chin"][3]
    smile = place_regions(wide, align(wide))["mouth"]
    assert smile[2] - smile[0] > before["mouth"][2] - before["mouth"][0] > after["mouth"][2] - after["mouth"][0]


def test_boxes_go_to_the_frame_and_back() -> None:
    alignment = align(TEMPLATE * 2.5 + [300, 200])  # an upright face, 2.5 times as large as its crop
    box: Box = (30.0, 40.0, 60.0, 55.0)
    in_frame = to_frame_box(box, alignment, 2000, 2000)
    assert in_frame == pytest.approx((375, 300, 450, 337.5), abs=1e-3)
    assert to_crop_box(in_frame, alignment) == pytest.approx(box, abs=1e-3)


def test_a_quarter_turn_swaps_sides() -> None:
    landmarks = np.column_stack([500 - TEMPLATE[:, 1], TEMPLATE[:, 0] + 100])  # the face lies on its side
    x0, y0, x1, y1 = to_frame_box((10.0, 20.0, 50.0, 30.0), align(landmarks), 1000, 1000)
    assert (x1 - x0, y1 - y0) == pytest.approx((10, 40), abs=1e-3)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((475, 130), abs=1e-3)


def test_boxes_are_clipped() -> None:
    assert to_frame_box((-20.0, 50.0, 30.0, 200.0), UNMOVED, 112, 100) == pytest.approx((0, 50, 30, 100))
    x0, y0, x1, y1 = to_frame_box((30.0, 30.0, 40.0, 40.0), UNMOVED, 20, 20)
    assert (x0, y0, x1, y1) == (19, 19, 20, 20)
    assert to_crop_box((100.0, 100.0, 300.0, 300.0), UNMOVED) == pytest.approx((100, 100, 112, 112))
    assert to_crop_box((200.0, 0.0, 300.0, 112.0), UNMOVED) is None
