"""The committed constants of face geometry are those that their script fits, and no worse on faces that neither was fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.faces import pose
from pipeline.faces.alignment import CROP_SIZE, FACE_SHAPE, TEMPLATE, align
from pipeline.regions.placement import MEASURE_LIMITS, edge_anchors, placement_measures, to_frame_box
from pipeline.training.fit_geometry import (
    LabelledGeometry,
    PoseConstants,
    crop_box,
    fit_limits,
    fit_placements,
    fit_pose,
    fit_template,
    read_geometry,
)
from pipeline.vocabulary import REGION, Placement


@pytest.fixture(scope="module")
def train(shared: Path) -> LabelledGeometry:
    return read_geometry([shared / "faces" / f"train-{name}.parquet" for name in ("ferplus", "utk", "web")], rows=2000)


@pytest.fixture(scope="module")
def val(shared: Path) -> LabelledGeometry:
    return read_geometry([shared / "faces" / "val.parquet"], rows=1500)


def test_head_pose(train: LabelledGeometry, val: LabelledGeometry) -> None:
    fitted = fit_pose(train)
    committed = PoseConstants(pose.YAW_GAIN, pose.PITCH_GAIN, pose.PITCH_SMILE, pose.PITCH_LEVEL)

    def angles(constants: PoseConstants) -> np.ndarray:
        offset, width, drop, smile, _ = np.array([pose.pose_measures(points) for points in val.landmarks5]).T
        yaw = np.degrees(np.arctan2(constants.yaw_gain * offset, width))
        return np.stack([yaw, constants.pitch_gain * drop + constants.pitch_smile * smile + constants.pitch_level], 1)

    assert angles(committed) == pytest.approx(np.array([pose.head_pose(points)[:2] for points in val.landmarks5]))
    apart = np.abs(angles(fitted) - angles(committed)).mean(0)
    errors = [np.abs(angles(constants) - val.angles[:, :2]).mean(0) for constants in (fitted, committed)]
    print(f"yaw and pitch: {apart.round(2)} degrees apart; errors {errors[0].round(2)} fitted, {errors[1].round(2)} committed")
    assert (apart < [0.1, 0.6]).all()
    assert (errors[1] <= errors[0] + [0.05, 0.1]).all()


def test_placement_of_regions(train: LabelledGeometry, val: LabelledGeometry) -> None:
    placements = fit_placements(train)
    assert set(placements) == {name for name, region in REGION.items() if region.placement}
    upright = np.flatnonzero(np.abs(val.angles[:, 2]) < 30)
    alignments = [align(val.landmarks5[row]) for row in upright]
    points = np.array([alignment.to_crop(val.landmarks5[row]) for row, alignment in zip(upright, alignments, strict=True)])
    measures = np.column_stack([np.ones(len(points)), [placement_measures(each) for each in points]])

    def edges(placement: Placement) -> np.ndarray:
        return np.array([edge_anchors(placement, each) for each in points]) + measures @ np.array(placement.edges).T

    for name, fitted in placements.items():
        committed = REGION[name].placement
        assert committed is not None
        labelled = np.array([crop_box(val.boxes[name][row], alignment) for row, alignment in zip(upright, alignments, strict=True)])
        apart = np.abs(edges(fitted) - edges(committed)).mean(0)
        errors = [np.abs(edges(placement) - labelled).mean() for placement in (fitted, committed)]
        print(f"{name}: {apart.round(2)} crop pixels apart; errors {errors[0]:.2f} fitted, {errors[1]:.2f} committed")
        assert (apart < 0.8).all(), name
        assert errors[1] <= errors[0] + 0.05, name


def test_template_and_limits(train: LabelledGeometry) -> None:
    assert np.abs(fit_template(train) - FACE_SHAPE).max() < 0.03
    assert np.abs(fit_limits(train) - MEASURE_LIMITS).max() < 2.5


@pytest.mark.parametrize("degrees", [0, 20])
def test_a_crop_box_is_the_one_that_maps_to_its_frame_box(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    alignment = align((TEMPLATE - CROP_SIZE / 2) @ turn.T * 2.5 + 400)
    box = (30.0, 40.0, 70.0, 55.0)
    assert crop_box(np.array(to_frame_box(box, alignment, 900, 900)), alignment) == pytest.approx(box)
