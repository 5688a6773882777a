"""What a whole track says of one person: age once, time in each emotion, telling moments, and which AUs come together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from pipeline.trends.events import Row, blinks, leading
from pipeline.trends.options import Options
from pipeline.trends.series import Track, stretches
from pipeline.vocabulary import AUS, EMOTIONS

TENTH = 1.2815515655446004
"""Standard deviations from a normal's median to its 90th percentile."""

LEAST_YEARS = 1.0
"""Narrowest half of an age distribution, in years to its 10th or 90th percentile; keeps the pool smooth."""

MOMENTS = 3
"""Typical and unusual moments named per person."""

APART = 3
"""Cells between two of them, so that one grimace is not named three times."""

TELLING = 0.1
"""Scores that differ less from the person's median are not named as what makes a moment unusual."""


def pooled_age(ages: np.ndarray) -> tuple[float, float, float] | None:
    """One age of a person from many windows' estimates: quantiles of the equal mixture of their distributions.

    Each window's distribution is taken as two half normals around its median, through its 10th and 90th percentile; the pool is their mean
    (the linear opinion pool of Stone 1961). A few wild windows hardly move its median, and its width keeps both the windows' own doubt
    and their disagreement. It does not shrink with more windows, for they share the model's errors.

    Args:
        ages: (T, 3) median, 10th and 90th percentile in years; rows with NaN are left out.

    Returns:
        Median, 10th and 90th percentile; None without any row.
    """
    known = ages[np.isfinite(ages).all(axis=1)]
    if not len(known):
        return None
    middle, low, high = known.T
    below, above = np.maximum(middle - low, LEAST_YEARS) / TENTH, np.maximum(high - middle, LEAST_YEARS) / TENTH

    youngest, oldest = float((middle - 9 * below).min()), float((middle + 9 * above).max())

    def beyond(age: float, part: float) -> float:
        away = age - middle
        return float(ndtr(away / np.where(away < 0, below, above)).mean()) - part

    def quantile(part: float) -> float:
        return float(brentq(beyond, youngest, oldest, args=(part,), xtol=1e-4))

    return quantile(0.5), quantile(0.1), quantile(0.9)


def person(track: Track, options: Options) -> Row:
    """The row of the people table."""
    lead = leading(track)
    shares = np.bincount(lead[lead >= 0], minlength=len(EMOTIONS)) / max(1, (lead >= 0).sum())
    age = pooled_age(track.ages)
    steps = np.abs(np.diff(track.ages[:, 0]))
    steps = steps[np.isfinite(steps)]
    return {
        "first_s": float(track.times[0]),
        "last_s": float(track.time(len(track.gap))),
        "seen_s": round(track.seen * track.grid_s, 6),
        "gaps": len(stretches(track.gap)),
        **dict(zip(("age", "age_low", "age_high"), age or (None,) * 3, strict=True)),
        "age_step": float(np.median(steps)) if len(steps) else None,
        "emotion": EMOTIONS[int(shares.argmax())] if (lead >= 0).any() else None,
        **{f"share_{name}": float(share) for name, share in zip(EMOTIONS, shares, strict=True)},
        **blinks(track, options.on, options.off),
    }


def person_aus(track: Track, active: np.ndarray, judged: np.ndarray) -> list[Row]:
    """A row an AU that is known of this person.

    Args:
        track: whose.
        active: (T, 22) inside events.
        judged: (T, 22) what the events were judged on; an AU that it does not know (relative, without a baseline) has no events.
    """
    rows = []
    for column in np.flatnonzero(np.isfinite(track.raw).any(axis=0)):
        known = np.isfinite(judged[:, column]).sum()
        count = len(stretches(active[:, column]))
        rows.append(
            {
                "au": AUS[column],
                "mean": float(np.nanmean(track.aus[:, column])),
                "active_share": float(active[:, column].sum() / known) if known else None,
                "events": count if known else None,
                "events_per_min": count / track.minutes if known else None,
                "baseline": float(track.baselines[column]),
                "baseline_basis": track.basis,
            }
        )
    return rows


def moments(track: Track) -> list[Row]:
    """The person's most typical and most unusual moments: nearest to, and farthest from, the medians of all scores."""
    values = np.column_stack([track.raw, track.felt])
    names = np.array([*AUS, *EMOTIONS])
    values, names = values[:, (known := np.isfinite(values).any(axis=0))], names[known]
    places = np.flatnonzero(np.isfinite(values).all(axis=1)) if values.size else np.array([], int)
    if not len(places):
        return []
    away = values[places] - np.median(values[places], axis=0)
    distance = np.sqrt((away**2).mean(axis=1))
    rows = []
    for kind, order in (("typical", np.argsort(distance, kind="stable")), ("unusual", np.argsort(-distance, kind="stable"))):
        chosen: list[int] = []
        for index in order:
            if len(chosen) < MOMENTS and all(abs(places[index] - places[other]) >= APART for other in chosen):
                chosen.append(int(index))
        if kind == "unusual":  # what is among the typical already is not unusual: few cells have no unusual moments
            chosen = [index for index in chosen if distance[index] > np.median(distance)]
        for rank, index in enumerate(chosen, 1):
            place = places[index]
            strongest = np.argsort(-np.abs(away[index]), kind="stable")[:3]
            telling = [f"{names[item]} {away[index][item]:+.2f}" for item in strongest if abs(away[index][item]) >= TELLING]
            rows.append(
                {
                    "kind": kind,
                    "rank": rank,
                    "time_s": float(track.times[place]),
                    "frame_index": int(track.frames[place]),
                    "distance": float(distance[index]),
                    "because": ", ".join(telling) if kind == "unusual" else "",
                    "description": track.texts[place],
                }
            )
    return rows


def cooccurrence(active: np.ndarray, seen: np.ndarray) -> list[Row]:
    """Pairs of AUs that were both on at some time, with how much they go together.

    Args:
        active: (T, 22) inside events.
        seen: (T,) cells that count.
    """
    on = active[seen].astype(np.int64)
    together = on.T @ on
    cells = len(on)
    rows = []
    for a, b in combinations(np.flatnonzero(together.diagonal()), 2):
        one, two, both = int(together[a, a]), int(together[b, b]), int(together[a, b])
        spread = one * two * (cells - one) * (cells - two)
        phi = (cells * both - one * two) / spread**0.5 if spread else None
        counts = {"cells": cells, "a": one, "b": two, "both": both}
        rows.append({"au_a": AUS[a], "au_b": AUS[b], **counts, "jaccard": both / (one + two - both), "phi": phi})
    return rows
