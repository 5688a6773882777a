"""Measuring on real labelled faces; and the choice of thresholds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.evaluate import Asked, best_thresholds
from pipeline.records import Answer, Request
from pipeline.vocabulary import AUS_LABELLED


@pytest.fixture(scope="module")
def slice_(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fortieth validation face: 105 of both sources."""
    table = pq.read_table(shared / "faces" / "val.parquet")
    path = tmp_path_factory.mktemp("faces") / "slice.parquet"
    pq.write_table(table.take(list(range(0, table.num_rows, 40))), path)
    return path


def test_nano_is_useful_on_faces_it_never_saw(slice_: Path, tmp_path: Path) -> None:
    """Chance is 1/7 in emotion; the bounds leave room for a small slice."""
    out = tmp_path / "figures" / "nano.json"
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(slice_), "--json", str(out), "--device", "cpu"])
    assert ended.value.code == 0
    figures = json.loads(out.read_text())
    assert figures["faces"] == 105
    assert figures["emotion_accuracy"]["fer2013"] > 0.4
    assert figures["emotion_accuracy"]["web"] > 0.65
    assert set(figures["au_f1"]) == set(AUS_LABELLED)
    assert figures["au_f1_mean"] > 0.4
    assert figures["age_mae"] < 11
    assert figures["locality_violations"] == 0
    assert figures["consistency"] == 1
    assert figures["regions_per_second"] > 0


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_a_file_that_is_not_of_faces_is_refused(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.parquet"
    if content is None:
        pq.write_table(pa.table({"image": [b""]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(path), "--device", "cpu"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "x.parquet" in message
    assert "Traceback" not in message


def test_thresholds_give_the_best_f1() -> None:
    def asked(score: float, active: bool) -> Asked:
        answer = Answer({"AU12": score}, (), {}, "neutral", 0, 0, 0, "")
        return Asked("web", None, None, frozenset(["AU12"] if active else []), answer, answer, Request(np.zeros(1), (0, 0, 1, 1), "face"))

    faces = [asked(0.1, False), asked(0.25, False), asked(0.35, True), asked(0.4, True), asked(0.9, True)]
    (cut,) = best_thresholds(faces, ("AU12",)).values()
    assert 0.25 < cut <= 0.35
