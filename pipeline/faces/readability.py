"""How readable a face is: a score from 0 to 1 from its size, sharpness and pose, the frame's edge and what covers it.

The score estimates which share of what the model gets right on a clear face it still gets right on this one: 1 is a sharp, frontal face of
which everything is seen. Each fault adds a penalty to the log-odds. The weights were fitted to the first nano on degraded copies of
labelled faces (`pipeline.training.fit_readability`; docs/quality.md has the table and the plot).

The detector's score has no weight: it added nothing once the others were known. Size has one for the smallest faces alone: the aligned
crop of a small face is enlarged, so that its sharpness, which is measured there, is low already.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import cv2
import numpy as np

from pipeline.faces.alignment import CROP_SIZE, EYE_DISTANCE, TEMPLATE
from pipeline.records import Alignment
from pipeline.vocabulary import FAULTS, TURNED_AWAY

GOOD_EYES = 8.0
"""Distance between the eyes, in pixels of the frame, from which size itself costs nothing."""

GOOD_SHARPNESS = 80.0
"""Variance of the Laplacian of the aligned crop from which blur costs nothing."""

SMALL_EYES = 12.0
"""Distance between the eyes, in pixels of the frame, below which an unsharp face counts as too small instead of as blurred: its aligned
crop is enlarged three times."""

LEVEL = 0.09
"""Log-odds that a fact about a face without a fault is read correctly. A fact is an action unit, or an emotion, that the labels or the
model name."""

SMALL, BLUR, YAW, PITCH, OUTSIDE, COVERED = 1.1, 0.25, 1.6, 1.7, 0.9, 2.5
"""Weights: for each unit of the logarithm by which size, and sharpness, fall short; of the squares of yaw and pitch in units of 45
degrees; of the share of eyes, brows and mouth that lies outside the frame, and that is covered."""

MAP_SIDE = 14
"""Side of the maps over the aligned crop in which hidden parts are measured."""


def _parts() -> np.ndarray:
    """(14, 14) weight of each part of the crop: the eyes with the brows count as much as the mouth; the sum is 1."""
    y, x = (np.mgrid[:MAP_SIDE, :MAP_SIDE] + 0.5) * (CROP_SIZE / MAP_SIDE)
    eye_y, mouth_y = float(TEMPLATE[:2, 1].mean()), float(TEMPLATE[3:, 1].mean())
    eyes = (np.abs(y - (eye_y - 2)) < 14) & (np.abs(x - CROP_SIZE / 2) < EYE_DISTANCE)
    mouth = ((x - CROP_SIZE / 2) / 24) ** 2 + ((y - mouth_y) / 14) ** 2 < 1
    return eyes / eyes.sum() / 2 + mouth / mouth.sum() / 2


PARTS = _parts()

_PLACES = (np.stack(np.meshgrid(np.arange(MAP_SIDE), np.arange(MAP_SIDE)), -1) + 0.5) * (CROP_SIZE / MAP_SIDE)  # [14, 14, 2] x, y


@dataclass(frozen=True)
class Quality:
    """What the score is computed from.

    Attributes:
        eyes: distance between the eyes in pixels of the frame, by the scale of the alignment.
        sharpness: variance of the Laplacian of the aligned crop.
        yaw, pitch: degrees.
        outside: share of eyes, brows and mouth that lies outside the frame, 0 to 1.
        covered: share of them that something covers, 0 to 1.
    """

    eyes: float
    sharpness: float
    yaw: float
    pitch: float
    outside: float
    covered: float

    @property
    def penalties(self) -> dict[str, float]:
        """By how much each fault lowers the log-odds; keys of `pipeline.vocabulary.FAULTS`."""
        blur = BLUR * max(0.0, log(GOOD_SHARPNESS / max(self.sharpness, 1.0)))
        small = self.eyes < SMALL_EYES
        return {
            "too small": SMALL * max(0.0, log(GOOD_EYES / max(self.eyes, 1.0))) + blur * small,
            "blurred": blur * (not small),
            TURNED_AWAY: YAW * (self.yaw / 45) ** 2 + PITCH * (self.pitch / 45) ** 2,
            "cut off": OUTSIDE * self.outside,
            "covered": COVERED * self.covered,
        }


def readability(quality: Quality) -> tuple[float, str]:
    """The score of a face, and its greatest fault.

    >>> score, fault = readability(Quality(eyes=60, sharpness=300, yaw=0, pitch=0, outside=0, covered=0.5))
    >>> round(score, 2), fault
    (0.46, 'covered')

    Returns:
        The score from 0 to 1, and one of `pipeline.vocabulary.FAULTS`.
    """
    penalties = quality.penalties
    score = (1 + exp(-LEVEL)) / (1 + exp(sum(penalties.values()) - LEVEL))
    return score, max(FAULTS, key=lambda fault: penalties[fault])


def sharpness(aligned: np.ndarray) -> float:
    """Variance of the Laplacian of an aligned crop, (112, 112, 3) uint8 RGB."""
    return float(cv2.Laplacian(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def face_quality(
    alignment: Alignment, frame_size: tuple[int, int], covering: np.ndarray, *, sharpness: float, yaw: float, pitch: float
) -> Quality:
    """What the score of a face is computed from.

    Args:
        alignment: of the face.
        frame_size: width and height of the frame in pixels.
        covering: (14, 14) how much of each part of its crop is covered (`pipeline.faces.covering`).
        sharpness: of its crop.
        yaw, pitch: degrees.
    """
    outside = outside_map(alignment, frame_size)
    return Quality(
        eyes=EYE_DISTANCE / alignment.scale,
        sharpness=sharpness,
        yaw=yaw,
        pitch=pitch,
        outside=float((PARTS * outside).sum()),
        covered=float((PARTS * np.where(outside, 0, covering)).sum()),
    )


def outside_map(alignment: Alignment, frame_size: tuple[int, int]) -> np.ndarray:
    """(14, 14) bool: which parts of an aligned crop lie outside the frame.

    Args:
        alignment: of the face.
        frame_size: width and height of the frame in pixels.
    """
    places = alignment.to_frame(_PLACES)
    return np.asarray(((places < 0) | (places > frame_size)).any(-1))
