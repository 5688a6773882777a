"""How a machine or a cluster is shared out between the stages of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.settings import Settings
from pipeline.storage.remote import find, is_url
from pipeline.storage.run_folder import fingerprint, size_in

ANALYSER_MEMORY = 1 << 30
"""Bytes that Ray sets aside for one analyser, which holds decoded frames; more keeps large ones from crowding a machine."""

DESCRIBER_MEMORY = 2 << 30
"""The same for one describer: nano and torch take about half of it; models of billions of parameters are the GPU's."""

CORES_PER_DESCRIBER = 5
"""On machines without a GPU, one core in so many describes and the others analyse. With nano one core describes about as fast
(44 regions a second) as four find regions in clips of one face; more leaves it behind where many faces are seen at once."""

WORTH_HELP = 32 * 2**20
"""Bytes of a video for each of which another analyser may be worth its start where there are fewer videos than cores; less starts
more of them, to no use where videos are large and short."""

GPU_OF_DETECTOR = 0.25
"""Share of a GPU that a detector takes where one describes there, too; Ray counts it, nothing else depends on it."""


@dataclass(frozen=True)
class Pools:
    """How many actors each stage gets.

    Attributes:
        analysers, describers: so many.
        detectors: that analysers share; with none each has its own.
        on_gpu: whether describers are on GPUs; `detect_on_gpu`, whether detectors are.
        reserve: whether memory is set aside for them.
    """

    analysers: int
    describers: int
    detectors: int
    on_gpu: bool
    detect_on_gpu: bool
    reserve: bool

    @property
    def parts(self) -> tuple[float, float]:
        """What part of a GPU, or of the custom resource that stands for one, a describer takes, and a detector."""
        return (1 - GPU_OF_DETECTOR, GPU_OF_DETECTOR) if self.detect_on_gpu else (1.0, 0.0)


def pools(settings: Settings, has: Mapping[str, float], work: int) -> Pools:
    """Share a machine or a cluster out between the stages, so that all of them have a place.

    Args:
        settings: of the run; what they say of the engine goes first.
        has: Ray's resources: `CPU`, `GPU`, `memory` in bytes, and custom ones.
        work: for how many analysers there is something to do.
    """
    cores, gpus, execution = int(has.get("CPU", 1)), int(has.get("GPU", 0)), settings.execution
    on_gpu = settings.describe.device.startswith("cuda") or (gpus > 0 and settings.describe.device == "auto")
    apart = bool(execution.analyser_resource)  # frames would go over the network
    detect_on_gpu = gpus > 0 and (settings.detect.device.startswith("cuda") or (settings.detect.device == "auto" and not apart))
    if execution.analyser_resource:
        cores = int(has.get(execution.analyser_resource, 0))
    if execution.describer_resource:
        gpus = int(has.get(execution.describer_resource, 0))
    describers = execution.describers or max(1, gpus if on_gpu or execution.describer_resource else cores // CORES_PER_DESCRIBER)
    detectors = execution.detectors or (max(1, gpus) if detect_on_gpu else 0)
    room = int(has.get("memory", 0) - describers * DESCRIBER_MEMORY) // ANALYSER_MEMORY
    taken = (0 if on_gpu or apart or execution.describer_resource else describers) + (0 if detect_on_gpu else detectors)
    fitting = max(1, min(cores - taken, room))
    analysers = min(execution.analysers or fitting, work)
    # A machine with less memory than the stages ask for gets to try all the same; reserved, they would wait for ever.
    return Pools(analysers, describers, detectors, on_gpu, detect_on_gpu, reserve=analysers <= room)


def work_for(paths: Sequence[str], settings: Settings, cores: int) -> int:
    """For how many analysers there is something to do: one a video, and more where fewer videos than cores may be long."""
    if not segmented(settings) or len(paths) >= cores:
        return len(paths)
    if settings.execution.analysers:
        return settings.execution.analysers
    marks = [find(path, lambda _: False).get(path, "0") if is_url(path) else fingerprint(path) for path in paths]
    return sum(max(1, size_in(mark) // WORTH_HELP) for mark in marks)


def segmented(settings: Settings) -> bool:
    """Whether analysers share long videos."""
    return settings.video.segment_s > 0 and settings.detect.every == 1
