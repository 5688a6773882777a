"""The wheel: it holds all data of the package, and works in an environment of its own, outside the clone, without the extras."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.packages import ROOT, link_plain_packages

pytestmark = pytest.mark.slow


def tracked(*places: str) -> list[str]:
    """Files that git tracks, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *places]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the project, which leaves nothing in the clone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked("pipeline", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(source)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("focalface-*.whl")
    return file


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and the packages of a plain install."""
    folder = tmp_path_factory.mktemp("home")
    packages = folder / "packages"
    packages.mkdir()
    link_plain_packages(packages)
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    install = ["--python", str(folder / "env" / "bin" / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    installed = subprocess.run([sys.executable, "-m", "pip", *install], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    return folder


def call(home: Path, program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment, from a folder that holds nothing of the project."""
    elsewhere = home / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(home / "env" / "bin" / program), *map(str, words)]
    return subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == set(tracked("pipeline"))
    assert wheel.stat().st_size < 40e6


def test_an_image_is_described_from_python(home: Path, samples: Path) -> None:
    code = "import pipeline, sys; print(pipeline.__file__); print(pipeline.describe_image(sys.argv[1])[0].regions[0].answer)"
    ended = call(home, "python", "-c", code, samples / "single_face.jpg")
    assert ended.returncode == 0, ended.stderr
    file, answer = ended.stdout.splitlines()
    assert Path(file).is_relative_to(home / "env")
    assert answer.startswith("Answer(") and "description='The " in answer


def test_a_clip_is_run_and_reported(home: Path, samples: Path) -> None:
    ended = call(home, "focalface", "run", samples / "single_face.mp4", "--out", "run", "--fps", "2")
    assert ended.returncode == 0, ended.stderr
    assert "1: 1 with faces, 0 without, 0 failed" in ended.stdout
    for command, page in (("report", "report/index.html"), ("trends", "trends/summary.html")):
        ended = call(home, "focalface", command, "run")
        assert ended.returncode == 0, ended.stderr
        assert (home / "elsewhere" / "run" / page).stat().st_size > 1000


def test_what_is_sent_to_a_cluster_is_the_installed_package(home: Path) -> None:
    code = "from pipeline.commands.submit import PACKAGE; print(PACKAGE, (PACKAGE / 'models/nano/model.safetensors').is_file())"
    place, has_model = call(home, "python", "-c", code).stdout.split()
    assert Path(place).is_relative_to(home / "env") and has_model == "True"


def test_a_missing_extra_is_named(home: Path) -> None:
    ended = call(home, "focalface", "eval", "faces.parquet")
    assert ended.returncode == 2
    assert ended.stderr.endswith("pip install 'focalface[eval]'\n") and ended.stderr.count("\n") == 1
