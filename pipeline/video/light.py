"""Interlaced and HDR material: frames as a screen of today would show them.

Deinterlacing is FFmpeg's bwdif, one frame out for each frame in, and only where the frames say that they are interlaced. HLG and PQ are
brought to BT.709 by FFmpeg's scaler.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av.error
import av.filter
import av.video.frame
import numpy as np
from av.filter.graph import Graph
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter

HDR = {int(ColorTrc.ARIB_STD_B67): "HLG", int(ColorTrc.SMPTE2084): "PQ"}
"""Transfer characteristics that are tone-mapped, and their names."""

SDR = "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709"
"""What HDR is brought to: options of FFmpeg's scale filter. Other intents than its default are far from an SDR original."""

RESAMPLING = Interpolation.BICUBIC
"""How pictures are scaled where their size has to change."""


def hdr_name(frame: av.video.frame.VideoFrame) -> str | None:
    """`HLG` or `PQ` where a frame is one of these, else None."""
    return HDR.get(int(frame.color_trc))


def _graph(frame: av.video.frame.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """A chain of filters for frames such as this one."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000))
    graph.link_nodes(source, *(graph.add(name, options) for name, options in filters), graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.video.frame.VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.video.frame.VideoFrame)
        yield frame


class Deinterlacer:
    """Deinterlaces a stream's frames from the first one on that says it is interlaced; passes frames on unchanged before that.

    Attributes:
        active: whether an interlaced frame has come.
    """

    def __init__(self) -> None:
        self.active = False
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def push(self, frame: av.video.frame.VideoFrame) -> Iterator[av.video.frame.VideoFrame]:
        """Give the next frame.

        Yields:
            The frames that are ready, in order: this one, or, while deinterlacing, the one before it.
        """
        self.active = self.active or frame.interlaced_frame
        if not self.active:
            yield frame
            return
        shape = frame.width, frame.height, frame.format.name
        if self._graph is None or shape != self._shape:
            yield from self.finish()
            self._shape, self._graph = shape, _graph(frame, ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[av.video.frame.VideoFrame]:
        """The frames that are still held back, at the end of the stream."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None

    def _ready(self) -> Iterator[av.video.frame.VideoFrame]:
        assert self._graph is not None
        for frame in _pulled(self._graph):
            if frame.pts is not None:
                frame.pts //= 2  # bwdif counts in half of the stream's time base
            yield frame


class ToRGB:
    """Makes RGB pictures of decoded frames, in SDR."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._key: tuple[object, ...] | None = None

    def __call__(self, frame: av.video.frame.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """One picture.

        Args:
            frame: as decoded.
            size: width and height of the picture; other sizes than the frame's are scaled to.

        Returns:
            (height, width, 3) uint8.
        """
        width, height = size
        if hdr_name(frame):
            frame = self._tone_mapped(frame, width, height)
        resampling = None if (frame.width, frame.height) == size else RESAMPLING
        return self._reformatter.reformat(frame, width, height, "rgb24", interpolation=resampling, threads=1).to_ndarray()

    def _tone_mapped(self, frame: av.video.frame.VideoFrame, width: int, height: int) -> av.video.frame.VideoFrame:
        # A filter graph and not the reformatter: that one heeds the mastering display's brightness and comes out twice too dark.
        key = frame.width, frame.height, frame.format.name, int(frame.color_trc), width, height
        if self._graph is None or key != self._key:
            scale = f"w={width}:h={height}:flags=bicubic:{SDR}"
            self._key, self._graph = key, _graph(frame, ("scale", scale), ("format", "rgb24"))
        self._graph.push(frame)
        return next(_pulled(self._graph))
