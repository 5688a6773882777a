"""One process analyses, one beside it describes: for a clip or two, which are done before Ray would have started."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import ClassVar, Self

from pipeline.execution.analysis import analyse_video
from pipeline.execution.chunks import Result
from pipeline.execution.describer_process import DescriberProcess
from pipeline.execution.executors import load_run_detector, threads_for
from pipeline.faces.detectors import Detector
from pipeline.settings import Settings
from pipeline.video.decoder_process import Decoder

CHUNKS_WAITING = 3
"""Chunks that may wait to be described; more evens out slow ones and takes more memory."""


class TwoProcessExecutor:
    """Analyses in this process and describes in another one, both at once. Each video is decoded in a third process, so that a file
    that hangs or crashes the decoder costs that file alone."""

    name: ClassVar[str] = "two_processes"

    def __init__(self, settings: Settings, detector: Detector | None = None) -> None:
        """Prepare.

        Args:
            settings: settings of the run.
            detector: one that is loaded already; by default the one that the settings ask for.
        """
        self._settings, self._detector = settings, detector
        self._processes = ExitStack()

    def __enter__(self) -> Self:
        """See `Executor.__enter__`. The model is loaded while the first frames are analysed."""
        video = self._settings.video
        options = self._settings.describe.load_options() | {"threads": threads_for(processes=2)}
        self._describer = self._processes.enter_context(DescriberProcess(**options))
        self._decoder = self._processes.enter_context(Decoder(video.timeout_s, video.memory_mb, video.hardware, video.decoder))
        self._detector = self._detector or load_run_detector(self._settings, threads_for(processes=2))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `Executor.__exit__`."""
        self._processes.close()

    def results(self, paths: Sequence[str]) -> Iterator[Result]:
        """See `Executor.results`; results come in the order of the videos."""
        assert self._detector is not None, "use the executor as a context manager"
        waiting: deque[Future[Result]] = deque()
        for path in paths:
            for chunk in analyse_video(path, self._settings, self._detector, self._decoder.open):
                waiting.append(self._describer.submit(chunk))
                while waiting and (len(waiting) > CHUNKS_WAITING or waiting[0].done()):
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
