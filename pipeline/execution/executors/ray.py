"""The one place where Ray is: analyse and describe as a Ray Data graph, on this machine or on a cluster.

    videos to do -> analyse (actors with a detector, a core each) -> describe (actors with the model, a GPU or a core) -> driver

Where detectors run on GPUs, analysers ask one that they share, in an actor of its own (`pipeline.faces.detectors.shared`).

An analyser for which no video is left helps others with long ones (`pipeline.execution.segment_sharing`). Ray Data has no word for that:
a stage takes its rows as they come, and who goes through a video needs its frames in order. So helping is a row, too, behind all
videos, and what passes between analysers goes past Ray Data: over a board that is an actor beside the driver, and Ray's object store.
A graph with a row a segment would have to know, before it starts, how long videos are that only its workers can open, to stitch in
one actor that everything passes, and to begin all over when that actor is lost.

Stages are plain Python; Ray is handed them here. A row is one pickled `Chunk` between the stages and one pickled `Result` to the
driver: each is small, so that a video streams through while it is still being decoded, and only a few wait in between.
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import FetchError, FocalfaceError, FocalfaceWarning, ModelError
from pipeline.execution.analysis import Chunk, analyse
from pipeline.execution.resources import ANALYSER_MEMORY, DESCRIBER_MEMORY, Pools, pools, segmented, work_for
from pipeline.execution.results import Result, questions, told
from pipeline.execution.segment_queue import Board, Gone
from pipeline.execution.segment_sharing import Crew, Part
from pipeline.faces.detectors import Detector
from pipeline.faces.detectors.devices import ON_CPU
from pipeline.records import Detections
from pipeline.settings import ExecutionGroup, Settings
from pipeline.storage.run_folder import shown

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part writes to stderr, whatever `logging_level` says
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its notice
import ray  # reads the variables above when it is imported
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LISTED_AT_ONCE = 2000
"""Blocks in which the list of videos is handed to Ray; more balances better at the end and takes longer to start."""

_HELP = b""
"""What stands for a path in a row that asks to help others."""


class _Analyse:
    """The first pool's actor: one detector and one process that decodes, one video at a time."""

    def __init__(self, settings: Settings, board: Any = None, detectors: Sequence[Any] = ()) -> None:
        self.settings = settings
        self.fault = ""
        self.crew: Crew | None = None
        try:
            from pipeline.faces.detectors import load_detector
            from pipeline.video.decoder_process import Decoder

            self.decoder = Decoder(settings.video.timeout_s, settings.video.memory_mb, settings.video.hardware)
            self.detector: Detector
            if detectors:
                self.detector = _Elsewhere(random.choice(detectors))
            else:
                self.detector = load_detector(settings.detect.detector, min_face=settings.detect.min_face, threads=1)
            if board is not None:
                there: Any = _There(board)
                self.crew = Crew(there, settings, self.detector, self.decoder.open, ray.put, _fetch)
        except FocalfaceError as error:  # said once, by the driver, instead of as a dead actor
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.fault:
            yield {"chunk": b"", "detector": "", "fault": self.fault}
            return
        if row["path"] == _HELP:
            if self.crew:
                self.crew.help()
            return
        path = os.fsdecode(row["path"])
        print(f"focalface: {shown(path)}", file=sys.stderr, flush=True)  # in this worker's log: what it was at when it died
        for chunk in analyse(path, self.settings, self.detector, self.decoder.open, self.crew):
            yield {"chunk": pickle.dumps(chunk), "detector": self.detector.name, "fault": ""}
        if self.crew:
            with suppress(Gone):
                self.crew.board.finish(path)


class _Detect:
    """An actor with a detector that several analysers ask at a time."""

    def __init__(self, settings: Settings, device: str) -> None:
        from pipeline.faces.detectors import load_detector
        from pipeline.faces.detectors.shared import SharedDetector

        self.fault = ""
        try:
            with warnings.catch_warnings(action="ignore"):  # the driver says it
                detector = load_detector(settings.detect.detector, min_face=settings.detect.min_face, device=device)
            self.detector = SharedDetector(detector)
        except FocalfaceError as error:
            self.fault = str(error)

    def about(self) -> tuple[str, str, str]:
        """Its name, its device, and why it is none."""
        return ("", "", self.fault) if self.fault else (self.detector.name, self.detector.device, "")

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `pipeline.faces.detectors.Detector.detect`."""
        return self.detector.detect(images)


class _Elsewhere:
    """A detector that is an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.name, self.device, _ = ray.get(actor.about.remote())

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        try:
            return list(ray.get(self._actor.detect.remote(images)))
        except RayActorError as error:  # begun anew by Ray for as long as that is possible
            raise FetchError(f"the detector is gone: {' '.join(str(error).split())}") from error


class _There:
    """An object that is an actor elsewhere, here."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: _got(getattr(self._actor, name).remote(*arguments))


def _got(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        raise Gone(" ".join(str(error).split())) from error


def _fetch(reference: Any) -> Part:
    part: Part = _got(reference)
    return part


class _Describe:
    """The second pool's actor: one model, one chunk at a time."""

    def __init__(self, settings: Settings, threads: int) -> None:
        self.fault = ""
        try:
            with without_gc():
                from pipeline.describe.backends import load_describer

                self.describer = load_describer(**settings.describe.model_dump(), threads=threads)
        except FocalfaceError as error:
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        fault = row["fault"] or self.fault
        if fault:
            return {"result": b"", "fault": fault}
        began = time.perf_counter()
        chunk: Chunk = pickle.loads(row["chunk"])
        answers = self.describer.describe(questions(chunk))
        result = told(chunk, answers, row["detector"], self.describer.name, time.perf_counter() - began)
        return {"result": pickle.dumps(result), "fault": ""}


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on stderr for a moment, not even from C++."""
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
def _uninterrupted() -> Iterator[None]:
    """An interrupt waits until this is over: Ray's start swallows some, and then stands still."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


@contextmanager
def engine(settings: ExecutionGroup) -> Iterator[None]:
    """A Ray to work on: the one at `settings.address`, or one started here and stopped at the end.

    Raises:
        FocalfaceError: when no Ray answers at the address, or none starts here.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _hushed(), _uninterrupted():  # Ray says there that it heeds RAY_BACKEND_LOG_LEVEL
            if settings.address:
                ray.init(settings.address, **quiet)
            else:  # pools of one core each must fit, whatever the machine has, and what was asked for
                cores = max(os.cpu_count() or 2, (settings.analysers or 1) + (settings.describers or 1) + (settings.detectors or 0))
                shown_at = settings.dashboard_host
                quiet |= {"include_dashboard": shown_at is not None, "dashboard_host": shown_at or "127.0.0.1"}
                ray.init("local", num_cpus=cores, **quiet)
    except Exception as error:  # what Ray raises here shares no base
        if settings.address:
            raise FocalfaceError(f"no Ray answers at {settings.address}: start one, or leave execution.address out") from error
        raise FocalfaceError(f"Ray does not start here: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _part_of(resource: str | None, part: float = 1.0) -> dict[str, float]:
    return {resource: part} if resource else {}


def _detectors(settings: Settings, shares: Pools) -> list[Any]:
    """Actors whose detectors analysers share; none where each has its own.

    Raises:
        ModelError: when the detector cannot be loaded.
    """
    on_gpu, asked = shares.detect_on_gpu, settings.detect.device
    device = (asked if asked.startswith("cuda") else "cuda") if on_gpu else "cpu"
    kind = ray.remote(_Detect).options(
        num_cpus=0 if on_gpu else 1,
        num_gpus=shares.parts[1],
        resources=_part_of(settings.execution.describer_resource, shares.parts[1])
        if on_gpu
        else _part_of(settings.execution.analyser_resource),
        max_concurrency=shares.analysers + 1,
        max_restarts=-1,
        max_task_retries=-1,
    )
    actors: list[Any] = [kind.remote(settings, device) for _ in range(shares.detectors)]
    about = ray.get([actor.about.remote() for actor in actors])
    for _, _, fault in about:
        if fault:
            raise ModelError(fault)
    in_vain = any(there == "cpu" for _, there, _ in about) if on_gpu else asked.startswith("cuda")
    if in_vain:
        warnings.warn(ON_CPU, FocalfaceWarning, stacklevel=2)
    return [] if in_vain and not settings.execution.detectors else actors


def results(paths: Sequence[str], settings: Settings) -> Iterator[Result]:
    """Analyse and describe videos, on the Ray that is running.

    Args:
        paths: of the videos, as the workers can open them.
        settings: of the run.

    Yields:
        Results as they come; those of one video may come out of order, and among those of others.

    Raises:
        ModelError: when the detector or the model cannot be loaded, or there is no GPU for it.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # every chunk is a block of its own, handed on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    resources = ray.cluster_resources()
    shares = pools(settings, resources, work_for(paths, settings, int(resources.get("CPU", 1))))
    if shares.on_gpu and not resources.get("GPU"):  # Ray would wait for one
        if settings.execution.address is None:
            raise ModelError(f"device {settings.describe.device!r}: Ray sees no GPU on this machine; use --device cpu")
        warnings.warn("the cluster has no GPU yet: nothing is described until it gets one", FocalfaceWarning, stacklevel=2)
    detectors = _detectors(settings, shares)
    board: Any = None
    step = max(1, ceil(len(paths) / LISTED_AT_ONCE))
    listed = [[os.fsencode(path) for path in paths[start : start + step]] for start in range(0, len(paths), step)]
    if shares.analysers > 1 and segmented(settings):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote(len(paths), shares.analysers)
        listed += [[_HELP]] * (shares.analysers - 1)
    videos = ray.data.from_arrow([pa.table({"path": pa.array(part, pa.binary())}) for part in listed])
    chunks = videos.flat_map(
        _Analyse,
        fn_constructor_kwargs={"settings": settings, "board": board, "detectors": detectors},
        # A long video must not hold up others that were promised to the same actor.
        compute=ActorPoolStrategy(size=shares.analysers, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        memory=ANALYSER_MEMORY if shares.reserve else None,
        resources=_part_of(settings.execution.analyser_resource),
    )
    described = chunks.map(
        _Describe,  # type: ignore[arg-type]  # Ray's hints know classes of functions for flat_map alone
        fn_constructor_kwargs={"settings": settings, "threads": 1},
        compute=ActorPoolStrategy(size=shares.describers),
        num_cpus=0 if shares.on_gpu else 1,
        num_gpus=shares.parts[0] if shares.on_gpu else 0,
        memory=DESCRIBER_MEMORY if shares.reserve else None,
        resources=_part_of(settings.execution.describer_resource, shares.parts[0]),
    )
    for row in described.iter_rows():
        if row["fault"]:
            raise ModelError(row["fault"])
        yield pickle.loads(row["result"])
