"""A describer in a process of its own: the process that analyses goes on while the model is loaded and while it answers.

The two processes exchange pickled messages over pipes. The first message holds the options of the model; each further one is a
`Chunk`, and its reply the `Result`.
"""

from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from subprocess import PIPE
from types import TracebackType
from typing import Any, Self

from pipeline.describe.heavy_imports import without_gc
from pipeline.errors import FocalfaceError, ModelError, one_line
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.description import describe_chunk
from pipeline.video.child_process import describe_exit, start_module

TRIES = 2
"""Times that a chunk is given to a describer whose process ends on it; more survives more bad luck of the machine."""


class DescriberProcess:
    """A describer in a process of its own; a context manager.

    >>> with DescriberProcess(model="nano") as describer:  # doctest: +SKIP
    ...     descriptions = describer.submit(chunk).result().descriptions
    """

    def __init__(self, **options: Any) -> None:
        """Start the process; this does not wait until the model is loaded.

        Args:
            options: arguments of `pipeline.describe.backends.load_describer`, as plain data.
        """
        self._options = options
        self._closed = False
        self._start()
        self._queue = ThreadPoolExecutor(1)  # one chunk at a time goes through the pipes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        self._process.kill()
        self._queue.shutdown(cancel_futures=True)
        self._end()

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    def submit(self, chunk: Chunk) -> Future[Result]:
        """Queue a chunk.

        Returns:
            The result, once it is there; or a `ModelError` where the model cannot be loaded, fails, or its process ends.
        """
        return self._queue.submit(self._describe, chunk)

    def _describe(self, chunk: Chunk) -> Result:
        for tries_left in reversed(range(TRIES)):
            try:
                self._send(chunk)
                reply = pickle.load(self._process.stdout)
                if isinstance(reply, str):
                    raise ModelError(reply)
                assert isinstance(reply, Result)
                return reply
            except (EOFError, OSError, pickle.UnpicklingError):
                code = self._end()
                if self._closed or not tries_left:
                    break
                self._start()
        raise ModelError(describe_exit("the describer", code))

    def _start(self) -> None:
        # A session of its own keeps Ctrl-C from the describer; the process that analyses gets it, and ends the describer.
        self._process: Any = start_module("pipeline.execution.describer_process", stdout=PIPE, start_new_session=True)
        with suppress(OSError):  # a process that has just died is noticed by `_describe`
            self._send(self._options)

    def _send(self, message: object) -> None:
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
    """The describing process: load the model, then answer until the pipe ends. A reply is a `Result`, or one line of error."""
    messages, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the replies
    options, fault = pickle.load(messages), ""
    try:
        with without_gc():
            from pipeline.describe.backends import load_describer

            describer = load_describer(**options)
    except Exception as error:
        fault = _fault(error)
    with suppress(EOFError, BrokenPipeError):
        while True:
            chunk = pickle.load(messages)
            try:
                reply: Result | str = fault or describe_chunk(chunk, describer)
            except Exception as error:  # for example when the memory of a GPU is used up
                reply = _fault(error)
            pickle.dump(reply, replies)
            replies.flush()


def _fault(error: Exception) -> str:
    """What is wrong, in one line."""
    return str(error) if isinstance(error, FocalfaceError) else f"the describer failed: {type(error).__name__}: {one_line(error)}"


if __name__ == "__main__":
    main()
