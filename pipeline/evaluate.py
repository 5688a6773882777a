"""Measuring a describer on labelled faces: recognition on whole-face answers, locality and consistency on region answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import f1_score

from pipeline.align import align, crop
from pipeline.describe import Describer
from pipeline.errors import FocalfaceError
from pipeline.records import Answer, Request
from pipeline.regions import place_regions
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, REGIONS, WHOLE_FACE, region_aus
from pipeline.wording import agrees

COLUMNS = ("image", "landmarks5", "source", "emotion", "age", "aus")
"""What a file of labelled faces must have."""

CHUNK = 128
"""Faces in memory at a time."""


@dataclass(frozen=True)
class Asked:
    """One face's labels with what a describer said of it: of the whole face, and of one region (they take turns)."""

    source: str
    emotion: str | None
    age: float | None
    aus: frozenset[str]
    whole: Answer
    region: Answer
    region_request: Request


def ask(
    describer: Describer,
    path: Path,
    limit: int | None = None,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Asked]:
    """Put every face of a labelled Parquet file to a describer, twice: the whole face, and one named region after the other.

    Args:
        limit: ask only the first so many.
        say: told how many are done, of how many.

    Raises:
        FocalfaceError: when the file is not one of labelled faces.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FocalfaceError(f"{path}: not a Parquet file of labelled faces ({str(error).splitlines()[0]})") from error
    if missing := set(COLUMNS) - set(file.schema_arrow.names):
        raise FocalfaceError(f"{path}: columns {', '.join(sorted(missing))} are missing; needed are {', '.join(COLUMNS)}")
    total = min(file.metadata.num_rows, limit or file.metadata.num_rows)
    others, done = [name for name in REGIONS if name != WHOLE_FACE], 0
    for batch in file.iter_batches(CHUNK, columns=list(COLUMNS)):
        rows = batch.to_pylist()[: total - done]
        requests = []
        for number, row in enumerate(rows, done):
            image: Any = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
            landmarks = np.array(row["landmarks5"]).reshape(5, 2)
            alignment = align(landmarks)
            face, boxes = crop(image, alignment), place_regions(landmarks, alignment)
            region = others[number % len(others)]
            requests += [Request(face, boxes[WHOLE_FACE], WHOLE_FACE), Request(face, boxes[region], region)]
        answers = describer.describe(requests)
        for i, row in enumerate(rows):
            labels = row["source"], row["emotion"], row["age"], frozenset(row["aus"])
            yield Asked(*labels, answers[2 * i], answers[2 * i + 1], requests[2 * i + 1])
        done += len(rows)
        say(done, total)
        if done >= total:
            return


def evaluate(
    describer: Describer, path: Path, limit: int | None = None, say: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """The figures of a describer on a labelled file.

    Returns:
        `emotion_accuracy` and `emotion_macro_f1` by source (over the labelled emotions among the seven that occur), `au_f1` by unit and
        its mean `au_f1_mean` (units that the describer knows; machine labels, not a certified coder's), `age_mae` in years,
        `locality_violations` (share of named action units that their box cannot show), `consistency` (share of sentences that claim
        exactly their own fields), `sentences_replaced` (share of the model's sentences that did not say what their fields say and gave way
        to the plain wording), `regions_per_second` and `faces`.
    """
    started, replaced = time.perf_counter(), describer.replaced
    asked = list(ask(describer, path, limit, say))
    elapsed = time.perf_counter() - started
    result: dict[str, Any] = {"emotion_accuracy": {}, "emotion_macro_f1": {}}
    for source in sorted({item.source for item in asked}):
        pairs = [(item.emotion, item.whole.emotion) for item in asked if item.source == source and item.emotion in EMOTIONS]
        if pairs:
            gold, said = zip(*pairs, strict=True)
            result["emotion_accuracy"][source] = float(np.mean([a == b for a, b in pairs]))
            result["emotion_macro_f1"][source] = float(f1_score(gold, said, labels=sorted(set(gold)), average="macro", zero_division=0))
    units = [au for au in AUS_LABELLED if au in describer.aus]
    result["au_f1"] = {
        au: float(f1_score([au in item.aus for item in asked], [au in item.whole.aus for item in asked], zero_division=0)) for au in units
    }
    result["au_f1_mean"] = float(np.mean(list(result["au_f1"].values()))) if units else None
    ages = [abs(item.whole.age - item.age) for item in asked if item.age is not None]
    result["age_mae"] = float(np.mean(ages)) if ages else None
    named = [au in region_aus(item.region_request.region, item.region_request.box) for item in asked for au in item.region.aus]
    result["locality_violations"] = 1 - float(np.mean(named)) if named else 0.0
    sentences = [answer for item in asked for answer in (item.whole, item.region)]
    result["consistency"] = float(np.mean([agrees(a.description, a.aus, a.emotion, round(a.age)) for a in sentences]))
    result["sentences_replaced"] = (describer.replaced - replaced) / len(sentences)
    result["regions_per_second"] = len(sentences) / elapsed
    result["faces"] = len(asked)
    return result


def best_thresholds(asked: list[Asked], known: tuple[str, ...], low: float = 0.2, high: float = 0.8) -> dict[str, float]:
    """For each action unit the probability from which calling it active gives the best F1 on these faces, within bounds."""
    grid = np.linspace(low, high, 61)
    best = {}
    for au in known:
        gold = np.array([au in item.aus for item in asked])
        scores = np.array([item.whole.au_scores[au] for item in asked])
        f1 = [f1_score(gold, scores >= cut, zero_division=0) for cut in grid]
        best[au] = round(float(grid[int(np.argmax(f1))]), 2)
    return best
