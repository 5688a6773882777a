"""Summaries of one track: time in each emotion, eyes, head, AU shares and rates, notable moments, and AUs that occur together."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pipeline.trends.ages import Age
from pipeline.trends.events import Row, leading, rate_note, rate_per_min
from pipeline.trends.measures import summarise, weighted_mean
from pipeline.trends.series import Series, stretches
from pipeline.vocabulary import AUS, EMOTIONS

MOMENTS = 3
"""Typical and unusual moments listed per track."""

MOMENT_DISTANCE_S = 3.0
"""Seconds between two of them, so that one grimace is not listed three times."""

MIN_DEVIATION = 0.1
"""Scores that differ less from the track's median are not named as what makes a moment unusual."""


def track_summary(series: Series, age: Age | None, measures: dict[str, np.ndarray]) -> Row:
    """The row of the tracks table, without the columns about the eyes.

    Args:
        series: of the track.
        age: from `pipeline.trends.ages`.
        measures: from `pipeline.trends.measures.derive`.
    """
    lead, duration_s = leading(series), series.duration_s
    felt_s = np.bincount(lead[lead >= 0], duration_s[lead >= 0], len(EMOTIONS))
    shares = felt_s / felt_s.sum() if felt_s.sum() else felt_s
    years = dict(zip(("age", "age_low", "age_high"), age or (None, None, None), strict=True))
    return {
        "first_s": float(series.start_s[0]),
        "last_s": float(series.end_s[-1]),
        "seen_s": series.seen_s,
        "gaps": len(stretches(series.gap)),
        **years,
        "emotion": EMOTIONS[int(shares.argmax())] if felt_s.sum() else None,
        **{f"share_{name}": float(share) for name, share in zip(EMOTIONS, shares, strict=True)},
        **summarise(measures, duration_s),
    }


def track_aus(series: Series, active: np.ndarray, compared: np.ndarray, thresholds: np.ndarray) -> list[Row]:
    """A row per AU that is known of this track.

    Args:
        series: of the track.
        active: (T, A) inside events.
        compared: (T, A) what was compared with the thresholds; an AU that it does not know (relative, without a baseline) has no events.
        thresholds: (A,) scores at which events begin.
    """
    rows = []
    for column in np.flatnonzero(np.isfinite(series.raw_scores).any(axis=0)):
        known = np.isfinite(compared[:, column])
        count = len(stretches(active[:, column])) if known.any() else None
        rows.append(
            {
                "au": AUS[column],
                "mean": weighted_mean(series.scores[:, column], series.duration_s),
                "mean_intensity": weighted_mean(series.intensity[:, column], series.duration_s),
                "threshold": float(thresholds[column]),
                "active_share": weighted_mean(np.where(known, active[:, column], np.nan), series.duration_s),
                "events": count,
                "events_per_min": None if count is None else rate_per_min(count, series.seen_s),
                "rate_note": rate_note(series.seen_s),
                "baseline": float(series.baseline[column]),
                "baseline_basis": series.baseline_basis,
            }
        )
    return rows


def moments(series: Series) -> list[Row]:
    """The track's most typical and most unusual moments: nearest to, and farthest from, the medians of all its scores.

    The distance is the root mean square difference over AU scores and emotion probabilities, unsmoothed. Moments farther from the medians
    than half of all moments can be unusual; so a track of few samples has none.
    """
    values = np.column_stack([series.raw_scores, series.raw_emotions])
    names = np.array([*AUS, *EMOTIONS])
    values, names = values[:, (known := np.isfinite(values).any(axis=0))], names[known]
    places = np.flatnonzero(np.isfinite(values).all(axis=1)) if values.size else np.array([], int)
    if not len(places):
        return []
    deviation = values[places] - np.median(values[places], axis=0)
    distance = np.sqrt((deviation**2).mean(axis=1))
    time_s = series.time_s[places]
    rows: list[Row] = []
    for kind, order in (("typical", np.argsort(distance, kind="stable")), ("unusual", np.argsort(-distance, kind="stable"))):
        chosen: list[int] = []
        for index in order.tolist():
            if len(chosen) == MOMENTS or (kind == "unusual" and distance[index] <= np.median(distance)):
                break
            if all(abs(time_s[index] - time_s[other]) >= MOMENT_DISTANCE_S - 1e-6 for other in chosen):
                chosen.append(index)
        for rank, index in enumerate(chosen, 1):
            largest = np.argsort(-np.abs(deviation[index]), kind="stable")[:3]
            reasons = [f"{names[item]} {deviation[index][item]:+.2f}" for item in largest if abs(deviation[index][item]) >= MIN_DEVIATION]
            rows.append(
                {
                    "kind": kind,
                    "rank": rank,
                    "time_s": float(time_s[index]),
                    "frame_index": int(series.frame_index[places[index]]),
                    "distance": float(distance[index]),
                    "because": ", ".join(reasons) if kind == "unusual" else "",
                }
            )
    return rows


def cooccurrence(active: np.ndarray, duration_s: np.ndarray) -> list[Row]:
    """Pairs of AUs that are both active at some time, and how strongly they occur together.

    Sources: Jaccard (1901) for shared time over joint time; phi is Pearson's correlation of two binary series (Yule 1912).

    Args:
        active: (T, A) inside events.
        duration_s: (T,) seconds that each sample stands for, without gaps.

    >>> pairs = cooccurrence(np.eye(4, len(AUS), dtype=bool) | np.eye(4, len(AUS), 1, dtype=bool), np.ones(4))
    >>> pairs[0]["au_a"], pairs[0]["au_b"], pairs[0]["both_s"]
    ('AU01', 'AU02', 1.0)
    """
    on = active.astype(float)
    together = (on * duration_s[:, None]).T @ on
    seen_s = float(duration_s.sum())
    rows = []
    for a, b in combinations(np.flatnonzero(together.diagonal()), 2):
        a_s, b_s, both_s = (float(value) for value in (together[a, a], together[b, b], together[a, b]))
        spread = a_s * b_s * (seen_s - a_s) * (seen_s - b_s)
        phi = (seen_s * both_s - a_s * b_s) / spread**0.5 if spread > 1e-9 else None
        seconds = {"seen_s": seen_s, "a_s": a_s, "b_s": b_s, "both_s": both_s}
        rows.append({"au_a": AUS[a], "au_b": AUS[b], **{name: round(value, 6) for name, value in seconds.items()}})
        rows[-1] |= {"jaccard": both_s / (a_s + b_s - both_s), "phi": phi}
    return rows
