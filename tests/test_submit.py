"""`focalface submit` and `focalface jobs` on a real Ray cluster, with videos and results on an S3 server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import psutil
import pyarrow.parquet as pq
import pytest

from pipeline.commands.submit import NOT_SENT, PACKAGE
from pipeline.execution.run import counts
from pipeline.storage import remote as storage
from pipeline.storage.remote import Mirror, fetched, find
from pipeline.storage.run_folder import RunFolder
from tests.support.processes import wait_until
from tests.support.servers import bucket, ray_head, s3_server

PROJECT = Path(__file__).parents[1]
S3 = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")


class Cluster:
    """The URLs of a cluster, and commands that use it."""

    def __init__(self, address: str, metrics: str) -> None:
        self.address, self.metrics = address, metrics

    def call(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.cli", *words, "--address", self.address]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)


def handles_sigterm(word: str) -> bool:
    """Whether the job with this word among its arguments has installed its handler of SIGTERM."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if word in words and "python" in words[0]:
            (caught,) = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text())
            return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


@pytest.fixture(scope="module")
def cluster(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_server(), ray_head(Path("/tmp") / f"focalface-{os.getpid()}", '{"decode": 1, "words": 1}') as (address, metrics):
        system = bucket("films")
        clip = (samples / "single_face.mp4").read_bytes()
        for name, content in (("it's $(one).mp4", clip), ("text.mp4", b"not a video\n" * 99)):
            with system.open_output_stream(f"films/{name}") as stream:
                stream.write(content)
        bucket("results")
        yield Cluster(address, metrics)
        storage._filesystem.cache_clear()


@pytest.fixture(scope="module")
def done(cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """A run that was submitted and followed to its end; each stage asks for a resource of the node."""
    placed = [f"--set=execution.{stage}_resource={resource}" for stage, resource in (("analyser", "decode"), ("describer", "words"))]
    ended = cluster.call("submit", "s3://films", "--out", "s3://results/run", "--fps", "2", *placed, *(f"--env={name}" for name in S3))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.mark.slow
def test_the_job_is_followed_to_its_end(done: subprocess.CompletedProcess[str]) -> None:
    assert re.match(r"job      focalface-\w+\n", done.stdout)
    assert "s3://films/it's $(one).mp4: ok" in done.stdout  # the log names the video
    assert "s3://films/text.mp4: failed" in done.stdout
    assert "2: 1 with faces, 0 without, 1 failed" in done.stdout
    assert re.search(r"slowest stage:\s+(fetch|decode|detect|track|select|describe|write)", done.stdout)
    tables, picture = done.stdout.splitlines()[-2:]
    assert tables == "tables   s3://results/run/{videos,faces,descriptions}"
    assert picture == "picture  s3://results/run/preview.png"
    assert done.stderr == ""


@pytest.mark.slow
def test_the_tables_are_in_the_bucket(done: subprocess.CompletedProcess[str]) -> None:
    with Mirror("s3://results/run") as mirror:
        folder = RunFolder(mirror.path)
        found, info = counts(folder), folder.info
        paths = folder.read("videos")["path"].to_pylist()
    assert (found["videos"], found["ok"], found["failed"]) == (2, 1, 1)
    assert found["faces"] > 0 and found["descriptions"] > 0
    assert paths == ["s3://films/it's $(one).mp4", "s3://films/text.mp4"]
    assert info["counts"] == found
    assert info["execution"]["analyser_resource"] == "decode"
    assert {"fetch", "decode", "detect", "describe", "write"} <= set(info["timing"]["stage_seconds"])


@pytest.mark.slow
def test_prometheus_reads_the_run(cluster: Cluster, done: subprocess.CompletedProcess[str]) -> None:
    ends = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(cluster.metrics) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith("ray_focalface_")]
        if any("_failures_total" in line for line in lines) or time.monotonic() > ends:
            break
        time.sleep(1)

    def value(name: str, tag: str = "") -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"ray_focalface_{name}{{") and tag in line)

    with Mirror("s3://results/run") as mirror:
        found = counts(RunFolder(mirror.path))
    assert value("videos_total", 'status="ok"') == found["ok"] == 1
    assert value("videos_total", 'status="failed"') == found["failed"] == 1
    assert value("failures_total", 'kind="not_a_video"') == 1
    assert value("frames_total") == found["sampled_frames"]
    assert value("faces_total") == found["faces"]
    assert value("descriptions_total") == found["descriptions"]
    assert value("stage_seconds_total", 'stage="decode"') > 0
    assert value("video_seconds_count") == 2


@pytest.mark.slow
def test_jobs_are_listed_followed_and_stopped(cluster: Cluster, done: subprocess.CompletedProcess[str]) -> None:
    job = done.stdout.split()[1]
    assert cluster.call("jobs", "status", job).stdout.split()[:2] == [job, "SUCCEEDED"]
    assert "2: 1 with faces, 0 without, 1 failed" in cluster.call("jobs", "logs", job).stdout
    assert cluster.call("jobs", "stop", job).stdout == f"{job}  has already ended\n"
    sent = cluster.call("submit", "s3://films", "--out", "s3://results/other", "--no-wait", *(f"--env={name}" for name in S3))
    assert sent.returncode == 0, sent.stderr
    other = sent.stdout.split()[1]
    wait_until(partial(handles_sigterm, "s3://results/other"))
    assert cluster.call("jobs", "stop", other).stdout == f"{other}  stopping\n"
    followed = cluster.call("jobs", "logs", other, "--follow")
    assert followed.returncode == 2
    log = followed.stdout.splitlines()
    assert log[-1] == "focalface: stopped; run the same command again to resume"
    assert log[-2].startswith("Running entrypoint for job")  # no stack
    assert followed.stderr.startswith(f"focalface: job {other} stopped") and followed.stderr.count("\n") == 1
    listed = [line.split()[:2] for line in cluster.call("jobs", "list").stdout.splitlines()]
    assert listed == [[other, "STOPPED"], [job, "SUCCEEDED"]]
    unknown = cluster.call("jobs", "status", "raysubmit_unknown")
    assert unknown.returncode == 2 and "knows no job raysubmit_unknown" in unknown.stderr
    barred = cluster.call("jobs", "list", RAY_AUTH_TOKEN="0" * 32)
    assert barred.returncode == 2 and "token" in barred.stderr and barred.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_second_run_does_nothing_and_the_job_scripts_work_with_ray_job_submit(
    cluster: Cluster, done: subprocess.CompletedProcess[str]
) -> None:
    with Mirror("s3://results/run") as mirror:
        before = RunFolder(mirror.path).info
    ray = Path(sys.executable).parent / "ray"
    words = [str(ray), "job", "submit", "--address", cluster.address, "--working-dir", str(PROJECT), "--"]
    words += ["env", *(f"{name}={os.environ[name]}" for name in S3)]
    ended = subprocess.run(
        [*words, sys.executable, "jobs/describe.py", "s3://films", "--out", "s3://results/run", "--fps", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2: 1 with faces, 0 without, 1 failed" in ended.stdout + ended.stderr
    with Mirror("s3://results/run") as mirror:
        assert RunFolder(mirror.path).info == before
    for job in ("train", "trends"):
        ended = subprocess.run([*words, sys.executable, f"jobs/{job}.py", "--help"], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_trends_of_a_run_in_a_bucket_are_written_to_the_bucket(cluster: Cluster, done: subprocess.CompletedProcess[str]) -> None:
    words = [sys.executable, "-m", "pipeline.cli", "trends", "s3://results/run"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "page     s3://results/run/trends/summary.html" in ended.stdout
    with fetched("s3://results/run/trends/tracks.parquet") as file:
        assert pq.read_table(file).num_rows == 1
    figures, _ = find("s3://results/run/trends/figures", lambda name: name.endswith(".png"))
    assert figures
    with Mirror("s3://results/run") as mirror:
        assert len(RunFolder(mirror.path).committed()) == 2


def test_only_the_package_is_sent(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(PACKAGE), package, include_gitignore=True, include_parent_dir=True, excludes=NOT_SENT)
    with ZipFile(package) as file:
        names = set(file.namelist())
    assert {"pipeline/cli.py", "pipeline/models/nano/model.safetensors", "pipeline/report/assets/page.js"} <= names
    assert all(name.startswith("pipeline/") and "__pycache__" not in name for name in names)
    assert package.stat().st_size < 40e6
