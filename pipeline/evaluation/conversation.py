"""Figures of conversations: are answers in turn as good as answers to single questions?"""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import Figure, summed
from pipeline.evaluation.questions import APART, IN_TURN
from pipeline.evaluation.recognition import count_units, f1


def conversation_figures(table: AnswerTable) -> dict[str, Figure]:
    """Micro F1 of action units on the same boxes, asked in one conversation and asked alone.

    `in_turn_f1/1` to `in_turn_f1/4`: at each turn of the conversation. `apart_f1/1` to `apart_f1/4`: of the same boxes, each asked alone.
    `in_turn_loss`: `apart_f1/4` - `in_turn_f1/4`; above 0 the conversation costs accuracy. A face counts where both are answered.
    """
    both = set.intersection(*({row.question.image_id for row in table.of_kinds(*kinds).rows} for kinds in (APART, IN_TURN)))
    if not both:
        return {}
    sums: dict[str, np.ndarray] = {}
    for kind in (*APART, *IN_TURN):
        rows = [row for row in table.of_kinds(kind).rows if row.question.image_id in both]
        part = AnswerTable(rows, table.face_index, table.units)
        sums[kind] = count_units(part).sum(2)  # (N, 3)
    figures = {f"in_turn_f1/{turn}": summed(sums[kind], lambda s: f1(*s)) for turn, kind in enumerate(IN_TURN, 1)}
    figures |= {f"apart_f1/{turn}": summed(sums[kind], lambda s: f1(*s)) for turn, kind in enumerate(APART, 1)}
    last = np.concatenate([sums[APART[-1]], sums[IN_TURN[-1]]], 1)
    figures["in_turn_loss"] = summed(last, lambda s: f1(*s[:3]) - f1(*s[3:]))
    return figures
