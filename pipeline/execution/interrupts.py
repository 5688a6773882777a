"""Ctrl-C and SIGTERM that are noted at once and obeyed later."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noted_interrupts(most: float = math.inf) -> Iterator[list[int]]:
    """Note the signals to stop that come inside the block, instead of raising KeyboardInterrupt. Outside the main thread nothing is noted.

    >>> with noted_interrupts() as received:
    ...     signal.raise_signal(signal.SIGINT)
    >>> received == [signal.SIGINT]
    True

    Args:
        most: signals that are noted; the next one raises KeyboardInterrupt.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) > most:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
