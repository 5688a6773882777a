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
from itertools import islice

import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.video.backends.pyav import Decoding, PyavVideo
from pipeline.video.sampling import Sampler
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
    video: SeekableSource, fps: float | None, first: int, last: int, from_s: float = 0.0, to_s: float | None = None
) -> Iterator[Frame]:
    """The frames that `VideoSource.frames` would yield between two places.

    Args:
        video: open, read by PyAV.
        fps: see `VideoSource.frames`.
        first, last: a segment's first frame, and the next one's; the number of frames behind the last segment.
        from_s, to_s: see `VideoSource.frames`.

    Raises:
        VideoError: when they are others than the packets promise, or those behind the segment depend on where decoding begins.
    """
    path = video.info.path
    if not isinstance(video, PyavVideo) or not 0 <= first < last <= len(video.times):
        raise VideoError(VideoErrorKind.CHANGED, f"no frames {first} to {last}: the file has changed", path)
    sampler = Sampler(fps, video.info.fps)
    end_s = np.inf if to_s is None else to_s
    wanted = [sampler.wants(time_s) and from_s <= time_s < end_s for time_s in video.times[:last].tolist()]
    decoded = _decoded(video, first)
    for index in range(first, last):
        time_s, image = next(decoded, (-1.0, None))
        if image is None or time_s != video.times[index]:
            raise VideoError(VideoErrorKind.DAMAGED, f"frame {index} does not decode, or not in its place", path)
        if wanted[index]:
            yield Frame(index, time_s, image())
    if last == len(video.times):
        if next(decoded, None) is not None:
            raise VideoError(VideoErrorKind.DAMAGED, "more frames than its packets promise", path)
        return
    for (time_s, image), (again_s, again) in zip(islice(decoded, CHECKED), _decoded(video, last), strict=False):
        if time_s != again_s or not np.array_equal(image(), again()):
            raise VideoError(VideoErrorKind.DAMAGED, f"frames behind {last} depend on where decoding begins", path)


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
