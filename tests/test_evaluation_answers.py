"""Answers of someone else's: read back as they were written, or refused row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import FocalfaceError
from pipeline.evaluation.baselines import from_labels, majority
from pipeline.evaluation.face_files import read_pictures
from pipeline.evaluation.predictions import Prediction, Predictions, read_answers, to_table
from pipeline.evaluation.questions import APART, IN_TURN, KINDS, NEEDED, read_faces
from pipeline.evaluation.schemas import PREDICTIONS
from pipeline.faces.alignment import TEMPLATE
from pipeline.records import Answer
from pipeline.vocabulary import AUS_LABELLED

NO_ANSWER = Answer({}, (), {}, "neutral", 0, 0, 0, "")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen labelled faces (grey noise, with the template's landmarks)."""
    chance = np.random.default_rng(0)
    rows = [
        {
            "image_id": f"f{i}",
            "source": ["web", "fer2013"][i % 2],
            "image": cv2.imencode(".png", chance.integers(0, 255, (112, 112), np.uint8))[1].tobytes(),
            "landmarks5": TEMPLATE.ravel().tolist(),
            "emotion": ["fear", "contempt", None, "sadness"][i % 4],
            "age": [30.5, None, float("nan")][i % 3],
            "aus": [au for j, au in enumerate(AUS_LABELLED) if (i + j) % 3 == 0],
        }
        for i in range(15)
    ]
    path = tmp_path_factory.mktemp("faces") / "faces.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def asked(faces: Path, limit: int | None = None) -> list[Prediction]:
    return [Prediction(question, NO_ANSWER) for batch in read_faces(faces, limit) for face in batch for question in face.questions]


@pytest.fixture
def rewritten(faces: Path, tmp_path: Path) -> Callable[..., Path]:
    """The perfect answers as a file, after a change to its rows, with some of its columns."""

    def write(change: Callable[[list[dict[str, Any]]], Any] = lambda rows: None, without: tuple[str, ...] = ()) -> Path:
        table = to_table(Predictions("perfect", AUS_LABELLED, from_labels(asked(faces))))
        rows = table.to_pylist()
        change(rows)
        path = tmp_path / "answers.parquet"
        pq.write_table(pa.Table.from_pylist(rows, PREDICTIONS).drop_columns(list(without)), path)
        return path

    return write


def test_what_is_asked(faces: Path) -> None:
    questions = [row.question for row in asked(faces)]
    assert questions == [row.question for row in asked(faces)], "the same at every run"
    assert len({(q.image_id, q.kind) for q in questions}) == len(questions) == 15 * 2 + 8 * 3 + 2 * 8
    assert {q.kind for q in questions} == set(KINDS)
    assert len({q.region for q in questions if q.kind == "region"}) == 13
    assert {q.emotion for q in questions} == {"fear", "sadness", None}, "only the seven count"
    assert {q.age for q in questions} == {30.5, None}
    (alone, together) = ([q for q in questions if q.kind in kinds] for kinds in (APART, IN_TURN))
    assert [(q.image_id, q.region, q.box) for q in alone] == [(q.image_id, q.region, q.box) for q in together]
    assert len({q.region for q in alone if q.image_id == "f0"}) == 4
    mouth = next(q for q in questions if q.kind == "region" and q.region == "mouth")
    assert "AU12" in mouth.visible and "AU01" not in mouth.visible
    assert mouth.aus == set(mouth.visible) & next(q for q in questions if q.image_id == mouth.image_id and q.kind == "face").aus


def test_only_the_first_faces_are_asked(faces: Path) -> None:
    assert {row.question.image_id for row in asked(faces, 3)} == {"f0", "f1", "f2"}
    assert len(asked(faces, 99)) == len(asked(faces))
    assert set(read_pictures(faces, ["f3", "f5"])) == {"f3", "f5"}


def test_written_predictions_read_back_the_same(faces: Path, tmp_path: Path) -> None:
    rows = majority(asked(faces))
    rows[0] = replace(rows[0], answer=replace(rows[0].answer, own_sentence="The model's own."))
    known = rows[0].question.known
    pq.write_table(to_table(Predictions("m", known, rows)), tmp_path / "p.parquet")
    found = read_answers(tmp_path / "p.parquet", faces)
    assert (found.model, found.units, found.rows) == ("m", known, rows)


def test_the_needed_columns_are_enough(faces: Path, rewritten: Callable[..., Path]) -> None:
    kept = ("image_id", "kind", "aus", "emotion", "age", "description")
    answers = rewritten(without=tuple(name for name in PREDICTIONS.names if name not in kept))
    found = read_answers(answers, faces)
    assert found.model == "answers"
    assert [row.answer.aus for row in found.rows] == [row.answer.aus for row in from_labels(asked(faces))]
    assert not found.rows[0].answer.au_scores and not found.rows[0].answer.emotion_scores


def test_only_the_needed_questions_must_be_answered(faces: Path, rewritten: Callable[..., Path]) -> None:
    def shorten(rows: list[dict[str, Any]]) -> None:
        rows[:] = [row for row in reversed(rows) if row["kind"] in NEEDED]

    assert [row.question.kind for row in read_answers(rewritten(shorten), faces).rows] == [*NEEDED] * 15


def test_answers_to_later_faces_are_passed_over(faces: Path, rewritten: Callable[..., Path]) -> None:
    assert {row.question.image_id for row in read_answers(rewritten(), faces, limit=4).rows} == {"f0", "f1", "f2", "f3"}


def set_in(number: int, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[number].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in(1, image_id="stranger"), "row 1 (image_id stranger, region): no question"),
        (set_in(1, kind="nose"), "row 1 (image_id f0, nose): no question"),
        (lambda rows: rows.append(rows[0]), "(image_id f0, face): answered twice"),
        (set_in(2, emotion="joy"), "emotion 'joy'; allowed are anger"),
        (set_in(2, age=-1.0), "age -1.0 is not within"),
        (set_in(2, age=float("nan")), "age nan is not within"),
        (set_in(0, aus=["AU12", "AU99"]), "aus names AU99"),
        (set_in(0, AU12=1.5), "AU12 1.5 is not within 0 and 1"),
        (set_in(0, emotion_fear=0.9, emotion_anger=0.9), "do not sum to 1"),
        (set_in(0, emotion_fear=None), "do not sum to 1"),
        (set_in(1, region="chin"), "region chin is not the one asked for"),
        (set_in(1, box=[0.0, 0.0, 1.0, 1.0]), "is not the one asked for"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    change: Callable[[list[dict[str, Any]]], None], message: str, faces: Path, rewritten: Callable[..., Path]
) -> None:
    with pytest.raises(FocalfaceError) as raised:
        read_answers(rewritten(change), faces)
    assert message in str(raised.value)
    assert "1 of " in str(raised.value) and "nothing was scored" in str(raised.value)


def test_nulls_are_named(faces: Path, tmp_path: Path) -> None:
    answers = {"image_id": ["f0", None], "kind": ["face", "face"], "aus": [None, []], "emotion": [None, None], "age": [3, 3]}
    pq.write_table(pa.table({**answers, "description": ["", "x"]}), tmp_path / "a.parquet")
    with pytest.raises(FocalfaceError, match=r"f0, face\): aus is null; emotion is null\n.*None, face\): no question"):
        read_answers(tmp_path / "a.parquet", faces)


def test_the_first_bad_rows_are_said_and_the_rest_counted(faces: Path, rewritten: Callable[..., Path]) -> None:
    def spoil(rows: list[dict[str, Any]]) -> None:
        for row in rows[:14]:
            row["emotion"] = "joy"

    with pytest.raises(FocalfaceError) as raised:
        read_answers(rewritten(spoil), faces)
    lines = str(raised.value).splitlines()
    assert "14 of 70 rows" in lines[0]
    assert len(lines) == 12 and "and 4 more" in lines[-1]


def test_missing_answers_are_named(faces: Path, rewritten: Callable[..., Path]) -> None:
    with pytest.raises(FocalfaceError, match=r"1 questions have no answer.*\n.*f0, region"):
        read_answers(rewritten(lambda rows: rows.pop(1)), faces)


@pytest.mark.parametrize("content", ["text", "no columns", "wrong type", "wrong length", "a column twice", "no rows"])
def test_a_file_that_is_not_of_answers_is_refused(content: str, faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    columns = {"image_id": ["f0"], "kind": ["face"], "aus": [["AU12"]], "emotion": ["fear"], "age": [3.0], "description": ["x"]}
    if content == "text":
        path.write_text("image_id,kind\n")
    elif content == "no columns":
        pq.write_table(pa.table({"image_id": ["f0"]}), path)
    elif content == "wrong type":
        pq.write_table(pa.table({**columns, "age": ["old"]}), path)
    elif content == "wrong length":
        pq.write_table(pa.table({**columns, "box": pa.array([[0.0, 0.0]], pa.list_(pa.float64(), 2))}), path)
    elif content == "a column twice":
        pq.write_table(pa.table([*columns.values(), [4.0]], names=[*columns, "age"]), path)
    else:
        pq.write_table(pa.table(columns).slice(0, 0), path)
    expected = {"text": "not a Parquet", "no columns": "are missing", "wrong type": "column age is string", "no rows": "have no answer"}
    expected |= {"wrong length": "column box is fixed_size_list", "a column twice": r"not a Parquet file of answers \(.*age"}
    with pytest.raises(FocalfaceError, match=expected[content]):
        read_answers(path, faces)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": b"no picture"}, "row 1 (image_id f1) is not a labelled face: the picture cannot be decoded"),
        ({"image": None}, "image is null"),
        ({"landmarks5": [1.0] * 10}, "landmarks coincide"),
        ({"landmarks5": [1.0] * 4}, "is not a labelled face"),
        ({"source": None}, "source is null"),
        ({"image_id": "f0"}, "image_id f0 occurs twice"),
    ],
)
def test_a_face_that_cannot_be_asked_about_is_named(change: dict[str, Any], message: str, faces: Path, tmp_path: Path) -> None:
    rows = pq.read_table(faces).to_pylist()
    rows[1] |= change
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(faces)), tmp_path / "x.parquet")
    with pytest.raises(FocalfaceError) as raised:
        asked(tmp_path / "x.parquet")
    assert message in str(raised.value)


def test_a_face_without_labels_is_asked_about_and_counts_for_nothing(faces: Path, tmp_path: Path) -> None:
    rows = pq.read_table(faces).to_pylist()
    rows[1] |= {"aus": None, "emotion": None, "age": None}
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(faces)), tmp_path / "x.parquet")
    questions = [row.question for row in asked(tmp_path / "x.parquet") if row.question.image_id == "f1"]
    assert len(questions) == 2
    assert all((q.known, q.visible, q.aus, q.emotion, q.age) == ((), (), frozenset(), None, None) for q in questions)


def test_no_faces_are_refused(faces: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(faces).slice(0, 0), tmp_path / "x.parquet")
    for path in (tmp_path / "x.parquet", tmp_path):
        with pytest.raises(FocalfaceError, match="no faces in it"):
            asked(path)
