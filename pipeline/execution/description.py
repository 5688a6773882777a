"""The second stage of a run: from a chunk to its rows, with the answers of a describer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.describe.backends import Describer
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.timing import StageTimer
from pipeline.records import Answer, Request, Selection
from pipeline.schemas import READ_COLUMNS, TABLES
from pipeline.vocabulary import WHOLE_FACE


def requests_for(chunk: Chunk) -> list[Request]:
    """What a describer is asked about the selections of a chunk: one request for each."""
    return [Request(selection.face.crop, selection.crop_box, selection.region) for selection in chunk.selections]


def describe_chunk(chunk: Chunk, describer: Describer) -> Result:
    """Describe the selections of a chunk, read its faces, and turn both into rows.

    Args:
        chunk: from `analyse_video`.
        describer: from `pipeline.describe.backends.load_describer`.
    """
    timer = StageTimer()
    with timer.stage("describe"):
        answers = describer.describe(requests_for(chunk))
    with timer.stage("read"):
        readings = describer.read(chunk.face_requests, mirror=False)  # a series averages over more than the mirror image
    spent = timer.take()
    described = replace(
        chunk,
        faces=with_readings(chunk.faces, readings) if readings else chunk.faces,
        face_requests=(),
        selections=(),
        elapsed_s=chunk.elapsed_s + sum(spent.values()),
        stage_seconds=chunk.stage_seconds | spent,
    )
    return Result(described, description_rows(chunk.video_id, chunk.selections, answers, describer.name), describer.info)


def with_readings(faces: pa.Table, readings: Sequence[Answer]) -> pa.Table:
    """Rows of the faces table with the fields that were read.

    Args:
        faces: rows of the faces table.
        readings: one for each row, about the whole face.
    """
    schema = pa.schema([TABLES["faces"].field(name) for name in READ_COLUMNS])
    fields = pa.Table.from_pylist([_fields(reading) for reading in readings], schema)
    for name in READ_COLUMNS:
        faces = faces.set_column(faces.schema.get_field_index(name), TABLES["faces"].field(name), fields[name])
    return faces


def with_described_frames(faces: pa.Table, descriptions: pa.Table) -> pa.Table:
    """Rows of the faces table; those that were not read take their fields from a description of the whole face in the same frame.

    Args:
        faces, descriptions: rows of one video.
    """
    if not faces.num_rows or faces["emotion"].null_count == 0:
        return faces
    whole = descriptions.filter(pc.field("region") == WHOLE_FACE).select(["track_id", "frame_index", *READ_COLUMNS]).to_pylist()
    described = {(row["track_id"], row["frame_index"]): row for row in whole}
    keys = zip(faces["track_id"].to_pylist(), faces["frame_index"].to_pylist(), strict=True)
    rows = [described.get(key, {}) for key in keys]
    for name in READ_COLUMNS:
        field = TABLES["faces"].field(name)
        found = pa.array([row.get(name) for row in rows], field.type)
        faces = faces.set_column(faces.schema.get_field_index(name), field, pc.coalesce(faces[name], found))
    return faces


def _fields(answer: Answer) -> dict[str, Any]:
    """An answer as columns."""
    emotions = {f"emotion_{name}": score for name, score in answer.emotion_scores.items()}
    return {**answer.au_scores, "emotion": answer.emotion, **emotions, "age": answer.age}


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
            **answer_columns(answer),
            "model": model,
        }
        for selection, answer in zip(selections, answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, TABLES["descriptions"])


def answer_columns(answer: Answer) -> dict[str, Any]:
    """An answer as columns of the descriptions table (`pipeline.schemas.DESCRIPTIONS`)."""
    return {
        **_fields(answer),
        "aus": list(answer.aus),
        "age_low": answer.age_low,
        "age_high": answer.age_high,
        "description": answer.description,
    }
