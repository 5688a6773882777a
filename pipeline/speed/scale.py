"""How a run grows with more workers, more videos and longer videos. Each measurement is a `focalface run` on Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import FocalfaceError
from pipeline.speed.clips import first_seconds, link_copies, repeat_clip
from pipeline.speed.timed_process import high_water_bytes
from pipeline.video.child_process import own_environment

WORKERS = (1, 2)
"""Numbers of analysers."""

VIDEOS, QUICK_VIDEOS = (200, 1000, 5000), (10, 40)
"""Numbers of tiny videos; the second one with --quick."""

LENGTHS_S, QUICK_LENGTHS_S = (120.0, 7200.0), (30.0, 90.0)
"""Lengths of a single video; the second one with --quick."""

LONG_FPS = 2
"""Sampled frames per second of the long videos; they measure memory, not speed."""

TINY_S = 0.4
"""Length of a tiny video."""

SHARED_VIDEOS, SHARED_S = 6, 60.0
"""Number of videos that analysers share, and the length of each; a tenth of it with --quick."""

SAMPLE_S = 0.5
"""Seconds between two measurements of memory; longer misses processes that exit soon."""

_PROCESS_KINDS = {
    "FlatMap(_Analyse)": "analyser",
    "Map(_Describe)": "describer",
    "pipeline.video.decoder_process": "decoder",
    "pipeline.cli": "driver",
}
"""Part of a process's command line -> kind of the process."""

DIMENSIONS = ("workers", "videos", "length_s")
"""What can grow: the number of analysers, the number of videos, the length of a video in seconds."""


@dataclass(frozen=True)
class ScaleRun:
    """One measured run.

    Attributes:
        dimension: what grows, of `DIMENSIONS`; `value` is its value in this run.
        videos, frames: videos and sampled frames of the run.
        seconds: from the start of the command to its end.
        run_seconds: the same without start-up and final bookkeeping.
        peak_mb: peak resident MiB of one process of each kind: driver, analyser, decoder, describer.
        files: number of Parquet files in the run folder.
    """

    dimension: str
    value: float
    videos: int
    frames: int
    seconds: float
    run_seconds: float
    peak_mb: dict[str, float]
    files: int


def measure(
    clip: Path,
    folder: Path,
    quick: bool,
    only: Sequence[str] = DIMENSIONS,
    options: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> list[ScaleRun]:
    """Measure runs over copies of a clip: `WORKERS`, then `VIDEOS`, then `LENGTHS_S`.

    Args:
        clip: a clip with faces.
        folder: for videos and results.
        quick: whether to take the shorter lists.
        only: what grows, of `DIMENSIONS`.
        options: further arguments of `focalface run`.
        log: receives one line before each run.

    Raises:
        FocalfaceError: when a run fails.
    """
    runs, out = [], folder / "out"
    if "workers" in only:
        film = repeat_clip(clip, SHARED_S / (10 if quick else 1), folder / "film.mp4")
        shared = link_copies(film, folder / "shared", SHARED_VIDEOS)
        for workers in WORKERS:
            log(f"{SHARED_VIDEOS} videos, {workers} analysers ...")
            runs.append(measure_run("workers", workers, shared, out, [*options, "--set", f"execution.analysers={workers}"]))
    if "videos" in only:
        tiny = first_seconds(clip, TINY_S, folder / "tiny.mp4")
        for count in QUICK_VIDEOS if quick else VIDEOS:
            log(f"{count} tiny videos ...")
            runs.append(measure_run("videos", count, link_copies(tiny, folder / "tiny", count), out, options))
    if "length_s" in only:
        for seconds in QUICK_LENGTHS_S if quick else LENGTHS_S:
            log(f"one video of {seconds:.0f} s ...")
            video = repeat_clip(clip, seconds, folder / "long.mp4")
            runs.append(measure_run("length_s", seconds, video, out, [*options, "--fps", f"{LONG_FPS}"]))
    return runs


def measure_run(dimension: str, value: float, videos: Path, out: Path, options: Sequence[str]) -> ScaleRun:
    """Run over videos and measure the memory of its processes.

    Raises:
        FocalfaceError: when the run fails.
    """
    words = [sys.executable, "-m", "pipeline.cli", "run", str(videos), "--out", str(out), "--overwrite"]
    words += ["--set", "execution.executor=ray", *options]
    log = out.with_suffix(".log")
    peak_mb: dict[str, float] = {}
    began = time.monotonic()
    with log.open("w") as output, subprocess.Popen(words, stdout=output, stderr=output, env=own_environment()) as job:
        while job.poll() is None:
            for kind, peak in _peaks(psutil.Process(job.pid)):
                peak_mb[kind] = max(peak_mb.get(kind, 0.0), peak)
            time.sleep(SAMPLE_S)
    seconds = time.monotonic() - began
    if job.returncode:
        raise FocalfaceError(f"bench: {(log.read_text().strip().splitlines() or ['the run failed'])[-1]}")
    info = json.loads((out / "run.json").read_text())
    return ScaleRun(
        dimension=dimension,
        value=value,
        videos=info["counts"]["videos"],
        frames=info["counts"]["sampled_frames"],
        seconds=seconds,
        run_seconds=info["timing"]["seconds"],
        peak_mb=peak_mb,
        files=sum(1 for _ in out.glob("*/*.parquet")),
    )


def _peaks(run: psutil.Process) -> Iterable[tuple[str, float]]:
    """Kind and peak resident MiB of each process of a run."""
    with suppress(psutil.Error):
        for process in [run, *run.children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                title = " ".join(process.cmdline())
                kind = next((kind for part, kind in _PROCESS_KINDS.items() if part in title), None)
                if kind:
                    yield kind, high_water_bytes(process.pid) / 2**20
