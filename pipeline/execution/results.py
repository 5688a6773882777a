"""What becomes of a chunk when its regions have words: a result, which is what the driver writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.execution.analysis import Chunk
from pipeline.records import Answer, Request, Selection
from pipeline.schemas import TABLES


@dataclass(frozen=True)
class Result:
    """A chunk with its words.

    Attributes:
        video_id, index, frames, share, faces, video, again: of the `Chunk`.
        descriptions: rows of the descriptions table.
        elapsed_s: seconds of work on it, both stages together.
        stages: the same by stage (`pipeline.execution.metrics.STAGES`).
        detector, model: their names.
    """

    video_id: str
    index: int
    frames: int
    share: float
    faces: pa.Table
    descriptions: pa.Table
    elapsed_s: float
    stages: dict[str, float]
    detector: str
    model: str
    video: dict[str, Any] | None
    again: bool


def questions(chunk: Chunk) -> list[Request]:
    """What a describer is asked about a chunk."""
    return [Request(selection.face.crop, selection.crop_box, selection.region) for selection in chunk.selections]


def told(chunk: Chunk, answers: Sequence[Answer], detector: str, model: str, seconds: float) -> Result:
    """A chunk with its answers.

    Args:
        chunk: from `pipeline.execution.analysis.analyse`.
        answers: to its `questions`, in order.
        detector, model: who did it.
        seconds: that describing took.
    """
    return Result(
        video_id=chunk.video_id,
        index=chunk.index,
        frames=chunk.frames,
        share=chunk.share,
        faces=chunk.faces,
        descriptions=description_rows(chunk.video_id, chunk.selections, answers, model),
        elapsed_s=chunk.elapsed_s + seconds,
        stages=chunk.stages | {"describe": seconds},
        detector=detector,
        model=model,
        video=chunk.video,
        again=chunk.again,
    )


def description_rows(video: str, selections: Sequence[Selection], answers: Sequence[Answer], model: str) -> pa.Table:
    """Rows of the descriptions table: each selection with its answer."""
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
