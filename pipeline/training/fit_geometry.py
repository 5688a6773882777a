"""Fit the constants of face geometry to labelled faces: the template, head pose and the placement of regions.

    python -m pipeline.training.fit_geometry train-*.parquet

prints each constant as it is fitted and as it is committed. A committed constant is changed by hand, in `pipeline.faces.alignment`,
`pipeline.faces.pose` or `pipeline.vocabulary`, as that changes every table. The committed ones were fitted by this method to 34,475 faces
of an earlier edition of the labels. The depth of the face in `pipeline.regions.motion` is drawn, not fitted: there are no labels of it.

The files need the columns `landmarks5`, `yaw`, `pitch`, `roll`, `face_box` and `box_<region>` (x0, y0, x1, y1 in pixels, tight and
upright).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.faces import pose
from pipeline.faces.alignment import CROP_SIZE, EYE_DISTANCE, FACE_SHAPE, align
from pipeline.records import Alignment
from pipeline.regions.placement import MEASURE_LIMITS, MIRROR, edge_anchors, placement_measures
from pipeline.vocabulary import REGION, SINGLE_REGIONS, WHOLE_FACE, Box, Edge, Placement

MAX_ROLL = 30.0
"""Faces that are turned more in the plane, in degrees, take no part: their upright boxes say little about the box in the aligned crop."""

FRONTAL = 10.0
"""Yaw in degrees up to which faces make up the mean frontal face."""

LEAST_SLOPE = 0.025
"""Slopes of a region's edge below this, in pixels per pixel, are left out."""

HUBER = 1.345
"""Residuals beyond this many standard deviations count less (Huber 1964, "Robust Estimation of a Location Parameter"); at 1.345 the fit is
95% as efficient as least squares on normal errors."""


@dataclass(frozen=True)
class LabelledGeometry:
    """Labels of N faces.

    Attributes:
        landmarks5: (N, 5, 2) pixels.
        angles: (N, 3) yaw, pitch and roll in degrees.
        boxes: for the face and each single region, (N, 4) tight boxes in pixels.
    """

    landmarks5: np.ndarray
    angles: np.ndarray
    boxes: dict[str, np.ndarray]


@dataclass(frozen=True)
class PoseConstants:
    """The constants of `pipeline.faces.pose`."""

    yaw_gain: float
    pitch_gain: float
    pitch_smile: float
    pitch_level: float


def read_geometry(files: Sequence[Path], rows: int | None = None) -> LabelledGeometry:
    """Read labels.

    Args:
        files: Parquet files.
        rows: at most so many of each file, from its beginning.
    """
    columns = {WHOLE_FACE: "face_box"} | {region: f"box_{region}" for region in SINGLE_REGIONS}
    names = ["landmarks5", "yaw", "pitch", "roll", *columns.values()]
    tables = [pq.read_table(file, columns=names).slice(0, rows) for file in files]
    table = pa.concat_tables(tables, promote_options="permissive")
    landmarks = np.array(table["landmarks5"].to_pylist(), np.float64).reshape(-1, 5, 2)
    angles = np.stack([table[name].to_numpy() for name in ("yaw", "pitch", "roll")], 1)
    boxes = {region: np.array(table[column].to_pylist(), np.float64) for region, column in columns.items()}
    return LabelledGeometry(landmarks, angles, boxes)


def robust_fit(inputs: np.ndarray, outputs: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Linear regression with Huber's weights, by iteratively reweighted least squares.

    >>> x = np.column_stack([np.arange(10.0), np.ones(10)])
    >>> y = x @ [2.0, 1.0]
    >>> y[9] = 500.0
    >>> robust_fit(x, y).round(1).tolist()
    [2.0, 1.0]

    Args:
        inputs: (N, K).
        outputs: (N,).

    Returns:
        (K,) coefficients.
    """
    weights = np.ones(len(outputs))
    coefficients = np.full(inputs.shape[1], np.inf)
    for _ in range(rounds):
        weighted = inputs * weights[:, None]
        last, coefficients = coefficients, np.linalg.solve(weighted.T @ inputs, weighted.T @ outputs)
        residuals = np.abs(outputs - inputs @ coefficients)
        limit = HUBER * 1.4826 * np.median(residuals)
        weights = np.minimum(1.0, limit / np.maximum(residuals, 1e-12))
        if np.abs(coefficients - last).max() < 1e-6:
            break
    return coefficients


def fit_template(labels: LabelledGeometry) -> np.ndarray:
    """(5, 2) mean frontal face in units of the eye distance, the origin midway between the eyes, left and right made alike."""
    points = labels.landmarks5[np.abs(labels.angles[:, 0]) <= FRONTAL] @ np.array([1, 1j])
    eyes = (points[:, 0] + points[:, 1]) / 2
    shape = np.mean((points - eyes[:, None]) / (points[:, 1] - points[:, 0])[:, None], 0)
    shape = (shape - shape[MIRROR].conj()) / 2
    return np.stack([shape.real, shape.imag], 1)


def fit_pose(labels: LabelledGeometry) -> PoseConstants:
    """The constants of head pose, from the labelled angles."""
    offset, width, drop, smile, _ = np.array([pose.pose_measures(points) for points in labels.landmarks5]).T
    yaw, pitch = labels.angles[:, 0], labels.angles[:, 1]
    near = np.abs(yaw) < 60  # beyond, the tangent says more about errors than about faces
    (yaw_gain,) = robust_fit((offset / width)[near, None], np.tan(np.radians(yaw[near])))
    gain, smile_gain, level = robust_fit(np.column_stack([drop, smile, np.ones(len(drop))]), pitch)
    return PoseConstants(float(yaw_gain), float(gain), float(smile_gain), float(level))


def fit_limits(labels: LabelledGeometry) -> np.ndarray:
    """(4,) the 99th percentiles of the measures' absolute values, in crop pixels."""
    points = [align(landmarks).to_crop(landmarks) for landmarks in labels.landmarks5]
    return np.quantile(np.abs([placement_measures(each, np.inf) for each in points]), 0.99, axis=0)


def fit_placements(labels: LabelledGeometry) -> dict[str, Placement]:
    """The placement of each region that has one, anchored on the landmarks of the committed one."""
    turned = np.abs(labels.angles[:, 2]) >= MAX_ROLL
    rows = np.flatnonzero(~turned)
    alignments = [align(labels.landmarks5[row]) for row in rows]
    points = np.array([alignment.to_crop(labels.landmarks5[row]) for row, alignment in zip(rows, alignments, strict=True)])
    mirrored = (points * [-1, 1] + [CROP_SIZE, 0])[:, MIRROR]
    placements = {}
    for name, region in REGION.items():
        if region.placement is None:
            continue
        other = next((right for right, side in REGION.items() if side.mirror == name), name)
        boxes = np.array([crop_box(labels.boxes[name][row], alignment) for row, alignment in zip(rows, alignments, strict=True)])
        others = np.array([crop_box(labels.boxes[other][row], alignment) for row, alignment in zip(rows, alignments, strict=True)])
        flipped = np.column_stack([CROP_SIZE - others[:, 2], others[:, 1], CROP_SIZE - others[:, 0], others[:, 3]])
        edges = _fit_edges(region.placement, np.concatenate([points, mirrored]), np.concatenate([boxes, flipped]))
        placements[name] = Placement(region.placement.left, region.placement.right, edges)
    return placements


def crop_box(frame_box: np.ndarray, alignment: Alignment) -> Box:
    """The box of the aligned crop that `pipeline.regions.placement.to_frame_box` maps to this upright box of the frame.

    Not `to_crop_box`, which grows boxes of turned faces a second time.
    """
    centre = alignment.to_crop(np.array([frame_box[0] + frame_box[2], frame_box[1] + frame_box[3]]) / 2)
    back = np.linalg.inv(alignment.matrix[:, :2])
    squares = np.linalg.solve(back**2, ((frame_box[2:] - frame_box[:2]) / 2) ** 2)  # half sides of the ellipse in the crop
    x, y = np.sqrt(np.maximum(squares, 0.0))
    return (centre[0] - x, centre[1] - y, centre[0] + x, centre[1] + y)


def _fit_edges(placement: Placement, points: np.ndarray, boxes: np.ndarray) -> tuple[Edge, Edge, Edge, Edge]:
    measures = np.column_stack([np.ones(len(points)), [placement_measures(each) for each in points]])
    anchors = np.array([edge_anchors(placement, each) for each in points])
    fits = [robust_fit(measures, boxes[:, edge] - anchors[:, edge]) for edge in range(4)]

    def rounded(fit: np.ndarray) -> Edge:
        slopes = np.where(np.abs(fit[1:]) < LEAST_SLOPE, 0.0, fit[1:].round(2)) + 0.0
        return (float(fit[0].round(1) + 0.0), *map(float, slopes))  # type: ignore[return-value]

    x0, y0, x1, y1 = map(rounded, fits)
    return (x0, y0, x1, y1)


def main() -> None:
    """Print fitted beside committed constants."""
    parser = argparse.ArgumentParser(description="Fit the constants of face geometry to labelled faces.")
    parser.add_argument("files", nargs="+", type=Path, help="Parquet files of labelled faces")
    labels = read_geometry(parser.parse_args().files)
    fitted = fit_pose(labels)
    print(f"{len(labels.landmarks5)} faces; fitted | committed")
    print("FACE_SHAPE", fit_template(labels).round(3).tolist(), "|", FACE_SHAPE.tolist())
    print(f"at EYE_DISTANCE {EYE_DISTANCE:g}: MEASURE_LIMITS {fit_limits(labels).round(1).tolist()} | {MEASURE_LIMITS.tolist()}")
    for name in ("yaw_gain", "pitch_gain", "pitch_smile", "pitch_level"):
        print(f"{name.upper()} {getattr(fitted, name):.2f} | {getattr(pose, name.upper())}")
    for region, placement in fit_placements(labels).items():
        committed = REGION[region].placement
        assert committed is not None
        for edge, new, old in zip(("x0", "y0", "x1", "y1"), placement.edges, committed.edges, strict=True):
            print(f"{region} {edge} {new} | {old}")


if __name__ == "__main__":
    main()
