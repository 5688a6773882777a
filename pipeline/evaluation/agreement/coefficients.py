"""Coefficients of agreement between two codings, each a function of sums over units, so that resampling them costs one matrix product.

The coder is the reference of precision and recall; kappa and ICC treat both sides alike. Two codings of one kind of frame give four counts:
`both` say present, `run` alone, `coder` alone, `neither`.
"""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.bootstrap import ratio


def kappa(both: np.ndarray, run: np.ndarray, coder: np.ndarray, neither: np.ndarray) -> np.ndarray:
    """Cohen's kappa (1960, "A coefficient of agreement for nominal scales"): (p_o - p_e) / (1 - p_e), where p_o is the share of frames on
    which both agree and p_e the share expected of two codings with these margins by chance. NaN where p_e is 1: neither side varies.

    >>> round(float(kappa(*np.array([40.0, 9.0, 6.0, 45.0]))), 2)  # Feinstein and Cicchetti 1990, table 1
    0.7
    """
    frames = np.asarray(both + run + coder + neither, np.float64)
    observed = ratio(both + neither, frames)
    expected = ratio((both + run) * (both + coder) + (neither + run) * (neither + coder), frames**2)
    return ratio(observed - expected, np.where(1 - expected > 1e-12, 1 - expected, 0.0))


def kappa_of_matrix(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa of (K, K, ...) counts over K classes: coder by run."""
    frames = counts.sum((0, 1))
    observed = ratio(np.trace(counts), frames)
    expected = ratio((counts.sum(0) * counts.sum(1)).sum(0), frames**2)
    return ratio(observed - expected, np.where(1 - expected > 1e-12, 1 - expected, 0.0))


def precision(both: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Share of what the run says that the coder says too; NaN where the run says nothing."""
    return ratio(both, both + run)


def recall(both: np.ndarray, coder: np.ndarray) -> np.ndarray:
    """Share of what the coder says that the run says too; NaN where the coder says nothing."""
    return ratio(both, both + coder)


def f1(both: np.ndarray, run: np.ndarray, coder: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN); NaN where neither side says anything."""
    return ratio(2 * both, 2 * both + run + coder)


def icc_parts(ratings: np.ndarray) -> np.ndarray:
    """(N, K) ratings of N targets by K raters as (N, K + 3) parts that `icc_3_1` takes the sums of: the target, its ratings, the sum of
    their squares, the square of their sum."""
    return np.column_stack([np.ones(len(ratings)), ratings, (ratings**2).sum(1), ratings.sum(1) ** 2])


def icc_3_1(sums: np.ndarray) -> np.ndarray:
    """ICC(3,1) of Shrout and Fleiss (1979, "Intraclass correlations: uses in assessing rater reliability").

    (BMS - EMS) / (BMS + (k - 1) EMS) of a two-way analysis of variance without replication, k raters being fixed. It measures
    consistency: a rater who is always one grade higher agrees.

    Args:
        sums: (K + 3, ...) from `icc_parts`.

    Returns:
        NaN for fewer than two targets, or where no rating varies.

    >>> ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    >>> round(float(icc_3_1(icc_parts(ratings).sum(0))), 2)  # table 2 of the paper
    0.71
    """
    targets, raters, squares, totals = sums[0], sums[1:-2], sums[-2], sums[-1]
    count = len(raters)
    grand = ratio(raters.sum(0) ** 2, targets * count)
    between = totals / count - grand
    error = squares - grand - between - (ratio((raters**2).sum(0), targets) - grand)
    between_mean, error_mean = ratio(between, targets - 1), ratio(error, (targets - 1) * (count - 1))
    below = between_mean + (count - 1) * error_mean
    return ratio(between_mean - error_mean, np.where(below > 1e-9, below, 0.0))
