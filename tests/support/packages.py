"""What is declared in pyproject.toml, and folders of packages as a plain install has them."""

from __future__ import annotations

import sysconfig
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
INSTALLED = packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared(*extras: str) -> set[str]:
    """Names of the distributions that `pip install focalface[extras]` asks for."""
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def with_requirements(names: set[str]) -> set[str]:
    """Distributions, as they are installed here, and all that they ask for themselves."""
    found: set[str] = set()
    waiting = sorted(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            with suppress(PackageNotFoundError):
                asked = [Requirement(text) for text in requires(name) or ()]
                waiting += [canonicalize_name(one.name) for one in asked if not one.marker or one.marker.evaluate({"extra": ""})]
    return found


def only_in(*extras: str) -> set[str]:
    """The distributions that these extras bring beyond a plain install."""
    return declared(*extras) - with_requirements(declared())


def link_plain_packages(folder: Path) -> None:
    """Fill a folder with links to the packages that are installed here, without focalface and without those that only extras bring."""
    left_out = {*only_in("people", "train", "eval", "bench"), "focalface"}
    modules = {module for module, names in INSTALLED.items() if {canonicalize_name(name) for name in names} <= left_out}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        name = canonicalize_name(entry.name.partition("-")[0]) if entry.name.endswith(".dist-info") else ""
        is_ours = "focalface" in entry.name or entry.suffix == ".pth"
        if not is_ours and name not in left_out and entry.name.removesuffix(".py") not in modules:
            (folder / entry.name).symlink_to(entry)
