"""The order of the packages, read from the source: data flows one way, nothing imports upwards, and every module stays small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    *("vocabulary", "errors", "records", "schemas", "settings"),
    *("video", "faces", "regions", "describe", "storage", "execution"),
    *("people", "trends", "report", "dataset", "training", "evaluation", "speed", "commands", "cli"),
]
"""Lowest first: a package imports from itself and from those before it."""

MODULES = sorted((ROOT / "pipeline").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST = 500
"""Lines of a module at most."""


def name_of(file: Path) -> str:
    """The module's name: `pipeline.video.opening`."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it (inside functions and for type checking too), with the line.

    The version, the only name that modules take from the package's top, is left out.
    """
    yield from imported_by(ast.parse(file.read_text(encoding="utf-8")), str(file))


def imported_by(tree: ast.AST, file: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports name the whole module"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner != "pipeline.__version__":
                    yield (inner if inner in NAMES else str(node.module)), node.lineno


NAMES = {name_of(file) for file in MODULES}


def test_the_top_of_the_package_is_the_shared_language_and_a_package_for_each_stage() -> None:
    found = {path.name for path in (ROOT / "pipeline").iterdir() if path.name != "__pycache__"}
    packages = {name for name in ORDER if (ROOT / "pipeline" / name / "__init__.py").is_file()}
    modules = {f"{name}.py" for name in ("__init__", "cli", "vocabulary", "errors", "records", "schemas", "settings")}
    assert found == packages | modules | {"models"}
    assert packages == {name for name in ORDER if f"{name}.py" not in modules}
    assert len(found) <= 22


@pytest.mark.parametrize("package", [name for name in ORDER if name != ORDER[-1]])
def test_nothing_imports_upwards(package: str) -> None:
    allowed = ORDER[: ORDER.index(package) + 1]
    for file in MODULES:
        if name_of(file).split(".")[1:2] == [package]:
            for imported, line in imports(file):
                if imported.partition(".")[0] == "pipeline":
                    assert imported != "pipeline", f"{file}:{line}: only the version comes from the package's top"
                    assert imported.split(".")[1] in allowed, f"{file}:{line}: {package} imports {imported}"


def opened_by(file: Path) -> set[str]:
    """What a package's functions import of its own modules: it opens them when it is asked for one (`load_detector`)."""
    if file.name != "__init__.py":
        return set()
    functions = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    names = {imported for function in functions for imported, _ in imported_by(function, str(file))}
    return {name for name in names if name.startswith(f"{name_of(file)}.")}


def test_no_modules_import_each_other() -> None:
    """A package that opens its own modules by name may be imported by them."""
    graph = {(name := name_of(file)): {imported for imported, _ in imports(file)} & NAMES - {name} - opened_by(file) for file in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_ray_is_where_runs_are_executed_and_jobs_sent() -> None:
    users = {name_of(file) for file in MODULES for imported, _ in imports(file) if imported.partition(".")[0] == "ray"}
    assert {name.rsplit(".", 1)[0] if name.startswith("pipeline.execution.") else name for name in users} <= {
        "pipeline.execution",
        "pipeline.execution.executors",
        "pipeline.commands.submit",
    }


def test_no_test_imports_another_test() -> None:
    for file in TESTS:
        assert not [name for name, _ in imports(file) if name.startswith("tests.test_")], file
        assert "from tests.test" + "_" not in file.read_text(encoding="utf-8"), f"{file}: in a script that it starts"


def test_modules_are_short() -> None:
    files = [*MODULES, *TESTS, *(ROOT / "jobs").glob("*.py")]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
