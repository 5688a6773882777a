"""Errors that a user can act on. Each says in one line what is wrong and what to do; the command line prints them without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class FocalfaceError(Exception):
    """Base of all errors that are the input's or the settings' fault; the command exits 2."""


class SettingsError(FocalfaceError):
    """A setting is unknown, of the wrong type or out of range."""


class VideoError(FocalfaceError):
    """A video cannot be read. Recorded in its row of the videos table; the rest of the archive goes on."""


class FetchError(VideoError):
    """A video does not come from where it lies; another time it may."""


class ModelError(FocalfaceError):
    """A detector or a checkpoint cannot be loaded."""


class FocalfaceWarning(UserWarning):
    """Something goes on otherwise than was asked for; the command line prints it in one line, too."""


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
