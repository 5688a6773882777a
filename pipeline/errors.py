"""Errors that a user can act on. Each says in one line what is wrong and what to do; the command line prints them without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from os import PathLike


class FocalfaceError(Exception):
    """Base of all errors that are the input's or the settings' fault; the command exits 2."""


class SettingsError(FocalfaceError):
    """A setting is unknown, of the wrong type or out of range."""


class VideoErrorKind(StrEnum):
    """What is wrong with a video: the values of the `error_kind` column of the videos table."""

    MISSING = "missing"
    """There is no such file."""
    NOT_A_FILE = "not_a_file"
    """A folder, a pipe or a device."""
    PERMISSION = "permission"
    """The file may not be read."""
    EMPTY = "empty"
    """The file has no bytes."""
    NOT_A_VIDEO = "not_a_video"
    """No demuxer knows the format, or the file is text."""
    NO_VIDEO = "no_video"
    """The file has sound only, or no video stream that shows a moving picture."""
    UNKNOWN_CODEC = "unknown_codec"
    """The video stream has a codec that no decoder here knows."""
    DAMAGED = "damaged"
    """No frame decodes, or some do not."""
    TRUNCATED = "truncated"
    """The file ends before the length that it declares."""
    HUNG = "hung"
    """The decoder made no progress for `video.timeout_s`."""
    CRASHED = "crashed"
    """The decoder process crashed or was killed."""
    MEMORY = "memory"
    """The decoder needs more than `video.memory_mb`."""
    CHANGED = "changed"
    """The file is no longer the one that the run read."""
    UNREACHABLE = "unreachable"
    """The file could not be fetched from where it is stored; another attempt may succeed."""
    FAILED_RUN = "failed_run"
    """The run could not read the video, so its tables have nothing to report."""
    INTERNAL = "internal"
    """An error that focalface does not foresee."""


class VideoError(FocalfaceError):
    """A video cannot be read, or not as a whole. Recorded in its row of the videos table; the rest of the archive goes on.

    Attributes:
        kind: what is wrong, for programs.
        reason: what is wrong, in one line for people, without the path.
        path: the file as the user named it, or None where the context names it.

    >>> error = VideoError(VideoErrorKind.EMPTY, "empty file", "clip.mp4")
    >>> str(error), error.kind.value
    ('clip.mp4: empty file', 'empty')
    """

    def __init__(self, kind: VideoErrorKind, reason: str, path: str | None = None) -> None:
        super().__init__(kind, reason, path)  # all arguments, so that pickling keeps them
        self.kind, self.reason, self.path = kind, reason, path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path is not None else self.reason


class FetchError(VideoError):
    """A video cannot be fetched from where it is stored; another attempt may succeed."""

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(VideoErrorKind.UNREACHABLE, reason, path)

    def __reduce__(self) -> tuple[type[FetchError], tuple[str, str | None]]:
        return FetchError, (self.reason, self.path)


class ModelError(FocalfaceError):
    """A detector or a checkpoint cannot be loaded."""


class FocalfaceWarning(UserWarning):
    """Something goes on otherwise than was asked for; the command line prints it in one line, too."""


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks; the name of its class where it has none.

    >>> one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def writing(place: str | PathLike[str]) -> Iterator[None]:
    """Tell of a file or folder that cannot be written in one line.

    Raises:
        SettingsError: naming the place and the reason.
    """
    try:
        yield
    except OSError as error:
        raise SettingsError(f"cannot write {place}: {error.strerror or error}") from error
