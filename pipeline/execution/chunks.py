"""What passes between the stages of a run: a stretch of one video, analysed (`Chunk`) and then described (`Result`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.records import ModelInfo, Request, Selection


@dataclass(frozen=True)
class Chunk:
    """A stretch of one video's results. Where chunks end depends on the video and the settings alone, not on who works when.

    Attributes:
        video_id: the video.
        index: place among the video's chunks, from 0.
        frames: number of sampled frames since the chunk before.
        share: share of the video that has been analysed, 0 to 1.
        faces: rows of the faces table.
        face_requests: the question about the whole face, for each readable row of `faces`; empty where frames are not read.
        selections: regions to describe, at most `describe.batch_size`.
        reads_frames: whether the whole face is read in every frame.
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
    face_requests: tuple[Request, ...]
    selections: tuple[Selection, ...]
    reads_frames: bool = False
    detector: str = ""
    elapsed_s: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    video: dict[str, Any] | None = None
    retry: bool = False


@dataclass(frozen=True)
class Result:
    """A chunk with its answers, as rows.

    Attributes:
        chunk: without its questions; its seconds include the description, and its faces have the fields that were read.
        descriptions: rows of the descriptions table.
        model: the checkpoint that answered.
    """

    chunk: Chunk
    descriptions: pa.Table
    model: ModelInfo
