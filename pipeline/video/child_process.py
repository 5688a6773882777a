"""Processes that this one starts: each runs a module of this package, wherever that lies, and says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def own_environment() -> dict[str, str]:
    """The environment in which another process finds this package, wherever it was started."""
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def begin(module: str, *words: str, variables: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module`; its standard input is a pipe that ends when this process does.

    Args:
        module: of this package; `words` are its arguments.
        variables: of its environment, besides this process's own.
        options: of `subprocess.Popen`.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=own_environment() | (variables or {}),
        **options,
    )


def death(who: str, code: int | None) -> str:
    """How a process ended, in a line.

    >>> death("the decoder", -11)
    'the decoder crashed (SIGSEGV)'
    """
    if code is None or code >= 0:
        return f"{who} ended by itself (code {code})"
    name = signal.Signals(-code).name
    return f"{who} was killed ({name}), most likely for want of memory" if name == "SIGKILL" else f"{who} crashed ({name})"
