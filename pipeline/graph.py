"""The one place where Ray is: analyse and describe as a Ray Data graph, on this machine or on a cluster.

    videos to do -> analyse (actors with a detector, a core each) -> describe (actors with the model, a GPU or a core) -> driver

Stages are plain Python; Ray is handed them here. A row is one pickled `Chunk` between the stages and one pickled `Result` to the
driver: each is small, so that a video streams through while it is still being decoded, and only a few wait in between.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.analyse import Chunk, analyse, description_rows
from pipeline.errors import FocalfaceError, ModelError
from pipeline.records import Request
from pipeline.settings import EngineGroup, Settings
from pipeline.tables import shown

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part writes to stderr, whatever `logging_level` says
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its notice
import ray  # reads the variables above when it is imported
from ray.data import ActorPoolStrategy, DataContext

ANALYSER_MEMORY = 1 << 30
"""Bytes that Ray sets aside for one analyser, which holds decoded frames; more keeps large ones from crowding a machine."""

DESCRIBER_MEMORY = 2 << 30
"""The same for one describer: nano and torch take about half of it; models of billions of parameters are the GPU's."""

CORES_PER_DESCRIBER = 5
"""On machines without a GPU, one core in so many describes and the others analyse. With nano one core describes about as fast
(44 regions a second) as four find regions in clips of one face; more leaves it behind where many faces are seen at once."""

LISTED_AT_ONCE = 2000
"""Blocks in which the list of videos is handed to Ray; more balances better at the end and takes longer to start."""


@dataclass(frozen=True)
class Result:
    """A chunk with its words: what the driver writes.

    Attributes:
        video_id, index, frames, share, faces, video: of the `Chunk`.
        descriptions: rows of the descriptions table.
        elapsed_s: seconds of work on it, both stages together.
        stages: the same by stage (`pipeline.metrics.STAGES`).
        detector, model: their names.
    """

    video_id: str
    index: int
    frames: int
    share: float
    faces: pa.Table
    descriptions: pa.Table
    elapsed_s: float
    stages: dict[str, float]
    detector: str
    model: str
    video: dict[str, Any] | None


class _Analyse:
    """The first pool's actor: one detector and one process that decodes, one video at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fault = ""
        try:
            from pipeline.detect import load_detector
            from pipeline.watchdog import Decoder

            self.decoder = Decoder(settings.video.timeout_s, settings.video.memory_mb)
            self.detector = load_detector(settings.detect.detector, min_face=settings.detect.min_face, threads=1)
        except FocalfaceError as error:  # said once, by the driver, instead of as a dead actor
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.fault:
            yield {"chunk": b"", "detector": "", "fault": self.fault}
            return
        path = os.fsdecode(row["path"])
        print(f"focalface: {shown(path)}", file=sys.stderr, flush=True)  # in this worker's log: what it was at when it died
        for chunk in analyse(path, self.settings, self.detector, self.decoder.open):
            yield {"chunk": pickle.dumps(chunk), "detector": self.detector.name, "fault": ""}


class _Describe:
    """The second pool's actor: one model, one chunk at a time."""

    def __init__(self, settings: Settings, threads: int) -> None:
        self.fault = ""
        try:
            from pipeline.describe import load_describer

            options = settings.describe
            self.describer = load_describer(
                options.model, adapter=options.adapter, device=options.device, batch_size=options.batch_size, threads=threads
            )
        except FocalfaceError as error:
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        fault = row["fault"] or self.fault
        if fault:
            return {"result": b"", "fault": fault}
        began = time.perf_counter()
        chunk: Chunk = pickle.loads(row["chunk"])
        asked = [Request(s.face.crop, s.crop_box, s.region) for s in chunk.selections]
        answers = self.describer.describe(asked) if asked else []
        descriptions = description_rows(chunk.video_id, chunk.selections, answers, self.describer.name)
        spent = time.perf_counter() - began
        result = Result(
            video_id=chunk.video_id,
            index=chunk.index,
            frames=chunk.frames,
            share=chunk.share,
            faces=chunk.faces,
            descriptions=descriptions,
            elapsed_s=chunk.elapsed_s + spent,
            stages=chunk.stages | {"describe": spent},
            detector=row["detector"],
            model=self.describer.name,
            video=chunk.video,
        )
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
def engine(settings: EngineGroup) -> Iterator[None]:
    """A Ray to work on: the one at `settings.address`, or one started here and stopped at the end.

    Raises:
        FocalfaceError: when no Ray answers at the address.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _hushed():  # Ray says there that it heeds RAY_BACKEND_LOG_LEVEL
            if settings.address:
                ray.init(settings.address, **quiet)
            else:  # two pools of one core each must fit, whatever the machine has
                shown_at = settings.dashboard_host
                quiet |= {"include_dashboard": shown_at is not None, "dashboard_host": shown_at or "127.0.0.1"}
                ray.init("local", num_cpus=max(2, os.cpu_count() or 2), **quiet)
    except (ConnectionError, ValueError) as error:
        raise FocalfaceError(f"no Ray answers at {settings.address}: start one, or leave engine.address out") from error
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


def pools(settings: Settings, has: Mapping[str, float], videos: int) -> Pools:
    """Share a machine or a cluster out between the two stages, so that both always have a place.

    Args:
        settings: of the run; what they say of the engine goes first.
        has: Ray's resources: `CPU`, `GPU`, `memory` in bytes, and custom ones.
        videos: to be done; more analysers than these would have nothing to do.
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
    analysers = min(engine.analysers or fitting, videos)
    # A machine with less memory than the two stages ask for gets to try all the same; reserved, they would wait for ever.
    return Pools(analysers, describers, on_gpu, reserve=analysers <= room)


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

    shares = pools(settings, ray.cluster_resources(), len(paths))
    rows = [{"path": os.fsencode(path)} for path in paths]
    videos = ray.data.from_items(rows, override_num_blocks=min(len(rows), LISTED_AT_ONCE))
    chunks = videos.flat_map(
        _Analyse,
        fn_constructor_kwargs={"settings": settings},
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
