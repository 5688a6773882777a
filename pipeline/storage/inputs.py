"""The videos, or images, that the inputs of a command stand for: files, folders, glob patterns and URLs of these."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.storage.names import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image_name, is_video_name, on_disk, skip_reason
from pipeline.storage.remote import find, is_url, plain
from pipeline.storage.run_folder import file_mark

SEEN_TWICE = "another path of a file"

IsWanted = Callable[[str], bool]
"""Whether a search of a folder takes a file of this name."""


@dataclass
class FoundFiles:
    """Result of a search.

    Attributes:
        marks: path, as the inputs name it, to a mark that changes with the file (`pipeline.storage.run_folder.fingerprint`); in the
            order of the inputs, those of a folder or pattern in order of name.
        skipped: reason (`pipeline.storage.names.skip_reason`, or `SEEN_TWICE`) to the number of files and folders skipped for it.
    """

    marks: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def find_videos(inputs: Sequence[str]) -> list[str]:
    """Paths of the videos that the inputs stand for; see `search`."""
    return list(search(inputs).marks)


def find_images(inputs: Sequence[str]) -> list[str]:
    """Paths of the images that the inputs stand for, found as `search` finds videos.

    Raises:
        SettingsError: an input does not exist or matches nothing, or no image is found at all.
    """
    found = list(_search(inputs, is_image_name).marks)
    if not found:
        raise SettingsError(f"no images found in {', '.join(inputs)} (names ending in {' '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def search(inputs: Sequence[str]) -> FoundFiles:
    """Find the videos that the inputs stand for, each once.

    Folders are searched to any depth. Links to folders are followed, each folder once. A file that is reached by several paths is one
    video, under the first path; within a folder, under the path without a link if there is one. Hidden files and folders and recycle bins
    are skipped below the inputs and where a wildcard matches them; an input that names one is searched.

    Args:
        inputs: files, folders and glob patterns (`**` for any depth); URLs of these (`pipeline.storage.remote`).

    Raises:
        SettingsError: an input does not exist or matches nothing, or no video is found at all.
    """
    found = _search(inputs, is_video_name)
    if all(is_image_name(path) and not is_video_name(path) for path in found.marks):  # or there are none
        images = found.marks or _search(inputs, is_image_name).marks
        if not images:
            raise SettingsError(f"no videos found in {', '.join(inputs)} (names ending in {' '.join(sorted(VIDEO_SUFFIXES))})")
        shown, count = shlex.join(inputs), f"{len(images)} image{'s' * (len(images) != 1)}"
        raise SettingsError(f"no videos but {count} in {shown}: to describe images, use focalface describe {shown}")
    return found


def _search(inputs: Sequence[str], is_wanted: IsWanted) -> FoundFiles:
    """The files that inputs stand for, none perhaps; see `search`."""
    found = FoundFiles()
    seen: set[str] = set()  # real paths
    for item in map(plain, inputs):
        if is_url(item):
            marks, skipped = find(item, is_wanted)
            found.marks |= marks
            found.skipped += skipped
            continue
        for path in _matches(item, found.skipped, is_wanted):
            real = os.path.realpath(path)
            if real in seen:
                found.skipped[SEEN_TWICE] += path not in found.marks
                continue
            seen.add(real)
            found.marks[path] = file_mark(path)
    return found


def _matches(item: str, skipped: Counter[str], is_wanted: IsWanted) -> Iterator[str]:
    """The files of one input."""
    here = on_disk(item)
    if os.path.lexists(here):
        tops = [here]
    elif not glob.has_magic(item):
        raise SettingsError(f"there is no file or folder {item}")
    else:
        tops = list(_matching(item, skipped, is_wanted))
        if not tops:
            raise SettingsError(f"no file matches {item}")
    for top in tops:
        yield from _in_folder(top, skipped, is_wanted) if os.path.isdir(top) else [top]


def _matching(pattern: str, skipped: Counter[str], is_wanted: IsWanted) -> Iterator[str]:
    """Files and folders that match a glob pattern, in order of name."""
    parts = pattern.split(os.sep)
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = os.sep.join(parts[:first]) + os.sep * (first > 0)
    if "**" not in parts:
        levels = parts[first:]
        for path in sorted(glob.glob(pattern)):
            names = path[len(base) :].split(os.sep)
            reasons = [skip_reason(name) for level, name in zip(levels, names, strict=False) if glob.has_magic(level) and level[0] != "."]
            if reason := next(filter(None, reasons), None):
                skipped[reason] += 1
            else:
                yield path
        return
    # `**` in the standard library follows links in circles
    from fsspec.utils import glob_translate

    matches = re.compile(glob_translate(os.sep.join(parts[first:]))).match
    files, folders = _walk(base or os.curdir, skipped, is_wanted)
    matched = sorted(path for path in (*files, *folders) if matches(os.path.relpath(path, base or os.curdir)))
    yield from (path if base else os.path.relpath(path) for path in matched)


def _in_folder(top: str, skipped: Counter[str], is_wanted: IsWanted) -> list[str]:
    """The wanted files in a folder, at any depth; folders with such a name and no such file in them count as (unreadable) ones."""
    files, folders = _walk(top, skipped, is_wanted)
    videos = [path for path in files if is_wanted(path)]
    holding = {str(above) for path in videos for above in Path(path).parents}
    named = [path for path in folders if is_wanted(path) and path not in holding]
    linked = {path: os.path.abspath(path) != os.path.realpath(path) for path in videos}
    kept: dict[str, str] = {}  # real path to path
    for path in sorted(videos, key=lambda path: (linked[path], path)):
        if kept.setdefault(os.path.realpath(path), path) != path:
            skipped[SEEN_TWICE] += 1
    return sorted([*kept.values(), *named])


def _walk(top: str, skipped: Counter[str], is_wanted: IsWanted) -> tuple[list[str], list[str]]:
    """All files and folders below a folder. Links to folders are followed last and to each folder once, so loops end."""
    files: list[str] = []
    below: list[str] = []
    visited: set[str] = set()
    waiting, links = [top], list[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        if folder != top:
            below.append(folder)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # without permission, or gone
            continue
        for entry in entries:
            reason = skip_reason(entry.name, os.path.basename(real))
            is_folder = entry.is_dir()
            if reason:
                skipped[reason] += is_folder or is_wanted(entry.name)
            elif not is_folder:
                files.append(entry.path)
            elif not entry.is_symlink():
                waiting.append(entry.path)
            elif not _is_above(os.path.realpath(entry.path), real):
                links.append(entry.path)
        links.sort()
    return files, below


def _is_above(folder: str, other: str) -> bool:
    """Whether `folder` is `other` or holds it; both real paths."""
    return os.path.commonpath([folder, other]) == folder
