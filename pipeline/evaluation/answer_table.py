"""The answers of one describer as a table for counting: the face of each row, labels and answers as arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.bootstrap import per_face
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.sentence_reader import Reading, read_sentence


@dataclass(frozen=True)
class AnswerTable:
    """M questions with answers, about N faces.

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
        """N, the number of faces."""
        return len(self.face_index)

    @property
    def row_faces(self) -> np.ndarray:
        """(M,) index of the face of each row."""
        return np.array([self.face_index[row.question.image_id] for row in self.rows], np.int64)

    def of_kinds(self, *kinds: str) -> AnswerTable:
        """The rows that answer questions of these kinds."""
        return AnswerTable([row for row in self.rows if row.question.kind in kinds], self.face_index, self.units)

    def sum_by_face(self, values: np.ndarray) -> np.ndarray:
        """Sums of (M, K) or (M,) values of rows over each face: (N, K) or (N,)."""
        return per_face(self.row_faces, np.asarray(values, np.float64), self.faces)

    def unit_matrix(self, which: str) -> np.ndarray:
        """(M, U) bool over `units`.

        Args:
            which: `known` (the labels know the unit), `gold` (it is active in the box) or `said` (it was answered as active).
        """

        def units_in(row: Prediction) -> Collection[str]:
            found: dict[str, Collection[str]] = {"known": row.question.known, "gold": row.question.aus, "said": row.answer.aus}
            return found[which]

        return np.array([[au in units_in(row) for au in self.units] for row in self.rows], bool).reshape(len(self.rows), len(self.units))

    def readings(self) -> list[Reading]:
        """What the sentence of each row claims (`pipeline.evaluation.sentence_reader`)."""
        return [read_sentence(row.answer.description) for row in self.rows]

    def pairs(self, kind: str, other: str) -> list[tuple[int, Prediction, Prediction]]:
        """(index of the face, prediction of `kind`, prediction of `other`) for each face that has both."""
        found = {(row.question.image_id, row.question.kind): row for row in self.rows}
        both = [(face, found.get((name, kind)), found.get((name, other))) for name, face in self.face_index.items()]
        return [(face, a, b) for face, a, b in both if a and b]


def index_faces(rows: Sequence[Prediction]) -> dict[str, int]:
    """image_id -> index of the face, in the order of the rows."""
    return {name: i for i, name in enumerate(dict.fromkeys(row.question.image_id for row in rows))}
