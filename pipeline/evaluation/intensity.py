"""Agreement of answered intensities with labelled ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.evaluation.answer_table import AnswerTable
from pipeline.evaluation.bootstrap import Figure, ratio, summed

_Statistic = Callable[[np.ndarray], np.ndarray]


def intensity_figures(table: AnswerTable) -> dict[str, Figure]:
    """`au_intensity_r`, `au_intensity_icc`, `au_intensity_mae`: means over the action units, and each of them by unit (`..._by_unit`).

    r is Pearson's correlation of answer and label, ICC is ICC(3,1) of Shrout and Fleiss 1979 ("Intraclass correlations", two judges: the
    share of the variance that is the faces' own, whatever the judges' means), MAE the mean absolute difference on the scale of 0 to 5.
    A unit counts over the faces where both are known; without answered or labelled intensities there are no figures.
    """
    parts: dict[str, np.ndarray] = {}
    for au in table.units:
        sums = np.zeros((len(table.rows), 7))
        for i, row in enumerate(table.rows):
            said, gold = row.answer.au_intensities.get(au), row.question.au_intensities.get(au)
            if said is not None and gold is not None:
                sums[i] = 1, said, gold, said * said, gold * gold, said * gold, abs(said - gold)
        if sums.any():
            parts[au] = table.sum_by_face(sums)
    if not parts:
        return {}
    together = np.concatenate(list(parts.values()), 1)
    figures: dict[str, Figure] = {}
    for name, statistic in (("au_intensity_r", pearson), ("au_intensity_icc", icc), ("au_intensity_mae", _mae)):
        figures[name] = summed(together, _mean_of(statistic, len(parts)))
        figures |= {f"{name}_by_unit/{au}": summed(own, statistic) for au, own in parts.items()}
    return figures


def _mean_of(statistic: _Statistic, units: int) -> _Statistic:
    """The mean of a statistic over units, without those where it is undefined."""

    def value(sums: np.ndarray) -> np.ndarray:
        values = np.stack([statistic(part) for part in np.split(sums, units)])
        defined = ~np.isnan(values)
        return ratio(np.where(defined, values, 0).sum(0), defined.sum(0))

    return value


def _spread(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of squared deviations of the answers and of the labels from their means, and of their products."""
    n, x, y, xx, yy, xy = sums[:6]
    n = np.maximum(n, 1)
    return xx - x * x / n, yy - y * y / n, xy - x * y / n


def pearson(sums: np.ndarray) -> np.ndarray:
    """Pearson's r from (7, R) sums: count, x, y, x^2, y^2, xy, |x - y|; NaN where x or y does not vary.

    >>> pearson(np.array([[3.0], [6.0], [9.0], [14.0], [29.0], [20.0], [3.0]]))  # x = 1, 2, 3; y = 2, 3, 4
    array([1.])
    """
    x, y, xy = _spread(sums)
    varies = (x > 1e-9) & (y > 1e-9)
    return ratio(np.where(varies, xy, 0), np.where(varies, np.sqrt(np.maximum(x * y, 0)), 0))


def icc(sums: np.ndarray) -> np.ndarray:
    """ICC(3,1) of two judges from the same sums: (BMS - EMS) / (BMS + EMS), where BMS and EMS are the mean squares between faces and of the
    residual; their degrees of freedom are equal and cancel. NaN where nothing varies."""
    x, y, xy = _spread(sums)
    between, residual = (x + y + 2 * xy) / 2, (x + y - 2 * xy) / 2
    varies = between + residual > 1e-9
    return ratio(np.where(varies, between - residual, 0), np.where(varies, between + residual, 0))


def _mae(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[6], sums[0])
