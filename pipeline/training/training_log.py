"""The log of a stage: a tidy Parquet table and a figure of its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.atomic import replacing

LINE_COLOUR = "#0072B2"
FIGURE_COLUMNS = 3


def write_log(
    stage: str, logged: Sequence[Mapping[str, float]], figures: Mapping[str, float], samples: int, batch: int, folder: Path
) -> None:
    """Write `log.parquet` (stage, step, samples, name, value) and `curves.png`.

    Args:
        stage: name of the stage.
        logged: what `pipeline.training.training_loop.fit` returned: figures of each logged step.
        figures: validation figures; they are logged at the last step under `val_<name>`.
        samples: faces seen in all.
        batch: faces per step.
        folder: folder of the stage.
    """
    rows = [
        (stage, int(row["step"]), int(row["step"]) * batch, name, float(value))
        for row in logged
        for name, value in row.items()
        if name != "step"
    ]
    rows += [(stage, samples // batch, samples, f"val_{name}", float(value)) for name, value in figures.items()]
    columns = ("stage", "step", "samples", "name", "value")
    rows.sort(key=lambda row: (row[1], row[3]))
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
    with replacing(folder / "log.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
    _draw_curves(stage, logged, batch, folder / "curves.png")


def _draw_curves(stage: str, logged: Sequence[Mapping[str, float]], batch: int, path: Path) -> None:
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for row in logged for name in row) if name not in {"step", "epoch"}]
    rows = max(1, -(-len(names) // FIGURE_COLUMNS))
    figure = Figure(figsize=(4 * FIGURE_COLUMNS, 2.6 * rows), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, FIGURE_COLUMNS, number + 1)
        points = [(row["step"] * batch, row[name]) for row in logged if name in row]
        axes.plot(*zip(*points, strict=True), color=LINE_COLOUR, linewidth=1.4)
        axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if number >= len(names) - FIGURE_COLUMNS:
            axes.set_xlabel("faces seen")
    figure.suptitle(stage, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=110)
