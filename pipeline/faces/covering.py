"""What stands before a face: a hand, a microphone, a cup. A small network says how much of each part of the aligned crop is covered.

The network (`assets/covering.onnx`, some 60,000 weights, 75 microseconds a face) was trained on labelled faces with drawn things before
them (`pipeline.training.fit_covering`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.faces.readability import MAP_SIDE

NETWORK = Path(__file__).parent / "assets" / "covering.onnx"

INPUT_SIDE = 56
"""Side of the crop that the network is shown; it gives a map of `pipeline.faces.readability.MAP_SIDE`."""

LEAST_CONTRAST = 8.0
"""Least standard deviation of brightness by which a crop is divided; less enlarges noise on flat crops."""


def covering_maps(crops: Sequence[np.ndarray]) -> np.ndarray:
    """How much of each part of some faces is covered.

    Args:
        crops: N of (112, 112, 3) uint8 RGB, aligned faces.

    Returns:
        (N, 14, 14) float32 in [0, 1] over the aligned crop.

    >>> covering_maps([]).shape
    (0, 14, 14)
    """
    if not len(crops):
        return np.zeros((0, MAP_SIDE, MAP_SIDE), np.float32)
    (maps,) = _session().run(None, {"crops": np.stack([network_input(crop) for crop in crops])})
    return maps.reshape(-1, MAP_SIDE, MAP_SIDE)


def network_input(crop: np.ndarray) -> np.ndarray:
    """(1, 56, 56) float32: a crop as the network is shown it, grey, of mean 0 and deviation 1."""
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (INPUT_SIDE, INPUT_SIDE), interpolation=cv2.INTER_AREA)
    return normalised(grey[None])


def normalised(grey: np.ndarray) -> np.ndarray:
    """(..., 56, 56) brightness -> float32 of mean 0 and deviation 1."""
    values = np.asarray(grey, np.float32)
    mean, deviation = values.mean((-2, -1), keepdims=True), values.std((-2, -1), keepdims=True)
    return (values - mean) / np.maximum(deviation, LEAST_CONTRAST)


@cache
def _session() -> Any:
    import onnxruntime

    from pipeline.faces.detectors.onnx_session import session_options

    return onnxruntime.InferenceSession(NETWORK, session_options(1), providers=["CPUExecutionProvider"])
