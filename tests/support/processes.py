"""Processes that tests start, watch and kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psutil

ANALYSING, DESCRIBING = "(_Analyse)).submit", "(_Describe)).submit"  # in the titles of Ray workers that are busy


def orphan(module: str, starts: str) -> psutil.Process:
    """A process whose parent has been killed.

    Args:
        module: module whose names the expression uses.
        starts: expression that starts the process; its value has the `pid`.
    """
    code = f"import time; from {module} import *; print(({starts}).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    return child


def workers(stage: str) -> list[psutil.Process]:
    """Processes of Ray below this one that are busy with a stage (`ANALYSING`, `DESCRIBING`)."""
    return [process for process in psutil.Process().children(recursive=True) if stage in title(process)]


def title(process: psutil.Process) -> str:
    try:
        return "".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def wait(job: subprocess.Popen[Any], seen: Callable[[], object]) -> None:
    """Wait until `seen` is true, while the job runs."""
    while job.poll() is None and not seen():
        time.sleep(0.05)
    assert job.poll() is None, "it ended too early"


def wait_until(seen: Callable[[], object], at_most_s: float = 300) -> None:
    """Wait until `seen` is true."""
    ends = time.monotonic() + at_most_s
    while not seen():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.2)


def seconds_at_work(words: list[str]) -> float:
    """Run a command to its end; returns the seconds since the first video was begun."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        wait(job, partial(workers, ANALYSING))
        began = time.monotonic()
        _, said = job.communicate()
    assert job.returncode == 0, said
    return time.monotonic() - began


def kill_at_work(job: subprocess.Popen[Any], seconds: float) -> None:
    """Kill a run some seconds after its first video was begun."""
    wait(job, partial(workers, ANALYSING))
    with suppress(subprocess.TimeoutExpired):
        job.wait(seconds)
    job.kill()
