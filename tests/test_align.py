"""Similarity alignment of faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.alignment import CROP_SIZE, TEMPLATE, align, crop

LANDMARKS = np.array([[230.7, 247.5], [314.2, 244.5], [267.3, 299.3], [236.0, 325.2], [318.1, 323.0]])
"""Of `single_face.jpg`, as a detector gave them."""


def photo(samples: Path) -> np.ndarray:
    image = cv2.imread(str(samples / "single_face.jpg"))
    assert image is not None
    return image


def moved(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    return scale * points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T + shift


@pytest.mark.parametrize("degrees", [-170, -90, -20, 0, 45, 120])
def test_a_moved_template_comes_back(degrees: float) -> None:
    points = moved(TEMPLATE.astype(np.float64), degrees, 2.5, (300.0, -40.0))
    alignment = align(points)
    assert alignment.to_crop(points) == pytest.approx(TEMPLATE, abs=1e-4)
    assert alignment.scale == pytest.approx(1 / 2.5)
    assert alignment.angle == pytest.approx(degrees, abs=1e-4)


def test_it_is_the_least_squares_similarity() -> None:
    chance = np.random.default_rng(0)
    points = moved(TEMPLATE + chance.normal(0, 3, (5, 2)), 15, 1.7, (50.0, 80.0))
    alignment = align(points)

    def error(matrix: np.ndarray) -> float:
        return float(((points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2).sum())

    best = error(alignment.matrix)
    for _ in range(200):
        a, b, x, y = chance.normal(0, [0.01, 0.01, 1, 1])
        assert error(alignment.matrix + [[a, -b, x], [b, a, y]]) > best


def test_to_crop_and_to_frame_undo_each_other() -> None:
    alignment = align(moved(TEMPLATE + [[1, 2], [0, 0], [3, 1], [0, -2], [1, 1]], 33, 0.6, (10.0, 20.0)))
    points = np.random.default_rng(1).uniform(0, 500, (4, 7, 2))
    assert alignment.to_frame(alignment.to_crop(points)) == pytest.approx(points)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_without_extent_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="coincide"):
        align(points)


def test_a_mirrored_face_is_not_flipped() -> None:
    matrix = align(TEMPLATE * [-1, 1] + [CROP_SIZE, 0]).matrix
    assert np.linalg.det(matrix[:, :2]) >= 0


def test_crops_of_a_turned_picture_agree(samples: Path) -> None:
    image = photo(samples)
    turned = np.rot90(image)  # counter-clockwise: (x, y) goes to (y, width - 1 - x)
    there = np.column_stack([LANDMARKS[:, 1], image.shape[1] - 1 - LANDMARKS[:, 0]])
    upright, sideways = crop(image, align(LANDMARKS)), crop(turned, align(there))
    assert upright.shape == (CROP_SIZE, CROP_SIZE, 3) and upright.dtype == np.uint8
    assert np.abs(upright.astype(float) - sideways).mean() < 3


def test_size_scales_and_margin_surrounds(samples: Path) -> None:
    image, alignment = photo(samples), align(LANDMARKS)
    plain = crop(image, alignment).astype(float)
    wide = crop(image, alignment, margin=10)
    assert wide.shape == (CROP_SIZE + 20, CROP_SIZE + 20, 3)
    assert np.abs(wide[10:-10, 10:-10] - plain).mean() < 2
    large = crop(image, alignment, size=2 * CROP_SIZE)
    assert np.abs(cv2.resize(large, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_AREA) - plain).mean() < 6


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (1200, 600))  # as fine as pixels can be
    shrunk = crop(stripes, align(TEMPLATE * 8 + 100))
    assert shrunk.std() < 5 and abs(shrunk.mean() - 127.5) < 5


def test_outside_the_frame_its_edge_goes_on() -> None:
    frame = np.full((100, 100, 3), 77, np.uint8)
    assert (crop(frame, align(TEMPLATE - 60)) == 77).all()
    assert (crop(frame, align(TEMPLATE * 4 - 900)) == 77).all()
