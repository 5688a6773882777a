"""Interlaced and HDR material: frames as a screen of today would show them.

Deinterlacing is FFmpeg's bwdif, one frame out for each frame in, and only where the frames say that they are interlaced.

HLG and PQ are brought to BT.709 by the standards' formulas, in a table that FFmpeg's lut3d applies: signal to light (ITU-R BT.2100),
light relative to a white of 203 cd/m2 (BT.2408), colours of BT.2020 to those of BT.709 (BT.2087), light to signal (BT.1886). What is
brighter than white becomes white. FFmpeg's own conversion gives the same within a level and takes a hundred times as long.
"""

from __future__ import annotations

import tempfile
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

WHITE = 203.0
"""cd/m2 of what SDR shows as white (BT.2408). More keeps detail in highlights and makes faces darker."""

HLG_PEAK = 1000.0
"""cd/m2 of the display that HLG is rendered for (BT.2100)."""

TABLE_SIDE = 33
"""Steps of the table in each colour. More follows the curves more closely, half a level at this size, and is slower to write."""

BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Linear light in the primaries of BT.2020 to those of BT.709 (BT.2087)."""

RESAMPLING = Interpolation.BICUBIC
"""How pictures are scaled where their size has to change."""


def hdr_name(frame: av.video.frame.VideoFrame) -> str | None:
    """`HLG` or `PQ` where a frame is one of these, else None."""
    return HDR.get(int(frame.color_trc))


def _light_of_hlg(signal: np.ndarray) -> np.ndarray:
    """(..., 3) HLG signals from 0 to 1 as light, in cd/m2 (BT.2100, inverse OETF and OOTF)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return HLG_PEAK * np.maximum(luminance, 1e-9)[..., None] ** 0.2 * scene


def _light_of_pq(signal: np.ndarray) -> np.ndarray:
    """(..., 3) PQ signals from 0 to 1 as light, in cd/m2 (BT.2100, EOTF)."""
    root = signal ** (1 / (2523 / 4096 * 128))
    over = np.maximum(root - 3424 / 4096, 0) / (2413 / 4096 * 32 - 2392 / 4096 * 32 * root)
    return 10000 * over ** (1 / (2610 / 16384))


def tone_table(transfer: str, side: int = TABLE_SIDE) -> np.ndarray:
    """Make the lookup table that maps HDR colours to SDR.

    Args:
        transfer: `HLG` or `PQ`, in the primaries of BT.2020.
        side: steps in each colour.

    Returns:
        (side, side, side, 3) float64 in [0, 1]: for steps of blue, green and red, the R, G and B of BT.709.
    """
    steps = np.linspace(0, 1, side)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    signal = np.stack([red, green, blue], -1)
    light = (_light_of_hlg if transfer == "HLG" else _light_of_pq)(signal) / WHITE
    return np.clip(light @ BT2020_TO_BT709.T, 0, 1) ** (1 / 2.4)


def _graph(frame: av.video.frame.VideoFrame, name: str, **options: str) -> Graph:
    """A filter for frames such as this one."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000))
    graph.link_nodes(source, graph.add(name, **options), graph.add("buffersink")).configure()
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
            self._shape, self._graph = shape, _graph(frame, "bwdif", mode="send_frame", parity="auto", deint="interlaced")
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
        self._reformatter, self._to_planes = VideoReformatter(), VideoReformatter()
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
        if transfer := hdr_name(frame):
            frame = self._tone_mapped(frame, transfer)
        resampling = None if (frame.width, frame.height) == size else RESAMPLING
        return self._reformatter.reformat(frame, width, height, "rgb24", interpolation=resampling, threads=1).to_ndarray()

    def _tone_mapped(self, frame: av.video.frame.VideoFrame, transfer: str) -> av.video.frame.VideoFrame:
        """A frame in BT.709, with 16 bits for each colour."""
        planes = self._to_planes.reformat(frame, format="gbrp16le", threads=1)
        key = frame.width, frame.height, transfer
        if self._graph is None or key != self._key:
            with tempfile.NamedTemporaryFile("w", suffix=".cube") as file:
                file.write(f"LUT_3D_SIZE {TABLE_SIDE}\n")
                np.savetxt(file, tone_table(transfer).reshape(-1, 3), fmt="%.5f")
                file.flush()
                self._key, self._graph = key, _graph(planes, "lut3d", file=file.name, interp="tetrahedral")
        self._graph.push(planes)
        return next(_pulled(self._graph))
