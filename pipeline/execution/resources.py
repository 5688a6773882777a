"""How many workers each stage gets on a machine or a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.settings import Settings
from pipeline.storage.remote import find, is_url
from pipeline.storage.run_folder import file_mark, size_of

ANALYSER_MEMORY = 1 << 30
"""Bytes that Ray reserves for one analyser, which holds decoded frames; more keeps large frames from crowding a machine."""

DESCRIBER_MEMORY = 2 << 30
"""Bytes that Ray reserves for one describer. nano and torch take about half of it; a model of billions of parameters lies on the GPU."""

CORES_PER_DESCRIBER = 5
"""On machines without a GPU, one core in five describes and the others analyse: with nano one core describes about as fast (44 regions a
second) as four find regions in clips of one face. More starves the describer where many faces are on screen at once."""

BYTES_PER_HELPER = 32 * 2**20
"""Bytes of a video that are worth one more analyser where there are fewer videos than cores; less starts more of them, without use
where videos are large and short."""

DETECTOR_GPU_SHARE = 0.25
"""Share of a GPU that a detector takes where a describer runs on it too. Only Ray's bookkeeping depends on it."""


@dataclass(frozen=True)
class WorkerPlan:
    """Number and place of the workers of a run.

    Attributes:
        analysers, describers: number of each.
        detectors: number of detectors that analysers share; 0 where each analyser has its own.
        on_gpu: whether describers run on GPUs.
        detect_on_gpu: whether detectors do.
        reserve_memory: whether Ray reserves memory for the workers.
    """

    analysers: int
    describers: int
    detectors: int
    on_gpu: bool
    detect_on_gpu: bool
    reserve_memory: bool

    @property
    def gpu_shares(self) -> tuple[float, float]:
        """Share of a GPU, or of the custom resource that stands for one, that a describer takes, and that a detector takes."""
        return (1 - DETECTOR_GPU_SHARE, DETECTOR_GPU_SHARE) if self.detect_on_gpu else (1.0, 0.0)


def plan_workers(settings: Settings, resources: Mapping[str, float], useful: int) -> WorkerPlan:
    """Divide a machine or a cluster between the stages, so that every worker has a place.

    Args:
        settings: settings of the run; numbers of workers that they name are kept.
        resources: Ray's resources: `CPU`, `GPU`, `memory` in bytes, and custom ones.
        useful: number of analysers that have something to do (`useful_analysers`).
    """
    cores, gpus, execution = int(resources.get("CPU", 1)), int(resources.get("GPU", 0)), settings.execution
    describe = settings.describe
    on_gpu = describe.is_local and (describe.device.startswith("cuda") or (gpus > 0 and describe.device == "auto"))
    apart = bool(execution.analyser_resource)  # frames would go over the network
    detect_on_gpu = gpus > 0 and (settings.detect.device.startswith("cuda") or (settings.detect.device == "auto" and not apart))
    if execution.analyser_resource:
        cores = int(resources.get(execution.analyser_resource, 0))
    if execution.describer_resource:
        gpus = int(resources.get(execution.describer_resource, 0))
    describers = execution.describers or max(1, gpus if on_gpu or execution.describer_resource else cores // CORES_PER_DESCRIBER)
    detectors = execution.detectors or (max(1, gpus) if detect_on_gpu else 0)
    room = int(resources.get("memory", 0) - describers * DESCRIBER_MEMORY) // ANALYSER_MEMORY
    taken = (0 if on_gpu or apart or execution.describer_resource else describers) + (0 if detect_on_gpu else detectors)
    fitting = max(1, min(cores - taken, room))
    analysers = min(execution.analysers or fitting, useful)
    # A machine with less memory than the workers would reserve is tried all the same: reserving it, they would wait for ever.
    return WorkerPlan(analysers, describers, detectors, on_gpu, detect_on_gpu, reserve_memory=analysers <= room)


def useful_analysers(paths: Sequence[str], settings: Settings, cores: int) -> int:
    """Number of analysers that have something to do: one for each video, and more where fewer videos than cores may be long.

    Args:
        paths: paths or URLs of the videos.
        settings: settings of the run.
        cores: number of cores of the machine or cluster.
    """
    if not shares_segments(settings) or len(paths) >= cores:
        return len(paths)
    if settings.execution.analysers:
        return settings.execution.analysers
    marks = [find(path, lambda _: False)[0].get(path, "0") if is_url(path) else file_mark(path) for path in paths]
    return sum(max(1, size_of(mark) // BYTES_PER_HELPER) for mark in marks)


def shares_segments(settings: Settings) -> bool:
    """Whether analysers share the segments of long videos."""
    return settings.video.segment_s > 0
