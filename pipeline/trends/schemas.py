"""The columns of every table that `focalface trends` writes, each with its meaning."""

from __future__ import annotations

import pyarrow as pa

from pipeline.vocabulary import AUS, EMOTIONS

_TEXT, _SCORE, _REAL, _FLAG, _COUNT = pa.string(), pa.float32(), pa.float64(), pa.bool_(), pa.int64()
Columns = list[tuple[str, pa.DataType, str]]

_VIDEO: Columns = [("run", _TEXT, "name of the run folder"), ("video_id", _TEXT, "of the run's videos table")]
_TRACK: Columns = [*_VIDEO, ("track_id", pa.int32(), "one person's continuous presence in that video")]
_WHOSE: Columns = [
    *_VIDEO,
    ("path", _TEXT, "the file, as the run was given it"),
    ("day", _TEXT, "UTC day of the recording, as far as known"),
    ("day_source", _TEXT, "container (its creation_time) or file (time of last change)"),
    ("group", _TEXT, "of the groups CSV"),
]
_SPAN: Columns = [
    ("onset_s", _REAL, "start of its first cell"),
    ("offset_s", _REAL, "end of its last cell"),
    ("duration_s", _REAL, "offset_s - onset_s"),
    ("peak", _REAL, "highest value, in the scale that was judged"),
    ("mean", _REAL, "mean value, in the scale that was judged"),
    ("censored_start", _FLAG, "it was there when the person came into view: the true onset is earlier, unknown"),
    ("censored_end", _FLAG, "it was there when the person went out of view: the true offset is later, unknown"),
]
_MEAN: Columns = [
    ("measure", _TEXT, "as in by_video"),
    ("videos", _COUNT, "that have this measure"),
    ("mean", _REAL, "over videos, each counting once"),
    ("low", _REAL, "2.5th percentile of the bootstrap over videos; null for fewer than five"),
    ("high", _REAL, "97.5th percentile"),
]
_SHIFT: Columns = [
    ("measure", _TEXT, "an AU's score, or an emotion's probability"),
    ("before", _REAL, "mean from the change before to this one"),
    ("after", _REAL, "mean from this change to the next"),
]

_COLUMNS: dict[str, Columns] = {
    "series": [
        *_TRACK,
        ("time_s", _REAL, "start of the cell"),
        ("gap", _FLAG, "nothing is known: the person was out of view, or that region was not described"),
        ("frame_index", _COUNT, "of the described frame that the cell stands on"),
        *[(au, _SCORE, "score, smoothed as asked; null in gaps and where it cannot be known") for au in AUS],
        *[(f"{au}_rel", _SCORE, "score less the person's baseline") for au in AUS],
        ("emotion", _TEXT, "the most probable, after smoothing"),
        *[(f"emotion_{name}", _SCORE, "probability, smoothed as asked; the seven sum to 1") for name in EMOTIONS],
        ("age", _SCORE, "apparent age as described, not smoothed; `people` has one per person"),
    ],
    "events": [
        *_TRACK,
        ("au", _TEXT, "action unit"),
        *_SPAN[:1],
        ("apex_s", _REAL, "middle of the cell with the highest value"),
        *_SPAN[1:],
        ("apex_frame", _COUNT, "described frame at the apex"),
    ],
    "episodes": [*_TRACK, ("emotion", _TEXT, "the most probable throughout"), *_SPAN],
    "transitions": [
        *_TRACK,
        ("from_emotion", _TEXT, "of an episode"),
        ("to_emotion", _TEXT, "of the episode that follows at once; never across a gap"),
        ("count", _COUNT, "how often"),
        ("probability", _REAL, "of this next emotion, given that from_emotion was left: its row sums to 1"),
    ],
    "people": [
        *_TRACK,
        ("path", _TEXT, "the file, as the run was given it"),
        ("first_s", _REAL, "start of the first cell"),
        ("last_s", _REAL, "end of the last cell"),
        ("seen_s", _REAL, "time in cells that are no gap"),
        ("gaps", _COUNT, "holes between them"),
        ("age", _REAL, "one apparent age for the whole track: median of the pool of its windows' distributions"),
        ("age_low", _REAL, "10th percentile of the pool"),
        ("age_high", _REAL, "90th percentile of the pool"),
        ("age_step", _REAL, "median change of the described age from one cell to the next, years"),
        ("emotion", _TEXT, "the one that led for the longest time"),
        *[(f"share_{name}", _REAL, "share of the seen time in which it led") for name in EMOTIONS],
        ("eyes_closed_share", _REAL, "share of the seen time with AU43 on"),
        ("blinks", _COUNT, "closures of at most half a second; null where the grid cannot show them"),
        ("blinks_per_min", _REAL, "of seen time"),
        ("blink_note", _TEXT, "why there is no rate, or what is wrong with it"),
    ],
    "person_aus": [
        *_TRACK,
        ("au", _TEXT, "action unit"),
        ("mean", _REAL, "mean score"),
        ("active_share", _REAL, "share of the seen time inside events"),
        ("events", _COUNT, "how many"),
        ("events_per_min", _REAL, "of seen time"),
        ("baseline", _REAL, "estimated score of this person's neutral face"),
        ("baseline_basis", _TEXT, "neutral or low (see pipeline.trends.series.baseline); null: too little seen"),
    ],
    "moments": [
        *_TRACK,
        ("kind", _TEXT, "typical or unusual, for this person"),
        ("rank", _COUNT, "1 is the most so"),
        ("time_s", _REAL, "start of the cell"),
        ("frame_index", _COUNT, "the described frame"),
        ("distance", _REAL, "root mean square of the scores' differences from the person's medians"),
        ("because", _TEXT, "what differs most"),
        ("description", _TEXT, "the run's sentence"),
    ],
    "cooccurrence": [
        *_TRACK,
        ("au_a", _TEXT, "action unit"),
        ("au_b", _TEXT, "action unit, later in the list"),
        ("cells", _COUNT, "seen"),
        ("a", _COUNT, "cells with au_a on"),
        ("b", _COUNT, "cells with au_b on"),
        ("both", _COUNT, "cells with both on"),
        ("jaccard", _REAL, "both / (a + b - both)"),
        ("phi", _REAL, "correlation of the two on-off series; null where one is always on"),
    ],
    "changes": [
        *_TRACK,
        ("at_s", _REAL, "where a new level begins"),
        ("at_gap", _FLAG, "it falls on a gap: something changed while the person was out of view"),
        *_SHIFT,
    ],
    "videos": [
        *_WHOSE,
        ("status", _TEXT, "ok, no_faces or failed"),
        ("error", _TEXT, "why it failed"),
        ("duration_s", _REAL, "of the video"),
        ("people", _COUNT, "tracks with a series"),
        ("seen_s", _REAL, "time in view, summed over people"),
    ],
    "by_video": [
        *_WHOSE,
        ("measure", _TEXT, "share_<emotion>, active_<AU> (shares of seen time), rate_<AU> (events a minute), age (mean over people)"),
        ("value", _REAL, "over all people of the video"),
    ],
    "by_day": [("day", _TEXT, "UTC"), *_MEAN],
    "by_group": [("group", _TEXT, "of the groups CSV"), *_MEAN],
    "comparisons": [
        ("measure", _TEXT, "as in by_video"),
        ("group_a", _TEXT, ""),
        ("group_b", _TEXT, ""),
        ("videos_a", _COUNT, "that have this measure"),
        ("videos_b", _COUNT, "that have this measure"),
        ("mean_a", _REAL, "over videos"),
        ("mean_b", _REAL, "over videos"),
        ("difference", _REAL, "mean_b - mean_a"),
        ("low", _REAL, "2.5th percentile of the bootstrap; null where a group has fewer than five videos"),
        ("high", _REAL, "97.5th percentile"),
        ("cliffs_delta", _REAL, "P(b > a) - P(b < a) over pairs of videos, -1 to 1"),
        ("p", _REAL, "two-sided Mann-Whitney test, videos as units; null where a group has fewer than two"),
        ("p_corrected", _REAL, "by Benjamini and Hochberg over all rows of this table: false discovery rate"),
    ],
    "changes_by_day": [("day", _TEXT, "where a new level begins"), *_SHIFT],
}

SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([pa.field(column, kind, metadata={"meaning": meaning}) for column, kind, meaning in columns])
    for name, columns in _COLUMNS.items()
}
"""Table name to columns. Every table is written, with no rows where there is nothing to say."""
