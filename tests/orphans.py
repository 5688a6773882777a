"""Processes whose parent is killed."""

from __future__ import annotations

import subprocess
import sys

import psutil


def orphan(module: str, starts: str) -> psutil.Process:
    """The process that another one started, which has been killed since.

    Args:
        module: where names come from.
        starts: an expression that starts it; its value has the `pid`.
    """
    code = f"import time; from {module} import *; print(({starts}).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    return child
