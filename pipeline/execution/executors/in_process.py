"""Everything in this process, one step after the other: for scripts, notebooks and tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from pipeline.execution.analysis import analyse_video
from pipeline.execution.chunks import Result
from pipeline.execution.description import describe_chunk
from pipeline.execution.executors import load_run_detector, threads_for
from pipeline.faces.detectors import Detector
from pipeline.settings import Settings
from pipeline.video.opening import open_video
from pipeline.video.source import SeekableSource

if TYPE_CHECKING:
    from pipeline.describe.backends import Describer


class InProcessExecutor:
    """Analyses and describes in the calling process. A video that hangs or crashes its decoder takes this process down with it."""

    name: ClassVar[str] = "in_process"

    def __init__(self, settings: Settings, detector: Detector | None = None, describer: Describer | None = None) -> None:
        """Prepare.

        Args:
            settings: settings of the run.
            detector, describer: ones that are loaded already; by default those that the settings ask for.
        """
        self._settings, self._detector, self._describer = settings, detector, describer

    def __enter__(self) -> Self:
        """See `Executor.__enter__`."""
        from pipeline.describe.backends import load_describer

        threads = threads_for(processes=1)
        self._detector = self._detector or load_run_detector(self._settings, threads)
        self._describer = self._describer or load_describer(**self._settings.describe.load_options(), threads=threads)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `Executor.__exit__`; there is nothing to end."""

    def _open(self, path: str) -> SeekableSource:
        return open_video(path, decoder=self._settings.video.decoder, hardware=self._settings.video.hardware)

    def results(self, paths: Sequence[str]) -> Iterator[Result]:
        """See `Executor.results`."""
        assert self._detector is not None and self._describer is not None, "use the executor as a context manager"
        for path in paths:
            for chunk in analyse_video(path, self._settings, self._detector, self._open):
                yield describe_chunk(chunk, self._describer)
