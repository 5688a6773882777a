"""The choices of one analysis, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from pipeline.describe.active_units import HOLD
from pipeline.errors import SettingsError
from pipeline.settings import EVERYTHING, Choice
from pipeline.vocabulary import CUSTOM_BOX, REGIONS, WHOLE_FACE

SOURCES = ("auto", "frames", "windows")
"""Origin of a series: scores of every sampled frame, or of each window's described frame. `auto`: frames where every run has them."""

SMOOTHINGS = {"none": 1, "median": 3, "savgol": 5, "ema": 3}
"""Methods of smoothing, and the default width of each in values of the series. A wider one hides shorter events."""


@dataclass(frozen=True)
class Options:
    """The choices of one analysis.

    Attributes:
        source: one of `SOURCES`.
        grid_s: seconds a cell of a regular grid. None: every sampled frame by itself; from windows, the longest window of the runs.
        smooth: `none`; `median` (removes what is shorter than half the width); `savgol` (quadratic Savitzky-Golay filter: keeps peaks);
            `ema` (exponential moving average: causal, lags).
        width_s: width of the smoothing in seconds (for `ema` its time constant); None: `SMOOTHINGS`.
        region: region whose rows make the series. `face` has a row in every window; the others only where that region moved.
        threshold: score at which an AU event begins, for every AU. None: each AU's own threshold, as the run states it for its checkpoint.
        hold: an event ends when the score falls below this share of the threshold. Lower joins events that a dip would separate; with 1
            and no smoothing an AU is inside an event exactly where the run calls it active.
        relative: compare scores above the track's own baseline with the threshold, instead of the scores.
        person: ids and names of the only people to analyse; all, and tracks of nobody, by default.
        choice: which faces count: those of a range of time, of an area, of the largest tracks.

    >>> Options(smooth="ema", width_s=2.0).width(0.5)
    4
    """

    source: str = "auto"
    grid_s: float | None = None
    smooth: str = "median"
    width_s: float | None = None
    region: str = WHOLE_FACE
    threshold: float | None = None
    hold: float = HOLD
    relative: bool = False
    person: tuple[str, ...] = ()
    choice: Choice = EVERYTHING

    def __post_init__(self) -> None:
        for name, value in (("--grid", self.grid_s), ("--width", self.width_s)):
            if value is not None and not (isfinite(value) and value > 0):
                raise SettingsError(f"{name} takes seconds above 0, not {value:g}")
        for name, text, allowed in (
            ("--source", self.source, SOURCES),
            ("--smooth", self.smooth, tuple(SMOOTHINGS)),
            ("--region", self.region, (*REGIONS, CUSTOM_BOX)),
        ):
            if text not in allowed:
                raise SettingsError(f"{name} takes one of {', '.join(allowed)}, not {text!r}")
        for name, share in (("--threshold", self.threshold), ("--hold", self.hold)):
            if share is not None and not 0 < share <= 1:
                raise SettingsError(f"{name} takes a number above 0 and at most 1, not {share:g}")
        if self.source == "frames" and self.region != WHOLE_FACE:
            raise SettingsError(f"--source frames is about the whole face: leave --region {self.region} out, or pass --source windows")

    def width(self, step_s: float) -> int:
        """Width of the smoothing in values of a series, `step_s` seconds apart; odd for the two centred methods; at least 1."""
        width = SMOOTHINGS[self.smooth] if self.width_s is None else max(1, round(self.width_s / step_s))
        return width if self.smooth == "ema" else width + (width % 2 == 0)
