"""Which frames of a video are analysed."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.records import Frame

TICK_TOLERANCE_S = 0.002
"""A frame this much before its sampling instant still counts as on it; covers containers that round times to a millisecond."""


def period_of(time_s: float, period_s: float) -> int:
    """Number of the period of `period_s` seconds, counted from the start of the video, in which a frame lies.

    >>> [period_of(time_s, 0.5) for time_s in (0.0, 0.4, 0.4999, 0.6)]
    [0, 0, 1, 1]
    """
    return int((time_s + TICK_TOLERANCE_S) // period_s)


def period_start_s(time_s: float, period_s: float) -> float:
    """Where the period of a frame begins, in seconds.

    >>> period_start_s(1.7, 0.5)
    1.498
    """
    return period_of(time_s, period_s) * period_s - TICK_TOLERANCE_S


LOOK_AHEAD_S = 1.0
"""Seconds that are read behind the last period of a range, so that the first frame of the next one is among them; more finds it where
frames are further apart."""


def whole_periods(from_s: float, to_s: float | None, period_s: float) -> tuple[float, float | None]:
    """A range that holds all frames of the periods in which the frames of a range lie, and the first frame behind them.

    >>> whole_periods(1.7, 3.1, 0.5)
    (1.498, 4.498)

    Args:
        from_s, to_s: see `pipeline.video.source.VideoSource.frames`.
        period_s: length of a period in seconds; 0: each frame is one, and the range stays as it is.
    """
    if not period_s:
        return from_s, to_s
    end_s = None if to_s is None else period_start_s(to_s, period_s) + period_s + LOOK_AHEAD_S
    return max(0.0, period_start_s(from_s, period_s)), end_s


def until_next_period(frames: Iterator[Frame], to_s: float | None, period_s: float) -> Iterator[Frame]:
    """The frames before a time, the rest of the period in which it lies, and the first frame of the next one; others are read and dropped.

    Args:
        frames: in order.
        to_s: seconds; None: all frames.
        period_s: length of a period in seconds; 0: each frame is one.
    """
    before, ended = -1, False
    for frame in frames:
        if not ended:
            yield frame
        if to_s is not None and period_s:
            period = period_of(frame.time_s, period_s)
            ended = ended or (frame.time_s >= to_s and period != before)
            before = period


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
