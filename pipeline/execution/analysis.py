"""One video from file to described-to-be regions, as a stream: open -> frames -> faces -> tracks -> crops -> windows -> regions.

A long video's frames may be analysed by several workers (`pipeline.execution.segment_sharing`); the chunks are the same.

What is wrong with a file is data here: it ends in the video's row, never in an exception, so that an archive goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from math import floor
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import FetchError, VideoError, VideoErrorKind
from pipeline.execution.metrics import Stages, TimedDetector
from pipeline.execution.segment_sharing import Crew, SharedVideo
from pipeline.faces.detectors import Detector
from pipeline.faces.finding import find_faces
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Face, Selection
from pipeline.regions.selection import RegionSelector, SelectSettings
from pipeline.schemas import TABLES
from pipeline.settings import Settings
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import shown, video_id
from pipeline.video.decoder_process import WatchedVideo
from pipeline.video.reader import Video, open_video

Opener = Callable[[str], AbstractContextManager[Video | WatchedVideo]]
"""Opens a video; the file is closed again behind it."""

FACES_IN_CHUNK = 512
"""Face rows after which a chunk is handed on even if it asks little; more makes progress jerky, fewer makes more messages."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of one video's results. Where chunks are cut depends on the video and the settings alone, not on who works when.

    Attributes:
        video_id: of the video.
        index: the chunk's place, from 0.
        frames: sampled frames looked at since the chunk before.
        share: how much of the video is behind us, 0 to 1.
        faces: rows of the faces table.
        selections: regions to describe, at most the describer's batch.
        elapsed_s: seconds of work that went into it.
        stages: the same by stage (`pipeline.execution.metrics.STAGES`).
        video: in the last chunk, the row of the videos table (`elapsed_s` still to be summed up; `error` without the path, which only
            the driver knows as the user typed it). Where that says `failed`, rows that went before are void.
        again: whether that is worth another try, as it may have been the network's fault.
    """

    video_id: str
    index: int
    frames: int
    share: float
    faces: pa.Table
    selections: tuple[Selection, ...]
    elapsed_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    video: dict[str, Any] | None = None
    again: bool = False


def face_rows(video: str, faces: Sequence[Face]) -> pa.Table:
    """Rows of the faces table."""
    names = ("frame_index", "time_s", "track_id", "det_score", "box", "yaw", "pitch", "roll", "sharpness")
    rows = [
        {"video_id": video, "landmarks5": np.ravel(face.landmarks5).tolist()} | {name: getattr(face, name) for name in names}
        for face in faces
    ]
    return pa.Table.from_pylist(rows, TABLES["faces"])


def analyse(path: str, settings: Settings, detector: Detector, opener: Opener = open_video, crew: Crew | None = None) -> Iterator[Chunk]:
    """Everything of one video but the words, in bounded memory.

    Args:
        path: of the file, or its URL (`pipeline.storage.remote`).
        settings: of the run.
        detector: from `pipeline.faces.detectors.load_detector`; it may serve many videos, one after the other.
        opener: opens the video: here, or (`pipeline.video.decoder_process.Decoder.open`) in a process that may die without harm.
        crew: with whom to share a long video, if it is opened in such a process.

    Yields:
        Chunks; the last one carries the video's row. A file that cannot be read ends in a `failed` row with the reason.
    """
    stages = Stages()
    for chunk in _chunks(path, settings, detector, opener, crew, stages):
        seconds = stages.take()
        yield replace(chunk, elapsed_s=sum(seconds.values()), stages=seconds)


def _followed(
    video: Video | WatchedVideo | SharedVideo, settings: Settings, detector: Detector, stages: Stages
) -> Iterator[tuple[float, list[Face]]]:
    """The time of each sampled frame, and its faces."""
    tracker = FaceTracker(min(settings.video.fps or video.info.fps, video.info.fps))
    if isinstance(video, SharedVideo):
        found_by_frame = video.looks(settings.video.fps)
    else:
        frames = stages.each("decode", video.frames(settings.video.fps))
        found_by_frame = stages.each("track", find_faces(frames, TimedDetector(detector, stages), settings.detect.every))
    for found in found_by_frame:
        with stages.on("track"):
            faces = tracker.update(found)
        yield found.time_s, faces


def _looks(
    video: Video | WatchedVideo | SharedVideo, settings: Settings, detector: Detector, stages: Stages
) -> Iterator[tuple[float | None, list[Face], list[Selection]]]:
    """Each sampled frame's time, its faces and the selections that it completes; at the end, with no frame, the last selections."""
    options = settings.select
    selector = RegionSelector(SelectSettings(window_s=options.window, regions=options.regions, box=options.box))
    for time_s, faces in _followed(video, settings, detector, stages):
        with stages.on("select"):
            chosen = selector.add(faces, (video.info.width, video.info.height))
        yield time_s, faces, chosen
    with stages.on("select"):
        chosen = selector.finish()
    yield None, [], chosen


def _chunks(path: str, settings: Settings, detector: Detector, opener: Opener, crew: Crew | None, stages: Stages) -> Iterator[Chunk]:
    video_key, batch = video_id(path), settings.describe.batch_size
    file = path
    video: Video | WatchedVideo | SharedVideo | None = None
    status, again = "ok", False
    problem: VideoError | None = None
    faces: list[Face] = []
    selections: list[Selection] = []
    tracks: set[int] = set()
    windows: set[tuple[int, int]] = set()
    sampled = found = chosen = index = reported = 0

    def cut(share: float) -> Chunk:
        nonlocal faces, selections, index, reported
        rows = face_rows(video_key, faces)
        part = Chunk(video_key, index, sampled - reported, min(share, 1.0), rows, tuple(selections[:batch]))
        faces, selections, index, reported = [], selections[batch:], index + 1, sampled
        return part

    try:
        with ExitStack() as held:
            with stages.on("fetch"):
                file = held.enter_context(fetched(path))
            with stages.on("decode"):
                video = held.enter_context(opener(file))
                if crew is not None and isinstance(video, WatchedVideo):
                    video = crew.share(path, file, video, stages)
            for time_s, new_faces, new_selections in _looks(video, settings, detector, stages):
                sampled += time_s is not None
                faces += new_faces
                selections += new_selections
                found, chosen = found + len(new_faces), chosen + len(new_selections)
                tracks.update(face.track_id for face in new_faces)
                windows.update((face.track_id, floor(face.time_s / settings.select.window)) for face in new_faces)
                while len(selections) > batch or len(faces) >= FACES_IN_CHUNK:
                    yield cut(1.0 if time_s is None else time_s / max(video.info.duration_s, 1e-6))
            problem = video.problem
    except VideoError as fault:
        status, problem, again = "failed", fault, isinstance(fault, FetchError)
    except Exception as fault:  # whatever a strange file brings about, the archive goes on
        status, problem = "failed", VideoError(VideoErrorKind.INTERNAL, f"{type(fault).__name__}: {' '.join(str(fault).split())}")
    row: dict[str, Any] = {"video_id": video_key, "path": shown(path), "status": status}
    row |= {"error": shown(problem.reason), "error_kind": problem.kind.value} if problem else {"error": None, "error_kind": None}
    if video is not None:
        info = video.info
        row |= {name: getattr(info, name) for name in ("decoder", "codec", "width", "height", "fps", "duration_s")}
        row |= {"frame_count": video.decoded}
    if status == "failed":
        faces, selections, found, chosen = [], [], 0, 0
        tracks, windows = set(), set()
    elif not found:
        row["status"] = "no_faces"
    row |= {"sampled_frames": sampled, "faces": found, "tracks": len(tracks), "windows": len(windows), "descriptions": chosen}
    yield replace(cut(1.0), video=row, again=again)
