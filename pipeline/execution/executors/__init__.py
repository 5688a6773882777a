"""Who does the work of a run: this process, two processes, or Ray. All of them call the same stages, so the tables are the same.

    videos to do -> analyse -> describe -> results

In: paths of videos. Out: `pipeline.execution.analysis.Result`, as they are ready. To add an executor, write a class with what `Executor`
asks for in a module of its own here, and give it a word in `open_executor`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.execution.chunks import Result
    from pipeline.faces.detectors import Detector

RAY_WORTH_BYTES = 8 * 2**20
"""Bytes of video from which `auto` takes Ray: its start-up of some 10 s is then shorter than the work. Larger leaves larger runs to
one core."""

VIDEO_LEAST_BYTES = RAY_WORTH_BYTES // 16
"""Bytes that each video counts for at least, as opening one takes time too."""

MOST_THREADS = 4
"""Threads of a process at most; the images are small, and more threads would wait for each other."""


class Executor(Protocol):
    """Runs the stages over videos. A context manager: it starts its workers on entry and ends them on exit.

    >>> from pipeline.settings import load_settings
    >>> with open_executor("in_process", load_settings()) as executor:  # doctest: +SKIP
    ...     descriptions = [result.descriptions for result in executor.results(["clip.mp4"])]
    """

    name: ClassVar[str]
    """`in_process`, `two_processes` or `ray`."""

    def __enter__(self) -> Self:
        """Start the workers.

        Raises:
            FocalfaceError: when they cannot be started; one line that says why.
        """

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the workers, whatever they do."""

    def results(self, paths: Sequence[str]) -> Iterator[Result]:
        """Analyse and describe videos.

        Args:
            paths: paths or URLs of the videos, as the workers can open them.

        Yields:
            Results as they are ready. Those of one video may come out of order, and among those of other videos.

        Raises:
            ModelError: when the detector or the model cannot be loaded.
        """


def choose_executor(settings: Settings, sizes: Sequence[int]) -> str:
    """Name of the executor for a run.

    Args:
        settings: settings of the run; a value that only Ray can honour decides for Ray.
        sizes: size of each video to do, in bytes.

    Returns:
        `in_process`, `two_processes` or `ray`.

    >>> choose_executor(Settings(), [1000])
    'two_processes'
    """
    execution = settings.execution
    if execution.executor != "auto":
        return execution.executor
    if execution.ray_only or sum(max(size, VIDEO_LEAST_BYTES) for size in sizes) >= RAY_WORTH_BYTES:
        return "ray"
    return "two_processes"


def open_executor(name: str, settings: Settings, detector: Detector | None = None) -> Executor:
    """An executor that has not been started yet.

    Args:
        name: `in_process`, `two_processes` or `ray`.
        settings: settings of the run.
        detector: a detector that is loaded already, for executors that analyse in this process.
    """
    if name == "in_process":
        from pipeline.execution.executors.in_process import InProcessExecutor

        return InProcessExecutor(settings, detector=detector)
    if name == "two_processes":
        from pipeline.execution.executors.two_processes import TwoProcessExecutor

        return TwoProcessExecutor(settings, detector=detector)
    from pipeline.execution.executors.ray import RayExecutor

    return RayExecutor(settings)


def threads_for(processes: int) -> int:
    """Number of threads for each of several processes that share this machine."""
    return min(MOST_THREADS, max(1, (os.cpu_count() or 1) // processes))


def load_run_detector(settings: Settings, threads: int = 1) -> Detector:
    """The detector that the settings ask for.

    Raises:
        ModelError: when it cannot be loaded.
    """
    from pipeline.faces.detectors import load_detector

    detect = settings.detect
    return load_detector(detect.detector, min_face=detect.min_face, threads=threads, device=detect.device)
