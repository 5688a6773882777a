"""Over many videos: means by day and group with bootstrap intervals, groups against each other, and where a long series changes level."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import ruptures
from scipy.special import ndtri
from scipy.stats import PermutationMethod, false_discovery_control, mannwhitneyu

from pipeline.trends.events import Row
from pipeline.trends.series import Track
from pipeline.vocabulary import AUS, EMOTIONS

RESAMPLES = 2000
"""Bootstrap resamples. More steadies the intervals' third digit and takes longer."""

SEED = 0
MIN_BOOTSTRAP = 5
"""Fewer videos get no interval: the bootstrap's would be far too narrow."""

PERMUTE_UP_TO = 20
"""Videos of both groups together up to which ties are dealt with by permutations (exact where they can all be tried); above, by the normal
approximation."""

MIN_LONG = 60
"""Cells of the shortest series in which changes of level are looked for."""

MIN_LONG_DAYS = 20
"""The same for days."""

MIN_LEVEL = 10
"""Cells of the shortest level; lower finds shorter ones, and more by chance. Days have half of it."""

MOST_POINTS = 4000
"""A longer series is averaged down to so many points first: the search takes the square of it."""

CHANCE = 0.01
"""About the share of series without changes in which one is found all the same. Lower finds fewer, and only stronger ones."""

JUMPS = 0.03
"""Share of the steps from point to point that may be changes, and so tell nothing of the noise. Higher finds more, and more by chance."""

MOST_ALIKE = 0.97
"""Highest correlation taken from one point to the next; a series that drifts more slowly than this is a series of changes."""

NOISE_FLOOR = 0.02
"""Series that move less than this from cell to cell count as moving this much, so that no change in the third digit is found."""

TELLING_SHIFT = 0.15
"""A change is told in the measures that shift by at least this (else in the one that shifts most)."""


def by_video(videos: pd.DataFrame, persons: pd.DataFrame, units: pd.DataFrame) -> list[Row]:
    """Every measure of every video with faces.

    Args:
        videos, persons, units: as the tables `videos`, `people` and `person_aus`.

    Returns:
        Rows of the by_video table: shares and rates over the seen time of all people, and the mean of their ages.
    """
    seen = persons.set_index(["video_id", "track_id"])["seen_s"]
    units = units[units["active_share"].notna()]
    units = units.assign(seen_s=seen.reindex(pd.MultiIndex.from_frame(units[["video_id", "track_id"]])).to_numpy())
    units = units.assign(active_s=units["active_share"] * units["seen_s"])
    units = units.groupby(["video_id", "au"])[["active_s", "events", "seen_s"]].sum()
    values: dict[str, dict[str, float]] = {}
    for key, part in persons.groupby("video_id"):
        shares = {f"share_{name}": np.average(part[f"share_{name}"], weights=part["seen_s"]) for name in EMOTIONS}
        values[key] = shares | {"age": part["age"].mean()}
    for (key, au), row in zip(units.index, units.itertuples(), strict=True):
        values[key] |= {f"active_{au}": row.active_s / row.seen_s, f"rate_{au}": row.events / row.seen_s * 60}
    order = [f"{kind}_{name}" for kind, names in (("share", EMOTIONS), ("active", AUS), ("rate", AUS)) for name in names]
    whose = ["run", "video_id", "path", "day", "day_source", "group"]
    return [
        {name: video[name] for name in whose} | {"measure": measure, "value": float(values[key][measure])}
        for key, video in videos.iterrows()
        for measure in [*order, "age"]
        if measure in values.get(str(key), {})
    ]


def bootstrap(values: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Means of resampled videos, the same resamples for all measures.

    Args:
        values: (videos, measures); NaN where a video does not have that measure.
        seed: another one for a sample that must be resampled independently.

    Returns:
        (RESAMPLES, measures); NaN where a resample holds no video with that measure.
    """
    count = len(values)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return (drawn @ np.where(known, values, 0.0)) / (drawn @ known)


def interval(resampled: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(measures, 2) 95% percentile intervals of (resamples, measures); NaN for measures known of too few videos."""
    with np.errstate(all="ignore"):
        ends = np.array([np.nanquantile(column, (0.025, 0.975)) if np.isfinite(column).any() else (np.nan,) * 2 for column in resampled.T])
    ends[known < MIN_BOOTSTRAP] = np.nan
    return ends


def means(by_video: pd.DataFrame, key: str) -> list[Row]:
    """Mean of every measure for each value of `key`, every video counting once.

    Args:
        by_video: long, as the table of that name.
        key: `day` or `group`.
    """
    rows = []
    for value, wide in _wide(by_video, key).items():
        matrix = wide.to_numpy(float)
        known = np.isfinite(matrix).sum(axis=0)
        ends = interval(bootstrap(matrix), known)
        for column, measure in enumerate(wide.columns):
            if known[column]:
                mean = float(np.nanmean(matrix[:, column]))
                low, high = ends[column]
                rows.append({key: value, "measure": measure, "videos": int(known[column]), "mean": mean, "low": low, "high": high})
    return rows


def _wide(by_video: pd.DataFrame, key: str) -> dict[str, pd.DataFrame]:
    """Value of `key` to its (videos, measures) frame, in order."""
    known = by_video[by_video[key].notna()]
    order = list(dict.fromkeys(by_video["measure"]))
    return {
        str(value): part.pivot(index="video_id", columns="measure", values="value").reindex(columns=order)
        for value, part in known.groupby(key, sort=True)
    }


def compare(by_video: pd.DataFrame) -> list[Row]:
    """Every two groups in every measure, corrected for the number of tests.

    The unit is the video: Mann-Whitney's test, Cliff's delta = 2U / (n_a n_b) - 1 for its size, the difference of means with a bootstrap
    interval (videos resampled within each group), and p values corrected over all of them (Benjamini and Hochberg 1995).
    """
    groups = _wide(by_video, "group")
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
    untested = (2.0, 2.0)  # after every p
    return sorted(rows, key=lambda row: (*(untested if row["p"] is None else (row["p_corrected"], row["p"])), -abs(row["cliffs_delta"])))


def _mann_whitney(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float]:
    """Two-sided p (None where a side has fewer than two) and Cliff's delta of y over x."""
    delta = float(np.sign(y[:, None] - x[None, :]).mean())
    if min(len(x), len(y)) < 2:
        return None, delta
    together = np.concatenate([x, y])
    different = len(np.unique(together))
    if different == 1:
        return 1.0, delta
    few_with_ties = different < len(together) <= PERMUTE_UP_TO
    method = PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(SEED)) if few_with_ties else "auto"
    return float(mannwhitneyu(x, y, method=method).pvalue), delta


def change_points(values: np.ndarray, least: int = MIN_LEVEL) -> list[int]:
    """Where the level of a series changes: the first points of new levels.

    PELT (Killick, Fearnhead and Eckley 2012) for shifts of the mean in all measures together. The unit is the noise's long-run standard
    deviation: for AR(1) noise, var(x[t+1]-x[t]) = 2 s^2 (1-r) and var(x[t+2]-x[t]) = 2 s^2 (1-r^2), which give r (the median of all
    measures) and s sqrt((1+r)/(1-r)); so slow drift of a face is not taken for changes, and rare steps hardly touch either. The
    penalty is what the best of N places gains by chance: a chi-square of as many degrees as measures, bounded as by Laurent and
    Massart (2000).

    Args:
        values: (N, measures), all finite.
        least: points of the shortest level.
    """
    count, width = values.shape
    if count < 2 * least or not width:
        return []
    near, far = _usual_variance(values[1:] - values[:-1]), _usual_variance(values[2:] - values[:-2])
    with np.errstate(all="ignore"):
        alike = np.clip(np.nanmedian(far / near) - 1, 0, MOST_ALIKE) if near.any() else 0.0
    noise = np.sqrt(np.maximum(near, NOISE_FLOOR**2) / 2 * (1 + alike)) / (1 - alike)
    search = ruptures.KernelCPD(kernel="linear", min_size=least).fit(values / noise)
    rare = np.log(count / CHANCE)
    return [int(point) for point in search.predict(pen=width + 2 * np.sqrt(width * rare) + 2 * rare)[:-1]]


def _usual_variance(differences: np.ndarray) -> np.ndarray:
    """(measures,) mean squares of (N, measures) without the `JUMPS` largest, which may be the changes sought; right for normal ones."""
    squares = np.sort(differences**2, axis=0)[: int(len(differences) * (1 - JUMPS))]
    cut = ndtri(1 - JUMPS / 2)
    return squares.mean(axis=0) / (1 - 2 * cut * np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi) / (1 - JUMPS))


def _shifts(values: np.ndarray, points: list[int], names: list[str]) -> list[tuple[int, list[Row]]]:
    """Each change with the measures that it is told in."""
    edges = [0, *points, len(values)]
    levels = [values[begin:end].mean(axis=0) for begin, end in pairwise(edges)]
    told = []
    for number, point in enumerate(points):
        before, after = levels[number], levels[number + 1]
        size = np.abs(after - before)
        columns = [column for column in np.argsort(-size, kind="stable") if size[column] >= min(TELLING_SHIFT, size.max())]
        told.append((point, [{"measure": names[item], "before": float(before[item]), "after": float(after[item])} for item in columns]))
    return told


def track_changes(track: Track) -> list[Row]:
    """Changes of level in a person's unsmoothed AU scores and emotions together; none in series shorter than `MIN_LONG` cells."""
    values = np.column_stack([track.raw, track.felt])
    known = np.isfinite(values).any(axis=0)
    values, names = values[:, known], [name for name, keep in zip([*AUS, *EMOTIONS], known, strict=True) if keep]
    places = np.flatnonzero(np.isfinite(values).all(axis=1)) if names else np.array([], int)
    if len(places) < MIN_LONG:
        return []
    size = -(-len(places) // MOST_POINTS)
    starts = np.arange(0, len(places), size)
    averaged = np.add.reduceat(values[places], starts, axis=0) / np.diff([*starts, len(places)])[:, None]
    rows = []
    for point, shifts in _shifts(averaged, change_points(averaged), names):
        cell = places[starts[point]]
        where = {"at_s": float(track.times[cell]), "at_gap": bool(cell > 0 and track.gap[cell - 1])}
        rows += [where | shift for shift in shifts]
    return rows


def day_changes(by_day: pd.DataFrame) -> list[Row]:
    """Changes of level from day to day in the shares of emotions; none in fewer than `MIN_LONG_DAYS` days."""
    shares = by_day[by_day["measure"].str.startswith("share_")]
    wide = shares.pivot(index="day", columns="measure", values="mean").dropna().sort_index()
    if len(wide) < MIN_LONG_DAYS:
        return []
    values = wide.to_numpy(float)
    told = _shifts(values, change_points(values, MIN_LEVEL // 2), list(wide.columns))
    return [{"day": wide.index[point]} | shift for point, shifts in told for shift in shifts]
