"""The `change` column: sentences about what changes within the window of each description.

They are made when a video is complete, from all of its rows, so that they do not depend on how its work was cut into chunks and segments.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pipeline.describe.changes import change_sentences, track_events, window_changes
from pipeline.schemas import TABLES
from pipeline.vocabulary import AUS


def with_changes(descriptions: pa.Table, faces: pa.Table, thresholds: Mapping[str, float]) -> pa.Table:
    """Rows of the descriptions table with what changes in their windows.

    A row tells of the units that its region can show: those of which it has a score.

    Args:
        descriptions, faces: all rows of one video; faces that were not read have no scores.
        thresholds: for each action unit that the model knows, the score from which it is active.
    """
    if not descriptions.num_rows or faces["emotion"].null_count == faces.num_rows:
        return descriptions
    faces = faces.sort_by([("track_id", "ascending"), ("frame_index", "ascending")])
    limits = np.array([thresholds.get(au, np.nan) for au in AUS], np.float32)
    track_id, time_s = faces["track_id"].to_numpy(), faces["time_s"].to_numpy()
    scores = np.column_stack([faces[au].to_numpy(zero_copy_only=False).astype(np.float32) for au in AUS])
    events = {int(track): track_events(time_s[own], scores[own], limits) for track in np.unique(track_id) for own in [track_id == track]}
    told = []
    for row in descriptions.select(["track_id", "start_s", "end_s", *AUS]).to_pylist():
        units = [au for au in AUS if row[au] is not None]
        told.append(change_sentences(window_changes(events.get(row["track_id"], []), row["start_s"], row["end_s"], units)))
    field = TABLES["descriptions"].field("change")
    return descriptions.set_column(descriptions.schema.get_field_index("change"), field, pa.array(told, field.type))
