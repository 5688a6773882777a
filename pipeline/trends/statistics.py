"""Statistics over many videos: measures by video, day and group with bootstrap intervals, and groups compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import PermutationMethod, false_discovery_control, mannwhitneyu

from pipeline.trends.events import Row, rate_per_min
from pipeline.trends.measures import SUMMARISED
from pipeline.vocabulary import AUS, EMOTIONS

RESAMPLES = 2000
"""Bootstrap resamples. More steady the third digit of the intervals and take longer."""

SEED = 0
MIN_BOOTSTRAP = 5
"""Fewer videos get no interval: the bootstrap's would be far too narrow."""

PERMUTE_UP_TO = 20
"""Videos of both groups together up to which ties are handled by permutation (exact if all permutations can be tried); above that, by the
normal approximation."""

TRACK_MEANS = tuple(measure.name for measure in SUMMARISED)
"""Columns of the tracks table that are averaged over a video's tracks by seen time."""


def by_video(videos: pd.DataFrame, tracks: pd.DataFrame, units: pd.DataFrame) -> list[Row]:
    """Every measure of every video with a series.

    Args:
        videos: rows of the videos table, indexed by `video_id`.
        tracks, units: rows of the tables `tracks` and `track_aus`.

    Returns:
        Rows of the by_video table: shares, rates and means over the seen time of all tracks, and the mean of the tracks' ages. Rates need
        `pipeline.trends.events.MIN_RATE_S` of seen time.
    """
    return _with_measures(videos, "video_id", tracks, units)


def by_person(tracks: pd.DataFrame, units: pd.DataFrame) -> list[Row]:
    """Every measure of every linked person, over all videos: rows of the by_person table.

    Args:
        tracks, units: see `by_video`.
    """
    linked = tracks[tracks["person_id"].notna()]
    people = linked.groupby("person_id").agg(person=("person", "first"), videos=("video_id", "nunique"), seen_s=("seen_s", "sum"))
    return _with_measures(people.reset_index(), "person_id", linked, units[units["person_id"].notna()])


def _with_measures(about: pd.DataFrame, by: str, tracks: pd.DataFrame, units: pd.DataFrame) -> list[Row]:
    """The rows of `about` with each measure of the tracks whose column `by` is theirs."""
    seen = tracks.set_index(["video_id", "track_id"])["seen_s"]
    units = units[units["active_share"].notna()]
    units = units.assign(seen_s=seen.reindex(pd.MultiIndex.from_frame(units[["video_id", "track_id"]])).to_numpy())
    units = units.assign(active_s=units["active_share"] * units["seen_s"])
    units = units.groupby([by, "au"])[["active_s", "events", "seen_s"]].sum()
    values: dict[str, dict[str, float | None]] = {}
    for key, part in tracks.groupby(by):
        own: dict[str, float | None] = {
            f"share_{name}": float(np.average(part[f"share_{name}"], weights=part["seen_s"])) for name in EMOTIONS
        }
        for name in TRACK_MEANS:
            known = part[part[name].notna()]
            own[name] = float(np.average(known[name].astype(float), weights=known["seen_s"])) if len(known) else None
        counted = part[part["blinks"].notna()]
        own["rate_blinks"] = rate_per_min(counted["blinks"].sum(), counted["seen_s"].sum())
        values[str(key)] = own | {"age": float(part["age"].astype(float).mean())}
    for (key, au), row in zip(units.index, units.itertuples(), strict=True):
        values[key] |= {f"active_{au}": row.active_s / row.seen_s, f"rate_{au}": rate_per_min(row.events, row.seen_s)}
    order = [f"{kind}_{name}" for kind, names in (("share", EMOTIONS), ("active", AUS), ("rate", AUS)) for name in names]
    order += [*TRACK_MEANS, "rate_blinks", "age"]
    return [
        {**row, "measure": measure, "value": float(value)}
        for row in about.to_dict("records")
        for measure in order
        if (value := values.get(row[by], {}).get(measure)) is not None and np.isfinite(value)
    ]


def bootstrap(values: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Means of resampled videos (Efron 1979), the same resamples for all measures.

    Args:
        values: (videos, measures); NaN where a video does not have that measure.
        seed: a different one for a sample that must be resampled independently.

    Returns:
        (RESAMPLES, measures); NaN where a resample holds no video with that measure.
    """
    count = len(values)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return (drawn @ np.where(known, values, 0.0)) / (drawn @ known)


def interval(resampled: np.ndarray, known: np.ndarray) -> np.ndarray:
    """95% percentile intervals.

    Args:
        resampled: (resamples, measures) from `bootstrap`.
        known: (measures,) videos that have each measure; fewer than `MIN_BOOTSTRAP` give no interval.

    Returns:
        (measures, 2); NaN where there is no interval.
    """
    with np.errstate(all="ignore"):
        ends = np.array([np.nanquantile(column, (0.025, 0.975)) if np.isfinite(column).any() else (np.nan,) * 2 for column in resampled.T])
    ends[known < MIN_BOOTSTRAP] = np.nan
    return ends


def means(by_video: pd.DataFrame, key: str, order: Sequence[str] = ()) -> list[Row]:
    """Mean of every measure for each value of `key`, every video counting once.

    Args:
        by_video: rows of that table.
        key: `day` or `group`.
        order: of the values; sorted by default.
    """
    rows = []
    for value, wide in _wide(by_video, key, order).items():
        matrix = wide.to_numpy(float)
        known = np.isfinite(matrix).sum(axis=0)
        ends = interval(bootstrap(matrix), known)
        for column, measure in enumerate(wide.columns):
            if known[column]:
                mean = float(np.nanmean(matrix[:, column]))
                low, high = ends[column]
                rows.append({key: value, "measure": measure, "videos": int(known[column]), "mean": mean, "low": low, "high": high})
    return rows


def _wide(by_video: pd.DataFrame, key: str, order: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Value of `key` to its (videos, measures) frame, in order."""
    known = by_video[by_video[key].notna()]
    measures = list(dict.fromkeys(by_video["measure"]))
    frames = {
        str(value): part.pivot(index="video_id", columns="measure", values="value").reindex(columns=measures)
        for value, part in known.groupby(key, sort=True)
    }
    return {value: frames[value] for value in order if value in frames} | frames


def compare(by_video: pd.DataFrame, order: Sequence[str] = ()) -> list[Row]:
    """Compare every two groups in every measure, corrected for the number of tests.

    The unit is the video. Test: Mann and Whitney (1947). Effect size: Cliff's delta (1993) = 2U / (n_a n_b) - 1. Difference of means with
    a bootstrap interval, videos resampled within each group. Correction: Benjamini and Hochberg (1995) over all tested rows. A measure
    that is the same in all videos of both groups is not tested: no grouping of them could differ.

    Args:
        by_video: rows of that table.
        order: of the groups, the first of a pair is `group_a`; sorted by default.
    """
    groups = _wide(by_video, "group", order)
    rows: list[Row] = []
    for one, two in combinations(groups, 2):
        a, b = groups[one].to_numpy(float), groups[two].to_numpy(float)
        known = np.minimum(np.isfinite(a).sum(axis=0), np.isfinite(b).sum(axis=0))
        ends = interval(bootstrap(b, SEED + 1) - bootstrap(a), known)
        for column, measure in enumerate(groups[one].columns):
            x, y = (matrix[np.isfinite(matrix[:, column]), column] for matrix in (a, b))
            if not (len(x) and len(y)):
                continue
            p, delta = _mann_whitney(x, y)
            rows.append(
                {
                    "measure": measure,
                    "group_a": one,
                    "group_b": two,
                    "videos_a": len(x),
                    "videos_b": len(y),
                    "mean_a": float(x.mean()),
                    "mean_b": float(y.mean()),
                    "difference": float(y.mean() - x.mean()),
                    "low": ends[column][0],
                    "high": ends[column][1],
                    "cliffs_delta": delta,
                    "p": p,
                    "p_corrected": None,
                }
            )
    tested = [row for row in rows if row["p"] is not None]
    for row, corrected in zip(tested, false_discovery_control([row["p"] for row in tested]) if tested else [], strict=True):
        row["p_corrected"] = float(corrected)
    untested = (2.0, 2.0)  # sorts after every p
    return sorted(rows, key=lambda row: (*(untested if row["p"] is None else (row["p_corrected"], row["p"])), -abs(row["cliffs_delta"])))


def _mann_whitney(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float]:
    """Two-sided p (None where a side has fewer than two values, or all are the same) and Cliff's delta of y over x."""
    delta = float(np.sign(y[:, None] - x[None, :]).mean())
    if min(len(x), len(y)) < 2:
        return None, delta
    together = np.concatenate([x, y])
    distinct = len(np.unique(together))
    if distinct == 1:
        return None, delta
    few_with_ties = distinct < len(together) <= PERMUTE_UP_TO
    method = PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(SEED)) if few_with_ties else "auto"
    return float(mannwhitneyu(x, y, method=method).pvalue), delta
