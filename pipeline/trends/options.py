"""What can be chosen in a trends analysis, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from pipeline.errors import SettingsError
from pipeline.vocabulary import CUSTOM_BOX, REGIONS, WHOLE_FACE

SMOOTHINGS = {"none": 1, "median": 3, "savgol": 5, "ema": 3}
"""Ways of smoothing, and the default width of each in cells of the grid. A wider one hides shorter events."""


@dataclass(frozen=True)
class Options:
    """The choices of one analysis.

    Attributes:
        grid_s: seconds between two values of a series; none for the longest window of the runs.
        smooth: `none`; `median` (drops what is shorter than half the width); `savgol` (quadratic Savitzky-Golay: keeps peaks);
            `ema` (exponential mean of the past; lags).
        width_s: of the smoothing, in seconds (for `ema` its time constant); none for `SMOOTHINGS`.
        region: whose rows make the series. `face` has one in every window; others only where that region moved.
        on, off: an AU event begins when the score reaches `on` and ends when it falls under `off`. A higher `on` finds fewer events,
            a lower `off` holds them together longer.
        relative: judge events on the scores above the person's own baseline, instead of on the scores.
    """

    grid_s: float | None = None
    smooth: str = "median"
    width_s: float | None = None
    region: str = WHOLE_FACE
    on: float = 0.5
    off: float = 0.35
    relative: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--grid", self.grid_s), ("--width", self.width_s)):
            if value is not None and not (isfinite(value) and value > 0):
                raise SettingsError(f"{name} takes seconds above 0, not {value:g}")
        if self.smooth not in SMOOTHINGS:
            raise SettingsError(f"--smooth takes {', '.join(SMOOTHINGS)}, not {self.smooth!r}")
        if self.region not in (*REGIONS, CUSTOM_BOX):
            raise SettingsError(f"--region takes one of {', '.join((*REGIONS, CUSTOM_BOX))}, not {self.region!r}")
        if not 0 < self.off <= self.on <= 1:
            raise SettingsError(f"--on and --off take scores with 0 < off <= on <= 1, not on {self.on:g} and off {self.off:g}")

    def cells(self, grid_s: float) -> int:
        """Width of the smoothing in cells, odd for the two centred ways; at least 1."""
        cells = SMOOTHINGS[self.smooth] if self.width_s is None else max(1, round(self.width_s / grid_s))
        return cells if self.smooth == "ema" else cells + (cells % 2 == 0)
