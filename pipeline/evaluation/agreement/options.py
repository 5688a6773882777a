"""The choices of one comparison, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from pipeline.errors import SettingsError
from pipeline.trends.options import Options


@dataclass(frozen=True)
class AgreeOptions:
    """The choices of one comparison.

    Attributes:
        tolerance_s: frames nearer than this to an onset or offset of a person's code are left out, as in the no-score collar of NIST's
            evaluations of speaker diarization. 0 counts every frame.
        onset_s: events match whose onsets lie at most this far apart.
        present_from: intensity from which a label counts as present.
        block_s: length of the blocks of time that are resampled where there are few videos. Shorter than expressions last, it makes
            intervals too narrow.
        whole: whether a video was coded from end to end where the file does not say; else from its first onset to its last offset.
        shift_s: is added to the times of all codes.
        trends: how the run's series are made.
    """

    tolerance_s: float = 0.0
    onset_s: float = 0.5
    present_from: float = 1.0
    block_s: float = 5.0
    whole: bool = False
    shift_s: float = 0.0
    trends: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        for name, value, least in (("--tolerance", self.tolerance_s, 0), ("--onset", self.onset_s, 0), ("--block", self.block_s, 0.1)):
            if not (isfinite(value) and value >= least):
                raise SettingsError(f"{name} takes seconds of at least {least:g}, not {value:g}")
        if not isfinite(self.shift_s):
            raise SettingsError(f"--shift takes seconds, not {self.shift_s:g}")
        if not 0 < self.present_from <= 5:
            raise SettingsError(f"--present-from takes an intensity above 0 and at most 5, not {self.present_from:g}")
