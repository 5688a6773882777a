"""Runs for tests of what stands on a run folder: the stages themselves in this process, without Ray around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.analyse import analyse, description_rows
from pipeline.describe import load_describer
from pipeline.detect import load_detector
from pipeline.records import Request
from pipeline.settings import load_settings
from pipeline.tables import RunFolder, empty, fingerprint


def make_run(folder: Path, paths: Sequence[Path], **options: Any) -> RunFolder:
    """Find and describe the faces of videos as `focalface run` does; `options` are settings (`video_fps=8`)."""
    settings = load_settings(options={name.replace("_", ".", 1): value for name, value in options.items()})
    detector, describer = load_detector(min_face=settings.detect.min_face), load_describer(threads=1)
    run = RunFolder(folder)
    run.begin(settings.identity())
    for path in paths:
        chunks = list(analyse(str(path), settings, detector))
        selections = [selection for chunk in chunks for selection in chunk.selections]
        answers = describer.describe([Request(one.face.crop, one.crop_box, one.region) for one in selections])
        row = {**(chunks[-1].video or {}), "elapsed_s": sum(chunk.elapsed_s for chunk in chunks)}
        failed = row["status"] == "failed"
        faces = empty("faces") if failed else pa.concat_tables([chunk.faces for chunk in chunks])
        words = empty("descriptions") if failed else description_rows(row["video_id"], selections, answers, "nano")
        run.commit(row, faces, words, fingerprint(path))
    run.note(settings=settings.identity())
    run.finish()
    return run
