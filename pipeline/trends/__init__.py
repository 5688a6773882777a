"""How expressions change over time: from the tables of one run or many to series, events, tracks, videos and groups.

In: run folders of `focalface run`. Out: the tables of `pipeline.trends.schemas`, figures, and one summary page. Open `analysis.py` first;
a track's path is `rows.py` (what the runs hold) -> `series.py` (one regular or per-frame series) -> `events.py`, `eyes.py`,
`measures.py` and `tracks.py` (what happens in it) -> `statistics.py` (videos, days and groups) -> `figures.py` and `page.py`.

>>> from pipeline.trends import load
>>> trends = load(["outputs/demo"])  # doctest: +SKIP
>>> trends.pandas("events").query("au == 'AU12'")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.trends.analysis import Trends, load
    from pipeline.trends.options import Options
    from pipeline.trends.schemas import SCHEMAS

__all__ = ["SCHEMAS", "Options", "Trends", "load"]

_MODULES = {"SCHEMAS": "schemas", "Options": "options", "Trends": "analysis", "load": "analysis"}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the report needs one small module of this package, not pandas, DuckDB and SciPy."""
    if name in _MODULES:
        return getattr(import_module(f"pipeline.trends.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
