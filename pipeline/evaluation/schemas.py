"""The table of predictions: its columns, and those that a file of foreign answers must or may have."""

from __future__ import annotations

import pyarrow as pa

from pipeline.vocabulary import AUS, EMOTIONS


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"meaning": meaning})


_BOX = pa.list_(pa.float64(), 4)
_UNITS = pa.list_(pa.string())

QUESTION_FIELDS = (
    _field("image_id", pa.string(), "identity of the labelled face", False),
    _field("kind", pa.string(), "which question of the face this is: a value of pipeline.evaluation.questions.KINDS", False),
    _field("source", pa.string(), "collection of the labelled face", False),
    _field("region", pa.string(), "region name, or box for a random rectangle", False),
    _field("box", _BOX, "x0, y0, x1, y1 in pixels of the aligned 112x112 crop", False),
    _field("frame_box", _BOX, "the same in pixels of the picture", False),
    _field("gold_known", _UNITS, "action units that the labels know of this face", False),
    _field("gold_visible", _UNITS, "those of them that the box can show", False),
    _field("gold_aus", _UNITS, "the active ones of these", False),
    _field("gold_emotion", pa.string(), "emotion of the face; null where unlabelled or not one of the seven"),
    _field("gold_age", pa.float64(), "recorded age of the face in years; null where unlabelled"),
)

ANSWER_FIELDS = (
    _field("aus", _UNITS, "action units answered as active", False),
    _field("emotion", pa.string(), "one of the seven", False),
    _field("age", pa.float64(), "years", False),
    _field("description", pa.string(), "one sentence", False),
)
"""Columns that an answers file must have beside `image_id` and `kind`."""

OPTIONAL_FIELDS = (
    _field("own_sentence", pa.string(), "the sentence that the model wrote, before a check that may replace it; null where not kept"),
    _field("age_low", pa.float64(), "10th percentile of the age, years; null where the model gives none"),
    _field("age_high", pa.float64(), "90th percentile of the age, years; null where the model gives none"),
    *[_field(au, pa.float64(), "probability that it is active; null where not known") for au in AUS],
    *[_field(f"{au}_intensity", pa.float64(), "intensity, 0 to 5; null where not known") for au in AUS],
    *[_field(f"emotion_{name}", pa.float64(), "probability; the seven sum to 1") for name in EMOTIONS],
)
"""Columns that an answers file may have. Average precision, intensities, calibration, agreement with votes, coverage of the age interval
and the consistency of own sentences need them."""

PREDICTIONS = pa.schema([*QUESTION_FIELDS, *ANSWER_FIELDS, *OPTIONAL_FIELDS, _field("model", pa.string(), "who answered", False)])
"""The table of predictions; an answers file is one with a part of its columns."""

NEEDED_COLUMNS = ("image_id", "kind", *[field.name for field in ANSWER_FIELDS])
OPTIONAL_COLUMNS = ("region", "box", "model", *[field.name for field in OPTIONAL_FIELDS])
