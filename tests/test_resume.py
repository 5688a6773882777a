"""Runs that are killed, or lose a worker or a node, end with the tables of an unbroken run. FOCALFACE_THOROUGH=1 kills twenty times."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, video_id
from tests.support.corpus import small_clip
from tests.support.processes import ANALYSING, DESCRIBING, seconds_at_work, wait, workers
from tests.support.runs import THOROUGH, assert_same, committed

pytestmark = pytest.mark.slow
KILLS = 20 if THOROUGH else 3
SOURCES = ("single_face.mp4", "no_face.mp4", "WolfgangLanger_Pexels.mp4")


def command(folder: Path, out: Path, *engine: str) -> list[str]:
    words = ["--fps", "6", "--min-face", "32", "--set", "video.timeout_s=60"]
    words += [word for key in engine or ("analysers=1",) for word in ("--set", f"execution.{key}")]
    return [sys.executable, "-m", "pipeline.cli", "run", str(folder), "--out", str(out), *words]


def run(folder: Path, out: Path, *engine: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, out, *engine), capture_output=True, text=True, check=False)


def holds(out: Path, videos: int) -> bool:
    """Whether a run has committed at least this many videos."""
    return committed(out) >= videos


@pytest.fixture(scope="module")
def archive(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten short clips, a text file, and a truncated clip."""
    folder = tmp_path_factory.mktemp("archive")
    for index in range(10):
        small_clip(samples / SOURCES[index % 3], folder / f"{index}.mp4", 10 + 5 * index)
    (folder / "text.mp4").write_text("not a video")
    whole = small_clip(samples / SOURCES[0], folder / "cut.mkv", 30).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def unbroken(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of an unbroken run, and the seconds that it analysed."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return out, seconds_at_work(command(archive, out))


def test_a_run_killed_at_random_moments_ends_with_the_tables_of_an_unbroken_one(
    archive: Path, unbroken: tuple[Path, float], tmp_path: Path
) -> None:
    rng, out, moments = random.Random(7), tmp_path / "run", []
    for _ in range(KILLS):
        with subprocess.Popen(command(archive, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True) as job:
            wait(job, partial(holds, out, min(committed(out) + rng.randrange(4), 11)))
            time.sleep(rng.uniform(0, 0.2) * unbroken[1])
            job.kill()
            done = RunFolder(out).committed() if (out / "videos").is_dir() else {}
        moments.append(len(done))
        assert_whole(out, unbroken[0], set(done))
        if len(done) == 12:  # nothing is left to kill: start again
            ended = run(archive, out)
            assert ended.returncode == 0, ended.stderr
            assert_same(out, unbroken[0])
            shutil.rmtree(out)
    print("videos committed at each kill:", moments)
    ended = run(archive, out)
    assert ended.returncode == 0, ended.stderr
    assert_same(out, unbroken[0])


def assert_whole(out: Path, unbroken: Path, done: set[str]) -> None:
    """Check that the rows of committed videos are exactly those of the unbroken run."""
    for table in TABLES if done else ():
        columns = [name for name in TABLES[table].names if name != "elapsed_s"]
        rows = RunFolder(out).read(table, columns).to_pylist()
        assert rows == [row for row in RunFolder(unbroken).read(table, columns).to_pylist() if row["video_id"] in done]


def test_only_changed_and_new_files_are_done_again(archive: Path, samples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "archive", tmp_path / "run"
    shutil.copytree(archive, folder)
    assert run(folder, out, "executor=two_processes").returncode == 0
    before = {file.stem: file.stat().st_mtime_ns for file in (out / "videos").iterdir()}
    began = time.monotonic()
    assert run(folder, out, "executor=two_processes").returncode == 0
    print(f"a finished run again: {time.monotonic() - began:.1f} s")
    small_clip(samples / SOURCES[2], folder / "0.mp4", 20)
    small_clip(samples / SOURCES[0], folder / "new.mp4", 12)
    assert run(folder, out, "executor=two_processes").returncode == 0
    after = {file.stem: file.stat().st_mtime_ns for file in (out / "videos").iterdir()}
    assert after.keys() - before.keys() == {video_id(folder / "new.mp4")}
    assert {key for key in before if before[key] != after[key]} == {video_id(folder / "0.mp4")}
    fresh = tmp_path / "fresh"
    assert run(folder, fresh, "executor=two_processes").returncode == 0
    assert_same(out, fresh)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of two nodes with two cores each, all on this machine."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    made.add_node(num_cpus=2)
    yield made
    made.shutdown()


@pytest.mark.parametrize("lost", ["workers", "node"])
def test_work_lost_with_a_worker_or_node_is_done_again(
    lost: str, cluster: Cluster, archive: Path, unbroken: tuple[Path, float], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = command(archive, out, f"address={cluster.address}", "analysers=2", "describers=1")
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        if lost == "workers":
            for stage in (ANALYSING, DESCRIBING):
                wait(job, partial(workers, stage))
                workers(stage)[0].kill()
        else:
            wait(job, lambda: any((out / "videos").glob("*.parquet")))
            node = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
            cluster.remove_node(node, allow_graceful=False)
        done = len(RunFolder(out).committed())
        _, said = job.communicate(timeout=300)
    assert done < 12, "there was something left to lose"
    assert job.returncode == 0, said
    assert_same(out, unbroken[0])
