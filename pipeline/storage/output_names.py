"""File names for what is made from videos: readable, safe on every file system, and unique within a run."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

NAME_BYTES = 120
"""Longest name in bytes of UTF-8. File systems allow 255; the rest is for endings and temporary names."""

_UNSAFE = re.compile(r"""[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*#%&;$'`!{}^]""")
"""Signs that some file system, shell or URL does not take as they are."""


def unique_names(paths: Mapping[str, str]) -> dict[str, str]:
    """A file name without ending for each video: its own, with its ending, folder or id added where two would be alike.

    The same paths give the same names, in any order. Names that differ only in case or in their form of Unicode count as alike.

    Args:
        paths: video_id to path.

    Returns:
        video_id to name.

    >>> unique_names({"1": "a/clip.mp4", "2": "b/clip.mp4", "3": "b/talk.mov"})
    {'1': 'a_clip', '2': 'b_clip', '3': 'talk'}
    """
    groups: dict[str, list[str]] = {}
    for key, path in paths.items():
        groups.setdefault(_forms(path)[0].casefold(), []).append(key)
    names: dict[str, str] = {}
    for keys in groups.values():
        forms = zip(*(_forms(paths[key]) for key in keys), strict=True)  # one tuple of names a form
        best = max(forms, key=lambda form: len({name.casefold() for name in form}))  # the first of those that tell most apart
        names |= dict(zip(keys, best, strict=True))
    counts = Counter(name.casefold() for name in names.values())
    return {key: name if counts[name.casefold()] == 1 else f"{name}_{key}" for key, name in names.items()}


def safe_name(text: str) -> str:
    """A text as a file name: unsafe signs become `_`; never empty, hidden or mistaken for an option."""
    kept = _UNSAFE.sub("_", unicodedata.normalize("NFC", text))
    while len(kept.encode()) > NAME_BYTES:
        kept = kept[:-1]
    return kept.strip(" .-") or "video"


def _forms(path: str) -> tuple[str, ...]:
    """Names for a file from the shortest to the longest form."""
    place = PurePath(path)
    stem, ending, folder = place.stem, place.suffix.removeprefix("."), place.parent.name
    return tuple(map(safe_name, (stem, f"{stem}_{ending}", f"{folder}_{stem}", f"{folder}_{stem}_{ending}")))
