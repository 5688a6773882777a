"""The time left: estimated from the work that is left and the speed of the work, once there is something to estimate from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.execution.progress import ESTIMATE_AFTER_S, Progress


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def estimates(sizes: Sequence[int], frames: Sequence[int], start_s: float, per_s: float, chunk: int = 20) -> list[tuple[float, float]]:
    """Go through videos one after the other at a steady speed: the estimate after each result, and the seconds that were left."""
    clock = Clock()
    progress = Progress({str(i): size for i, size in enumerate(sizes)}, clock)
    clock.now += start_s
    total, found = sum(frames), []
    for i, count in enumerate(frames):
        for first in range(0, count, chunk):
            part = min(chunk, count - first)
            clock.now += part / per_s
            progress.add(str(i), frames=part, share=(first + part) / count, faces=0, descriptions=0)
            if progress.left_s is not None:
                found.append((progress.left_s, (total - progress.frames) / per_s))
        progress.finish(str(i), failed=False)
    assert progress.left_s == 0
    return found


def test_the_first_estimate_is_right_where_the_speed_is_steady() -> None:
    """A long start-up and one long video among short ones do not mislead it."""
    found = estimates(sizes=[100, 100, 100, 6000], frames=[60, 60, 60, 3600], start_s=15, per_s=20)
    first, truth = found[0]
    assert first == pytest.approx(truth, rel=0.01)
    assert all(estimate == pytest.approx(left, rel=0.01, abs=0.01) for estimate, left in found)


def test_bytes_weigh_videos_that_have_not_begun() -> None:
    """Twice the bytes of one video, half of another's: the estimates stay within a factor of two from the first on."""
    found = estimates(sizes=[1000, 2000, 500, 1500], frames=[400, 400, 400, 400], start_s=8, per_s=40)
    assert all(left / 2 <= estimate <= left * 2 for estimate, left in found if left > 0)


def test_nothing_is_estimated_before_there_is_work_to_estimate_from() -> None:
    clock = Clock()
    progress = Progress({"a": 100, "b": 100}, clock)
    clock.now += 60
    assert progress.left_s is None and str(progress).endswith("? left")
    progress.add("a", frames=10, share=0.1, faces=0, descriptions=0)
    clock.now += ESTIMATE_AFTER_S
    assert progress.left_s is None  # nothing was done since
    progress.add("a", frames=30, share=0.4, faces=0, descriptions=0)
    assert progress.left_s == pytest.approx((60 + 100) * ESTIMATE_AFTER_S / 30)
    assert str(progress).endswith("0:00:16 left")


def test_failed_videos_take_no_time() -> None:
    clock = Clock()
    sizes = {"long": 1000} | {f"bad{i}": 10**9 for i in range(50)}
    progress = Progress(sizes, clock)
    for i in range(50):
        progress.add(f"bad{i}", frames=0, share=1.0, faces=0, descriptions=0)
        progress.finish(f"bad{i}", failed=True)
    assert progress.left_s is None
    for share in (0.1, 0.2):
        clock.now += 10
        progress.add("long", frames=100, share=share, faces=0, descriptions=0)
    assert progress.left_s == pytest.approx(80)
    assert (progress.done, progress.failed) == (50, 50)


def test_files_without_bytes_count_like_the_others() -> None:
    clock = Clock()
    progress = Progress({"a": 0, "b": 0}, clock)
    for share in (0.5, 1.0):
        clock.now += 10
        progress.add("a", frames=50, share=share, faces=0, descriptions=0)
    assert progress.left_s == pytest.approx(20)
