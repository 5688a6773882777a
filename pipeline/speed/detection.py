"""Face detection on a GPU against one CPU core, with the same frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np

from pipeline.faces.detectors import load_detector
from pipeline.speed.agreement import same_faces

HEIGHTS = (360, 1080)
"""Heights of the frames, in pixels."""

FRAMES = 64
"""Frames of a clip that are taken, from its first."""

BATCH = 8
"""Frames given to the detector together."""


def measure(frames: Sequence[np.ndarray], detector: str, repeats: int, device: str = "cuda") -> list[dict[str, Any]]:
    """Frames per second of a detector on both devices, one row for each of `HEIGHTS`.

    Args:
        frames: (H, W, 3) uint8 RGB, scaled here.
        detector: as `pipeline.faces.detectors.load_detector` takes it.
        repeats: passes of each side, in turns.
        device: what is compared with one CPU core.
    """
    sides = {"gpu": load_detector(detector, device=device), "cpu": load_detector(detector, device="cpu")}
    rows = []
    for height in HEIGHTS:
        pictures = [cv2.resize(frame, (round(frame.shape[1] * height / frame.shape[0]), height)) for frame in frames]
        batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
        rates: dict[str, list[float]] = {side: [] for side in sides}
        found: dict[str, list[np.ndarray]] = {}
        for own in sides.values():
            own.detect(batches[0])  # in a first pass, libraries set themselves up
        for _ in range(repeats):
            for side, own in sides.items():
                began = time.perf_counter()
                found[side] = [faces.boxes for batch in batches for faces in own.detect(batch)]
                rates[side].append(len(pictures) / (time.perf_counter() - began))
        same, differences = same_faces(found["gpu"], found["cpu"])
        rows.append(
            {
                "name": f"detect_{height}",
                "detector": detector,
                "device": sides["gpu"].device,
                "frames": len(pictures),
                "unit": "frames/s",
                **{side: median(values) for side, values in rates.items()},
                "ratio": median(a / b for a, b in zip(rates["gpu"], rates["cpu"], strict=True)),
                "same_answers": same,
                "differences": differences,
            }
        )
    return rows
