"""focalface: what every face in a video archive does, region by region and moment by moment.

>>> import pipeline
>>> run = pipeline.run("holiday.mp4", "outputs/holiday", settings={"video.fps": 5})  # doctest: +SKIP
>>> run.descriptions.to_pandas()[["time_s", "region", "description"]]  # doctest: +SKIP

The names in `__all__` are the public API. They are imported when they are first used, so that `import pipeline` loads neither torch nor
Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.describe.backends import load_describer
    from pipeline.execution.api import run
    from pipeline.execution.images import describe_image
    from pipeline.faces.detectors import load_detector
    from pipeline.regions.placement import place_regions
    from pipeline.storage.run_folder import open_run
    from pipeline.trends import load as load_trends

__version__ = "0.2.0"

__all__ = [
    "__version__",
    "describe_image",
    "load_describer",
    "load_detector",
    "load_trends",
    "open_run",
    "place_regions",
    "run",
]

_PLACES = {
    "describe_image": ("pipeline.execution.images", "describe_image"),
    "load_describer": ("pipeline.describe.backends", "load_describer"),
    "load_detector": ("pipeline.faces.detectors", "load_detector"),
    "load_trends": ("pipeline.trends", "load"),
    "open_run": ("pipeline.storage.run_folder", "open_run"),
    "place_regions": ("pipeline.regions.placement", "place_regions"),
    "run": ("pipeline.execution.api", "run"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
