"""The second stage of a run: from a chunk to its rows, with the answers of a describer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.describe.backends import Describer
from pipeline.execution.chunks import Chunk, Result
from pipeline.execution.timing import StageTimer
from pipeline.records import Answer, Request, Selection
from pipeline.regions.placement import whole_face_request
from pipeline.schemas import FACE_COLUMNS, READ_COLUMNS, TABLES, face_numbers
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
    with timer.stage("read"):
        readings, faces = _read_faces(chunk, describer)
    with timer.stage("describe"):
        answers = describer.describe(requests_for(chunk), faces)
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


def _read_faces(chunk: Chunk, describer: Describer) -> tuple[list[Answer], Sequence[Request | Answer]]:
    """Read the faces of a chunk.

    Where every frame is read, a description takes the reading of its frame, without the mirror image that other descriptions are averaged
    with: a face has one number in a frame, and all frames of a series are measured alike. (A mean over the mirror image in the described
    frames alone would stand out: it differs from the plain reading by half as much as neighbouring frames differ, on the demo clip.)

    Returns:
        What is read of each of `face_requests`; and for each selection the answer about its whole face, or else the question.
    """
    asked = [whole_face_request(selection.face) for selection in chunk.selections]
    if not chunk.reads_frames:
        return [], asked
    requests = {request.crop.tobytes(): request for request in asked}  # the rows of some of these faces went with an earlier chunk
    requests |= {request.crop.tobytes(): request for request in chunk.face_requests}
    found = dict(zip(requests, describer.read(list(requests.values()), mirror=False), strict=True))
    return [found[request.crop.tobytes()] for request in chunk.face_requests], [found[request.crop.tobytes()] for request in asked]


def with_readings(faces: pa.Table, readings: Sequence[Answer]) -> pa.Table:
    """Rows of the faces table with the fields that were read.

    Args:
        faces: rows of the faces table.
        readings: one for each readable row, about the whole face.
    """
    schema = pa.schema([TABLES["faces"].field(name) for name in READ_COLUMNS])
    readable = faces["unreadable"].is_null().to_pylist()
    remaining = iter(readings)
    fields = pa.Table.from_pylist([_fields(next(remaining)) if each else {} for each in readable], schema)
    for name in READ_COLUMNS:
        faces = faces.set_column(faces.schema.get_field_index(name), TABLES["faces"].field(name), fields[name])
    return faces


def with_described_frames(faces: pa.Table, descriptions: pa.Table) -> pa.Table:
    """Rows of the faces table that say what the descriptions of the same frames say.

    A face that was not read takes its fields from a description of the whole face. One that was read has them already, but for the last
    bits of numbers that were worked out in another batch; it takes them too, so that they are equal, emotion and age also from regions.

    Args:
        faces, descriptions: rows of one video.
    """
    if not faces.num_rows or not descriptions.num_rows:
        return faces
    numbers, wanted = (face_numbers(table["track_id"].to_numpy(), table["frame_index"].to_numpy()) for table in (descriptions, faces))
    is_whole = pc.equal(descriptions["region"], WHOLE_FACE).to_numpy()
    order = np.lexsort((~is_whole, numbers))
    first = order[np.unique(numbers[order], return_index=True)[1]]  # one row for each described face, the whole face's where there is one
    rows = first[np.minimum(np.searchsorted(numbers[first], wanted), len(first) - 1)]
    described = numbers[rows] == wanted
    whole, read = described & is_whole[rows], faces["emotion"].is_valid().to_numpy()
    for name in READ_COLUMNS:
        known = whole | (described & read) if name in FACE_COLUMNS else whole
        said = descriptions[name].take(pa.array(rows, mask=~known))
        faces = faces.set_column(faces.schema.get_field_index(name), TABLES["faces"].field(name), pc.coalesce(said, faces[name]))
    return faces


def _fields(answer: Answer) -> dict[str, Any]:
    """An answer as columns."""
    emotions = {f"emotion_{name}": score for name, score in answer.emotion_scores.items()}
    intensities = {f"{au}_intensity": value for au, value in answer.au_intensities.items()}
    return {**answer.au_scores, **intensities, "emotion": answer.emotion, **emotions, "age": answer.age}


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
            "readable": selection.face.readable,
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
