"""The one place where Ray is: analyse and describe as a Ray Data graph, on this machine or on a cluster.

    videos to do -> analyse (actors with a detector, a core each) -> describe (actors with the model, a GPU or a core) -> driver

An analyser for which no video is left helps others with long ones (`pipeline.sharing`). Ray Data has no word for that: a stage
takes its rows as they come, and who goes through a video needs its frames in order. So helping is a row of the list, too, behind all
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
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import Any

import pyarrow as pa

from pipeline.analyse import Chunk, analyse
from pipeline.board import Board, Gone
from pipeline.errors import FocalfaceError, ModelError
from pipeline.imports import unswept
from pipeline.results import Result, questions, told
from pipeline.settings import EngineGroup, Settings
from pipeline.sharing import Crew, Part
from pipeline.storage import find, is_url
from pipeline.tables import fingerprint, shown

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part writes to stderr, whatever `logging_level` says
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its notice
import ray  # reads the variables above when it is imported
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANALYSER_MEMORY = 1 << 30
"""Bytes that Ray sets aside for one analyser, which holds decoded frames; more keeps large ones from crowding a machine."""

DESCRIBER_MEMORY = 2 << 30
"""The same for one describer: nano and torch take about half of it; models of billions of parameters are the GPU's."""

CORES_PER_DESCRIBER = 5
"""On machines without a GPU, one core in so many describes and the others analyse. With nano one core describes about as fast
(44 regions a second) as four find regions in clips of one face; more leaves it behind where many faces are seen at once."""

LISTED_AT_ONCE = 2000
"""Blocks in which the list of videos is handed to Ray; more balances better at the end and takes longer to start."""

WORTH_HELP = 32 * 2**20
"""Bytes of a video for each of which another analyser may be worth its start where there are fewer videos than cores; less starts
more of them, to no use where videos are large and short."""

_HELP = b""
"""What stands for a path in a row that asks to help others."""


class _Analyse:
    """The first pool's actor: one detector and one process that decodes, one video at a time."""

    def __init__(self, settings: Settings, board: Any = None) -> None:
        self.settings = settings
        self.fault = ""
        self.crew: Crew | None = None
        try:
            from pipeline.detect import load_detector
            from pipeline.watchdog import Decoder

            self.decoder = Decoder(settings.video.timeout_s, settings.video.memory_mb)
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
            with unswept():
                from pipeline.describe import load_describer

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
def engine(settings: EngineGroup) -> Iterator[None]:
    """A Ray to work on: the one at `settings.address`, or one started here and stopped at the end.

    Raises:
        FocalfaceError: when no Ray answers at the address, or none starts here.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _hushed(), _uninterrupted():  # Ray says there that it heeds RAY_BACKEND_LOG_LEVEL
            if settings.address:
                ray.init(settings.address, **quiet)
            else:  # two pools of one core each must fit, whatever the machine has, and what was asked for
                cores = max(os.cpu_count() or 2, (settings.analysers or 1) + (settings.describers or 1))
                shown_at = settings.dashboard_host
                quiet |= {"include_dashboard": shown_at is not None, "dashboard_host": shown_at or "127.0.0.1"}
                ray.init("local", num_cpus=cores, **quiet)
    except Exception as error:  # what Ray raises here shares no base
        if settings.address:
            raise FocalfaceError(f"no Ray answers at {settings.address}: start one, or leave engine.address out") from error
        raise FocalfaceError(f"Ray does not start here: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Pools:
    """How many actors each stage gets, whether describers take a GPU each, and whether memory is set aside for them."""

    analysers: int
    describers: int
    on_gpu: bool
    reserve: bool


def pools(settings: Settings, has: Mapping[str, float], work: int) -> Pools:
    """Share a machine or a cluster out between the two stages, so that both always have a place.

    Args:
        settings: of the run; what they say of the engine goes first.
        has: Ray's resources: `CPU`, `GPU`, `memory` in bytes, and custom ones.
        work: for how many analysers there is something to do.
    """
    cores, gpus, engine = int(has.get("CPU", 1)), int(has.get("GPU", 0)), settings.engine
    on_gpu = settings.describe.device.startswith("cuda") or (gpus > 0 and settings.describe.device == "auto")
    if engine.analyser_resource:
        cores = int(has.get(engine.analyser_resource, 0))
    if engine.describer_resource:
        gpus = int(has.get(engine.describer_resource, 0))
    describers = engine.describers or max(1, gpus if on_gpu or engine.describer_resource else cores // CORES_PER_DESCRIBER)
    room = int(has.get("memory", 0) - describers * DESCRIBER_MEMORY) // ANALYSER_MEMORY
    apart = on_gpu or engine.analyser_resource or engine.describer_resource
    fitting = max(1, min(cores - (0 if apart else describers), room))
    analysers = min(engine.analysers or fitting, work)
    # A machine with less memory than the two stages ask for gets to try all the same; reserved, they would wait for ever.
    return Pools(analysers, describers, on_gpu, reserve=analysers <= room)


def _work(paths: Sequence[str], settings: Settings, cores: int) -> int:
    """For how many analysers there is something to do: one a video, and more where fewer videos than cores may be long."""
    if not _shares(settings) or len(paths) >= cores:
        return len(paths)
    if settings.engine.analysers:
        return settings.engine.analysers
    marks = [find(path, lambda _: False).get(path, "0") if is_url(path) else fingerprint(path) for path in paths]
    return sum(max(1, int(mark.partition("-")[0]) // WORTH_HELP) for mark in marks)


def _shares(settings: Settings) -> bool:
    """Whether analysers share long videos."""
    return settings.video.segment_s > 0 and settings.detect.every == 1


def _one_of(resource: str | None) -> dict[str, float]:
    return {resource: 1.0} if resource else {}


def results(paths: Sequence[str], settings: Settings) -> Iterator[Result]:
    """Analyse and describe videos, on the Ray that is running.

    Args:
        paths: of the videos, as the workers can open them.
        settings: of the run.

    Yields:
        Results as they come; those of one video may come out of order, and among those of others.

    Raises:
        ModelError: when the detector or the model cannot be loaded.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # every chunk is a block of its own, handed on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    resources = ray.cluster_resources()
    shares = pools(settings, resources, _work(paths, settings, int(resources.get("CPU", 1))))
    board: Any = None
    step = max(1, ceil(len(paths) / LISTED_AT_ONCE))
    listed = [[os.fsencode(path) for path in paths[start : start + step]] for start in range(0, len(paths), step)]
    if shares.analysers > 1 and _shares(settings):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote(len(paths), shares.analysers)
        listed += [[_HELP]] * (shares.analysers - 1)
    videos = ray.data.from_arrow([pa.table({"path": pa.array(part, pa.binary())}) for part in listed])
    chunks = videos.flat_map(
        _Analyse,
        fn_constructor_kwargs={"settings": settings, "board": board},
        # A long video must not hold up others that were promised to the same actor.
        compute=ActorPoolStrategy(size=shares.analysers, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        memory=ANALYSER_MEMORY if shares.reserve else None,
        resources=_one_of(settings.engine.analyser_resource),
    )
    described = chunks.map(
        _Describe,  # type: ignore[arg-type]  # Ray's hints know classes of functions for flat_map alone
        fn_constructor_kwargs={"settings": settings, "threads": 1},
        compute=ActorPoolStrategy(size=shares.describers),
        num_cpus=0 if shares.on_gpu else 1,
        num_gpus=1 if shares.on_gpu else 0,
        memory=DESCRIBER_MEMORY if shares.reserve else None,
        resources=_one_of(settings.engine.describer_resource),
    )
    for row in described.iter_rows():
        if row["fault"]:
            raise ModelError(row["fault"])
        yield pickle.loads(row["result"])
