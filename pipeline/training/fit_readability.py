"""Fit the readability of faces (`pipeline.faces.readability`) to the errors of a model on unclear copies of labelled faces.

    python -m pipeline.training.fit_readability val.parquet --plot quality.png

prints each constant as it is fitted and as it is committed, the table of docs/quality.md, and draws its plot. Each face is shown as it
is, shrunk, blurred, noisy, covered (twice) and cut (`pipeline.training.unclear`); the detector finds it, the model reads it, and its
answers are compared with the labels. Copies in which no face is found count for nothing: they have no rows in a run either.

A fact is an action unit that the labels or the model name, or a labelled emotion. It is right where both agree. The log-odds that a fact is
right are a constant less the weighted faults of the face (logistic regression, weights not below zero). A committed constant is changed by
hand, as that changes every table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import minimize

from pipeline.describe.backends import Describer, load_describer
from pipeline.faces import readability
from pipeline.faces.covering import covering_maps
from pipeline.faces.detectors import Detector, load_detector
from pipeline.faces.finding import measure_faces
from pipeline.faces.readability import GOOD_EYES, GOOD_SHARPNESS, Quality, face_quality
from pipeline.records import Answer, Face, Frame, Request
from pipeline.regions.placement import place_regions
from pipeline.settings import MIN_READABLE
from pipeline.training.unclear import FAULTS, unclear, with_room
from pipeline.vocabulary import WHOLE_FACE

MIN_FACE = 9
"""Least height of a detected face in pixels; shrunk faces are smaller than those of most runs."""

SAME_FACE = 0.6
"""Mean error of landmarks, in eye distances, up to which a detected face is the labelled one."""

EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Edges of the table's rows."""

CONSTANTS = ("LEVEL", "SMALL", "BLUR", "YAW", "PITCH", "OUTSIDE", "COVERED")


@dataclass(frozen=True)
class Copy:
    """One copy of a labelled face that was found.

    Attributes:
        fault: one of `pipeline.training.unclear.FAULTS`.
        quality: as measured.
        face: as found.
        labels: the row of the file.
    """

    fault: str
    quality: Quality
    face: Face
    labels: dict[str, Any]


@dataclass(frozen=True)
class Errors:
    """What a model reads of N copies, against the labels.

    Attributes:
        unit_counts: (N, 3) action units that both name, that the model alone names, that the labels alone name.
        emotion_right: (N,) 1 or 0; NaN without a label.
        age_error: (N,) years; NaN without a label.
    """

    unit_counts: np.ndarray
    emotion_right: np.ndarray
    age_error: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(N,) number of facts that are right."""
        return self.unit_counts[:, 0] + np.nan_to_num(self.emotion_right)

    @property
    def facts(self) -> np.ndarray:
        """(N,) number of facts."""
        return self.unit_counts.sum(1) + np.isfinite(self.emotion_right)


def make_copies(file: Path, count: int, detector: Detector, random: np.random.Generator) -> Iterator[Copy]:
    """Copies of some faces of each source.

    Args:
        file: Parquet with the columns `image`, `source`, `landmarks5`, `au_prob`, `emotion`, `age` and `age_guess`, and `au_names` in its
            metadata.
        count: faces of each source.
        detector: finds the faces.
        random: chooses faces and faults.
    """
    table = pq.read_table(file, columns=["image", "source", "landmarks5", "au_prob", "emotion", "age", "age_guess"])
    sources = np.array(table["source"].to_pylist())
    rows = np.concatenate([random.permutation(np.flatnonzero(sources == source))[:count] for source in np.unique(sources)])
    for row in rows.tolist():
        labels = table.slice(row, 1).to_pylist()[0]
        image, other = _picture(labels["image"]), _picture(table["image"][int(random.choice(rows))].as_py())
        image, landmarks = with_room(image, np.array(labels["landmarks5"]).reshape(5, 2))
        for fault in (*FAULTS, "covered"):
            copy, wanted = unclear(image, landmarks, fault, random, other)
            faces = measure_faces(Frame(0, 0.0, copy), detector.detect([copy])[0])
            distances = [float(np.abs(face.landmarks5 - wanted).mean()) for face in faces]
            if faces and min(distances) < SAME_FACE * np.linalg.norm(wanted[1] - wanted[0]):
                face = faces[int(np.argmin(distances))]
                (covering,) = covering_maps([face.crop])
                size = (copy.shape[1], copy.shape[0])
                quality = face_quality(face.alignment, size, covering, sharpness=face.sharpness, yaw=face.yaw, pitch=face.pitch)
                yield Copy(fault, quality, face, labels)


def _picture(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "not an image"
    return np.ascontiguousarray(image[..., ::-1])


def read_errors(copies: Sequence[Copy], au_names: Sequence[str], describer: Describer) -> Errors:
    """Let a model read the copies as a run reads every frame.

    Args:
        copies: from `make_copies`.
        au_names: of the labels' `au_prob`.
        describer: the model.
    """
    faces = [copy.face for copy in copies]
    requests = [Request(face.crop, place_regions(face.landmarks5, face.alignment)[WHOLE_FACE], WHOLE_FACE) for face in faces]
    answers = describer.read(requests, mirror=False)
    units = [_unit_counts(answer, copy.labels["au_prob"], au_names) for answer, copy in zip(answers, copies, strict=True)]
    emotions, ages = [], []
    for answer, copy in zip(answers, copies, strict=True):
        emotion, age = copy.labels["emotion"], copy.labels["age"]
        age = copy.labels["age_guess"] if age is None else age
        emotions.append(np.nan if emotion is None else float(answer.emotion == emotion))
        ages.append(np.nan if age is None else abs(answer.age - age))
    return Errors(np.array(units), np.array(emotions), np.array(ages))


def _unit_counts(answer: Answer, probabilities: Sequence[float | None] | None, names: Sequence[str]) -> tuple[int, int, int]:
    labels = {name: value > 0.5 for name, value in zip(names, probabilities or (), strict=False) if value is not None}
    pairs = [(name in answer.aus, labels[name]) for name in answer.au_scores if name in labels]
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))


def faults_of(qualities: Sequence[Quality]) -> np.ndarray:
    """(N, 6) each fault before its weight, in the order of `CONSTANTS` after the first."""
    rows = [
        (
            max(0.0, log(GOOD_EYES / max(one.eyes, 1.0))),
            max(0.0, log(GOOD_SHARPNESS / max(one.sharpness, 1.0))),
            (one.yaw / 45) ** 2,
            (one.pitch / 45) ** 2,
            one.outside,
            one.covered,
        )
        for one in qualities
    ]
    return np.array(rows).reshape(-1, 6)


def fit(faults: np.ndarray, right: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """Logistic regression of right facts on faults, with weights of at least 0.

    >>> fit(np.array([[0, 0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0, 1.0]]), np.array([50, 10]), np.array([100, 100])).round(1).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.2]

    Args:
        faults: (N, 6), from `faults_of`.
        right, facts: (N,) counts.

    Returns:
        (7,) `CONSTANTS`.
    """

    def loss(weights: np.ndarray) -> float:
        odds = weights[0] - faults @ weights[1:]
        return float((np.logaddexp(0, odds) * facts - odds * right).sum() / facts.sum())

    start = np.array([0.0, *np.full(faults.shape[1], 0.5)])
    bounds = [(None, None), *[(0.0, 30.0)] * faults.shape[1]]
    return np.asarray(minimize(loss, start, bounds=bounds).x)


def table_rows(scores: np.ndarray, clear: np.ndarray, errors: Errors) -> list[list[str]]:
    """The rows of the table of errors by score: from the best to the worst."""
    rows = []
    for low, high in reversed(list(pairwise(EDGES))):
        some = (scores >= low) & ((scores < high) | (high == EDGES[-1]))
        if not some.any():
            continue
        hits, alarms, misses = errors.unit_counts[some].sum(0)
        rows.append(
            [
                f"{low:g} to {high:g}",
                str(int(some.sum())),
                f"{(some & clear).sum() / max(clear.sum(), 1):.1%}",
                f"{2 * hits / max(2 * hits + alarms + misses, 1):.2f}",
                f"{np.nanmean(errors.emotion_right[some]):.2f}",
                f"{np.nanmean(errors.age_error[some]):.1f}",
                f"{errors.right[some].sum() / errors.facts[some].sum():.2f}",
                f"{(scores[some] * _best()).mean():.2f}",
            ]
        )
    return rows


def _best() -> float:
    """Probability that a fact about a face without a fault is right."""
    return 1 / (1 + np.exp(-readability.LEVEL))


def draw(scores: np.ndarray, faults: np.ndarray, errors: Errors, file: Path) -> None:
    """Plot wrong facts against the score: of all copies, and by what was done to them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=110)
    for name in ("all", *FAULTS):
        own = np.flatnonzero((faults == name) | (name == "all"))
        parts = np.array_split(own[np.argsort(scores[own])], 16 if name == "all" else 6)
        x = [scores[part].mean() for part in parts if len(part)]
        y = [1 - errors.right[part].sum() / errors.facts[part].sum() for part in parts if len(part)]
        look: dict[str, Any] = {"color": "#1E232B", "lw": 2, "marker": "o"} if name == "all" else {"lw": 1, "ls": "--", "marker": "."}
        axes.plot(x, y, label=name, **look)
    line = np.linspace(0.15, 1, 50)
    axes.plot(line, 1 - line * _best(), color="#8A93A0", label="as the score says")
    axes.axvline(MIN_READABLE, color="#B34700", lw=1, label=f"min_readable {MIN_READABLE:g}")
    axes.set(xlabel="readable", ylabel="share of facts that are wrong", xlim=(0.15, 1.01), ylim=(0.3, 1))
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Print fitted beside committed constants and the table, and draw the plot."""
    parser = argparse.ArgumentParser(description="Fit the readability of faces to a model's errors.")
    parser.add_argument("file", type=Path, help="Parquet file of labelled faces that the model was not trained on")
    parser.add_argument("--count", type=int, default=400, help="faces of each source")
    parser.add_argument("--model", default="nano", help="the model that reads")
    parser.add_argument("--plot", type=Path, help="a PNG file to draw")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    names = json.loads((pq.read_schema(options.file).metadata or {})[b"au_names"])
    copies = list(make_copies(options.file, options.count, load_detector("centerface", min_face=MIN_FACE), random))
    errors = read_errors(copies, names, load_describer(options.model))
    qualities = [copy.quality for copy in copies]
    faults = faults_of(qualities)
    half = np.arange(len(copies)) < len(copies) // 2
    print(f"{len(copies)} copies; fitted | to each half | committed")
    fits = [fit(faults[part], errors.right[part], errors.facts[part]) for part in (half | True, half, ~half)]
    for place, name in enumerate(CONSTANTS):
        print(f"{name} {fits[0][place]:.2f} | {fits[1][place]:.2f} {fits[2][place]:.2f} | {getattr(readability, name)}")
    scores = np.array([readability.readability(quality)[0] for quality in qualities])
    kinds = np.array([copy.fault for copy in copies])
    print("| readable | faces | of the clear ones | AU F1 | emotion | age error | facts right | as the score says |")
    print("|---|---|---|---|---|---|---|---|")
    for row in table_rows(scores, kinds == "clear", errors):
        print(f"| {' | '.join(row)} |")
    below, clear = scores < MIN_READABLE, kinds == "clear"
    shares = [errors.right[part].sum() / max(errors.facts[part].sum(), 1) for part in (below, ~below, clear & below)]
    lost = f"{below.mean():.1%} of the copies, {(clear & below).sum()} of {clear.sum()} clear faces"
    print(f"below {MIN_READABLE:g}: {lost}; facts right below {shares[0]:.2f}, above {shares[1]:.2f}, of clear faces below {shares[2]:.2f}")
    for fault in FAULTS:
        reasons = [readability.readability(one)[1] for one, own, low in zip(qualities, kinds == fault, below, strict=True) if own and low]
        print(f"{fault}: {len(reasons)} of {(kinds == fault).sum()} below;", {name: reasons.count(name) for name in dict.fromkeys(reasons)})
    if options.plot:
        draw(scores, kinds, errors, options.plot)


if __name__ == "__main__":
    main()
