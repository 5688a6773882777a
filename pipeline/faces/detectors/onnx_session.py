"""How detectors run their ONNX networks: threads, devices, and the warning where CUDA is not available."""

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
    """Options of a session that uses `threads` CPU threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads free their cores for other stages
    return options


def providers_for(device: str) -> list[Any]:
    """onnxruntime's execution providers for a device, the preferred one first."""
    if device == "cpu" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()  # loads CUDA's libraries from torch's or NVIDIA's packages, and prints what is missing
    number = device.partition(":")[2] or "0"
    # Without TF32 the results differ from the CPU's by rounding only.
    return [("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}), "CPUExecutionProvider"]


def device_of(session: onnxruntime.InferenceSession, wanted: str) -> str:
    """The device that a session runs on; warns where that is the CPU although CUDA was asked for."""
    device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    if wanted != "cpu" and device == "cpu":
        warnings.warn(ON_CPU, FocalfaceWarning, stacklevel=2)
    return device
