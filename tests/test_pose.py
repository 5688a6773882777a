"""Head pose from five landmarks, held against the labelled poses of faces that its constants were not fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.faces.alignment import TEMPLATE
from pipeline.faces.pose import head_pose


def test_pose_agrees_with_labelled_faces(shared: Path) -> None:
    names = ["yaw", "pitch", "roll"]
    table = pq.read_table(shared / "faces" / "val.parquet", columns=["landmarks5", *names])
    labels = np.column_stack([table[name].to_numpy() for name in names])
    poses = np.array([head_pose(np.array(points)) for points in table["landmarks5"].to_pylist()])
    errors = np.abs(poses - labels).mean(0)
    correlations = [np.corrcoef(poses[:, k], labels[:, k])[0, 1] for k in range(3)]
    for name, error, correlation in zip(names, errors, correlations, strict=True):
        print(f"{name}: mean error {error:.2f} degrees, correlation {correlation:.3f}")
    assert (errors < [2.0, 4.0, 1.5]).all()
    assert (np.array(correlations) > [0.97, 0.85, 0.97]).all()


def test_mean_face_looks_straight_ahead() -> None:
    yaw, pitch, roll = head_pose(TEMPLATE)
    assert abs(yaw) < 0.1 and abs(pitch) < 10 and abs(roll) < 0.1


def test_signs() -> None:
    turned, nodded = TEMPLATE.copy(), TEMPLATE.copy()
    turned[2, 0] += 8  # the nose tip goes to the image's right
    nodded[2, 1] += 6  # the nose tip goes down
    assert head_pose(turned)[0] > 10
    assert head_pose(nodded)[1] > head_pose(TEMPLATE)[1] + 5
    right_eye_up = TEMPLATE @ np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    assert head_pose(right_eye_up)[2] == pytest.approx(np.degrees(0.2), abs=0.1)


def test_moving_scaling_and_turning_in_the_plane_change_only_roll() -> None:
    points = np.array([[15.3, 21.2], [32.5, 18.8], [21.5, 32.7], [18.7, 42.0], [33.3, 39.7]])
    yaw, pitch, roll = head_pose(points)
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    assert head_pose(3.0 * points @ turn.T + [100, 50]) == pytest.approx((yaw, pitch, roll - np.degrees(0.3)), abs=1e-6)


def test_degenerate_landmarks_give_finite_angles() -> None:
    assert np.isfinite(head_pose(np.zeros((5, 2)))).all()
    assert np.abs(head_pose(TEMPLATE * [0.01, 1.0])).max() <= 90
