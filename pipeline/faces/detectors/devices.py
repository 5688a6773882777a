"""Devices that detectors run on."""

from __future__ import annotations

from pathlib import Path

ON_CPU = "face detection runs on the CPU, not on CUDA: install onnxruntime-gpu in onnxruntime's place, and the CUDA that it needs"


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, with or without software that can use it."""
    return any(Path("/dev").glob("nvidia[0-9]*"))
