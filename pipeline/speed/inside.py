"""Where our own time goes: before the first row, by stage, and what decoding alone can do.

Nothing heavy is imported at the top: how long that takes is part of what is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.describe.heavy_imports import without_gc
from pipeline.settings import Settings
from pipeline.speed.sides import Side

DECODE_ROUNDS = 5
"""Times that each process decodes the clip; more steadies the rate."""


def start_up(video: Path, settings: Settings, on_ray: bool) -> dict[str, float]:
    """Seconds of each step before the first result of a video, each in a fresh process.

    Args:
        video, settings: of a run.
        on_ray: whether to start a Ray, too.

    Returns:
        `command_line`: Python and the command line's imports; `imports`: those of a run beside them; `first_row`: from there to the first
        result, which is the describer's start and the first stretch of the video. Of what a describing process does in that time,
        `describer_imports` and `describer_weights`. The same on Ray: `ray`, its imports and start, and `first_row_on_ray`.
    """
    found: dict[str, float] = {}
    for job, arguments in (
        ("command_line", ()),
        ("first_row", (str(video), settings, True)),
        *((("first_row", (str(video), settings, False)),) if on_ray else ()),
        ("describer", (settings.describe.model,)),
    ):
        with Side(f"inside.{job}", *arguments) as side:
            found |= side.ready().run().answers
    return found


def command_line() -> Callable[[], dict[str, float]]:
    """A job: start Python and import the command line."""

    def job() -> dict[str, float]:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import pipeline.cli"], check=True)
        return {"command_line": time.perf_counter() - began}

    return job


def first_row(video: str, settings: Settings, little: bool) -> Callable[[], dict[str, float]]:
    """A job, once a process: what `focalface run` does between its command line and the first result, without Ray or with it."""

    def job() -> dict[str, float]:
        marks = [time.perf_counter()]
        with without_gc():
            import pipeline.execution.run  # noqa: F401
            from pipeline.execution.executors import open_executor

        marks.append(time.perf_counter())
        with open_executor("two_processes" if little else "ray", settings) as executor:
            if not little:
                marks.append(time.perf_counter())
            for _ in executor.results([video]):
                marks.append(time.perf_counter())
        return _steps(("imports", "first_row") if little else ("imports", "ray", "first_row_on_ray"), marks)

    return job


def describer(model: str) -> Callable[[], dict[str, float]]:
    """A job, once a process: what a describing worker does before it can describe."""

    def job() -> dict[str, float]:
        marks = [time.perf_counter()]
        with without_gc():
            from pipeline.describe.backends import load_describer

            marks.append(time.perf_counter())
            load_describer(model, device="cpu")
        marks.append(time.perf_counter())
        return _steps(("describer_imports", "describer_weights"), marks)

    return job


def _steps(names: Sequence[str], marks: Sequence[float]) -> dict[str, float]:
    return {name: later - earlier for name, earlier, later in zip(names, marks, marks[1:], strict=False)}


def stages(run: Path) -> dict[str, Any]:
    """Of a run of one video: seconds of its whole and by stage, and the share of the time in which each of the two workers waits
    (start-up included), one that analyses and one that describes."""
    timing = json.loads((run / "run.json").read_text())["timing"]
    whole, spent = timing["seconds"], timing["stage_seconds"]
    analysing = sum(seconds for stage, seconds in spent.items() if stage not in ("describe", "write"))
    waits = {"analyse": 1 - analysing / whole, "describe": 1 - spent.get("describe", 0.0) / whole}
    return {"seconds": whole, "stage_seconds": spent, "waits": waits}


def decode_rates(video: Path, processes: Sequence[int] = (1, 2)) -> dict[int, float]:
    """Frames a second that so many processes decode side by side, each the whole video."""
    rates = {}
    for count in processes:
        with ExitStack() as stack:
            sides = [stack.enter_context(Side("ours.decode", str(video), DECODE_ROUNDS)) for _ in range(count)]
            for side in sides:
                side.ready()
            began = time.perf_counter()
            for side in sides:
                side.start()
            frames = sum(side.finish().answers for side in sides)
            rates[count] = frames / (time.perf_counter() - began)
    return rates
