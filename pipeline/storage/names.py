"""File names: which files are videos, which names are never searched, and names that differ only in their Unicode form.

macOS writes names decomposed (`e` and an accent), spreadsheets and keyboards compose them (`é`). Both are the same name to a person.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import PurePath

_KINDS = (
    "264|265|3g2|3gp|amv|apng|asf|avc|avi|dif|divx|dv|evo|f4v|flv|gif|gxf|h264|h265|hevc|ivf|m1v|m2p|m2t|m2ts|m2v|m4v|mjpeg|mjpg|mk3d|mkv|mod|"
    "mov|mp4|mpe|mpeg|mpg|mpv|mts|mxf|nut|obu|ogm|ogv|qt|rm|rmvb|tod|trp|ts|vc1|vob|vro|webm|webp|wmv|wtv|y4m"
)
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split("|"))
"""Suffixes of the files that a search of a folder takes for videos. A file that is named itself is taken whatever its name."""

_IMAGE_KINDS = "apng|avif|bmp|dib|gif|jfif|jp2|jpe|jpeg|jpg|pbm|pgm|png|pnm|ppm|tga|tif|tiff|webp"
IMAGE_SUFFIXES = frozenset(f".{kind}" for kind in _IMAGE_KINDS.split("|"))
"""Suffixes of the files that a search of a folder takes for images. Some of them may be short videos, too."""

HIDDEN = "hidden"
_PLACES = {
    "recycle bin": ("$recycle.bin", "recycler", "recycled", "#recycle", "@recycle"),
    "server's thumbnails": ("@eadir", "@tmp"),
    "snapshot": ("#snapshot", "@recently-snapshot", "~snapshot"),
    "system folder": ("__macosx", "system volume information", "lost+found"),
}
_REASON_OF = {name: reason for reason, names in _PLACES.items() for name in names}


def is_video_name(name: str) -> bool:
    """Whether a search takes a file of this name for a video.

    >>> is_video_name("talk.MP4"), is_video_name("notes.txt")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_image_name(name: str) -> bool:
    """Whether a search takes a file of this name for an image.

    >>> is_image_name("talk.JPG"), is_image_name("talk.mp4")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def skip_reason(name: str, parent: str = "") -> str | None:
    """Why a search passes over a file or folder, None where it does not.

    Skipped are hidden names (`.git`, `.Trashes`, AppleDouble's `._clip.mp4`), recycle bins, folders that file servers and operating systems
    keep for themselves, and the object store of git-annex.

    Args:
        name: of the file or folder.
        parent: name of the folder that it is in.

    >>> skip_reason("#recycle"), skip_reason("session 1")
    ('recycle bin', None)
    """
    if name.startswith("."):
        return HIDDEN
    if name == "objects" and parent == "annex":
        return "git-annex objects"
    return _REASON_OF.get(name.lower())


def composed(name: str) -> str:
    """A name in the form in which names are compared: composed Unicode (NFC).

    >>> composed("Zoe\\u0308") == "Zo\\u00eb"
    True
    """
    return unicodedata.normalize("NFC", name)


def on_disk(path: str) -> str:
    """The path of an existing file or folder whose name differs from `path` in its Unicode form only.

    Returns:
        `path` itself where it exists, or where nothing fits.
    """
    if os.path.lexists(path):
        return path
    parts = PurePath(path).parts
    found = parts[0] if parts and os.path.isabs(path) else ""
    for part in parts[1:] if found else parts:
        there = os.path.join(found, part)
        if not os.path.lexists(there):
            try:
                names = sorted(os.listdir(found or "."))
            except OSError:
                return path
            matches = [name for name in names if composed(name) == composed(part)]
            if not matches:
                return path
            there = os.path.join(found, matches[0])
        found = there
    return found
