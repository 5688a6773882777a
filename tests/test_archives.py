"""A property of random archives: however often a run is killed, the tables end as those of an unbroken run.

All stages run in this process, so that many archives can be tried; tests/test_resume.py kills whole runs. FOCALFACE_THOROUGH=1 tries
twenty times as many.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.describe.backends import Describer, load_describer
from pipeline.execution.chunks import Result
from pipeline.execution.executors.in_process import InProcessExecutor
from pipeline.execution.run import run
from pipeline.faces.detectors import Detector, load_detector
from pipeline.report.windows import window_rows
from pipeline.settings import load_settings
from pipeline.storage import run_folder as tables
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends.analysis import load
from tests.support.corpus import Promise, make_corpus
from tests.support.runs import THOROUGH, assert_same

SEEDS = range(60 if THOROUGH else 3)
SETTINGS = load_settings(assignments=["detect.min_face=32", "video.fps=6"])


class Killed(BaseException):
    """Ends a run like a signal: no code of the project catches it."""


@pytest.fixture(scope="module")
def corpus(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Promise]:
    """Files of every kind that can be copied."""
    promises = make_corpus(tmp_path_factory.mktemp("corpus"), samples)
    return {path: promise for path, promise in promises.items() if path.is_file() or path.is_symlink()}


@pytest.fixture(scope="module")
def stages() -> tuple[Detector, Describer]:
    """A detector and a describer for all runs."""
    return load_detector(min_face=SETTINGS.detect.min_face), load_describer(threads=1)


class AnyOrder(InProcessExecutor):
    """Takes the videos in a random order, as Ray may."""

    def results(self, paths: Sequence[str]) -> Iterator[Result]:
        return super().results(random.sample(list(paths), len(paths)))


@pytest.fixture
def executor(stages: tuple[Detector, Describer], monkeypatch: pytest.MonkeyPatch) -> InProcessExecutor:
    """An executor of this process; a few videos are enough to be merged into one file."""
    monkeypatch.setattr(tables, "MERGE_EVERY", 4)
    monkeypatch.setattr(tables, "KEEP_SINGLE", 2)
    return AnyOrder(SETTINGS, *stages)


def broken_run(folder: Path, out: Path, moment: int, executor: InProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until the `moment`-th change of the output folder, and end there as if killed."""
    left = [moment]

    def deadly(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", deadly(os.replace))
        patch.setattr(Path, "unlink", deadly(Path.unlink))
        with suppress(Killed):
            run([str(folder)], out, SETTINGS, executor=executor)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_archive_ends_with_the_tables_of_an_unbroken_run(
    seed: int, corpus: dict[Path, Promise], executor: InProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    folder, out = tmp_path / "archive", tmp_path / "run"
    promised: dict[str, Promise] = {}

    def put(path: Path, source: Path) -> None:
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(source, path, follow_symlinks=False)
        promised[video_id(path)] = corpus[source]

    sources = list(corpus)
    for source in rng.sample(sources, rng.randint(1, 9)):
        put(folder / rng.choice(["", "deeper", "deeper/still"]) / source.name, source)
    for _ in range(rng.randint(1, 4)):
        broken_run(folder, out, rng.randint(0, 40), executor, monkeypatch)
        if rng.random() < 0.5:
            source = rng.choice(sources)
            put(folder / "new" / source.name, source)
        if rng.random() < 0.5:  # a file gets other content
            put(rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()] or [folder / "first.mp4"]), rng.choice(sources))
    run([str(folder)], out, SETTINGS, executor=executor)
    rows = RunFolder(out).read("videos").to_pylist()
    assert {row["video_id"]: row["status"] for row in rows} == {key: status for key, (status, _) in promised.items()}
    run([str(folder)], tmp_path / "fresh", SETTINGS, executor=executor)
    assert_same(out, tmp_path / "fresh")
    assert len(RunFolder(out).files("videos")) <= tables.KEEP_SINGLE + (len(rows) + 1) // 2


def test_reports_and_trends_read_merged_files_as_they_read_single_ones(
    corpus: dict[Path, Promise], executor: InProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for source in corpus:
        if source.name in ("plain.mp4", "odd.mkv", "vp9.webm", "no_face.mp4", "text.mp4"):
            shutil.copy(source, folder)
    together, single = run([str(folder)], tmp_path / "together", SETTINGS, executor=executor), tmp_path / "single"
    monkeypatch.setattr(tables, "MERGE_EVERY", 99)
    monkeypatch.setattr(tables, "KEEP_SINGLE", 99)
    apart = run([str(folder)], single, SETTINGS, executor=executor)
    assert [len(together.files("faces")), len(apart.files("faces"))] == [1 + 1, 5]  # four were merged during the run
    keys = list(apart.committed())
    for key in keys:
        assert together.mark(key) == apart.mark(key)
        for table in ("faces", "descriptions"):
            rows, parts = (together.read(table, video_id=key), pa.concat_tables(apart.batches(table, key)))
            assert rows.equals(apart.read(table, video_id=key)) and rows.equals(parts)
        assert window_rows(together, key).equals(window_rows(apart, key))
    trends = [load([folder.path]) for folder in (together, apart)]
    assert trends[0]["videos"].num_rows == 5
    for name in ("videos", "series", "events", "tracks"):
        assert trends[0][name].drop_columns("run").equals(trends[1][name].drop_columns("run")), name
