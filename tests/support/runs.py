"""Runs for tests of what stands on a run folder: the stages themselves in this process, without Ray around them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.describe.backends import load_describer
from pipeline.execution.analysis import analyse
from pipeline.execution.results import questions, told
from pipeline.execution.run import Assembly
from pipeline.faces.detectors import load_detector
from pipeline.schemas import TABLES
from pipeline.settings import load_settings
from pipeline.storage.run_folder import RunFolder, fingerprint

THOROUGH = os.environ.get("FOCALFACE_THOROUGH") == "1"


def make_run(folder: Path, paths: Sequence[Path], **options: Any) -> RunFolder:
    """Find and describe the faces of videos as `focalface run` does; `options` are settings (`video_fps=8`)."""
    settings = load_settings(options={name.replace("_", ".", 1): value for name, value in options.items()})
    detector, describer = load_detector(min_face=settings.detect.min_face), load_describer(threads=1)
    run = RunFolder(folder)
    run.begin(settings.identity())
    for path in paths:
        video = Assembly()
        for chunk in analyse(str(path), settings, detector):
            result = told(chunk, describer.describe(questions(chunk)), detector.name, describer.name, 0.0)
            video.add(result.index, result.faces, result.descriptions, result.elapsed_s, result.video)
        assert video.row is not None
        run.commit(video.row | {"elapsed_s": video.elapsed_s}, *video.tables(), fingerprint(path))
    run.note(settings=settings.identity())
    run.finish()
    return run


def assert_same(one: Path, other: Path) -> None:
    """The tables are equal, but for the time they took."""
    for table in TABLES:
        rows = [RunFolder(out).read(table) for out in (one, other)]
        if table == "videos":
            rows = [part.drop_columns("elapsed_s") for part in rows]
        assert rows[0].equals(rows[1]), table


def committed(out: Path) -> int:
    """How many videos a run has committed."""
    return sum(1 for _ in (out / "videos").glob("*.parquet"))
