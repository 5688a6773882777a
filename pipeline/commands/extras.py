"""Extras: what `train`, `eval`, `bench` and `people` need beyond a plain install."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, requires, version
from typing import ParamSpec

from packaging.requirements import Requirement

from pipeline.errors import FocalfaceError

P = ParamSpec("P")


def missing(extra: str) -> list[str]:
    """Names of the packages of an extra that are not installed. Empty where focalface runs from source without being installed.

    >>> missing("no such extra")
    []
    """
    try:
        declared = [Requirement(text) for text in requires("focalface") or ()]
    except PackageNotFoundError:
        return []
    markers = [(one.name, one.marker) for one in declared if one.marker]
    names = [name for name, marker in markers if marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})]
    return [name for name in names if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def needs(extra: str, command: Callable[P, None]) -> Callable[P, None]:
    """The command, which then refuses to start where packages of the extra are not installed.

    Raises:
        FocalfaceError: from the command, naming the packages and what to install.
    """

    @wraps(command)
    def checked(*arguments: P.args, **options: P.kwargs) -> None:
        check_extra(extra)
        command(*arguments, **options)

    return checked


def check_extra(extra: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        FocalfaceError: naming the packages and what to install.
    """
    if names := missing(extra):
        raise FocalfaceError(f"focalface {extra} needs {', '.join(names)}: pip install 'focalface[{extra}]'")
