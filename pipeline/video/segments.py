"""A long video in segments, each decoded on its own; one after the other they give the frames of one pass over the whole, to the bit.

A segment begins at a keyframe. That nothing after a keyframe depends on what comes before it is a promise of the file, which files
break (open groups of pictures, gradual refresh, wrong marks), so it is tested at every cut: the frames behind it, decoded on from
the segment before and decoded afresh from the keyframe, must be the same. Which frames there are, when, and which of them are
analysed comes from the packets of the whole file, and a segment must give exactly its share of these. If any of this fails, a
`VideoError` says so and the video is read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.video.backends.pyav import Decoding, PyavVideo
from pipeline.video.sampling import Sampler, period_of
from pipeline.video.source import SeekableSource

CHECKED = 16
"""Frames behind a cut that are decoded twice and compared; as many as a frame of H.264 or HEVC may depend on at once. More finds
fainter dependences across a cut and takes longer."""


def cut(video: SeekableSource, segment_s: float) -> list[int]:
    """Where to cut a video into segments.

    Args:
        video: open.
        segment_s: about how long a segment is; 0 for no segments.

    Returns:
        The place of each segment's first frame, the first 0. One segment where the video has to be read as one: it is short, decord
        reads it, its packets do not say for certain what frames there are, it is interlaced (a frame then needs the one before), or
        it has too few keyframes.
    """
    count = int(video.info.duration_s / segment_s) if segment_s else 1
    if count < 2 or not isinstance(video, PyavVideo) or not video.seekable or video.interlaced or video.problem_known:
        return [0]
    keyframes, _ = video.keyframes
    wanted = np.arange(1, count) * (video.info.duration_s / count)
    at = np.searchsorted(video.times[keyframes], wanted)
    return [0, *(int(place) for place in np.unique(keyframes[at[at < len(keyframes)]]) if place > 0)]


def segments_of(video: SeekableSource, segment_s: float, from_s: float = 0.0, to_s: float | None = None) -> list[tuple[int, int]]:
    """The segments that hold frames of a range: the place of each one's first frame, and of the first one behind it.

    Args:
        video: open.
        segment_s: see `cut`.
        from_s, to_s: see `pipeline.video.source.VideoSource.frames`.
    """
    starts = cut(video, segment_s)
    begin = int(np.searchsorted(video.times, from_s))
    end = len(video.times) if to_s is None else int(np.searchsorted(video.times, to_s))
    return [(first, last) for first, last in zip(starts, [*starts[1:], len(video.times)], strict=True) if begin < last and first < end]


def segment_frames(
    video: SeekableSource,
    fps: float | None,
    first: int,
    last: int,
    from_s: float = 0.0,
    to_s: float | None = None,
    period_s: float = 0.0,
) -> Iterator[Frame]:
    """The frames that `VideoSource.frames` would yield between two places; or those of whole periods.

    A period is the segment's in which its first frame lies. The frames of the last one, and the first frame of the next one, are
    decoded on behind the segment.

    Args:
        video: open, read by PyAV.
        fps: see `VideoSource.frames`.
        first, last: a segment's first frame, and the next one's; the number of frames behind the last segment.
        from_s, to_s: see `VideoSource.frames`.
        period_s: seconds of a period (`pipeline.video.sampling.period_of`); 0: the frames between the two places.

    Raises:
        VideoError: when they are others than the packets promise, or those behind the segment depend on where decoding begins.
    """
    path, count = video.info.path, len(video.times)
    if not isinstance(video, PyavVideo) or not 0 <= first < last <= count:
        raise VideoError(VideoErrorKind.CHANGED, f"no frames {first} to {last}: the file has changed", path)
    wanted = _wanted(video, fps, first, last, from_s, to_s, period_s)
    end = max([*wanted, last - 1]) + 1
    decoded = afresh = _decoded(video, first)
    for index in range(first, end if last == count else max(end, min(last + CHECKED, count))):
        if index == last:
            afresh = _decoded(video, last)
        time_s, image = next(decoded, (-1.0, None))
        if image is None or time_s != video.times[index]:
            raise VideoError(VideoErrorKind.DAMAGED, f"frame {index} does not decode, or not in its place", path)
        if last <= index < last + CHECKED:
            again_s, again = next(afresh, (-1.0, None))
            if again is None or time_s != again_s or not np.array_equal(image(), again()):
                raise VideoError(VideoErrorKind.DAMAGED, f"frames behind {last} depend on where decoding begins", path)
        if index in wanted:
            yield Frame(index, time_s, image())
    if last == count and next(decoded, None) is not None:
        raise VideoError(VideoErrorKind.DAMAGED, "more frames than its packets promise", path)


def _wanted(
    video: SeekableSource, fps: float | None, first: int, last: int, from_s: float, to_s: float | None, period_s: float
) -> set[int]:
    """Places of the frames that `segment_frames` yields."""
    sampler = Sampler(fps, video.info.fps)
    end_s = np.inf if to_s is None else to_s
    wanted: set[int] = set()
    before = -1  # the period of the last frame
    for index, time_s in enumerate(video.times.tolist()):
        if index >= last and (not period_s or not wanted):
            break
        if not sampler.wants(time_s) or not from_s <= time_s < end_s:
            continue
        begins = not period_s or period_of(time_s, period_s) != before
        before = period_of(time_s, period_s) if period_s else before
        if index >= first and (begins or wanted):
            wanted.add(index)
        if index >= last and begins:
            break
    return wanted


def _decoded(video: PyavVideo, first: int) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
    """Times and pictures of the frames from a keyframe on; those that are shown before it left out.

    Raises:
        VideoError: the frame is no keyframe, or frames turn out to be interlaced.
    """
    places, dts = video.keyframes
    at = np.flatnonzero(places == first)
    if first and not len(at):
        raise VideoError(VideoErrorKind.CHANGED, f"frame {first} is no keyframe", video.info.path)
    decoding = Decoding(video.stream, int(dts[at[0]]) if first else None)
    for decoded in decoding:
        if decoding.interlaced:
            raise VideoError(VideoErrorKind.DAMAGED, "interlaced frames depend on those before them", video.info.path)
        time_s = video.stream.timeline.seconds(decoded.stamp, video.origin)
        if time_s >= video.times[first]:
            yield time_s, partial(video.picture, decoded)
