"""Which regions of a face are worth describing in a window of time, and in which frame.

A region moved when its look in the aligned crop differs from the window's own median look, or from how the person usually looks. What
is not its own doing is taken out first: light by local normalisation, landmark jitter and head motion by registering every crop to the
usual look (robustly, so that what moves on its own does not pull), what registration leaves by weighing each pixel's difference against
what a small misplacement would make there, and last the level that the calm half of the face shows too. What remains is compared to
the track's own history. One pass, bounded memory: crops are kept for open windows only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

import cv2
import numpy as np

from pipeline.align import CROP_SIZE, Alignment
from pipeline.errors import SettingsError
from pipeline.records import Face, Selection
from pipeline.regions import place_regions, to_crop_box, to_frame_box
from pipeline.vocabulary import CUSTOM_BOX, REGIONS, WHOLE_FACE, Box

CANDIDATES: dict[str, tuple[str, ...]] = {
    "eyes": ("left_eye", "right_eye"),
    "brows": ("left_brow", "right_brow"),
    "mouth": ("mouth",),
    "nose": ("nose",),
    "cheeks": ("left_cheek", "right_cheek"),
    "forehead": ("forehead",),
    "chin": ("chin",),
}
"""The regions that `auto` chooses among, each with the boxes that it is measured on."""

NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "eyes": ("brows", "cheeks", "nose", "forehead"),
    "brows": ("eyes", "forehead", "nose"),
    "mouth": ("chin", "cheeks", "nose"),
    "nose": ("eyes", "brows", "cheeks", "mouth"),
    "cheeks": ("eyes", "nose", "mouth", "chin"),
    "forehead": ("brows", "eyes"),
    "chin": ("mouth", "cheeks"),
}
"""Regions whose skin is pulled along when a region moves."""

MAX_REGIONS = 3
"""Most regions that `auto` adds to the face in one window; more describes more of a lively face."""

MAX_FRAMES = 48
"""Most frames of a window that are looked at; more costs memory and time where windows are long or sampling dense."""

HISTORY = 600
"""Frames of a track's past that say what is usual; more makes it slower to get used to a new habit."""

