"""The columns of every table that `focalface trends` writes, each with its meaning."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipeline.trends.measures import MEASURES, SUMMARISED
from pipeline.vocabulary import AUS, EMOTIONS

_TEXT, _SCORE, _REAL, _FLAG, _COUNT = pa.string(), pa.float32(), pa.float64(), pa.bool_(), pa.int64()
Columns = list[tuple[str, pa.DataType, str]]

_VIDEO: Columns = [
    ("run", _TEXT, "name of the run folder"),
    ("video_id", _TEXT, "as in the run's videos table"),
    ("path", _TEXT, "the file, as it was given to the run"),
]
_TRACK: Columns = [
    *_VIDEO,
    ("track_id", pa.int32(), "one person's continuous presence in that video; where people are linked, the person's first track there"),
    ("person_id", _TEXT, "the person, where people are linked: one series spans all tracks of the person in the video"),
]
_ORIGIN: Columns = [
    *_VIDEO,
    ("day", _TEXT, "UTC day of the recording, as far as known"),
    ("day_source", _TEXT, "container (its creation_time) or file (its time of last change)"),
    ("group", _TEXT, "from the groups table"),
]
_TIMES: Columns = [
    ("onset_s", _REAL, "start of the first sample inside: a frame's own time, or the start of a cell"),
    ("offset_s", _REAL, "end of the last sample inside: the time of the next frame, or the end of a cell"),
    ("duration_s", _REAL, "offset_s - onset_s"),
]
_SPAN: Columns = [
    *_TIMES,
    ("peak", _REAL, "highest value of what was compared with the threshold"),
    ("mean", _REAL, "its mean over time"),
    ("censored_start", _FLAG, "already there when the person came into view: the true onset is earlier, unknown"),
    ("censored_end", _FLAG, "still there when the person went out of view: the true offset is later, unknown"),
]
_APEX: Columns = [
    ("apex_s", _REAL, "time of the highest value: the frame's own time, or the middle of the cell"),
    ("apex_frame", _COUNT, "frame at the apex"),
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
    ("before", _REAL, "mean from the previous change to this one"),
    ("after", _REAL, "mean from this change to the next"),
]
_DERIVED: Columns = [(measure.name, _SCORE, measure.meaning) for measure in MEASURES]

_COLUMNS: dict[str, Columns] = {
    "series": [
        *_TRACK,
        ("time_s", _REAL, "the frame's own time, or the start of the cell"),
        ("end_s", _REAL, "until when the sample counts; the next one begins there"),
        ("gap", _FLAG, "nothing is known: the person is out of view, the face cannot be read, or that region was not described"),
        ("frame_index", _COUNT, "of the measured frame"),
        *[(au, _SCORE, "score, smoothed as asked; null in gaps and where it cannot be known") for au in AUS],
        *[(f"{au}_rel", _SCORE, "score less the track's baseline") for au in AUS],
        *[(f"{au}_intensity", _SCORE, "FACS intensity, 0 to 5, smoothed as asked; null where the model gives none") for au in AUS],
        ("emotion", _TEXT, "the leading one: most probable after smoothing, kept until another is more probable by 0.1"),
        *[(f"emotion_{name}", _SCORE, "probability, smoothed as asked; the seven sum to 1") for name in EMOTIONS],
        ("age", _SCORE, "apparent age of this frame or cell, not smoothed; the tracks table has one per track"),
        *_DERIVED,
    ],
    "events": [
        *_TRACK,
        ("au", _TEXT, "action unit"),
        *_SPAN,
        ("peak_intensity", _REAL, "highest FACS intensity, 0 to 5; null where the model gives none"),
        *_APEX,
    ],
    "blinks": [
        *_TRACK,
        *_TIMES,
        ("peak", _REAL, "highest score of AU43"),
        *_APEX,
    ],
    "episodes": [*_TRACK, ("emotion", _TEXT, "the one that leads throughout"), *_SPAN],
    "transitions": [
        *_TRACK,
        ("from_emotion", _TEXT, "emotion of an episode"),
        ("to_emotion", _TEXT, "emotion of the episode that follows at once; never across a gap"),
        ("count", _COUNT, "how often"),
        ("probability", _REAL, "of this next emotion, given that from_emotion ends"),
    ],
    "tracks": [
        *_TRACK,
        ("person", _TEXT, "the person's name, where one was given"),
        ("joined", _COUNT, "tracks of the person in the video, which the series joins; 1 where people are not linked"),
        ("first_s", _REAL, "start of the first sample"),
        ("last_s", _REAL, "end of the last sample"),
        ("seen_s", _REAL, "time in samples that are not gaps"),
        ("unreadable_s", _REAL, "time in sampled frames with the face, in which it was not readable; null in series of windows"),
        ("gaps", _COUNT, "gaps between them"),
        ("age", _REAL, "one apparent age for the whole track: median of the pooled distributions of its windows"),
        ("age_low", _REAL, "10th percentile of the pool"),
        ("age_high", _REAL, "90th percentile of the pool"),
        ("emotion", _TEXT, "the one that leads for the longest time"),
        *[(f"share_{name}", _REAL, "share of the seen time in which it leads") for name in EMOTIONS],
        *[(measure.name, _REAL, measure.summary_meaning) for measure in SUMMARISED],
        ("eyes_closed_share", _REAL, "share of the seen time with AU43 active"),
        ("blinks", _COUNT, "closures of at most half a second; null where the series cannot show them"),
        ("blinks_per_min", _REAL, "of seen time; null below ten seconds"),
        ("blink_note", _TEXT, "why there is no rate, or what limits it"),
    ],
    "track_aus": [
        *_TRACK,
        ("au", _TEXT, "action unit"),
        ("mean", _REAL, "mean score over time"),
        ("mean_intensity", _REAL, "mean FACS intensity over time, 0 to 5; null where the model gives none"),
        ("threshold", _REAL, "score at which its events begin"),
        ("active_share", _REAL, "share of the seen time inside events"),
        ("events", _COUNT, "how many"),
        ("events_per_min", _REAL, "of seen time; null below ten seconds"),
        ("rate_note", _TEXT, "why there is no rate"),
        ("baseline", _REAL, "estimated score of this person's neutral face"),
        ("baseline_basis", _TEXT, "neutral or low, see pipeline.trends.series.baseline; null: seen too briefly"),
    ],
    "moments": [
        *_TRACK,
        ("kind", _TEXT, "typical or unusual, for this track"),
        ("rank", _COUNT, "1 is the most so"),
        ("time_s", _REAL, "the frame's own time, or the middle of the cell"),
        ("frame_index", _COUNT, "the measured frame"),
        ("distance", _REAL, "root mean square of the scores' differences from the track's medians"),
        ("because", _TEXT, "what differs most"),
        ("description", _TEXT, "the run's sentence about the window around it"),
        ("described_s", _REAL, "time of the frame that the sentence describes"),
    ],
    "cooccurrence": [
        *_TRACK,
        ("au_a", _TEXT, "action unit"),
        ("au_b", _TEXT, "action unit, later in the list"),
        ("seen_s", _REAL, "seconds seen"),
        ("a_s", _REAL, "seconds with au_a active"),
        ("b_s", _REAL, "seconds with au_b active"),
        ("both_s", _REAL, "seconds with both active"),
        ("jaccard", _REAL, "both_s / (a_s + b_s - both_s)"),
        ("phi", _REAL, "correlation of the two binary series; null where one is always active"),
    ],
    "changes": [
        *_TRACK,
        ("at_s", _REAL, "where a new level begins"),
        ("at_gap", _FLAG, "it falls on a gap: something changed while the person was out of view"),
        *_SHIFT,
    ],
    "videos": [
        *_ORIGIN,
        ("status", _TEXT, "ok, no_faces or failed"),
        ("error", _TEXT, "why it failed"),
        ("duration_s", _REAL, "of the video"),
        ("tracks", _COUNT, "tracks with a series"),
        ("seen_s", _REAL, "time in view, summed over tracks"),
        ("unreadable_s", _REAL, "time in view without being readable, summed over tracks; null in series of windows"),
    ],
    "by_video": [
        *_ORIGIN,
        (
            "measure",
            _TEXT,
            "share_<emotion>, active_<AU> (shares of seen time), rate_<AU>, rate_blinks (a minute), age (mean over tracks), and over the "
            f"seen time {', '.join(measure.name for measure in SUMMARISED)}",
        ),
        ("value", _REAL, "over all tracks of the video"),
    ],
    "by_person": [
        ("person_id", _TEXT, "the person, where people are linked"),
        ("person", _TEXT, "the person's name, where one was given"),
        ("videos", _COUNT, "videos with this person"),
        ("seen_s", _REAL, "time in view, summed over videos: rates and shares are of this time"),
        ("measure", _TEXT, "as in by_video"),
        ("value", _REAL, "over all videos of the person"),
    ],
    "by_day": [("day", _TEXT, "UTC"), *_MEAN],
    "by_group": [("group", _TEXT, "from the groups table"), *_MEAN],
    "comparisons": [
        ("measure", _TEXT, "as in by_video"),
        ("group_a", _TEXT, "the group that comes first in the groups table"),
        ("group_b", _TEXT, "the other group"),
        ("videos_a", _COUNT, "that have this measure"),
        ("videos_b", _COUNT, "that have this measure"),
        ("mean_a", _REAL, "over videos"),
        ("mean_b", _REAL, "over videos"),
        ("difference", _REAL, "mean_b - mean_a"),
        ("low", _REAL, "2.5th percentile of the bootstrap; null where a group has fewer than five videos"),
        ("high", _REAL, "97.5th percentile"),
        ("cliffs_delta", _REAL, "P(b > a) - P(b < a) over pairs of videos, -1 to 1"),
        ("p", _REAL, "two-sided Mann-Whitney test, videos as units; null where a group has fewer than two, or all values are the same"),
        ("p_corrected", _REAL, "by Benjamini and Hochberg over all tested rows of this table: false discovery rate"),
    ],
    "changes_by_day": [("day", _TEXT, "where a new level begins"), *_SHIFT],
}

SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([pa.field(column, kind, metadata={"meaning": meaning}) for column, kind, meaning in columns])
    for name, columns in _COLUMNS.items()
}
"""Table name to columns. Every table is written, with no rows where there is nothing to say."""

WITH_GROUP_COLUMNS = ("videos", "by_video", "tracks")
"""Tables that also carry the other columns of the groups table, at their end."""


def schema_of(table: str, carried: Sequence[str] = ()) -> pa.Schema:
    """The columns of a table, with those that the groups table brings in."""
    if table not in WITH_GROUP_COLUMNS:
        return SCHEMAS[table]
    return pa.schema([*SCHEMAS[table], *(pa.field(name, _TEXT, metadata={"meaning": "from the groups table"}) for name in carried)])
