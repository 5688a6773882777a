"""The cards and tags of an annotated film show the values of the moment, where a run has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.card import UNREAD, CardPainter, CardValues
from pipeline.report.frame_scores import read_frame_scores
from pipeline.report.overlay import Overlay
from pipeline.report.positions import FacePositions
from pipeline.report.windows import window_rows
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.vocabulary import EMOTIONS
from tests.support.runs import make_run

WORDS: dict[str, Any] = {
    "track_id": 1,
    "window_index": 0,
    "age": 30.0,
    "age_low": 20.0,
    "age_high": 40.0,
    "description": "The lips are parted.",
}


@pytest.fixture(scope="module")
def run(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), [samples / "single_face.mp4"], video_fps=12)


def overlay(run: RunFolder, with_scores: bool) -> Overlay:
    (video,) = run.read("videos").to_pylist()
    name = video["video_id"]
    faces = run.read("faces", video_id=name)
    positions = FacePositions([faces], np.unique(faces["time_s"].to_numpy()))
    regions = run.read("descriptions", ["track_id", "window_index", "time_s", "region", "box"], name)
    scores = read_frame_scores(run, video) if with_scores else None
    return Overlay((video["width"], video["height"]), positions, window_rows(run, name), regions, 1.0, scores)


def test_the_values_are_those_of_the_frame(run: RunFolder, samples: Path) -> None:
    drawn = overlay(run, with_scores=True)
    rows = run.read("faces", video_id=video_id(samples / "single_face.mp4")).to_pylist()
    assert len(rows) > 12
    for row in rows:
        for later in (0.0, 0.02):  # frames between two samples show the earlier one's values
            values = drawn.values(row["track_id"], int(row["time_s"]), row["time_s"] + later)
            assert values is not None
            assert values.emotion == row["emotion"]
            assert values.emotion_score == row[f"emotion_{row['emotion']}"] == max(row[f"emotion_{name}"] for name in EMOTIONS)
            assert {au: score for au, score, _ in values.units} == {au: row[au] for au, _, _ in values.units}
    assert len({drawn.values(row["track_id"], 0, row["time_s"]) for row in rows if row["time_s"] < 1}) > 3, "they change within a window"


def test_without_scores_the_values_are_those_of_the_window(run: RunFolder) -> None:
    drawn = overlay(run, with_scores=False)
    for row in window_rows(run, run.read("videos")["video_id"][0].as_py()).to_pylist():
        values = [drawn.values(row["track_id"], row["window_index"], row["window_index"] + part) for part in (0.0, 0.5)]
        assert values[0] is not None and values[0] == values[1]
        assert values[0].emotion == row["emotion"]


def test_a_card_keeps_its_size_and_shows_what_it_is_given() -> None:
    painter = CardPainter((640, 360), 13, 2)
    units = (("AU12", 0.9, True), ("AU25", 0.2, False))
    full, short = painter.cards(WORDS, CardValues(None, None, units))
    pictures = [
        painter.with_values(full, values)
        for values in (
            CardValues("happiness", 0.9, units),
            CardValues("happiness", 0.2, units),
            CardValues("sadness", 0.9, units),
            CardValues("happiness", 0.9, (("AU12", 0.1, False), ("AU25", 0.2, False))),
            CardValues(None, None, (("AU12", None, False), ("AU25", None, False))),
        )
    ]
    assert {picture.size for picture in pictures} == {(full.width, full.height)}
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert short.height < full.height
    assert painter.with_values(short, CardValues("happiness", 0.9, units)).size == (short.width, short.height)
    assert UNREAD not in EMOTIONS


def test_a_model_without_an_age_interval_has_a_card() -> None:
    painter = CardPainter((640, 360), 13, 2)
    full, _ = painter.cards(WORDS | {"age_low": None, "age_high": None}, CardValues("happiness", None, ()))
    assert full.ground.tobytes() != painter.cards(WORDS, CardValues("happiness", None, ()))[0].ground.tobytes()


def test_an_unreadable_frame_shows_no_value(run: RunFolder) -> None:
    (video,) = run.read("videos").to_pylist()
    scores = read_frame_scores(run, video)
    assert scores is not None
    faces = run.read("faces", video_id=video["video_id"])
    scores.emotions[0] = np.nan
    positions = FacePositions([faces], np.unique(faces["time_s"].to_numpy()))
    regions = pa.Table.from_pylist([], pa.schema([TABLES["descriptions"].field(name) for name in ("track_id", "window_index", "region")]))
    drawn = Overlay((640, 360), positions, window_rows(run, video["video_id"]), regions, 1.0, scores)
    values = drawn.values(int(scores.track_id[0]), 0, float(scores.start_s[0]))
    assert values is not None and values.emotion is None and {score for _, score, _ in values.units} <= {None}
