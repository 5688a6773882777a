"""Run folders of real clips, and the comparison of two of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.execution.executors.in_process import InProcessExecutor
from pipeline.execution.run import run
from pipeline.schemas import TABLES
from pipeline.settings import load_settings
from pipeline.storage.run_folder import RunFolder

THOROUGH = os.environ.get("FOCALFACE_THOROUGH") == "1"


def make_run(folder: Path, paths: Sequence[Path], **options: Any) -> RunFolder:
    """Describe videos in this process, as `focalface run` does; `options` are settings (`video_fps=8`)."""
    settings = load_settings(options={name.replace("_", ".", 1): value for name, value in options.items()})
    return run([str(path) for path in paths], folder, settings, executor=InProcessExecutor(settings))


def assert_same(one: Path, other: Path) -> None:
    """Check that the tables of two runs are equal, apart from the time that they took."""
    for table in TABLES:
        rows = [RunFolder(out).read(table) for out in (one, other)]
        if table == "videos":
            rows = [part.drop_columns("elapsed_s") for part in rows]
        assert rows[0].equals(rows[1]), table


def committed(out: Path) -> int:
    """Number of videos that a run has committed."""
    return sum(1 for _ in (out / "videos").glob("*.parquet"))
