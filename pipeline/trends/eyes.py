"""Blinks and closed eyes, from the unsmoothed score of AU43."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks, peak_widths

from pipeline.describe.active_units import hysteresis
from pipeline.trends.events import Row, rate_note, rate_per_min
from pipeline.trends.series import Series, stretches
from pipeline.vocabulary import AUS

CLOSED = AUS.index("AU43")

BLINK_LONGEST_S = 0.5
"""A longer closure is no blink: FACS codes AU45 (blink) up to half a second and AU43 (eyes closed) beyond it."""

BLINK_RISE = 0.45
"""A blink raises the score of AU43 by this share of its threshold, and lowers it again as much. The lids of a fast blink meet between two
frames or in a single one, where the score often stays below the threshold. Lower counts half-closed lids too; higher misses fast blinks."""

BLINK_STEP_S = 0.05
"""The lids stay down for 0.05 to 0.1 s in a fast blink, so values this far apart meet nearly all of them; on coarser series some fall
between two values."""

BLINK_COARSEST_STEP_S = 0.4
"""No rate is given on coarser series: most blinks are missed, and long closures pass for blinks."""


def find_blinks(time_s: np.ndarray, end_s: np.ndarray, closed: np.ndarray, threshold: float) -> list[tuple[slice, int]]:
    """Find the blinks in a score of AU43.

    A blink is a peak that rises above its surroundings on both sides by `BLINK_RISE` times the threshold (its prominence), and that is at
    most `BLINK_LONGEST_S` wide at half of that rise, where the durations of lid movements are usually taken (`half-base` of BLINKER,
    Kleifges et al. 2017). OpenFace's AU45 is a classifier of single frames instead, and counts long closures too.

    Args:
        time_s, end_s: (T,) the span of each sample in seconds.
        closed: (T,) score of AU43; NaN in gaps, which no blink touches.
        threshold: score at which AU43 counts as active.

    Returns:
        For each blink the samples above half of its rise, and the sample of its peak.
    """
    found = []
    for part in stretches(np.isfinite(closed)):
        values = closed[part]
        peaks, about = find_peaks(values, prominence=BLINK_RISE * threshold)
        height = values[peaks] - about["prominences"] / 2
        left, right = (np.asarray(ends) for ends in peak_widths(values, peaks, rel_height=0.5)[2:])
        for peak, level, before, after in zip(peaks.tolist(), height, left, right, strict=True):
            inside = np.flatnonzero(values[int(np.ceil(before)) : int(np.floor(after)) + 1] >= level) + int(np.ceil(before))
            first, last = part.start + int(inside[0]), part.start + int(inside[-1])
            if end_s[last] - time_s[first] <= BLINK_LONGEST_S + 1e-6:
                found.append((slice(first, last + 1), part.start + peak))
    return found


def blinks(series: Series, threshold: float) -> list[Row]:
    """The blinks of a track, in order of time; none on a series that cannot show them."""
    if series.step_s > BLINK_COARSEST_STEP_S:
        return []
    closed = series.raw_scores[:, CLOSED]
    return [
        {
            "onset_s": float(series.start_s[part.start]),
            "apex_s": float(series.time_s[peak]),
            "offset_s": float(series.end_s[part.stop - 1]),
            "duration_s": round(float(series.end_s[part.stop - 1] - series.start_s[part.start]), 6),
            "peak": float(closed[peak]),
            "apex_frame": int(series.frame_index[peak]),
        }
        for part, peak in find_blinks(series.start_s, series.end_s, closed, threshold)
    ]


def eye_summary(series: Series, found: list[Row], threshold: float, hold: float) -> Row:
    """What a track's eyes did, and how far to trust it.

    Args:
        series: of the track.
        found: its blinks.
        threshold, hold: as in `pipeline.trends.options.Options`, for AU43.

    Returns:
        `eyes_closed_share`, `blinks`, `blinks_per_min` and `blink_note`; None for what the series cannot tell.
    """
    closed = series.raw_scores[:, CLOSED]
    known = np.isfinite(closed)
    unknown: Row = {"eyes_closed_share": None, "blinks": None, "blinks_per_min": None}
    if not known.any():
        return unknown | {"blink_note": "AU43 is not known: the model or the region cannot show it"}
    shut = hysteresis(closed, threshold, threshold * hold)
    share = {"eyes_closed_share": float(series.duration_s[shut].sum() / series.duration_s[known].sum())}
    step_s, seen_s = series.step_s, series.seen_s
    if step_s > BLINK_COARSEST_STEP_S:
        return unknown | share | {"blink_note": f"a value every {step_s:g} s cannot show blinks; use scores of every frame, at --fps 24"}
    if note := rate_note(seen_s):
        return unknown | share | {"blinks": len(found), "blink_note": note}
    note = f"underestimated: a value every {step_s:.2g} s misses fast blinks; run with --fps 24" if step_s > BLINK_STEP_S + 1e-6 else None
    return share | {"blinks": len(found), "blinks_per_min": rate_per_min(len(found), seen_s), "blink_note": note}
