"""Importing torch, transformers and their like in less time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unswept() -> Iterator[None]:
    """Import, or load, without looking for garbage: what is made then stays, and Python would go through all of it again and again,
    for a fifth of the time that a describer takes to start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
