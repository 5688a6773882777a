"""Questions with their answers: asked of a describer, or read from a file of someone else's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.describe.backends import Describer
from pipeline.errors import FocalfaceError
from pipeline.evaluation.questions import NEEDED, Question, count_faces, face_files, read_faces
from pipeline.records import Answer, Request
from pipeline.vocabulary import AUS, EMOTIONS

SHOWN = 10
"""Bad rows of an answers file that are said one by one; the rest are counted."""

OLDEST = 120.0
"""Years; an age beyond cannot be meant."""

BOX_TOLERANCE = 0.5
"""Crop pixels by which a box in an answers file may differ from the question's (a rounding)."""

Say = Callable[[int, int], None]
"""Told how many faces are done, of how many."""


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"meaning": meaning})


_BOX = pa.list_(pa.float64(), 4)
_UNITS = pa.list_(pa.string())

QUESTION_FIELDS = (
    _field("image_id", pa.string(), "of the labelled face", False),
    _field("kind", pa.string(), "face, region, nudged, other or random: which question of the face this is", False),
    _field("source", pa.string(), "of the labelled face", False),
    _field("region", pa.string(), "region name, or box for a random rectangle", False),
    _field("box", _BOX, "x0, y0, x1, y1 in pixels of the aligned 112x112 crop", False),
    _field("frame_box", _BOX, "the same in pixels of the picture", False),
    _field("gold_known", _UNITS, "action units that the labels know of this face", False),
    _field("gold_visible", _UNITS, "those of them that the box can show", False),
    _field("gold_aus", _UNITS, "the active ones of these", False),
    _field("gold_emotion", pa.string(), "of the face; null where unlabelled or not one of the seven"),
    _field("gold_age", pa.float64(), "of the face, years; null where unlabelled"),
)

ANSWER_FIELDS = (
    _field("aus", _UNITS, "action units answered as active", False),
    _field("emotion", pa.string(), "one of the seven", False),
    _field("age", pa.float64(), "years", False),
    _field("description", pa.string(), "one sentence", False),
)
"""The columns that an answers file must have, beside `image_id` and `kind`."""

SCORE_FIELDS = (
    _field("own_sentence", pa.string(), "the sentence that the model wrote, before a check that may replace it; null where not kept"),
    _field("age_low", pa.float64(), "10th percentile of the age, years"),
    _field("age_high", pa.float64(), "90th percentile of the age, years"),
    *[_field(au, pa.float64(), "probability that it is active; null where not known") for au in AUS],
    *[_field(f"emotion_{name}", pa.float64(), "probability; the seven sum to 1") for name in EMOTIONS],
)
"""The columns that an answers file may have: average precision, calibration and the consistency of own sentences rest on them."""

PREDICTIONS = pa.schema([*QUESTION_FIELDS, *ANSWER_FIELDS, *SCORE_FIELDS, _field("model", pa.string(), "who answered", False)])
"""The table of predictions; an answers file is one with the columns that it cares to have."""


@dataclass(frozen=True)
class Prediction:
    """A question and what was answered."""

    question: Question
    answer: Answer


@dataclass(frozen=True)
class Predictions:
    """Everything that one describer said.

    Attributes:
        model: who answered.
        units: the action units that it knows.
        rows: in the order of the faces, `KINDS` within a face.
        regions_per_second: how fast the needed questions were answered, pictures read and faces aligned included; None where not measured.
    """

    model: str
    units: tuple[str, ...]
    rows: list[Prediction]
    regions_per_second: float | None = None


def ask(describer: Describer, path: Path, limit: int | None = None, say: Say = lambda done, total: None) -> Predictions:
    """Put every face of a labelled file or dataset to a describer.

    Args:
        path: see `pipeline.evaluation.questions.face_files`.
        limit: ask only of the first so many faces.

    Raises:
        FocalfaceError: when there are no labelled faces.
    """
    total, done = count_faces(face_files(path), limit), 0
    rows: list[Prediction] = []
    asked_count = 0
    aside, started = 0.0, time.perf_counter()
    for faces in read_faces(path, limit):
        asked = [(question, Request(face.crop, question.box, question.region)) for face in faces for question in face.questions]
        needed, extra = ([i for i, (question, _) in enumerate(asked) if (question.kind in NEEDED) == which] for which in (True, False))
        answers = dict(zip(needed, describer.describe([asked[i][1] for i in needed]), strict=True))
        asked_count += len(needed)
        began = time.perf_counter()  # the others apart, so that the speed is that of the same questions whatever else is asked
        answers |= zip(extra, describer.describe([asked[i][1] for i in extra]), strict=True)
        aside += time.perf_counter() - began
        rows += [Prediction(question, answers[i]) for i, (question, _) in enumerate(asked)]
        done += len(faces)
        say(done, total)
    elapsed = time.perf_counter() - started - aside
    return Predictions(describer.name, describer.aus, rows, asked_count / elapsed)


def to_table(predictions: Predictions) -> pa.Table:
    """Predictions as a table of `PREDICTIONS`."""
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
        record |= {f"emotion_{name}": score for name, score in a.emotion_scores.items()}
        record |= {name: getattr(a, name) for name in ("aus", "emotion", "age", "age_low", "age_high", "description", "own_sentence")}
        records.append(record)
    return pa.Table.from_pylist(records, PREDICTIONS)


def read_answers(answers: Path, faces: Path, limit: int | None = None) -> Predictions:
    """Someone else's answers to the questions of a file of labelled faces.

    Args:
        answers: Parquet with `image_id`, `kind` and the columns of `ANSWER_FIELDS`; those of `SCORE_FIELDS`, `region`, `box` and `model`
            where it has them; other columns are passed over. Every face needs its questions of `NEEDED`, the others are free.
        limit: of the first so many faces only; answers to later ones are passed over.

    Raises:
        FocalfaceError: when a column is missing or a row does not fit; says which rows, and why. Nothing is scored then.
    """
    fields = {field.name: field for field in PREDICTIONS}
    try:
        table = pq.read_table(answers)
    except (OSError, pa.ArrowException) as error:
        raise FocalfaceError(f"{answers}: not a Parquet file of answers ({str(error).splitlines()[0]})") from error
    needed = ["image_id", "kind", *[field.name for field in ANSWER_FIELDS]]
    if missing := set(needed) - set(table.column_names):
        raise FocalfaceError(f"{answers}: columns {', '.join(sorted(missing))} are missing; needed are {', '.join(needed)}")
    optional = ["region", "box", "model", *[field.name for field in SCORE_FIELDS]]
    columns = {}
    for name in [*needed, *[name for name in optional if name in table.column_names]]:
        try:
            columns[name] = table[name].cast(fields[name].type)
        except pa.ArrowException as error:
            raise FocalfaceError(f"{answers}: column {name} is {table[name].type}, not {fields[name].type} ({error})") from error

    asked = [q for batch in read_faces(faces, limit) for face in batch for q in face.questions]
    questions = {(q.image_id, q.kind): q for q in asked}
    every = {name for file in face_files(faces) for name in file.read(["image_id"])["image_id"].to_pylist()} if limit else set()
    later = every - {q.image_id for q in asked}
    found: dict[tuple[str, str], Answer] = {}
    faults: list[str] = []
    rows = pa.table(columns).to_pylist()
    for number, row in enumerate(rows):
        key = (row["image_id"], row["kind"])
        if row["image_id"] in later:
            continue
        wrong = _faults(row, questions.get(key))
        if key in found:
            wrong = ["answered twice"]
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


def _listed(head: str, faults: Sequence[str]) -> str:
    rest = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return "\n  ".join([head, *faults[:SHOWN], *rest])


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
    if row["age"] is not None and not 0 <= row["age"] <= OLDEST:
        faults.append(f"age {row['age']} is not within 0 and {OLDEST:g}")
    scores = {name: row[name] for name in (*AUS, *[f"emotion_{name}" for name in EMOTIONS]) if row.get(name) is not None}
    faults += [f"{name} {score} is not within 0 and 1" for name, score in scores.items() if not 0 <= score <= 1]
    emotions = [score for name, score in scores.items() if name.startswith("emotion_")]
    if emotions and (len(emotions) < len(EMOTIONS) or not abs(math.fsum(emotions) - 1) <= 0.01):
        faults.append("the seven emotion_ columns do not sum to 1")
    return faults


def _answer(row: dict[str, Any]) -> Answer:
    emotions = {name: row[f"emotion_{name}"] for name in EMOTIONS if row.get(f"emotion_{name}") is not None}
    low, high = (row[name] if row.get(name) is not None else row["age"] for name in ("age_low", "age_high"))
    units = {au: row[au] for au in AUS if row.get(au) is not None}
    aus = tuple(au for au in AUS if au in row["aus"])
    return Answer(units, aus, emotions, row["emotion"], row["age"], low, high, row["description"], row.get("own_sentence"))
