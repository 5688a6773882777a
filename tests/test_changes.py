"""Sentences about change: what they claim is in the scores of the frames, and noise yields none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.evaluation.sentence_reader import ChangeReading, read_changes, read_sentence
from pipeline.execution.changes import with_changes
from pipeline.report.page_data import with_change
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import open_run
from pipeline.vocabulary import AUS, REGION_AUS, UNIT, excludes
from tests.support.agreement import FPS, face_rows
from tests.support.runs import make_run

LIMITS = dict.fromkeys(AUS, 0.5)


def windows(faces: pa.Table, count: int, region: str = "face") -> pa.Table:
    """A row of the descriptions table for each window of a second; it has scores of the units that the region can show."""
    key = faces["video_id"][0].as_py()
    row = {"video_id": key, "track_id": 1, "frame_index": 0, "time_s": 0.0, "region": region, "box": [0, 0, 9, 9], "activity": 1.0}
    row |= dict.fromkeys(REGION_AUS[region], 0.1) | {"aus": [], "emotion": "neutral", "age": 30.0, "description": "Still.", "model": "nano"}
    rows = [row | {"window_index": place, "start_s": float(place), "end_s": place + 1.0} for place in range(count)]
    return pa.Table.from_pylist(rows, TABLES["descriptions"])


def told(faces: pa.Table, count: int = 6, region: str = "face") -> dict[int, set[tuple[str, float | None, float | None]]]:
    """Window to the changes that its sentences claim, as the reader of the benchmark reads them."""
    texts = with_changes(windows(faces, count, region), faces, LIMITS)["change"].to_pylist()
    return {place: {(one.au, one.start_s, one.end_s) for one in read_changes(text)} for place, text in enumerate(texts) if text}


def test_a_unit_that_comes_and_one_that_goes_are_told_of_in_their_windows() -> None:
    faces = face_rows("a", 6, {"AU12": [(2.3, 6)], "AU04": [(0, 3.6)], "AU25": []})
    assert told(faces) == {2: {("AU12", 2.3, None)}, 3: {("AU04", None, 3.6)}}


def test_a_unit_that_comes_and_goes_within_a_window_has_both_times() -> None:
    assert told(face_rows("a", 6, {"AU26": [(2.2, 2.7)]})) == {2: {("AU26", 2.2, 2.7)}}


def test_units_that_change_together_share_a_sentence() -> None:
    faces = face_rows("a", 6, {au: [(2.3, 6)] for au in ("AU06", "AU12", "AU25")})
    assert told(faces) == {2: {(au, 2.3, None) for au in ("AU06", "AU12", "AU25")}}


def test_what_is_short_or_repeats_or_is_cut_off_is_not_told_of() -> None:
    assert told(face_rows("a", 6, {"AU12": [(2.3, 2.5)]})) == {}, "two frames"
    talking = [(start, start + 0.3) for start in np.arange(1, 5, 0.6).tolist()]
    assert not any(len(changes) for place, changes in told(face_rows("a", 6, {"AU25": talking})).items() if place in (2, 3))
    assert told(face_rows("a", 6, {"AU12": [(2, 6)]}, seen=[(0, 1), (2, 6)])) == {}, "the face comes back with the unit there"
    assert told(face_rows("a", 6, {"AU12": [(2, 6)]}, unread=[(1.2, 2)])) == {}, "it may have begun while the face could not be read"


def test_a_region_tells_of_what_it_can_show() -> None:
    faces = face_rows("a", 6, {"AU12": [(2.3, 6)], "AU04": [(2.3, 6)]})
    assert told(faces, region="mouth") == {2: {("AU12", 2.3, None)}}


def test_noise_yields_no_sentence() -> None:
    """Scores that tremble about their thresholds by what nano's do on a still face, in a hundred windows of a second."""
    faces = face_rows("a", 100, {"AU12": [], "AU25": [], "AU43": []})
    chance = np.random.default_rng(1)
    for au in ("AU12", "AU25", "AU43"):
        noisy = pa.array(np.clip(0.5 + chance.normal(0, 0.08, faces.num_rows), 0, 1), pa.float32())
        faces = faces.set_column(faces.schema.get_field_index(au), au, noisy)
    assert told(faces, 100) == {}


def test_pages_show_the_change_after_the_sentence() -> None:
    faces = face_rows("a", 3, {"AU12": [(1.3, 3)]})
    said = with_change(with_changes(windows(faces, 3), faces, LIMITS))
    assert said == ["Still.", "Still. From second 1.3 on the lip corners are pulled up.", "Still."]


def test_without_scores_of_the_frames_there_is_none() -> None:
    faces = face_rows("a", 6, {"AU12": [(2.3, 6)]}, unread=[(0, 6)])
    assert with_changes(windows(faces, 6), faces, LIMITS)["change"].null_count == 6


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("The mouth corners go up from second 3.2 and stay up.", [("AU12", 3.2, None)]),
        ("From 0.5 s onwards he frowns.", [("AU04", 0.5, None)]),
        ("Until second 12.4 the eyes are shut, then no longer.", [("AU43", None, 12.4)]),
        ("The brows shoot up at second 13. The lips stay apart.", [("AU01", 13, None), ("AU02", 13, None)]),
        ("From second 7.0 to second 7.4 the lips are pursed.", [("AU18", 7.0, 7.4)]),
        ("The jaw hangs open.", []),
    ],
)
def test_changes_are_read_as_a_person_reads_them(text: str, claims: list[tuple[str, float | None, float | None]]) -> None:
    assert read_changes(text) == {ChangeReading(*claim) for claim in claims}


def test_the_words_of_every_unit_are_read_back() -> None:
    for au in AUS:
        faces = face_rows("a", 6, {au: [(2.3, 4.5)]})
        assert told(faces) == {2: {(au, 2.3, None)}, 4: {(au, None, 4.5)}}, UNIT[au].clauses[0]


@pytest.mark.slow
def test_every_claim_of_a_real_run_is_in_its_frames(samples: Path, tmp_path: Path) -> None:
    """On the demo clip: below the threshold before a unit begins, above it after; for most frames, as the series is smoothed. The rows do
    not depend on the size of the chunks."""
    out = [tmp_path / str(size) for size in (5, 64)]
    for size, folder in zip((5, 64), out, strict=True):
        make_run(folder, [samples / "WolfgangLanger_Pexels.mp4"], describe_batch_size=size, video_fps=FPS)
    runs = [open_run(folder) for folder in out]
    rows = [run.descriptions.sort_by([("window_index", "ascending"), ("region", "ascending")]) for run in runs]
    assert rows[0]["change"].to_pylist() == rows[1]["change"].to_pylist()
    limits, faces = runs[0].info["thresholds"], runs[0].faces.to_pandas()
    claimed = [
        (row, claim)
        for row in rows[0].select(["region", "start_s", "end_s", "aus", "change"]).to_pylist()
        if row["change"]
        for claim in read_changes(row["change"])
    ]
    assert 5 <= len(claimed) <= 120
    for row, (au, start_s, end_s) in ((row, (one.au, one.start_s, one.end_s)) for row, one in claimed):
        assert au in REGION_AUS.get(row["region"], AUS)
        edge = start_s if start_s is not None else end_s
        assert edge is not None and row["start_s"] - 0.05 <= edge < row["end_s"] + 0.05
        near = faces[(faces["time_s"] - edge).abs() < 0.5]
        before, after = near[near["time_s"] < edge - 0.06], near[near["time_s"] > edge + 0.06]
        after = after if start_s is None or end_s is None else near[(near["time_s"] > start_s) & (near["time_s"] < end_s)]
        low, high = (before, after) if start_s is not None else (after, before)
        rivals = [other for other in limits if excludes(au, other)]
        at_rest = (low[au] < limits[au]) | (low[rivals] >= [limits[other] for other in rivals]).any(axis=1)
        assert high[au].mean() > low[au].mean() and (high[au] >= limits[au] * 0.7).mean() >= 0.6 and at_rest.mean() >= 0.6, (row, au)
    assert not [row["change"] for row in rows[0].to_pylist() if row["change"] and read_sentence(row["change"]).ages]
