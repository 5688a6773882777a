"""Where this project's own time goes: start-up, stages, and the rate of decoding alone.

Nothing heavy is imported at the top, because the time of imports is part of what is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.describe.heavy_imports import without_gc
from pipeline.settings import Settings
from pipeline.speed.timed_process import TimedProcess

DESCRIBING = ("describe", "read")
"""Stages of the describing process."""

DECODE_ROUNDS = 5
"""Times that each process decodes the clip; more give a steadier rate."""


def start_up(video: Path, settings: Settings, on_ray: bool) -> dict[str, float]:
    """Seconds of each step before the first result of a video, each step in a new process.

    Args:
        video, settings: of a run.
        on_ray: whether to measure a start on Ray, too.

    Returns:
        `command_line`: Python and the command line's imports. `imports`: further imports of a run. `first_row`: from there to the first
        result, which includes loading the describer and analysing the beginning of the video. `describer`: importing and opening the
        model, which a describing process does in that time. With `on_ray` also `ray`, importing and starting Ray, and
        `first_row_on_ray`.
    """
    found: dict[str, float] = {}
    for job, arguments in (
        ("command_line", ()),
        ("first_row", (str(video), settings, "two_processes")),
        *((("first_row", (str(video), settings, "ray")),) if on_ray else ()),
        ("open_model", (settings.describe.model,)),
    ):
        with TimedProcess(f"breakdown.{job}", *arguments) as process:
            found |= process.wait_ready().run().result
    return found


def command_line() -> Callable[[], dict[str, float]]:
    """A job: start Python and import the command line."""

    def job() -> dict[str, float]:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import pipeline.cli"], check=True)
        return {"command_line": time.perf_counter() - began}

    return job


def first_row(video: str, settings: Settings, executor: str) -> Callable[[], dict[str, float]]:
    """A job: what `focalface run` does between its command line and the first result. One pass per process, as imports happen once.

    Args:
        executor: `two_processes` or `ray`.
    """

    def job() -> dict[str, float]:
        times = [time.perf_counter()]
        with without_gc():
            import pipeline.execution.run  # noqa: F401
            from pipeline.execution.executors import open_executor

        times.append(time.perf_counter())
        with open_executor(executor, settings) as started:
            if executor == "ray":
                times.append(time.perf_counter())
            for number, _ in enumerate(started.results([video])):
                if number == 0:
                    times.append(time.perf_counter())
        return _steps(("imports", "ray", "first_row_on_ray") if executor == "ray" else ("imports", "first_row"), times)

    return job


def open_model(model: str) -> Callable[[], dict[str, float]]:
    """A job: what a describing process does before it can describe. One pass per process, as imports happen once."""

    def job() -> dict[str, float]:
        began = time.perf_counter()
        with without_gc():
            from pipeline.describe.backends import load_describer

            load_describer(model, device="cpu")
        return {"describer": time.perf_counter() - began}

    return job


def _steps(names: Sequence[str], times: Sequence[float]) -> dict[str, float]:
    return {name: later - earlier for name, (earlier, later) in zip(names, pairwise(times), strict=True)}


def stages(run: Path) -> dict[str, Any]:
    """Timing of a finished run of one video with two processes.

    Returns:
        `seconds` in all, `stage_seconds`, and `waits`: the share of the time in which the analysing and the describing process wait,
        start-up included.
    """
    timing = json.loads((run / "run.json").read_text())["timing"]
    whole, by_stage = timing["seconds"], timing["stage_seconds"]
    describing = sum(by_stage.get(stage, 0.0) for stage in DESCRIBING)
    analysing = sum(by_stage.values()) - describing - by_stage.get("write", 0.0)
    waits = {"analyse": 1 - analysing / whole, "describe": 1 - describing / whole}
    return {"seconds": whole, "stage_seconds": by_stage, "waits": waits}


def decode_rates(video: Path, processes: Sequence[int] = (1, 2)) -> dict[int, float]:
    """Frames per second that a number of processes decode side by side, each decoding the whole video.

    Args:
        processes: the numbers of processes to measure.
    """
    rates = {}
    for count in processes:
        with ExitStack() as stack:
            decoders = [stack.enter_context(TimedProcess("focalface_jobs.decode", str(video), DECODE_ROUNDS)) for _ in range(count)]
            for decoder in decoders:
                decoder.wait_ready()
            began = time.perf_counter()
            for decoder in decoders:
                decoder.start()
            frames = sum(decoder.finish().result for decoder in decoders)
            rates[count] = frames / (time.perf_counter() - began)
    return rates
