"""The notebook runs from its first cell to its last, and shows what it gives today."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "clip-to-plot.ipynb"


@pytest.mark.slow
def test_the_notebook_goes_from_a_clip_to_a_plot_in_ten_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 10
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert len(names["faces"]) > 100  # type: ignore[arg-type]
    (shown,) = ["".join(cell["outputs"][0]["data"]["text/plain"]) for cell in cells if cell["source"][-1].endswith(".answer.description")]
    assert shown == repr(names["face"].regions[0].answer.description)  # type: ignore[attr-defined]
    assert (tmp_path / "outputs" / "notebook" / "run.json").is_file()
