"""The Ray executor: analyse and describe as a Ray Data graph, on this machine or on a cluster.

    videos to do -> analyse (actors with a detector, a core each) -> describe (actors with the model, a GPU or a core each) -> driver

Where detectors run on GPUs, analysers share detectors that are actors of their own (`pipeline.faces.detectors.shared`).

An analyser without a video of its own helps others with long ones (`pipeline.execution.segment_sharing`). Ray Data has no means for
that: a stage takes its rows as they come, while the owner of a video needs its frames in order. So a request for help is a row too,
behind all videos, and findings are exchanged outside Ray Data, through a queue that is an actor beside the driver, and through Ray's
object store. A graph with one row for each segment would have to know, before it starts, the length of videos that only its workers
can open.

A row is one pickled `Chunk` between the stages and one pickled `Result` to the driver. Each is small, so that a video is described
while it is still being decoded, and only a few rows wait in between.
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import FetchError, FocalfaceError, FocalfaceWarning, ModelError, one_line
from pipeline.execution.analysis import analyse_video
from pipeline.execution.chunks import Result
from pipeline.execution.description import describe_chunk
from pipeline.execution.executors import load_run_detector
from pipeline.execution.interrupts import noted_interrupts
from pipeline.execution.resources import ANALYSER_MEMORY, DESCRIBER_MEMORY, WorkerPlan, plan_workers, shares_segments, useful_analysers
from pipeline.execution.segment_queue import QueueLost, SegmentQueue
from pipeline.execution.segment_sharing import Part, SegmentWorker
from pipeline.faces.detectors import Detector
from pipeline.faces.detectors.crops import CropSearch
from pipeline.faces.detectors.devices import ON_CPU
from pipeline.records import Detections
from pipeline.settings import ExecutionGroup, Settings
from pipeline.storage.run_folder import printable

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part writes to stderr, whatever `logging_level` says
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its notice
import ray  # reads the variables above when it is imported
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

BLOCKS_OF_VIDEOS = 2000
"""Most blocks in which the list of videos is given to Ray; more balances better at the end and takes longer to start."""

HELP_ROW = b""
"""Stands in place of a path in a row that asks an analyser to help others."""


class RayExecutor:
    """Runs the stages on Ray: one that is started here, or one that runs at `execution.address`."""

    name: ClassVar[str] = "ray"

    def __init__(self, settings: Settings) -> None:
        """Prepare.

        Args:
            settings: settings of the run.
        """
        self._settings = settings

    def __enter__(self) -> Self:
        """See `Executor.__enter__`: start Ray, or connect to it."""
        start_ray(self._settings.execution)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `Executor.__exit__`."""
        ray.shutdown()

    def results(self, paths: Sequence[str]) -> Iterator[Result]:
        """See `Executor.results`."""
        settings = self._settings
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # every chunk is a block of its own, handed on at once
        logging.getLogger("ray.data").setLevel(logging.ERROR)

        resources = ray.cluster_resources()
        workers = plan_workers(settings, resources, useful_analysers(paths, settings, int(resources.get("CPU", 1))))
        if workers.on_gpu and not resources.get("GPU"):  # Ray would wait for one
            if settings.execution.address is None:
                raise ModelError(f"device {settings.describe.device!r}: Ray sees no GPU on this machine; use --device cpu")
            warnings.warn("the cluster has no GPU yet: nothing is described until it gets one", FocalfaceWarning, stacklevel=2)
        detectors = _start_detectors(settings, workers)
        queue: Any = None
        step = max(1, ceil(len(paths) / BLOCKS_OF_VIDEOS))
        rows = [[os.fsencode(path) for path in paths[start : start + step]] for start in range(0, len(paths), step)]
        if workers.analysers > 1 and shares_segments(settings):
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            queue = ray.remote(num_cpus=0)(SegmentQueue).options(scheduling_strategy=here).remote(len(paths), workers.analysers)
            rows += [[HELP_ROW]] * (workers.analysers - 1)
        videos = ray.data.from_arrow([pa.table({"path": pa.array(part, pa.binary())}) for part in rows])
        chunks = videos.flat_map(
            _Analyse,
            fn_constructor_kwargs={"settings": settings, "queue": queue, "detectors": detectors},
            # A long video must not delay others that were promised to the same actor.
            compute=ActorPoolStrategy(size=workers.analysers, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            memory=ANALYSER_MEMORY if workers.reserve_memory else None,
            resources=_custom(settings.execution.analyser_resource),
        )
        described = chunks.map(
            _Describe,  # type: ignore[arg-type]  # Ray's type hints know callable classes for flat_map alone
            fn_constructor_kwargs={"settings": settings, "threads": 1},
            compute=ActorPoolStrategy(size=workers.describers),
            num_cpus=0 if workers.on_gpu else 1,
            num_gpus=workers.gpu_shares[0] if workers.on_gpu else 0,
            memory=DESCRIBER_MEMORY if workers.reserve_memory else None,
            resources=_custom(settings.execution.describer_resource, workers.gpu_shares[0]),
        )
        for row in described.iter_rows():
            if row["fault"]:
                raise ModelError(row["fault"])
            yield pickle.loads(row["result"])


def start_ray(settings: ExecutionGroup) -> None:
    """Connect to the Ray at `settings.address`, or start one here; `ray.shutdown()` ends either.

    Raises:
        FocalfaceError: when no Ray answers at the address, or none starts here.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _silent_stderr(), _deferred_interrupt():  # Ray announces there that it honours RAY_BACKEND_LOG_LEVEL
            if settings.address:
                ray.init(settings.address, **quiet)
            else:  # workers of one core each must fit, whatever the machine has, and so must those that were asked for
                wanted = (settings.analysers or 1) + (settings.describers or 1) + (settings.detectors or 0)
                dashboard = settings.dashboard_host
                quiet |= {"include_dashboard": dashboard is not None, "dashboard_host": dashboard or "127.0.0.1"}
                ray.init("local", num_cpus=max(os.cpu_count() or 2, wanted), **quiet)
    except Exception as error:  # what Ray raises here shares no base class
        if settings.address:
            raise FocalfaceError(f"no Ray answers at {settings.address}: start one, or leave execution.address out") from error
        raise FocalfaceError(f"Ray does not start here: {one_line(error)}") from error


class _Analyse:
    """The first stage's actor: one detector and one decoder process, one video at a time."""

    def __init__(self, settings: Settings, queue: Any = None, detectors: Sequence[Any] = ()) -> None:
        from pipeline.video.decoder_process import Decoder

        self.settings = settings
        self.fault = ""
        self.sharing: SegmentWorker | None = None
        try:
            video = settings.video
            self.decoder = Decoder(video.timeout_s, video.memory_mb, video.hardware, video.decoder)
            self.detector: Detector
            if detectors:
                self.detector = _RemoteDetector(random.choice(detectors))
            else:
                on_cpu = settings.model_copy(update={"detect": settings.detect.model_copy(update={"device": "cpu"})})
                self.detector = load_run_detector(on_cpu)
            if queue is not None:
                remote: Any = _RemoteObject(queue)
                self.sharing = SegmentWorker(remote, settings, self.detector, self.decoder.open, ray.put, _load_part)
        except FocalfaceError as error:  # the driver reports it once, instead of a dead actor
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.fault:
            yield {"chunk": b"", "fault": self.fault}
            return
        if row["path"] == HELP_ROW:
            if self.sharing:
                self.sharing.help_others()
            return
        path = os.fsdecode(row["path"])
        print(f"focalface: {printable(path)}", file=sys.stderr, flush=True)  # names, in this worker's log, the video that it died on
        for chunk in analyse_video(path, self.settings, self.detector, self.decoder.open, self.sharing):
            yield {"chunk": pickle.dumps(chunk), "fault": ""}
        if self.sharing:
            with suppress(QueueLost):
                self.sharing.queue.finish(path)


class _Describe:
    """The second stage's actor: one model, one chunk at a time."""

    def __init__(self, settings: Settings, threads: int) -> None:
        self.fault = ""
        try:
            with without_gc():
                from pipeline.describe.backends import load_describer

                self.describer = load_describer(**settings.describe.load_options(), threads=threads)
        except FocalfaceError as error:
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        fault = row["fault"] or self.fault
        if fault:
            return {"result": b"", "fault": fault}
        result = describe_chunk(pickle.loads(row["chunk"]), self.describer)
        return {"result": pickle.dumps(result), "fault": ""}


class _SharedDetectorActor:
    """An actor with a detector that several analysers ask at the same time."""

    def __init__(self, settings: Settings, device: str) -> None:
        from pipeline.faces.detectors.shared import SharedDetector

        self.fault = ""
        try:
            with warnings.catch_warnings(action="ignore"):  # the driver warns
                on_device = settings.model_copy(update={"detect": settings.detect.model_copy(update={"device": device})})
                self.detector = SharedDetector(load_run_detector(on_device))
        except FocalfaceError as error:
            self.fault = str(error)

    def identify(self) -> tuple[str, str, CropSearch | None, str]:
        """Name, device and crop search of the detector, and why it could not be loaded."""
        if self.fault:
            return "", "", None, self.fault
        return self.detector.name, self.detector.device, self.detector.crop_search, ""

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect`."""
        return self.detector.detect(images)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect_crops`."""
        return self.detector.detect_crops(images)


class _RemoteDetector:
    """A detector that is an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.name, self.device, self.crop_search, _ = ray.get(actor.identify.remote())

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return self._ask(self._actor.detect, images)

    def detect_crops(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return self._ask(self._actor.detect_crops, images)

    def _ask(self, method: Any, images: Sequence[np.ndarray]) -> list[Detections]:
        try:
            return list(ray.get(method.remote(images)))
        except RayActorError as error:  # Ray restarts it for as long as that is possible
            raise FetchError(f"the detector is gone: {one_line(error)}") from error


class _RemoteObject:
    """An actor, with the methods of its class."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: _get(getattr(self._actor, name).remote(*arguments))


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        raise QueueLost(one_line(error)) from error


def _load_part(reference: Any) -> Part:
    part: Part = _get(reference)
    return part


def _start_detectors(settings: Settings, workers: WorkerPlan) -> list[Any]:
    """Actors with detectors that analysers share; none where each analyser has its own.

    Raises:
        ModelError: when the detector cannot be loaded.
    """
    on_gpu, asked = workers.detect_on_gpu, settings.detect.device
    device = (asked if asked.startswith("cuda") else "cuda") if on_gpu else "cpu"
    execution, gpu_share = settings.execution, workers.gpu_shares[1]
    kind = ray.remote(_SharedDetectorActor).options(
        num_cpus=0 if on_gpu else 1,
        num_gpus=gpu_share,
        resources=_custom(execution.describer_resource, gpu_share) if on_gpu else _custom(execution.analyser_resource),
        max_concurrency=workers.analysers + 1,
        max_restarts=-1,
        max_task_retries=-1,
    )
    actors: list[Any] = [kind.remote(settings, device) for _ in range(workers.detectors)]
    identities = ray.get([actor.identify.remote() for actor in actors])
    for *_, fault in identities:
        if fault:
            raise ModelError(fault)
    without_cuda = any(device == "cpu" for _, device, *_ in identities) if on_gpu else asked.startswith("cuda")
    if without_cuda:
        warnings.warn(ON_CPU, FocalfaceWarning, stacklevel=2)
    return [] if without_cuda and not execution.detectors else actors


def _custom(resource: str | None, amount: float = 1.0) -> dict[str, float]:
    """Ray's custom resources for a worker."""
    return {resource: amount} if resource else {}


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what is written to stderr inside the block, by C++ too."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _deferred_interrupt() -> Iterator[None]:
    """Raise a Ctrl-C or SIGTERM that comes inside the block only at its end, and keep this process's own handlers.

    Ray's start-up swallows some interrupts, and then hangs; its own handler of SIGTERM prints a C++ stack.
    """
    with noted_interrupts() as received:
        yield
    if received:
        raise KeyboardInterrupt
