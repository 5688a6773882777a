"""The main job: from videos to a run folder of tables, whichever executor does the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.execution.changes import with_changes
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.description import with_described_frames
from pipeline.execution.executors import Executor, choose_executor, load_run_detector, open_executor, threads_for
from pipeline.execution.metrics import RunMetrics
from pipeline.execution.planning import PlannedVideo, package_versions, planned_in, run_identity
from pipeline.execution.progress import Progress
from pipeline.execution.timing import STAGES, StageTimer
from pipeline.schemas import note_kinds
from pipeline.settings import Choice, SelectGroup, Settings
from pipeline.storage.choosing import chosen_rows, video_counts
from pipeline.storage.inputs import search
from pipeline.storage.remote import absolute
from pipeline.storage.run_folder import RunFolder, empty, printable, size_of


def run(
    inputs: Sequence[str],
    out: Path,
    settings: Settings,
    overwrite: bool = False,
    on_commit: Callable[[], None] = lambda: None,
    executor: Executor | None = None,
) -> RunFolder:
    """Describe the faces of videos, into a run folder. Run the same call again to resume one that was stopped.

    Args:
        inputs: see `pipeline.storage.inputs.search`.
        out: the run folder.
        settings: settings of the run.
        overwrite: start again in a folder that holds a run.
        on_commit: called after each video that is committed (`pipeline.storage.remote.Mirror.push`).
        executor: does the work; by default the one that the settings and the amount of video ask for.

    Raises:
        SettingsError: before any work, when an input or the folder does not fit.
        ModelError: when the detector or the model cannot be loaded.
    """
    marks, identity = search(inputs).marks, run_identity(settings)
    folder = RunFolder(out)
    if not overwrite:
        folder.check(identity)
    videos = planned_in(folder, marks, overwrite)
    todo = [key for key, video in videos.items() if video.state != "done"]
    if executor is None:
        name = choose_executor(settings, [size_of(videos[key].mark) for key in todo])
        # Loading the detector here reports a mistake before anything is written or started; executors of this process then use it.
        threads = threads_for(processes=1 if name == "in_process" else 2)
        detector = load_run_detector(settings, threads) if settings.execution.address is None else None
        executor = open_executor(name, settings, detector)
    folder.begin(identity, overwrite)
    for key in todo:
        folder.discard(key)
    if todo:
        began = datetime.now(UTC).isoformat(timespec="seconds")
        folder.update_info(
            versions=package_versions(),
            settings=identity,
            execution=settings.execution.model_dump() | {"executor": executor.name},
            timing={"started": began},
        )
        with Progress({key: size_of(videos[key].mark) for key in todo}) as progress, executor as started:
            writer = RunWriter(folder, RunMetrics(exported=executor.name == "ray"), progress, on_commit, settings.select)
            writer.write(started.results([absolute(videos[key].path) for key in todo]), videos)
            timing = {
                "started": began,
                "seconds": round(progress.elapsed_s, 3),
                "videos": progress.done,
                "frames_per_s": round(progress.frames / progress.elapsed_s, 2),
                "stage_seconds": {name: round(writer.metrics.seconds[name], 3) for name in STAGES if name in writer.metrics.seconds},
            }
        folder.update_info(**writer.names, counts=counts(folder), timing=timing)
        from pipeline.execution.preview import preview

        preview(folder)
    folder.finish()
    return folder


class RunWriter:
    """Writes results into a run folder: each video once all of its results are there.

    Attributes:
        metrics: counts and times of the results so far.
        names: `detector`, `model` and the model's `thresholds`, as the results name them.
    """

    def __init__(
        self,
        folder: RunFolder,
        metrics: RunMetrics | None = None,
        progress: Progress | None = None,
        on_commit: Callable[[], None] = lambda: None,
        select: SelectGroup = SelectGroup(),  # noqa: B008
    ) -> None:
        """Write into a folder.

        Args:
            folder: begun (`RunFolder.begin`).
            metrics: counts results; by default one that exports nothing.
            progress: shows them.
            on_commit: called after each video that is committed.
            select: settings of the run; `largest` may leave tracks out.
        """
        self._largest, self._window_s = select.largest, select.window
        self.metrics = metrics or RunMetrics(exported=False)
        self.names: dict[str, Any] = {}
        self._folder, self._progress, self._on_commit = folder, progress, on_commit
        self._open: dict[str, _VideoParts] = {}

    def write(self, results: Iterable[Result], videos: Mapping[str, PlannedVideo]) -> None:
        """Write all results.

        Args:
            results: from `pipeline.execution.executors.Executor.results`.
            videos: all videos of the run, by `video_id`.
        """
        for result in results:
            chunk = result.chunk
            video = self._open.setdefault(chunk.video_id, _VideoParts())
            if video.add(result):
                self.metrics.add_result(chunk.frames, chunk.faces.num_rows, result.descriptions.num_rows, chunk.stage_seconds)
            self.names = {"detector": chunk.detector, "model": result.model.name, "thresholds": result.model.thresholds}
            if self._progress:
                self._progress.add(
                    chunk.video_id,
                    frames=chunk.frames,
                    share=chunk.share,
                    faces=chunk.faces.num_rows,
                    descriptions=result.descriptions.num_rows,
                )
            if video.last is not None and video.is_complete:
                del self._open[chunk.video_id]
                self._commit(video, videos[chunk.video_id])

    def _commit(self, parts: _VideoParts, video: PlannedVideo) -> None:
        timer = StageTimer()
        row = _named(parts.row(), video.path)
        with timer.stage("write"):
            # A video that another run should try again is committed without its mark.
            faces, descriptions = parts.tables()
            if self._largest is not None and faces.num_rows:
                # A track is known to be large once all of it has been seen, so that faces of other tracks have been read as well.
                faces, descriptions = chosen_rows(Choice(largest=self._largest), faces, descriptions, (row["width"], row["height"]))
                row |= video_counts(faces, descriptions, self._window_s)
            self._folder.commit(row, faces, descriptions, "" if parts.should_retry else video.mark)
            self._on_commit()
        self.metrics.add_result(0, 0, 0, timer.take())
        self.metrics.add_video(row)
        if self._progress:
            self._progress.finish(row["video_id"], row["status"] == "failed")


class _VideoParts:
    """The results of one video, which may come in any order, and more than once after a worker was lost."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[pa.Table, pa.Table]] = {}
        self._elapsed_s = 0.0
        self._thresholds: dict[str, float] = {}
        self.last: Chunk | None = None  # the chunk that carries the row

    def add(self, result: Result) -> bool:
        """Add a result; whether it is new."""
        chunk = result.chunk
        if chunk.video is not None:
            self.last = chunk
        if chunk.index in self._parts:
            return False
        self._parts[chunk.index] = (chunk.faces, result.descriptions)
        self._elapsed_s += chunk.elapsed_s
        self._thresholds = result.model.thresholds
        return True

    @property
    def is_complete(self) -> bool:
        """Whether all results up to the last one are there."""
        return self.last is not None and len(self._parts) == self.last.index + 1

    @property
    def should_retry(self) -> bool:
        """Whether another run should try the video again."""
        return self.last is not None and self.last.retry

    def row(self) -> dict[str, Any]:
        """The row of the videos table."""
        assert self.last is not None and self.last.video is not None
        return self.last.video | {"elapsed_s": self._elapsed_s}

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Faces and descriptions; empty where the video failed."""
        if self.row()["status"] == "failed":
            return empty("faces"), empty("descriptions")
        faces, descriptions = zip(*self._parts.values(), strict=True)
        described = pa.concat_tables(descriptions)
        read = pa.concat_tables(faces)
        return with_described_frames(read, described), with_changes(described, read, self._thresholds)


def _named(row: dict[str, Any], path: str) -> dict[str, Any]:
    """A video's row with the path as the user typed it; the error of a failed video begins with it."""
    error = f"{printable(path)}: {row['error']}" if row["status"] == "failed" else row["error"]
    return row | {"path": printable(path), "error": error}


def counts(folder: RunFolder) -> dict[str, Any]:
    """What a run folder holds: videos by status, by kind of error and by kind of note, and the sums of their columns."""
    videos = folder.read("videos")
    by_status = {status: videos["status"].to_pylist().count(status) for status in ("ok", "no_faces", "failed")}
    columns = ("sampled_frames", "faces", "tracks", "windows", "descriptions", "unreadable_faces", "unreadable_windows")
    sums = {name: sum(filter(None, videos[name].to_pylist())) for name in columns}
    kinds = Counter(filter(None, videos["error_kind"].to_pylist()))
    notes = Counter(kind.value for note in videos["note"].to_pylist() for kind in note_kinds(note))
    kinds_said = {"error_kinds": dict(sorted(kinds.items())), "notes": dict(sorted(notes.items()))}
    return {"videos": videos.num_rows, **by_status, **sums, **kinds_said}
