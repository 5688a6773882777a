"""How well a recogniser tells people apart, on pairs of labelled pictures: the share of two people's pairs that a threshold joins, and of
one person's."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.errors import SettingsError, one_line, writing
from pipeline.faces.alignment import align, crop
from pipeline.people.recognisers import Recogniser

RATES = (1e-4, 1e-3, 1e-2)
"""Shares of pairs of different people that are told to be the same, at which thresholds are given."""

MOST_PICTURES = 6
"""Pictures of a person that are compared, so that a person with hundreds of pictures does not decide the figures."""

MOST_PEOPLE = 320
"""People that are compared; those with the most pictures first, then by name."""

_NUMBER = re.compile(r"_\d+\.\w+$")
_COLUMNS = ("image_id", "source", "image", "landmarks5")
_BATCH = 32


@dataclass(frozen=True)
class Measured:
    """Distances of pairs of pictures.

    Attributes:
        backend: name of the recogniser.
        threshold: its own; None where it has none.
        people, pictures: how many were compared.
        same, different: sorted distances of pairs of one person's pictures, and of two people's.
    """

    backend: str
    threshold: float | None
    people: int
    pictures: int
    same: np.ndarray
    different: np.ndarray

    @property
    def auc(self) -> float:
        """Area under the ROC curve: the chance that a pair of one person is nearer than a pair of two, ties counting half."""
        below = np.searchsorted(self.different, self.same, "left")
        ties = np.searchsorted(self.different, self.same, "right") - below
        return float(1 - (below + ties / 2).mean() / len(self.different))

    def rates(self, threshold: float) -> tuple[float, float]:
        """Share of different people's pairs at or below a threshold, and of one person's pairs."""
        false, true = (np.searchsorted(distances, threshold, "right") / len(distances) for distances in (self.different, self.same))
        return float(false), float(true)

    def threshold_at(self, rate: float) -> float:
        """The distance at or below which this share of different people's pairs lies."""
        return float(self.different[max(0, int(rate * len(self.different)) - 1)])

    def lines(self) -> list[str]:
        """The figures in words."""
        lines = [
            f"backend    {self.backend}",
            f"pictures   {self.pictures} of {self.people} people: {len(self.same)} pairs of one person, {len(self.different)} of two",
            f"AUC        {self.auc:.4f}",
        ]
        for rate in RATES:
            if rate * len(self.different) >= 1:
                limit = self.threshold_at(rate)
                lines.append(f"distance   {limit:.3f}: {self._joined(limit)}")
        if self.threshold is not None:
            lines.append(f"threshold  {self.threshold:g}: {self._joined(self.threshold)}")
        return lines

    def _joined(self, limit: float) -> str:
        false, true = self.rates(limit)
        return f"{false:.3%} of two people's pairs are nearer, and {true:.1%} of one person's"


def measure(
    files: Sequence[Path], recogniser: Recogniser, progress: Callable[[str, int, int], None] = lambda step, done, total: None
) -> Measured:
    """Measure a recogniser on labelled face pictures.

    Args:
        files: Parquet with `image_id`, `source`, `image` (JPEG) and `landmarks5`. Rows of the source `web` count, whose ids are the
            person's name and a number, as `Ada_Lovelace_0001.jpg`.
        recogniser: to be measured.
        progress: told what is being done.

    Raises:
        SettingsError: a file cannot be read or lacks a column, or there are not two people, one of them with two pictures.
    """
    names, rows = _pictures(files)
    vectors = []
    for start in range(0, len(rows), _BATCH):
        progress("embedding", start, len(rows))
        crops = []
        for row in rows[start : start + _BATCH]:
            image = np.array(Image.open(io.BytesIO(row["image"])).convert("RGB"))
            crops.append(crop(image, align(np.array(row["landmarks5"]).reshape(5, 2), recogniser.template), recogniser.side))
        vectors.append(recogniser.embed(crops))
    same, different = distances(np.concatenate(vectors), names)
    return Measured(recogniser.name, recogniser.threshold, len(set(names)), len(rows), same, different)


def distances(vectors: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sorted Euclidean distances of pairs with one name, and of pairs with two.

    Args:
        vectors: (N, D).
        names: (N,) of each.
    """
    from scipy.spatial.distance import pdist

    all_pairs = pdist(vectors.astype(np.float64))
    person = np.unique(np.array(names), return_inverse=True)[1]
    one, other = np.triu_indices(len(names), 1)
    alike = person[one] == person[other]
    return np.sort(all_pairs[alike]), np.sort(all_pairs[~alike])


def _pictures(files: Sequence[Path]) -> tuple[list[str], list[dict[str, Any]]]:
    """The name and the row of each picture that is compared."""
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            table = pq.read_table(file, columns=list(_COLUMNS))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise SettingsError(f"{file} cannot be read as labelled faces ({one_line(error)[:200]})") from error
        if missing := set(_COLUMNS) - set(table.column_names):
            raise SettingsError(f"{file} lacks the columns {', '.join(sorted(missing))}")
        rows += [row for row in table.to_pylist() if row["source"] == "web" and _NUMBER.search(row["image_id"])]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["image_id"])):
        by_name.setdefault(_NUMBER.sub("", str(row["image_id"])), []).append(row)
    several = {name: own for name, own in by_name.items() if len(own) > 1}
    chosen = sorted(several, key=lambda name: (-min(len(several[name]), MOST_PICTURES), name))[:MOST_PEOPLE]
    if len(chosen) < 2:
        raise SettingsError(f"{files[0]} has no two people with two pictures each: ids of the source web begin with a person's name")
    pairs = [(name, row) for name in chosen for row in several[name][:MOST_PICTURES]]
    return [name for name, _ in pairs], [row for _, row in pairs]


def draw(measured: Measured, file: Path) -> None:
    """Draw the ROC curve, and the distances of pairs of one person and of two.

    Raises:
        SettingsError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    curve, spread = figure.subplots(1, 2)
    limits = np.linspace(0, max(measured.different[-1], measured.same[-1]), 2000)
    rates = np.array([measured.rates(limit) for limit in limits])
    curve.plot(np.maximum(rates[:, 0], 1 / len(measured.different)), rates[:, 1], color="#0072B2")
    curve.set(xscale="log", xlabel="two people's pairs that are joined", ylabel="one person's pairs that are joined", ylim=(0, 1.02))
    curve.set_title(f"{measured.backend}, AUC {measured.auc:.4f}", fontsize=10)
    edges = np.linspace(0, limits[-1], 60)
    for values, label, colour in ((measured.same, "one person", "#0072B2"), (measured.different, "two people", "#D55E00")):
        spread.hist(values, edges, density=True, histtype="stepfilled", alpha=0.5, color=colour, label=label)
    if measured.threshold is not None:
        false, true = measured.rates(measured.threshold)
        curve.plot([max(false, 1 / len(measured.different))], [true], "o", color="black")
        spread.axvline(measured.threshold, color="black", lw=1, label=f"threshold {measured.threshold:g}")
    spread.set(xlabel="distance", yticks=[])
    spread.legend(frameon=False, fontsize=9)
    for axes in (curve, spread):
        axes.spines[["top", "right"]].set_visible(False)
    with writing(file):
        figure.savefig(file, dpi=110)
