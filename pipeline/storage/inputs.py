"""Which videos the inputs of a command stand for: files, folders, patterns and URLs."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.storage.remote import find, is_url, plain
from pipeline.storage.run_folder import fingerprint

_KINDS = "3gp|asf|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpeg|mpg|mts|mxf|ogv|ts|vob|webm|wmv"
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split("|"))
"""Names that are taken for videos when a folder is searched; a file that is named itself is taken whatever its name."""


def find_videos(inputs: Sequence[str]) -> list[str]:
    """The video files that the inputs stand for, each once, those of a folder or a pattern in order of name.

    Args:
        inputs: files, folders (searched to their depths) and glob patterns; URLs of these (`pipeline.storage.remote`).

    Raises:
        SettingsError: when one does not exist or matches nothing, or when no video is found at all.
    """
    return list(marked_videos(inputs))


def marked_videos(inputs: Sequence[str]) -> dict[str, str]:
    """The videos of `find_videos`, each with a mark that changes when the file does."""
    found: dict[str, str] = {}
    marks: dict[str, str] = {}
    for item in map(plain, inputs):
        if is_url(item):
            marks |= find(item, _is_video)
            found |= {url: url for url in marks}
            continue
        matches = [item] if os.path.exists(item) else sorted(glob.glob(item, recursive=True))
        if not matches:
            what = "no file matches" if glob.has_magic(item) else "there is no file or folder"
            raise SettingsError(f"{what} {item}")
        for match in matches:
            for path in _in_folder(match) if os.path.isdir(match) else [match]:
                found.setdefault(os.path.abspath(path), path)
    if not found:
        raise SettingsError(f"no videos found in {', '.join(inputs)} (names ending in {' '.join(sorted(VIDEO_SUFFIXES))})")
    return {path: marks.get(path) or fingerprint(path) for path in found.values()}


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _in_folder(folder: str) -> list[str]:
    """The videos in a folder, at any depth; folders with a video's name and no video in them count as (unreadable) videos."""
    files: list[str] = []
    named: list[str] = []
    for parent, folders, names in os.walk(folder):
        for found, among in ((files, names), (named, folders)):
            found += [os.path.join(parent, name) for name in among if _is_video(name)]
    holding = {str(above) for path in files for above in Path(path).parents}
    return sorted([*files, *(path for path in named if path not in holding)])
