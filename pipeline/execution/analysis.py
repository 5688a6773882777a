"""The first stage of a run: one video from file to regions that are worth describing. No executor, and no Ray, is needed to call it.

    file -> frames -> faces -> tracks -> regions, as a stream of `Chunk`

What is wrong with a file is data: it ends in the video's row, never in an exception, so that the archive goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from math import floor
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.describe.checkpoints import reads_all_frames
from pipeline.errors import FetchError, VideoError, VideoErrorKind, one_line
from pipeline.execution.chunks import Chunk
from pipeline.execution.segment_sharing import SegmentedVideo, SegmentWorker, searched_range
from pipeline.execution.timing import StageTimer, TimedDetector
from pipeline.faces.area import faces_in_area
from pipeline.faces.detectors import Detector
from pipeline.faces.finding import find_faces
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Face, FrameFaces, Selection
from pipeline.regions.placement import whole_face_request
from pipeline.regions.selection import RegionSelector, SelectSettings
from pipeline.schemas import TABLES, NoteKind
from pipeline.settings import Settings, VideoGroup
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import printable, video_id
from pipeline.video.decoder_process import WatchedVideo
from pipeline.video.opening import open_video
from pipeline.video.sampling import until_next_period
from pipeline.video.source import Note, VideoSource, joined_notes

OpenVideo = Callable[[str], AbstractContextManager[VideoSource]]
"""Opens a video by its path; the file is closed at the end of the block."""

_FROM_INFO = (
    *("decoder", "codec", "width", "height", "stored_width", "stored_height", "pixel_aspect"),
    *("fps", "duration_s", "start_s"),
)
"""Columns of the videos table that are attributes of `pipeline.video.source.VideoInfo`."""

FACES_IN_CHUNK, FACES_TO_READ = 512, 32
"""Face rows after which a chunk is handed on even if it asks little, and where each of these faces is read: more keeps the describer
waiting for the analyser and makes progress jerky; fewer makes more messages, and smaller batches of descriptions."""


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


def track_faces(
    video: VideoSource | SegmentedVideo, settings: Settings, detector: Detector, timer: StageTimer | None = None
) -> Iterator[tuple[FrameFaces, list[Face]]]:
    """Decode, detect and track.

    Args:
        video: an open video.
        settings: settings of the run.
        detector: finds the faces.
        timer: counts the time of the stages `decode`, `detect` and `track`.

    Yields:
        What was found in each sampled frame, and its faces with track ids: those in `detect.area`.
    """
    timer = timer or StageTimer()
    tracker = FaceTracker(min(settings.video.fps or video.info.fps, video.info.fps))
    for found in _find_faces(video, settings, detector, timer):
        with timer.stage("track"):
            # The area counts after tracking, so that who leaves it and returns is one track.
            faces = faces_in_area(tracker.update(found), settings.detect.area, found.size)
        yield found, faces


def _find_faces(video: VideoSource | SegmentedVideo, settings: Settings, detector: Detector, timer: StageTimer) -> Iterator[FrameFaces]:
    """The faces of each sampled frame, without track ids."""
    fps, from_s, to_s = settings.video.fps, settings.video.from_s, settings.video.to_s
    key_s, around = settings.key_s(video.info.fps), searched_range(settings, video.info.fps)
    if isinstance(video, SegmentedVideo):
        every = video.frame_faces(fps, key_s, *around)
    else:
        frames = timer.each("decode", until_next_period(video.frames(fps, -1.0, *around), to_s, key_s))
        every = timer.each("track", find_faces(frames, TimedDetector(detector, timer), key_s))
    for found in every:
        if from_s <= found.time_s and (to_s is None or found.time_s < to_s):
            yield found


class _Analysis:
    """The analysis of one video: rows and selections that are not handed on yet, and the counts for its row."""

    def __init__(self, path: str, settings: Settings, detector: Detector, timer: StageTimer) -> None:
        self._path, self._settings, self._detector, self._timer = path, settings, detector, timer
        self._video_id, self._batch = video_id(path), settings.describe.batch_size
        self._reads_frames = reads_all_frames(settings.describe)
        self._least = settings.describe.min_readable
        self._faces: list[Face] = []
        self._selections: list[Selection] = []
        self._index = self._frames_handed_on = 0
        self._frames = self._faces_found = self._regions_selected = 0
        self._tracks: set[int] = set()
        self._windows: set[tuple[int, int]] = set()
        self._readable_windows: set[tuple[int, int]] = set()
        self._unreadable = 0

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
                    while self._chunk_is_due(at_end=time_s is None):
                        yield self._chunk(1.0 if time_s is None else self._share(time_s, video.info.duration_s))
                problem = video.problem
        except VideoError as fault:
            status, problem, retry = "failed", fault, isinstance(fault, FetchError)
        except Exception as fault:  # whatever a strange file causes, the archive goes on
            status, problem = "failed", VideoError(VideoErrorKind.INTERNAL, f"{type(fault).__name__}: {one_line(fault)}")
        if status == "failed":
            self._faces, self._selections, self._tracks, self._windows, self._readable_windows = [], [], set(), set(), set()
            self._faces_found = self._regions_selected = self._unreadable = 0
        elif not self._faces_found:
            status = "no_faces"
        yield replace(self._chunk(1.0), video=self._row(video, status, problem), retry=retry)

    def _select(self, video: VideoSource | SegmentedVideo) -> Iterator[tuple[float | None, list[Face], list[Selection]]]:
        """The time of each sampled frame, its tracked faces and the selections that it completes; at the end, without a frame, the
        last selections."""
        options = self._settings.select
        selector = RegionSelector(SelectSettings(options.window, options.regions, options.box, options.frame))
        for found, faces in track_faces(video, self._settings, self._detector, self._timer):
            with self._timer.stage("select"):
                readable = [face for face in faces if face.unreadable(self._least) is None]
                selections = selector.add(readable, (video.info.width, video.info.height))
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
        for face in faces:
            window = (face.track_id, floor(face.time_s / self._settings.select.window))
            self._windows.add(window)
            if face.unreadable(self._least) is None:
                self._readable_windows.add(window)
            else:
                self._unreadable += 1

    def _share(self, time_s: float, duration_s: float) -> float:
        """Share of the range to analyse that lies before a time."""
        begin, end = self._settings.video.from_s, min(self._settings.video.to_s or duration_s, duration_s)
        return (time_s - begin) / max(end - begin, 1e-6)

    def _chunk_is_due(self, at_end: bool) -> bool:
        """Whether to hand on a chunk. The first one goes with the first selections, so that words come soon; later ones fill a batch."""
        first = not self._index and bool(self._selections) and not at_end
        faces = FACES_TO_READ if self._reads_frames else FACES_IN_CHUNK
        return first or len(self._selections) > self._batch or len(self._faces) >= faces

    def _chunk(self, share: float) -> Chunk:
        """Hand on what has been gathered, up to one batch of selections."""
        rows = face_rows(self._video_id, self._faces, self._least)
        frames, selections = self._frames - self._frames_handed_on, tuple(self._selections[: self._batch])
        readable = [face for face in self._faces if face.unreadable(self._least) is None]
        asked = tuple(map(whole_face_request, readable)) if self._reads_frames else ()
        chunk = Chunk(self._video_id, self._index, frames, min(share, 1.0), rows, asked, selections, self._reads_frames)
        self._faces, self._selections = [], self._selections[self._batch :]
        self._index, self._frames_handed_on = self._index + 1, self._frames
        return chunk

    def _row(self, video: VideoSource | SegmentedVideo | None, status: str, problem: VideoError | None) -> dict[str, Any]:
        """The row of the videos table."""
        row: dict[str, Any] = {"video_id": self._video_id, "path": printable(self._path), "status": status}
        row |= {"error": printable(problem.reason), "error_kind": problem.kind.value} if problem else {"error": None, "error_kind": None}
        if video is not None:
            row |= {name: getattr(video.info, name) for name in _FROM_INFO}
            chosen, notes, info = self._settings.video.range_s, list(video.notes), video.info
            if chosen["from_s"] >= info.duration_s:
                text = f"nothing is analysed: it ends at {info.duration_s:.1f} s, before {chosen['from_s']:g} s"
                notes.append(Note(NoteKind.OUTSIDE_RANGE, text))
            is_range = chosen != VideoGroup().range_s
            row |= {"frame_count": info.frame_count if is_range else video.decoded, "note": joined_notes(notes)}
        counts = {"sampled_frames": self._frames, "faces": self._faces_found, "descriptions": self._regions_selected}
        counts |= {"unreadable_faces": self._unreadable, "unreadable_windows": len(self._windows) - len(self._readable_windows)}
        return row | counts | {"tracks": len(self._tracks), "windows": len(self._windows)}


def face_rows(video: str, faces: Sequence[Face], least: float = 0.0) -> pa.Table:
    """Rows of the faces table.

    Args:
        video: a `video_id`.
        faces: tracked faces, in order.
        least: readability from which a face is read.
    """
    names = ("frame_index", "time_s", "track_id", "det_score", "box", "yaw", "pitch", "roll", "sharpness", "readable")
    rows = [
        {"video_id": video, "landmarks5": np.ravel(face.landmarks5).tolist(), "unreadable": face.unreadable(least)}
        | {name: getattr(face, name) for name in names}
        for face in faces
    ]
    return pa.Table.from_pylist(rows, TABLES["faces"])
