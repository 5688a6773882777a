"""Where the work is done: on Ray, or, when there is so little of it that Ray's start would be most of the run, right here.

Both go through the same stages in the same steps, so that the tables are the same.

    videos to do -> analyse (this process) -> describe (a process beside it) -> driver
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from pipeline.execution.analysis import Chunk, analyse
from pipeline.execution.describer_process import Aside
from pipeline.execution.results import Result, questions, told
from pipeline.faces.detectors import load_detector
from pipeline.records import Answer
from pipeline.settings import Settings
from pipeline.video.decoder_process import Decoder

Results = Callable[[Sequence[str]], Iterator[Result]]
"""Analyses and describes videos, given their paths as the workers can open them. Results come as they are ready: those of one
video perhaps out of order, and among those of others. Raises `ModelError` when the detector or the model cannot be loaded."""

WORTH_RAY = 8 * 2**20
"""Bytes of video from which work is worth Ray's start, of some 10 s. One core takes about twice as long for so many bytes of small
pictures, and less for large ones; more has larger runs done by one core."""

LEAST = WORTH_RAY // 16
"""Bytes that a video counts for at least: opening it takes time, too."""

MOST_THREADS = 4
"""Threads of a process at most; the pictures are small, and more would wait for each other."""

WAITING = 3
"""Chunks that may wait to be described; more evens out slow ones and takes more memory."""


def is_little(settings: Settings, sizes: Sequence[int]) -> bool:
    """Whether a run does without Ray.

    Args:
        settings: of the run; a setting that only a Ray can heed decides for Ray.
        sizes: of the videos to do, in bytes.
    """
    execution = settings.execution
    if execution.executor != "auto":
        return execution.executor != "ray"
    return not execution.ray_only and sum(max(size, LEAST) for size in sizes) < WORTH_RAY


@contextmanager
def working(settings: Settings, little: bool) -> Iterator[Results]:
    """What does the work of a run, ready to take it; at the end nothing of it is left.

    Args:
        settings: of the run.
        little: see `is_little`.

    Raises:
        FocalfaceError: when no Ray answers at the settings' address, or none starts here.
    """
    if little:
        options = settings.describe.model_dump() | {"threads": _threads()}
        with Aside(**options) as describer:
            yield partial(_results, settings, describer)
    else:
        from pipeline.execution.executors.ray import engine, results

        with engine(settings.execution):
            yield partial(results, settings=settings)


def _threads() -> int:
    """Of each of the two processes: half of the cores."""
    return min(MOST_THREADS, max(1, (os.cpu_count() or 1) // 2))


def _results(settings: Settings, describer: Aside, paths: Sequence[str]) -> Iterator[Result]:
    with Decoder(settings.video.timeout_s, settings.video.memory_mb, settings.video.hardware) as decoder:
        detector = load_detector(
            settings.detect.detector, min_face=settings.detect.min_face, threads=_threads(), device=settings.detect.device
        )
        asked: deque[tuple[Chunk, Future[tuple[list[Answer], float, str]]]] = deque()

        def first() -> Result:
            chunk, coming = asked.popleft()
            answers, seconds, name = coming.result()
            return told(chunk, answers, detector.name, name, seconds)

        for path in paths:
            for chunk in analyse(path, settings, detector, decoder.open):
                asked.append((chunk, describer.ask(questions(chunk))))
                while asked and (len(asked) > WAITING or asked[0][1].done()):
                    yield first()
        while asked:
            yield first()
