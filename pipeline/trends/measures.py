"""Measures derived from AU scores, emotions and head angles, each with the published formula it follows and where it departs from it.

To add one, write a function and give it an entry in `MEASURES`; the tables, figures and comparisons follow.

A score of 0.9 says that an AU is very likely active, not that it is strong. Formulas that were published for intensities take the model's
intensities where it gives them, divided by 5, and otherwise its scores, which is a departure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.trends.series import MAX_INTENSITY, Series, stretches
from pipeline.vocabulary import AUS, EMOTIONS

NEGATIVE = ("anger", "disgust", "fear", "sadness")

AROUSAL_AUS = tuple(f"AU{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 18, 20, 23, 24, 25, 26, 27, 43))
"""The twenty action units of FaceReader's arousal; AU43 counts inverted."""

AROUSAL_MEMORY_S = 60.0
"""FaceReader corrects for a person's usual activation with the mean of the last 60 seconds."""

AROUSAL_STRONGEST = 5
"""FaceReader's arousal is the mean of the five strongest corrected activations."""

NOT_EXPRESSIVE = ("AU43", "AU61", "AU62", "AU63", "AU64")
"""Closed eyes and gaze are not counted as expression."""


def known_aus(series: Series) -> np.ndarray:
    """(A,) whether each AU is known of this track."""
    return np.isfinite(series.scores).any(axis=0)


def activation(series: Series) -> np.ndarray:
    """(T, A) how active each AU is, 0 to 1: intensity / 5 for AUs of which the model gives intensities, else the score."""
    return np.where(np.isfinite(series.intensity).any(axis=0), series.intensity / MAX_INTENSITY, series.scores)


def valence(series: Series) -> np.ndarray:
    """(T,) how positive the expression is, -1 to 1: happiness less the strongest of the negative emotions.

    Source: FaceReader (Loijens and Krips, "FaceReader Methodology Note", Noldus Information Technology), with anger, disgust, fear and
    sadness as the negative ones. FaceReader uses intensities, which do not sum to 1; these are probabilities, which do.
    """
    happiness = series.emotions[:, EMOTIONS.index("happiness")]
    return happiness - series.emotions[:, [EMOTIONS.index(name) for name in NEGATIVE]].max(axis=1)


def arousal(series: Series) -> np.ndarray:
    """(T,) how active the face is compared with its last minute, 0 to 1.

    Source: FaceReader (the same note): of each of `AROUSAL_AUS`, the activation less its mean over the last 60 seconds, at least 0;
    arousal is the mean of the five largest. AUs that the model does not know are left out, and fewer than five known ones give no arousal.
    """
    active, known = activation(series), known_aus(series)
    columns = [AUS.index(au) for au in AROUSAL_AUS if au in AUS and known[AUS.index(au)]]
    if len(columns) < AROUSAL_STRONGEST:
        return np.full(len(series.gap), np.nan)
    active[:, AUS.index("AU43")] = 1 - active[:, AUS.index("AU43")]
    active = active[:, columns]
    frame = pd.DataFrame(active, index=pd.to_timedelta(series.start_s, unit="s"))
    usual = frame.rolling(pd.Timedelta(seconds=AROUSAL_MEMORY_S), min_periods=1).mean().to_numpy()
    corrected = np.sort(np.maximum(active - usual, 0.0), axis=1)
    return np.where(np.isfinite(active).all(axis=1), corrected[:, -AROUSAL_STRONGEST:].mean(axis=1), np.nan)


def expressiveness(series: Series) -> np.ndarray:
    """(T,) mean activation of all known action units but those of closed eyes and gaze, 0 to 1.

    Source: the overall expressivity of OpenDBM (AiCure), which averages the AU values of OpenFace by emotion and then over emotions, so
    that an AU of several emotions counts several times; here every AU counts once.
    """
    columns = known_aus(series) & ~np.isin(AUS, NOT_EXPRESSIVE)
    return activation(series)[:, columns].mean(axis=1) if columns.any() else np.full(len(series.gap), np.nan)


def eye_openness(series: Series) -> np.ndarray:
    """(T,) 1 less the unsmoothed score of AU43: the probability that the eyes are not closed.

    It is no lid aperture: half-closed lids are near 1 as long as the eye is open. PERCLOS (Wierwille et al. 1994), the share of time
    with the pupil covered by 80% or more, therefore has no counterpart here; `eyes_closed_share` is the share of time with AU43 active.
    """
    return 1 - series.raw_scores[:, AUS.index("AU43")]


def _difference(series: Series, positive: str, negative: str) -> np.ndarray:
    """(T,) score of one AU less that of another; NaN where the vocabulary or the model does not know them."""
    if positive not in AUS or negative not in AUS:
        return np.full(len(series.gap), np.nan)
    return series.scores[:, AUS.index(positive)] - series.scores[:, AUS.index(negative)]


def gaze_horizontal(series: Series) -> np.ndarray:
    """(T,) direction of gaze relative to the head, -1 to 1: AU62 (eyes turned right) less AU61 (eyes turned left).

    Source: FACS (Ekman, Friesen and Hager 2002) codes the direction of the eyes as these two units. The difference of their scores says
    which side is more likely; it is no angle, as OpenFace's `gaze_angle_x` is.
    """
    return _difference(series, "AU62", "AU61")


def gaze_vertical(series: Series) -> np.ndarray:
    """(T,) direction of gaze relative to the head, -1 to 1: AU63 (eyes up) less AU64 (eyes down). See `gaze_horizontal`."""
    return _difference(series, "AU63", "AU64")


def head_speed(series: Series) -> np.ndarray:
    """(T,) angular speed of the head in degrees per second: the length of the change of (yaw, pitch, roll) since the sample before.

    Source: Hammal, Cohn and Messinger (2015, "Head movement dynamics during play and perturbed mother-infant interaction", IEEE
    Transactions on Affective Computing 6), who summarise each angle's velocity by its root mean square; OpenDBM combines the three
    angles per frame as here. A median of three samples removes single-frame errors of the landmarks first. NaN at the first sample of
    every stretch. The FACS codes of head position (AU51 to AU58) are not given.
    """
    result = np.full(len(series.gap), np.nan)
    for part in stretches(np.isfinite(series.head).all(axis=1)):
        angles = pd.DataFrame(series.head[part]).rolling(3, center=True, min_periods=1).median().to_numpy()
        steps = np.diff(angles, axis=0)
        result[part.start + 1 : part.stop] = np.sqrt((steps**2).sum(axis=1)) / np.diff(series.start_s[part])
    return result


def weighted_mean(values: np.ndarray, duration_s: np.ndarray) -> float | None:
    """Mean over time of (T,) values; None where none is known."""
    known = np.isfinite(values)
    return float(np.average(values[known], weights=duration_s[known])) if known.any() else None


def root_mean_square(values: np.ndarray, duration_s: np.ndarray) -> float | None:
    """Root mean square over time of (T,) values; None where none is known."""
    squared = weighted_mean(values**2, duration_s)
    return None if squared is None else squared**0.5


@dataclass(frozen=True)
class Measure:
    """A measure of every sample of a series.

    Attributes:
        name: its column in the series table, and (summarised) in the tracks and by_video tables.
        meaning: of a value, for the schema.
        values: gives the (T,) values of a series; NaN where unknown.
        unit: as an axis names it.
        summary: one value for a track from (T,) values and durations; None for a measure that only the series table has.
        summary_meaning: of that value.
    """

    name: str
    meaning: str
    values: Callable[[Series], np.ndarray]
    unit: str = "score"
    summary: Callable[[np.ndarray, np.ndarray], float | None] | None = weighted_mean
    summary_meaning: str = "mean over the seen time"


MEASURES: tuple[Measure, ...] = (
    Measure("valence", "happiness less the strongest negative emotion, -1 to 1", valence),
    Measure("arousal", "mean of the five AUs that rise most above their last minute, 0 to 1", arousal),
    Measure("expressiveness", "mean of all known AUs but those of closed eyes and gaze, 0 to 1", expressiveness),
    Measure("eye_openness", "1 - AU43, unsmoothed: probability that the eyes are not closed", eye_openness, summary=None),
    Measure("gaze_horizontal", "AU62 - AU61, -1 to 1; null where the model does not know them", gaze_horizontal),
    Measure("gaze_vertical", "AU63 - AU64, -1 to 1; null where the model does not know them", gaze_vertical),
    Measure(
        "head_speed",
        "angular speed of the head, degrees a second; null in series of windows",
        head_speed,
        unit="degrees a second",
        summary=root_mean_square,
        summary_meaning="root mean square over the seen time, degrees a second",
    ),
)

SUMMARISED = tuple(measure for measure in MEASURES if measure.summary is not None)
"""Measures of which tracks and videos have one value."""


def derive(series: Series) -> dict[str, np.ndarray]:
    """The values of every measure, (T,) each; NaN in gaps and where unknown."""
    return {measure.name: measure.values(series) for measure in MEASURES}


def summarise(values: dict[str, np.ndarray], duration_s: np.ndarray) -> dict[str, float | None]:
    """One value for a track of every measure that has a summary.

    Args:
        values: from `derive`.
        duration_s: (T,) seconds that each sample stands for.
    """
    return {measure.name: measure.summary(values[measure.name], duration_s) for measure in SUMMARISED if measure.summary}
