"""Questions with their answers: from a describer, or from a file of foreign answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.dataset.labels import MAX_INTENSITY
from pipeline.describe.backends import Describer
from pipeline.errors import FocalfaceError, one_line
from pipeline.evaluation.face_files import count_faces, open_faces
from pipeline.evaluation.preconditions import open_answers
from pipeline.evaluation.questions import IN_TURN, NEEDED, Question, read_faces
from pipeline.evaluation.schemas import ANSWER_FIELDS, NEEDED_COLUMNS, OPTIONAL_COLUMNS, PREDICTIONS
from pipeline.records import Answer, Request
from pipeline.vocabulary import AUS, EMOTIONS

FAULTS_SHOWN = 10
"""Bad rows of an answers file that an error message names; the others are counted."""

MAX_AGE = 120.0
"""Years; a greater age is an error."""

BOX_TOLERANCE = 0.5
"""Crop pixels by which a box in an answers file may differ from the question's, for rounding."""

Progress = Callable[[int, int], None]
"""Called with the faces done and the faces in all."""


@dataclass(frozen=True)
class Prediction:
    """A question and its answer."""

    question: Question
    answer: Answer


@dataclass(frozen=True)
class Predictions:
    """All answers of one describer.

    Attributes:
        model: who answered.
        units: the action units that it knows.
        rows: in the order of the faces, and of `pipeline.evaluation.questions.KINDS` within a face.
        regions_per_second: speed on the needed questions, reading and aligning the pictures included; None where not measured.
    """

    model: str
    units: tuple[str, ...]
    rows: list[Prediction]
    regions_per_second: float | None = None


def ask(
    describer: Describer,
    path: Path,
    limit: int | None = None,
    attributes: Collection[str] = (),
    progress: Progress = lambda done, total: None,
) -> Predictions:
    """Ask a describer about every face of a labelled file or dataset.

    Args:
        describer: answers.
        path: see `pipeline.evaluation.face_files.open_faces`.
        limit: ask about only this many faces.
        attributes: columns whose values the questions keep.
        progress: told how far it is.

    Raises:
        FocalfaceError: there are no labelled faces.
    """
    total, done = count_faces(open_faces(path), limit), 0
    rows: list[Prediction] = []
    needed_count, extra_s, started = 0, 0.0, time.perf_counter()
    for faces in read_faces(path, limit, attributes):
        asked = [(question, Request(face.crop, question.box, question.region)) for face in faces for question in face.questions]
        needed = [i for i, (question, _) in enumerate(asked) if question.kind in NEEDED]
        alone = [i for i, (question, _) in enumerate(asked) if question.kind not in (*NEEDED, *IN_TURN)]
        in_turn = [i for i, (question, _) in enumerate(asked) if question.kind in IN_TURN]
        answers = dict(zip(needed, describer.describe([asked[i][1] for i in needed]), strict=True))
        needed_count += len(needed)
        began = time.perf_counter()  # the speed is that of the needed questions, whatever else is asked
        answers |= zip(alone, describer.describe([asked[i][1] for i in alone]), strict=True)
        answers |= zip(in_turn, describer.converse([asked[i][1] for i in in_turn]), strict=True)
        extra_s += time.perf_counter() - began
        rows += [Prediction(question, answers[i]) for i, (question, _) in enumerate(asked)]
        done += len(faces)
        progress(done, total)
    return Predictions(describer.name, describer.aus, rows, needed_count / (time.perf_counter() - started - extra_s))


def to_table(predictions: Predictions) -> pa.Table:
    """Predictions as a table of `pipeline.evaluation.schemas.PREDICTIONS`."""
    records = []
    for row in predictions.rows:
        q, a = row.question, row.answer
        record: dict[str, Any] = {name: getattr(q, name) for name in ("image_id", "kind", "source", "region", "box", "frame_box")}
        record |= {
            "gold_known": q.known,
            "gold_visible": q.visible,
            "gold_aus": [au for au in q.visible if au in q.aus],
            "gold_emotion": q.emotion,
        }
        record |= {"gold_age": q.age, "model": predictions.model, **a.au_scores}
        record |= {f"{au}_intensity": value for au, value in a.au_intensities.items()}
        record |= {f"emotion_{name}": score for name, score in a.emotion_scores.items()}
        record |= {name: getattr(a, name) for name in ("aus", "emotion", "age", "age_low", "age_high", "description", "own_sentence")}
        records.append(record)
    return pa.Table.from_pylist(records, PREDICTIONS)


def read_answers(answers: Path, faces: Path, limit: int | None = None, attributes: Collection[str] = ()) -> Predictions:
    """Foreign answers to the questions about a file of labelled faces.

    Args:
        answers: Parquet with the columns `NEEDED_COLUMNS` of `pipeline.evaluation.schemas`, and any of `OPTIONAL_COLUMNS`; other columns
            are ignored. Every face needs answers to its questions of `pipeline.evaluation.questions.NEEDED`; the others are optional.
        faces: the labelled faces.
        limit: score only this many faces; answers to later ones are ignored.
        attributes: columns of the faces whose values the questions keep.

    Raises:
        FocalfaceError: a column is missing or rows do not fit; the message names them, and nothing is scored.
    """
    rows = _typed_rows(answers)
    asked = [q for batch in read_faces(faces, limit, attributes) for face in batch for q in face.questions]
    questions = {(q.image_id, q.kind): q for q in asked}
    every: set[str] = set()
    if limit:
        every = {name for file in open_faces(faces) for name in file.parquet.read(["image_id"])["image_id"].to_pylist()}
    later = every - {q.image_id for q in asked}
    found: dict[tuple[str, str], Answer] = {}
    faults: list[str] = []
    for number, row in enumerate(rows):
        key = (row["image_id"], row["kind"])
        if row["image_id"] in later:
            continue
        wrong = ["answered twice"] if key in found else _faults(row, questions.get(key))
        if wrong:
            faults.append(f"row {number} (image_id {row['image_id']}, {row['kind']}): {'; '.join(wrong)}")
        else:
            found[key] = _answer(row)
    if faults:
        raise FocalfaceError(_listed(f"{answers}: {len(faults)} of {len(rows)} rows do not fit; nothing was scored", faults))
    if gaps := [f"image_id {q.image_id}, {q.kind}" for q in asked if q.kind in NEEDED and (q.image_id, q.kind) not in found]:
        raise FocalfaceError(_listed(f"{answers}: {len(gaps)} questions have no answer; nothing was scored", gaps))
    kept = [Prediction(q, found[q.image_id, q.kind]) for q in asked if (q.image_id, q.kind) in found]
    scored = tuple(au for au in AUS if any(au in row.answer.au_scores for row in kept))
    return Predictions(next((row["model"] for row in rows if row.get("model")), answers.stem), scored or AUS, kept)


def _typed_rows(answers: Path) -> list[dict[str, Any]]:
    """The rows of an answers file, each column with the type that it has in the table of predictions."""
    file = open_answers(answers)
    present = [*NEEDED_COLUMNS, *[name for name in OPTIONAL_COLUMNS if name in file.schema_arrow.names]]
    try:
        table = file.read(present)
    except (OSError, pa.ArrowException) as error:
        raise FocalfaceError(f"{answers} cannot be read: {one_line(error)}") from error
    columns = {}
    for name in present:
        kind = PREDICTIONS.field(name).type
        try:
            columns[name] = table[name].cast(kind)
        except pa.ArrowException as error:
            raise FocalfaceError(f"{answers}: column {name} is {table[name].type}, not {kind} ({error})") from error
    return list(pa.table(columns).to_pylist())


def _listed(head: str, faults: Sequence[str]) -> str:
    rest = [f"... and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
    return "\n  ".join([head, *faults[:FAULTS_SHOWN], *rest])


def _faults(row: dict[str, Any], question: Question | None) -> list[str]:
    """What is wrong with one row of an answers file."""
    if question is None:
        return ["no question of these faces (image_id, kind)"]
    faults = [f"{field.name} is null" for field in ANSWER_FIELDS if row[field.name] is None]
    if row.get("region", question.region) != question.region:
        faults.append(f"region {row['region']} is not the one asked for, {question.region}")
    if row.get("box") and any(not abs(a - b) <= BOX_TOLERANCE for a, b in zip(row["box"], question.box, strict=True)):
        faults.append(f"box {row['box']} is not the one asked for, {[round(v, 2) for v in question.box]}")
    if unknown := [str(au) for au in row["aus"] or () if au not in AUS]:
        faults.append(f"aus names {', '.join(unknown)}; allowed are {AUS[0]} ... {AUS[-1]}")
    if row["emotion"] is not None and row["emotion"] not in EMOTIONS:
        faults.append(f"emotion {row['emotion']!r}; allowed are {', '.join(EMOTIONS)}")
    if row["age"] is not None and not 0 <= row["age"] <= MAX_AGE:
        faults.append(f"age {row['age']} is not within 0 and {MAX_AGE:g}")
    scores = {name: row[name] for name in (*AUS, *[f"emotion_{name}" for name in EMOTIONS]) if row.get(name) is not None}
    faults += [f"{name} {score} is not within 0 and 1" for name, score in scores.items() if not 0 <= score <= 1]
    graded = {f"{au}_intensity": row[f"{au}_intensity"] for au in AUS if row.get(f"{au}_intensity") is not None}
    faults += [f"{name} {value} is not within 0 and 5" for name, value in graded.items() if not 0 <= value <= MAX_INTENSITY]
    emotions = [score for name, score in scores.items() if name.startswith("emotion_")]
    if emotions and (len(emotions) < len(EMOTIONS) or not abs(math.fsum(emotions) - 1) <= 0.01):
        faults.append("the seven emotion_ columns do not sum to 1")
    return faults


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        au_scores={au: row[au] for au in AUS if row.get(au) is not None},
        aus=tuple(au for au in AUS if au in row["aus"]),
        emotion_scores={name: row[f"emotion_{name}"] for name in EMOTIONS if row.get(f"emotion_{name}") is not None},
        emotion=row["emotion"],
        age=row["age"],
        age_low=row.get("age_low"),
        age_high=row.get("age_high"),
        description=row["description"],
        own_sentence=row.get("own_sentence"),
        au_intensities={au: row[f"{au}_intensity"] for au in AUS if row.get(f"{au}_intensity") is not None},
    )
