"""Which frames of a video are analysed."""

from __future__ import annotations

TICK_TOLERANCE_S = 0.002
"""A frame this much before its sampling instant still counts as on it; covers containers that round times to a millisecond."""


class Sampler:
    """Chooses frames by their times, which it is given one after another.

    >>> sampler = Sampler(fps=2, video_fps=4)
    >>> [time_s for time_s in (0.0, 0.25, 0.5, 0.75, 1.0) if sampler.wants(time_s)]
    [0.0, 0.5, 1.0]
    """

    def __init__(self, fps: float | None, video_fps: float) -> None:
        """Prepare for a video.

        Args:
            fps: frames a second to choose: the first frame at or after each instant k / fps. None, or at least `video_fps`: every one.
            video_fps: mean frame rate of the video.
        """
        self._step = 0.0 if fps is None or fps >= video_fps else 1.0 / fps
        self._next_tick, self._last_s = 0.0, -1.0

    def wants(self, time_s: float) -> bool:
        """Whether the next frame is chosen; never one that is not later than the frame before."""
        if time_s <= self._last_s:
            return False
        self._last_s = time_s
        if not self._step:
            return True
        if time_s + TICK_TOLERANCE_S < self._next_tick:
            return False
        self._next_tick = ((time_s + TICK_TOLERANCE_S) // self._step + 1) * self._step
        return True
