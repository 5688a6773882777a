"""Figures by group of people (sex, age band, any column): each group's own, and the worst group beside the mean of the groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import intervals, measure
from pipeline.evaluation.recognition import recognition_figures

AGE_BANDS = (0, 10, 20, 30, 40, 50, 60, 70)
"""Ages at which a band begins; the last one is open."""

QUANTILES = 4
"""Groups of equal size into which the values of a numeric column are split, ages aside."""

MIN_FACES = 30
"""A group with fewer faces is shown but never called the worst: its figures are noise."""

LOWER_IS_BETTER = ("age_mae",)

FIGURES = ("emotion_accuracy", "emotion_macro_f1", "au_f1_micro", "region_au_f1", "age_mae", "age_coverage")
"""Figures that are worked out for each group; those by source for each source. The mean F1 over units is not among them: in a small group
many units never occur, and their F1 would be 0."""


@dataclass(frozen=True)
class GroupFigures:
    """Figures of the groups of one column.

    Attributes:
        column: the column.
        faces: number of faces of each group.
        values: group -> figure -> (value, ends of its 95% interval); NaN where there is nothing to measure.
    """

    column: str
    faces: dict[str, int]
    values: dict[str, dict[str, tuple[float, float, float]]]

    def worst(self) -> dict[str, dict[str, Any]]:
        """For each figure the worst group of at least `MIN_FACES` faces, its value, and the mean over these groups."""
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(name for figures in self.values.values() for name in figures):
            values = {
                group: figures[name][0] for group, figures in self.values.items() if name in figures and self.faces[group] >= MIN_FACES
            }
            values = {group: value for group, value in values.items() if not math.isnan(value)}
            if len(values) > 1:
                pick = max if name.split("/")[0] in LOWER_IS_BETTER else min
                group = pick(values, key=lambda key: values[key])
                found[name] = {"group": group, "value": values[group], "mean": float(np.mean(list(values.values())))}
        return found


def group_figures(table: AnswerTable, column: str, resamples: int) -> GroupFigures:
    """The figures of each group of faces with one value in a column.

    Args:
        table: answers; their questions keep the column's values.
        column: text, or numbers: `age` is split at `AGE_BANDS`, another one into `QUANTILES` groups of equal size.
        resamples: of the bootstrap.
    """
    names = group_names(column, [row.question.attributes.get(column) for row in table.rows])
    groups: dict[str, list[Any]] = {}
    for name, row in zip(names, table.rows, strict=True):
        if name is not None:
            groups.setdefault(name, []).append(row)
    faces, values = {}, {}
    for name in _in_order(column, groups):
        ids = dict.fromkeys(row.question.image_id for row in groups[name])
        part = AnswerTable(groups[name], {image_id: i for i, image_id in enumerate(ids)}, table.units)
        figures = {key: figure for key, figure in recognition_figures(part).items() if key.split("/")[0] in FIGURES}
        found, ends = measure(figures, len(ids)), intervals(figures, len(ids), resamples)
        faces[name] = len(ids)
        values[name] = {key: (value, *ends[key]) for key, value in found.items() if not math.isnan(value)}
    return GroupFigures(column, faces, values)


def group_names(column: str, values: Sequence[Any]) -> list[str | None]:
    """The group that each value of a column falls into; None where the value is null.

    >>> group_names("age", [3, 34.5, None, 88])
    ['0 to 9', '30 to 39', None, '70 and over']
    >>> group_names("sex", ["female", None])
    ['female', None]
    """
    known = [value for value in values if value is not None and value == value]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        return [None if value is None else str(value) for value in values]
    edges = list(AGE_BANDS) if column == "age" else list(np.unique(np.quantile(known, np.arange(QUANTILES) / QUANTILES))) if known else []
    labels = _band_labels(edges, whole=column == "age")
    return [
        None if value is None or value != value else labels[max(0, int(np.searchsorted(edges, value, "right")) - 1)] for value in values
    ]


def _band_labels(edges: Sequence[float], whole: bool) -> list[str]:
    if whole:
        return [*(f"{low:g} to {high - 1:g}" for low, high in itertools.pairwise(edges)), f"{edges[-1]:g} and over"]
    return [
        *(f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)),
        *([f"{edges[-1]:.3g} and over"] if edges else []),
    ]


def _in_order(column: str, groups: dict[str, list[Any]]) -> list[str]:
    """Bands by their values, other groups by name."""

    def key(name: str) -> tuple[float, str]:
        value = groups[name][0].question.attributes[column]
        return (float(value) if isinstance(value, (int, float)) else 0.0, name)

    return sorted(groups, key=key)
