"""Trends on the demo clip, whose blinks a person counted in its frames."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.tables import command


@pytest.mark.slow
def test_the_blinks_that_a_person_counts_are_found_without_an_option(samples: Path, tmp_path: Path) -> None:
    """Her lids meet three times while she smiles: at 12.0 (a single frame), 16.1 and 17.8 s. Long closures are no blinks."""
    assert command("run", samples / "WolfgangLanger_Pexels.mp4", "--out", tmp_path / "run", "--fps", "24") == 0
    assert command("trends", tmp_path / "run") == 0
    blinks = pq.read_table(tmp_path / "run" / "trends" / "blinks.parquet").sort_by("apex_s")
    assert [round(seconds, 1) for seconds in blinks["apex_s"].to_pylist() if seconds > 11] == pytest.approx([12.0, 16.1, 17.8], abs=0.15)
    events = pq.read_table(tmp_path / "run" / "trends" / "events.parquet").to_pylist()
    closed = [row for row in events if row["au"] == "AU43" and row["duration_s"] > 1]
    assert any(row["offset_s"] < 7 for row in closed) and any(row["onset_s"] > 18 for row in closed), "the long closures"
