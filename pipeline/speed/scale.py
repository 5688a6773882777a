"""How a run grows: with more workers, with more videos, with longer ones. Each is a `focalface run` in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import psutil

from pipeline.errors import FocalfaceError
from pipeline.speed.clips import first_seconds
from pipeline.speed.sides import high_water
from pipeline.video.child_process import own_environment

WORKERS = (1, 2)
"""Analysers of a run."""

VIDEOS, QUICK_VIDEOS = (200, 1000, 5000), (10, 40)
"""Tiny videos of a run."""

LENGTHS_S, QUICK_LENGTHS_S = (120.0, 7200.0), (30.0, 90.0)
"""Seconds of a run's only video."""

LONG_FPS = 2
"""Frames a second that are looked at in these; what is measured is memory."""

TINY_S = 0.4
"""Length of a tiny video."""

SHARED_VIDEOS, SHARED_S = 6, 60.0
"""Videos that workers share, and how long each is; a tenth as long where it has to be quick."""

SAMPLE_S = 0.5
"""Seconds between two looks at the processes; more misses those that end soon."""

_KINDS = {
    "FlatMap(_Analyse)": "analyser",
    "Map(_Describe)": "describer",
    "pipeline.video.decoder_process": "decoder",
    "pipeline.cli": "driver",
}


@dataclass(frozen=True)
class Growth:
    """One run.

    Attributes:
        grows: what is compared: `workers`, `videos` or `length_s`; `value` is how many, or how long.
        videos, frames: that it went through.
        seconds: from the command to its end; `run_seconds` without the start-up and the last bookkeeping.
        peak_mb: MiB resident at most of one process, for each kind: driver, analyser, decoder, describer.
        files: Parquet files that it left.
    """

    grows: str
    value: float
    videos: int
    frames: int
    seconds: float
    run_seconds: float
    peak_mb: dict[str, float]
    files: int


GROWTHS = ("workers", "videos", "length_s")
"""What may grow."""


def measure(
    clip: Path, folder: Path, quick: bool, only: Sequence[str] = GROWTHS, options: Sequence[str] = (), said: Callable[[str], None] = print
) -> list[Growth]:
    """Runs over copies of a clip: `WORKERS`, then `VIDEOS`, then `LENGTHS_S`, or the shorter lists.

    Args:
        clip: with faces.
        folder: for videos and results.
        quick: whether it has to be.
        only: what is to grow, of `GROWTHS`.
        options: words for every run.
        said: is told what comes next.

    Raises:
        FocalfaceError: when a run fails.
    """
    found, out = [], folder / "out"
    if "workers" in only:
        film = repeated(clip, SHARED_S / (10 if quick else 1), folder / "film.mp4")
        shared = linked(film, folder / "shared", SHARED_VIDEOS)
        for workers in WORKERS:
            said(f"{SHARED_VIDEOS} videos, {workers} analysers ...")
            found.append(grown("workers", workers, shared, out, [*options, "--set", f"execution.analysers={workers}"]))
    if "videos" in only:
        tiny = first_seconds(clip, TINY_S, folder / "tiny.mp4")
        for count in QUICK_VIDEOS if quick else VIDEOS:
            said(f"{count} tiny videos ...")
            found.append(grown("videos", count, linked(tiny, folder / "tiny", count), out, options))
    if "length_s" in only:
        for seconds in QUICK_LENGTHS_S if quick else LENGTHS_S:
            said(f"one video of {seconds:.0f} s ...")
            found.append(grown("length_s", seconds, repeated(clip, seconds, folder / "long.mp4"), out, [*options, "--fps", f"{LONG_FPS}"]))
    return found


def repeated(clip: Path, seconds: float, out: Path) -> Path:
    """A video that shows a clip again and again, its packets as they are, for at least so many seconds."""
    with av.open(str(clip)) as source:
        packets = [(packet.pts or 0, packet.dts or 0, packet.duration or 0) for packet in source.demux(video=0) if packet.size]
        base = source.streams.video[0].time_base
        assert base is not None
        length = max(pts + duration for pts, _, duration in packets) - min(pts for pts, *_ in packets)
    times = max(1, -(-round(seconds / base) // length))
    with av.open(str(out), "w") as target:
        copy = None
        for count in range(times):
            with av.open(str(clip)) as source:
                copy = copy or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        pts, dts = packet.pts or 0, packet.dts or 0
                        packet.stream, packet.time_base = copy, base
                        packet.pts, packet.dts = pts + count * length, dts + count * length
                        target.mux(packet)
    return out


def linked(video: Path, folder: Path, count: int) -> Path:
    """A folder with a video under so many names."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        with suppress(FileExistsError):
            os.link(video, folder / f"{number:05}{video.suffix}")
    return folder


def grown(grows: str, value: float, videos: Path, out: Path, options: Sequence[str]) -> Growth:
    """Run over videos and watch the processes.

    Raises:
        FocalfaceError: when the run fails.
    """
    words = [sys.executable, "-m", "pipeline.cli", "run", str(videos), "--out", str(out), "--overwrite"]
    words += ["--set", "execution.executor=ray", *options]
    log = out.with_suffix(".log")
    peak_mb: dict[str, float] = {}
    began = time.monotonic()
    with log.open("w") as said, subprocess.Popen(words, stdout=said, stderr=said, env=own_environment()) as job:
        while job.poll() is None:
            for kind, held in _held(psutil.Process(job.pid)):
                peak_mb[kind] = max(peak_mb.get(kind, 0.0), held)
            time.sleep(SAMPLE_S)
    seconds = time.monotonic() - began
    if job.returncode:
        raise FocalfaceError(f"bench: {(log.read_text().strip().splitlines() or ['the run failed'])[-1]}")
    about = json.loads((out / "run.json").read_text())
    return Growth(
        grows=grows,
        value=value,
        videos=about["counts"]["videos"],
        frames=about["counts"]["sampled_frames"],
        seconds=seconds,
        run_seconds=about["timing"]["seconds"],
        peak_mb=peak_mb,
        files=sum(1 for _ in out.glob("*/*.parquet")),
    )


def _held(run: psutil.Process) -> Iterable[tuple[str, float]]:
    """The processes of a run by kind, with the MiB that each has had resident at most."""
    with suppress(psutil.Error):
        for process in [run, *run.children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                title = " ".join(process.cmdline())
                kind = next((kind for mark, kind in _KINDS.items() if mark in title), None)
                if kind:
                    yield kind, high_water(process.pid) / 2**20
