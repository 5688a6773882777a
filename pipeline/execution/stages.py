"""The stages of a run as plain functions: no executor, and no Ray, is needed to call or test them.

    analyse_video: file -> frames -> faces -> tracks -> regions, as a stream of `Chunk`
    requests_for:  what a describer is asked about a chunk
    add_answers:   chunk and answers -> `Result`, rows for the tables

What is wrong with a file is data: it ends in the video's row, never in an exception, so that the archive goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from math import floor
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import FetchError, VideoError, VideoErrorKind, one_line
from pipeline.execution.segment_sharing import SegmentedVideo, SegmentWorker
from pipeline.execution.timing import StageTimer, TimedDetector
from pipeline.faces.detectors import Detector
from pipeline.faces.finding import find_faces
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Answer, Face, FrameFaces, Request, Selection
from pipeline.regions.selection import RegionSelector, SelectSettings
from pipeline.schemas import TABLES
from pipeline.settings import Settings
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import printable, video_id
from pipeline.video.decoder_process import WatchedVideo
from pipeline.video.opening import open_video
from pipeline.video.source import VideoSource, joined_notes

OpenVideo = Callable[[str], AbstractContextManager[VideoSource]]
"""Opens a video by its path; the file is closed at the end of the block."""

_FROM_INFO = (
    *("decoder", "codec", "width", "height", "stored_width", "stored_height", "pixel_aspect"),
    *("fps", "duration_s", "start_s"),
)
"""Columns of the videos table that are attributes of `pipeline.video.source.VideoInfo`."""

FACES_IN_CHUNK = 512
"""Face rows after which a chunk is handed on even if it asks little; more makes progress jerky, fewer makes more messages."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of one video's results. Where chunks end depends on the video and the settings alone, not on who works when.

    Attributes:
        video_id: the video.
        index: place among the video's chunks, from 0.
        frames: number of sampled frames since the chunk before.
        share: share of the video that has been analysed, 0 to 1.
        faces: rows of the faces table.
        selections: regions to describe, at most `describe.batch_size`.
        detector: name of the detector.
        elapsed_s: seconds of work on this chunk.
        stage_seconds: the same by stage (`pipeline.execution.timing.STAGES`).
        video: in the last chunk, the row of the videos table. `elapsed_s` is still to be summed, and `error` does not name the path,
            as only the driver knows it as the user typed it. Where the status is `failed`, the rows of earlier chunks are void.
        retry: whether another run should try the video again, as the network may be to blame.
    """

    video_id: str
    index: int
    frames: int
    share: float
    faces: pa.Table
    selections: tuple[Selection, ...]
    detector: str = ""
    elapsed_s: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    video: dict[str, Any] | None = None
    retry: bool = False


@dataclass(frozen=True)
class Result:
    """A chunk with its answers, as rows.

    Attributes:
        chunk: without its selections; its seconds include the description.
        descriptions: rows of the descriptions table.
        model: name of the checkpoint that answered.
    """

    chunk: Chunk
    descriptions: pa.Table
    model: str


def analyse_video(
    path: str, settings: Settings, detector: Detector, open_file: OpenVideo = open_video, sharing: SegmentWorker | None = None
) -> Iterator[Chunk]:
    """Do everything for one video but the descriptions, in bounded memory.

    Args:
        path: path or URL of the video.
        settings: settings of the run.
        detector: from `pipeline.faces.detectors.load_detector`; one may serve many videos, one after the other.
        open_file: opens the video in this process, or (`pipeline.video.decoder_process.Decoder.open`) in one that may crash without harm.
        sharing: shares a long video with other workers, where it is opened in a decoder process.

    Yields:
        Chunks; the last one carries the video's row. A file that cannot be read ends in a `failed` row with the reason.

    >>> from pipeline.faces.detectors import load_detector
    >>> *_, last = analyse_video("nowhere.mp4", Settings(), load_detector())
    >>> last.video["status"], last.video["error"]
    ('failed', 'no such file')
    """
    timer = StageTimer()
    for chunk in _Analysis(path, settings, detector, timer).chunks(open_file, sharing):
        seconds = timer.take()
        yield replace(chunk, detector=detector.name, elapsed_s=sum(seconds.values()), stage_seconds=seconds)


class _Analysis:
    """The analysis of one video: rows and selections that are not handed on yet, and the counts for its row."""

    def __init__(self, path: str, settings: Settings, detector: Detector, timer: StageTimer) -> None:
        self._path, self._settings, self._detector, self._timer = path, settings, detector, timer
        self._video_id, self._batch = video_id(path), settings.describe.batch_size
        self._faces: list[Face] = []
        self._selections: list[Selection] = []
        self._index = self._frames_handed_on = 0
        self._frames = self._faces_found = self._regions_selected = 0
        self._tracks: set[int] = set()
        self._windows: set[tuple[int, int]] = set()

    def chunks(self, open_file: OpenVideo, sharing: SegmentWorker | None) -> Iterator[Chunk]:
        """See `analyse_video`."""
        video: VideoSource | SegmentedVideo | None = None
        status, retry = "ok", False
        problem: VideoError | None = None
        try:
            with ExitStack() as opened:
                with self._timer.stage("fetch"):
                    file = opened.enter_context(fetched(self._path))
                with self._timer.stage("decode"):
                    video = opened.enter_context(open_file(file))
                    if sharing is not None and isinstance(video, WatchedVideo):
                        video = sharing.share(self._path, file, video, self._timer)
                for time_s, faces, selections in self._select(video):
                    self._add(time_s is not None, faces, selections)
                    while len(self._selections) > self._batch or len(self._faces) >= FACES_IN_CHUNK:
                        yield self._chunk(1.0 if time_s is None else time_s / max(video.info.duration_s, 1e-6))
                problem = video.problem
        except VideoError as fault:
            status, problem, retry = "failed", fault, isinstance(fault, FetchError)
        except Exception as fault:  # whatever a strange file causes, the archive goes on
            status, problem = "failed", VideoError(VideoErrorKind.INTERNAL, f"{type(fault).__name__}: {one_line(fault)}")
        if status == "failed":
            self._faces, self._selections, self._tracks, self._windows = [], [], set(), set()
            self._faces_found = self._regions_selected = 0
        elif not self._faces_found:
            status = "no_faces"
        yield replace(self._chunk(1.0), video=self._row(video, status, problem), retry=retry)

    def _find(self, video: VideoSource | SegmentedVideo) -> Iterator[FrameFaces]:
        """The faces of each sampled frame, without track ids."""
        if isinstance(video, SegmentedVideo):
            return video.frame_faces(self._settings.video.fps)
        frames = self._timer.each("decode", video.frames(self._settings.video.fps))
        return self._timer.each("track", find_faces(frames, TimedDetector(self._detector, self._timer), self._settings.detect.every))

    def _select(
        self, video: VideoSource | SegmentedVideo
    ) -> Iterator[tuple[float | None, list[Face], list[Selection]]]:
        """The time of each sampled frame, its tracked faces and the selections that it completes; at the end, without a frame, the
        last selections."""
        options = self._settings.select
        tracker = FaceTracker(min(self._settings.video.fps or video.info.fps, video.info.fps))
        selector = RegionSelector(SelectSettings(window_s=options.window, regions=options.regions, box=options.box))
        for found in self._find(video):
            with self._timer.stage("track"):
                faces = tracker.update(found)
            with self._timer.stage("select"):
                selections = selector.add(faces, (video.info.width, video.info.height))
            yield found.time_s, faces, selections
        with self._timer.stage("select"):
            selections = selector.finish()
        yield None, [], selections

    def _add(self, frame: bool, faces: list[Face], selections: list[Selection]) -> None:
        self._frames += frame
        self._faces += faces
        self._selections += selections
        self._faces_found += len(faces)
        self._regions_selected += len(selections)
        self._tracks.update(face.track_id for face in faces)
        self._windows.update((face.track_id, floor(face.time_s / self._settings.select.window)) for face in faces)

    def _chunk(self, share: float) -> Chunk:
        """Hand on what has been gathered, up to one batch of selections."""
        rows = face_rows(self._video_id, self._faces)
        frames, selections = self._frames - self._frames_handed_on, tuple(self._selections[: self._batch])
        chunk = Chunk(self._video_id, self._index, frames, min(share, 1.0), rows, selections)
        self._faces, self._selections = [], self._selections[self._batch :]
        self._index, self._frames_handed_on = self._index + 1, self._frames
        return chunk

    def _row(self, video: VideoSource | SegmentedVideo | None, status: str, problem: VideoError | None) -> dict[str, Any]:
        """The row of the videos table."""
        row: dict[str, Any] = {"video_id": self._video_id, "path": printable(self._path), "status": status}
        row |= {"error": printable(problem.reason), "error_kind": problem.kind.value} if problem else {"error": None, "error_kind": None}
        if video is not None:
            row |= {name: getattr(video.info, name) for name in _FROM_INFO}
            row |= {"frame_count": video.decoded, "note": joined_notes(video.notes)}
        counts = {"sampled_frames": self._frames, "faces": self._faces_found, "descriptions": self._regions_selected}
        return row | counts | {"tracks": len(self._tracks), "windows": len(self._windows)}


def requests_for(chunk: Chunk) -> list[Request]:
    """What a describer is asked about a chunk: one request for each selection."""
    return [Request(selection.face.crop, selection.crop_box, selection.region) for selection in chunk.selections]


def add_answers(chunk: Chunk, answers: Sequence[Answer], model: str, seconds: float) -> Result:
    """Turn a chunk and its answers into rows.

    Args:
        chunk: from `analyse_video`.
        answers: one for each of its `requests_for`, in order.
        model: name of the checkpoint that answered.
        seconds: time that describing took.
    """
    described = replace(
        chunk,
        selections=(),
        elapsed_s=chunk.elapsed_s + seconds,
        stage_seconds=chunk.stage_seconds | {"describe": seconds},
    )
    return Result(described, description_rows(chunk.video_id, chunk.selections, answers, model), model)


def face_rows(video: str, faces: Sequence[Face]) -> pa.Table:
    """Rows of the faces table.

    Args:
        video: a `video_id`.
        faces: tracked faces, in order.
    """
    names = ("frame_index", "time_s", "track_id", "det_score", "box", "yaw", "pitch", "roll", "sharpness")
    rows = [
        {"video_id": video, "landmarks5": np.ravel(face.landmarks5).tolist()} | {name: getattr(face, name) for name in names}
        for face in faces
    ]
    return pa.Table.from_pylist(rows, TABLES["faces"])


def description_rows(video: str, selections: Sequence[Selection], answers: Sequence[Answer], model: str) -> pa.Table:
    """Rows of the descriptions table: each selection with its answer.

    Args:
        video: a `video_id`.
        selections, answers: of equal length.
        model: name of the checkpoint that answered.
    """
    rows = [
        {
            "video_id": video,
            "track_id": selection.face.track_id,
            "window_index": selection.window_index,
            "start_s": selection.start_s,
            "end_s": selection.end_s,
            "frame_index": selection.face.frame_index,
            "time_s": selection.face.time_s,
            "region": selection.region,
            "box": selection.box,
            "activity": selection.activity,
            **answer.au_scores,
            "aus": list(answer.aus),
            "emotion": answer.emotion,
            **{f"emotion_{name}": score for name, score in answer.emotion_scores.items()},
            "age": answer.age,
            "age_low": answer.age_low,
            "age_high": answer.age_high,
            "description": answer.description,
            "model": model,
        }
        for selection, answer in zip(selections, answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, TABLES["descriptions"])
