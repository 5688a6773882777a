"""Faster imports of torch, transformers and similar libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Disable garbage collection during heavy imports and model loading.

    Imports create many objects that stay alive; collecting among them again and again takes a fifth of a describer's start-up.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
