"""What a judge is shown in an evaluation: a sample of the answers, and the baselines' answers to compare them with."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.describe.endpoint import Endpoint
from pipeline.evaluation.bootstrap import SEED
from pipeline.evaluation.face_files import read_pictures
from pipeline.evaluation.judge.client import Judge
from pipeline.evaluation.judge.prompts import JudgeItem
from pipeline.evaluation.predictions import Prediction
from pipeline.evaluation.scoring import MODEL, Evaluation

JUDGED = 200
"""Named regions that a judge is shown, the same for every describer; each costs five calls."""

OPPONENTS = ("majority", "whole_face")
"""Baselines whose sentences a describer's are compared with."""


def judge_answers(
    evaluation: Evaluation,
    faces: Path,
    endpoint: Endpoint,
    cache: Path,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> dict[str, Any]:
    """Let a judge mark the describer's sentences on named regions, and compare them with those of baselines.

    Args:
        evaluation: the answers.
        faces: file of the faces, for the pictures.
        endpoint: where the judge is.
        cache: file in which the replies are stored.
        progress: called with the step, the number done and the number in all.

    Returns:
        `model`, `absolute` (marks by criterion) and `pairwise` by opponent, as in `pipeline.evaluation.judge.client`.
    """
    rows = evaluation.table.of_kinds("region").rows
    rows = random.Random(SEED).sample(rows, min(JUDGED, len(rows)))
    pictures = read_pictures(faces, {row.question.image_id for row in rows})
    items = [_item(row, pictures[row.question.image_id]) for row in rows]
    sentences = {
        name: {row.question.image_id: row.answer.description for row in evaluation.columns[name].table.of_kinds("region").rows}
        for name in (MODEL, *OPPONENTS)
    }
    said = {name: [found[row.question.image_id] for row in rows] for name, found in sentences.items()}
    with Judge(endpoint, cache) as judge:
        marks = judge.absolute(items, said[MODEL], progress=lambda done, total: progress("judging", done, total))
        pairs = {
            name: judge.pairwise(items, said[MODEL], said[name], progress=lambda done, total: progress("comparing", done, total)).figures()
            for name in OPPONENTS
        }
    return {"model": endpoint.model, "absolute": marks.figures(), "pairwise": pairs}


def _item(row: Prediction, data: bytes) -> JudgeItem:
    q = row.question
    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    aus = [au for au in q.visible if au in q.aus] if q.visible else None
    return JudgeItem(image, q.frame_box, q.region, aus, q.emotion, q.age)
