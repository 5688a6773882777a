"""Child processes that each run a module of this package, wherever it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def own_environment() -> dict[str, str]:
    """An environment in which a child process finds this package from any working directory."""
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def start_module(module: str, *words: str, variables: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module`. Its standard input is a pipe that closes when this process ends.

    Args:
        module: of this package.
        words: arguments of the module.
        variables: environment variables besides this process's own.
        options: of `subprocess.Popen`.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=own_environment() | (variables or {}),
        **options,
    )


def describe_exit(name: str, code: int | None) -> str:
    """How a process ended, in one line.

    Args:
        name: of the process in the line.
        code: its exit code; negative for a signal, None where it is not known.

    >>> describe_exit("the decoder", -11)
    'the decoder crashed (SIGSEGV)'
    """
    if code is None or code >= 0:
        return f"{name} ended by itself (code {code})"
    signal_name = signal.Signals(-code).name
    if signal_name == "SIGKILL":
        return f"{name} was killed ({signal_name}), most likely for want of memory"
    return f"{name} crashed ({signal_name})"
