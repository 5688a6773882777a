"""The answers of one describer laid out for counting: which face each row belongs to, gold and answers as arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.bootstrap import per_face
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.sentence_reader import Reading, read_sentence


@dataclass(frozen=True)
class AnswerTable:
    """M rows about N faces.

    Attributes:
        rows: questions with answers.
        face_index: image_id -> index of the face, the same for every describer that is compared.
        units: action units that are scored.
    """

    rows: Sequence[Prediction]
    face_index: Mapping[str, int]
    units: tuple[str, ...]

    @property
    def faces(self) -> int:
        """N."""
        return len(self.face_index)

    @property
    def row_faces(self) -> np.ndarray:
        """(M,) the face of each row."""
        return np.array([self.face_index[row.question.image_id] for row in self.rows], np.int64)

    def of_kinds(self, *kinds: str) -> AnswerTable:
        """The rows that answer questions of these kinds."""
        return AnswerTable([row for row in self.rows if row.question.kind in kinds], self.face_index, self.units)

    def sum_by_face(self, values: np.ndarray) -> np.ndarray:
        """(M, K) or (M,) values of rows, added up by face: (N, K) or (N,)."""
        return per_face(self.row_faces, np.asarray(values, np.float64), self.faces)

    def unit_matrix(self, which: str) -> np.ndarray:
        """(M, U) bool over `units`: what the labels know (`known`), what is active in the box (`gold`), what was answered (`said`)."""

        def held(row: Prediction) -> Collection[str]:
            found: dict[str, Collection[str]] = {"known": row.question.known, "gold": row.question.aus, "said": row.answer.aus}
            return found[which]

        return np.array([[au in held(row) for au in self.units] for row in self.rows], bool).reshape(len(self.rows), len(self.units))

    def readings(self) -> list[Reading]:
        """What each row's sentence claims, by the benchmark's own reader."""
        return [read_sentence(row.answer.description) for row in self.rows]

    def pairs(self, kind: str, other: str) -> list[tuple[int, Prediction, Prediction]]:
        """(face, answer to `kind`, answer to `other`) of the faces that have both."""
        found = {(row.question.image_id, row.question.kind): row for row in self.rows}
        both = [(face, found.get((name, kind)), found.get((name, other))) for name, face in self.face_index.items()]
        return [(face, a, b) for face, a, b in both if a and b]


def index_faces(rows: Sequence[Prediction]) -> dict[str, int]:
    """image_id -> index, in the order of the rows."""
    return {name: i for i, name in enumerate(dict.fromkeys(row.question.image_id for row in rows))}
