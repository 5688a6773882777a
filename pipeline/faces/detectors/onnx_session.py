"""How detectors run their ONNX networks: threads, devices, and the warning where CUDA cannot be had."""

from __future__ import annotations

import warnings
from typing import Any

import onnxruntime

from pipeline.errors import FocalfaceWarning
from pipeline.faces.detectors.devices import ON_CPU

MAX_ENLARGE = 2.0
"""Frames are never enlarged more than this for the detector; more costs its square and adds no detail."""

RUN_PIXELS = {"cpu": 640 * 384, "cuda": 8 * 640 * 384}
"""Input pixels of one network run: a larger batch of images goes in several runs. More than fits a CPU's caches is slower there (a
tenth, for eight images of 384x224), less gives two threads too little (a tenth, for one); on CUDA it bounds memory at about 500 MB."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave their cores to other stages
    return options


def providers_for(device: str) -> list[Any]:
    """onnxruntime's names for a device."""
    if device == "cpu" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()  # CUDA's libraries, as torch's or NVIDIA's packages bring them; says itself what it misses
    number = device.partition(":")[2] or "0"
    # No TF32: faces are the same as the CPU's, but for rounding.
    return [("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}), "CPUExecutionProvider"]


def device_of(session: onnxruntime.InferenceSession, wanted: str) -> str:
    """Where a session runs, which is the CPU, too, whenever onnxruntime could not have CUDA; a warning then says so."""
    device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    if wanted != "cpu" and device == "cpu":
        warnings.warn(ON_CPU, FocalfaceWarning, stacklevel=2)
    return device
