"""Whether both sides of a comparison gave the same answers, and a sentence that says how far they agree."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records import Answer

OVERLAP = 0.5
"""Intersection over union from which two boxes are the same face."""

KEPT = 0.99
"""Share of the baseline's faces that must be found for the answers to count as the same."""

SCORE_TOLERANCE = 1e-3
"""Largest difference of a probability; more hides real differences, less flags the order of additions."""

PATCH_TOLERANCE = 1e-5
"""Largest difference of a pixel value in a patch."""


def same_faces(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[bool, str]:
    """Whether our boxes (N, 4) of each frame include the baseline's (M, 4 or more).

    >>> same_faces([np.array([[0.0, 0, 10, 10]])], [np.array([[0.0, 0, 10, 10, 0.9]])])
    (True, '1 of 1 faces kept (100.0%), mean overlap 1.00; 1 found by focalface')
    """
    if len(ours) != len(theirs):
        return False, f"{len(ours)} frames against {len(theirs)}"
    overlaps = [_best_overlap(own, box) for own, boxes in zip(ours, theirs, strict=True) for box in boxes[:, :4]]
    kept = [overlap for overlap in overlaps if overlap > OVERLAP]
    share = len(kept) / len(overlaps) if overlaps else 1.0
    mean = float(np.mean(kept or [1.0]))
    found = sum(map(len, ours))
    return share >= KEPT, f"{len(kept)} of {len(overlaps)} faces kept ({share:.1%}), mean overlap {mean:.2f}; {found} found by focalface"


def _best_overlap(boxes: np.ndarray, box: np.ndarray) -> float:
    """Largest intersection over union of N boxes (N, 4) with one box (4,)."""
    if not len(boxes):
        return 0.0
    common = (np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return float((common / (areas - common)).max())


def same_answers(ours: Sequence[Answer], theirs: Sequence[Answer]) -> tuple[bool, str]:
    """Whether fields, sentences and scores agree."""
    pairs = list(zip(ours, theirs, strict=True))
    fields = sum((a.aus, a.emotion, round(a.age)) == (b.aus, b.emotion, round(b.age)) for a, b in pairs)
    texts = sum(a.description == b.description for a, b in pairs)
    differences = [abs(a.au_scores[au] - b.au_scores[au]) for a, b in pairs for au in a.au_scores]
    differences += [abs(a.emotion_scores[name] - b.emotion_scores[name]) for a, b in pairs for name in a.emotion_scores]
    largest = max(differences, default=0.0)
    same_units = all(a.au_scores.keys() == b.au_scores.keys() for a, b in pairs)
    same = same_units and fields == texts == len(pairs) and largest <= SCORE_TOLERANCE
    return same, f"same fields {fields}, same sentence {texts} of {len(pairs)}; scores differ by {largest:.0e} at most"


def same_photo(ours: str, theirs: str) -> tuple[bool, str]:
    """Whether `focalface describe --json` and the baseline's script (`pipeline.speed.baseline_jobs.photo`) printed the same answer."""
    (face, *_) = json.loads(ours)
    own, other = face["regions"][0], json.loads(theirs)
    differences = [
        f"{name} {own[name]} against {other[name]}" for name in ("aus", "emotion", "age", "description") if own[name] != other[name]
    ]
    largest = max((abs(own["au_scores"][au] - other["au_scores"][au]) for au in own["au_scores"]), default=0.0)
    same = not differences and largest <= SCORE_TOLERANCE
    return same, f"{', '.join(differences) or 'same fields and sentence'}; scores differ by {largest:.0e} at most"


def same_patches(ours: np.ndarray, theirs: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> tuple[bool, str]:
    """Whether two arrays of patches agree.

    Args:
        ours: (N, patch * patch * 3), pixels with channels last.
        theirs: (N, 3 * 2 * patch * patch), normalised, a still picture repeated along time.
        mean, std: the normalisation.
    """
    side = round((ours.shape[1] / 3) ** 0.5)
    pixels = ours.reshape(-1, side, side, 3).transpose(0, 3, 1, 2).astype(np.float64)
    normalised = (pixels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    ours = np.repeat(normalised[:, :, None], 2, 2).reshape(len(ours), -1)
    largest = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
    return largest <= PATCH_TOLERANCE, f"patches differ by {largest:.0e} at most"


def same_tables(run: Path, rows: Path) -> tuple[bool, str]:
    """Whether the descriptions of a run equal the rows of the baseline's CSV.

    Args:
        run: folder of the run.
        rows: the CSV, as `pipeline.speed.baseline_jobs.script` writes it.
    """
    from pipeline.storage.run_folder import RunFolder

    columns = ["track_id", "frame_index", "region", "aus", "emotion", "age", "description"]
    ours = {
        (str(row["track_id"]), str(row["frame_index"]), row["region"]): row
        for row in RunFolder(run).read("descriptions", columns).to_pylist()
    }
    with rows.open(newline="") as file:
        theirs = {(row["track_id"], row["frame_index"], row["region"]): row for row in csv.DictReader(file)}
    both = ours.keys() & theirs.keys()

    def agreeing(column: str, own: Callable[[Any], Any] = str, other: Callable[[str], Any] = str) -> int:
        return sum(own(ours[key][column]) == other(theirs[key][column]) for key in both)

    counts = {
        "action units": agreeing("aus", " ".join),
        "emotion": agreeing("emotion"),
        "age": agreeing("age", round, lambda text: round(float(text))),
        "sentence": agreeing("description"),
    }
    same = all(count == len(ours) == len(theirs) for count in counts.values())
    return same, f"of {len(ours)} and {len(theirs)} regions the same " + ", ".join(f"{name} {count}" for name, count in counts.items())
