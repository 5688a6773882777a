"""A describer in a process of its own, beside the one that analyses: where one describer is enough, and no Ray is worth its start.

The two talk over pipes, in pickled messages of theirs alone: how to open the model; then, question by question, a batch of requests
and its answers. While the model answers, and while it is still being loaded, whoever asked does other things.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from subprocess import PIPE
from types import TracebackType
from typing import Any

from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import FocalfaceError, ModelError
from pipeline.records import Answer, Request
from pipeline.video.child_process import begin, death

TRIES = 2
"""Times that a batch is given to a describer that comes down with it; more rides out more bad luck of the machine's."""


class Aside:
    """A describer in a process of its own; a context manager.

    >>> with Aside(model="nano") as describer:  # doctest: +SKIP
    ...     answers, seconds, name = describer.ask(requests).result()
    """

    def __init__(self, **options: Any) -> None:
        """Begin the process; this does not wait until it is ready.

        Args:
            options: of `pipeline.describe.backends.load_describer`, as plain data.
        """
        self._options = options
        self._closed = False
        self._start()
        self._line = ThreadPoolExecutor(1)  # in which the process is spoken to, one batch at a time

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        self._process.kill()
        self._line.shutdown(cancel_futures=True)
        self._end()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, requests: Sequence[Request]) -> Future[tuple[list[Answer], float, str]]:
        """Have requests answered, after those that were asked before.

        Returns:
            The answers, the seconds that they took, and the describer's name, when they are there. Or a `ModelError`: the model
            cannot be loaded, fails, or its process came down; in one line how.
        """
        return self._line.submit(self._asked, list(requests))

    def _asked(self, requests: list[Request]) -> tuple[list[Answer], float, str]:
        for left in reversed(range(TRIES)):
            try:
                self._say(requests)
                fault, *reply = pickle.load(self._process.stdout)
                if fault:
                    raise ModelError(fault)
                return reply[0], reply[1], reply[2]
            except (EOFError, OSError, pickle.UnpicklingError):
                code = self._end()
                if self._closed or not left:
                    break
                self._start()
        raise ModelError(death("the describer", code))

    def _start(self) -> None:
        # In a session of its own, an interrupt from the keyboard is for whoever asked, who then ends it.
        self._process: Any = begin("pipeline.execution.describer_process", stdout=PIPE, start_new_session=True)
        with suppress(OSError):  # it died just now: whoever asks will hear
            self._say(self._options)

    def _say(self, message: object) -> None:
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def _end(self) -> int:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()
        code: int = self._process.wait()
        return code


def main() -> None:
    """The other side: answers until the pipe ends."""
    heard, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    options, fault = pickle.load(heard), ""
    try:
        with without_gc():
            from pipeline.describe.backends import load_describer

            describer = load_describer(**options)
    except Exception as error:
        fault = _line(error)
    with suppress(EOFError, BrokenPipeError):
        while True:
            requests = pickle.load(heard)
            began = time.perf_counter()
            try:
                reply = (fault,) if fault else ("", describer.describe(requests), time.perf_counter() - began, describer.name)
            except Exception as error:  # as when a GPU's memory is used up
                reply = (_line(error),)
            pickle.dump(reply, said)
            said.flush()


def _line(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, FocalfaceError):
        return str(error)
    return f"the describer failed: {type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    main()
