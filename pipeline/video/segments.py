"""A long video in segments, each decoded on its own; one after the other they give the frames of one pass over the whole, to the bit.

A segment begins at a keyframe. That nothing after a keyframe leans on what comes before it is a promise of the file's, which files
break (open groups of pictures, gradual refresh, wrong marks), so it is tested at every cut: the frames behind it, decoded on from
the segment before and decoded afresh from the keyframe, must be the same. Which frames there are, when, and which of them are
looked at comes from the packets of the whole file (`pipeline.video.reader.Scan`), and a segment must give exactly its share of these.
Whatever does not hold ends in a `VideoError`, after which the video is read as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import av.video.frame
import numpy as np

from pipeline.errors import VideoError, VideoErrorKind
from pipeline.records import Frame
from pipeline.video.reader import Sampler, Video, upright

CHECKED = 16
"""Frames behind a cut that are decoded twice and compared; as many as a frame of H.264 or HEVC may lean on at once. More finds
fainter leanings across a cut and takes longer."""


def cut(video: Video, segment_s: float) -> list[int]:
    """Where to cut a video into segments.

    Args:
        video: open.
        segment_s: about how long a segment is; 0 for no segments.

    Returns:
        The place of each segment's first frame, the first 0; one segment where the video is to be read as one: it is short, decord
        reads it, its packets do not say for certain what frames there are, or it has too few keyframes.
    """
    count = int(video.info.duration_s / segment_s) if segment_s else 1
    if count < 2 or video.info.decoder == "decord" or not video.scan.sound:
        return [0]
    keyframes = video.scan.keyframes
    wanted = np.arange(1, count) * (video.info.duration_s / count)
    at = np.searchsorted(video.times[keyframes], wanted)
    return [0, *(int(place) for place in np.unique(keyframes[at[at < len(keyframes)]]) if place > 0)]


def segment_frames(video: Video, fps: float | None, first: int, last: int) -> Iterator[Frame]:
    """The frames that `Video.frames` would yield between two places.

    Args:
        video: open, read by PyAV.
        fps: see `Video.frames`.
        first, last: a segment's first frame, and the next one's; the number of frames behind the last segment.

    Raises:
        VideoError: when they are others than the packets promise, or those behind the segment depend on where decoding begins.
    """
    if not 0 <= first < last <= len(video.times):
        raise VideoError(VideoErrorKind.CHANGED, f"no frames {first} to {last}: the file has changed", video.info.path)
    sampler = Sampler(fps, video.info.fps)
    looked_at = [sampler.wants(time_s) for time_s in video.times[:last].tolist()]
    decoded = _decoded(video, first)
    for index in range(first, last):
        time_s, frame = next(decoded, (-1.0, None))
        if frame is None or time_s != video.times[index]:
            raise VideoError(VideoErrorKind.DAMAGED, f"frame {index} does not decode, or not in its place", video.info.path)
        if looked_at[index]:
            yield Frame(index, time_s, upright(frame))
    if last == len(video.times):
        if next(decoded, None) is not None:
            raise VideoError(VideoErrorKind.DAMAGED, "more frames than its packets promise", video.info.path)
        return
    for (time_s, frame), (again_s, again) in zip(islice(decoded, CHECKED), _decoded(video, last), strict=False):
        if time_s != again_s or not np.array_equal(upright(frame), upright(again)):
            raise VideoError(VideoErrorKind.DAMAGED, f"frames behind {last} depend on where decoding begins", video.info.path)


def _decoded(video: Video, first: int) -> Iterator[tuple[float, av.video.frame.VideoFrame]]:
    """The frames from a keyframe on, with their times; those that are shown before it left out."""
    places = np.flatnonzero(video.scan.keyframes == first)
    if first and not len(places):
        raise VideoError(VideoErrorKind.CHANGED, f"frame {first} is no keyframe", video.info.path)
    frames = video.av_frames(int(video.scan.key_dts[places[0]]) if first else None)
    return (pair for pair in frames if pair[0] >= video.times[first])
