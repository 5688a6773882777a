"""The recipes of CONTRIBUTING.md, done: each changes one obvious place of a copy of the package, and the main job uses the change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PACKAGE = Path(__file__).parents[1] / "pipeline"
Edit = Callable[[str, str, str], None]


class Copy:
    """A copy of the package that a test may change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(PACKAGE, root / "pipeline", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        for weights in PACKAGE.rglob("*.safetensors"):
            (root / "pipeline" / weights.relative_to(PACKAGE)).symlink_to(weights)

    def add(self, module: str, text: str) -> None:
        """Write a new module."""
        (self.root / "pipeline" / module).write_text(text)

    def insert(self, module: str, before: str, text: str) -> None:
        """Insert text before the first place where `before` stands."""
        file = self.root / "pipeline" / module
        source = file.read_text()
        assert before in source, f"{module} has no {before!r}"
        file.write_text(source.replace(before, text + before, 1))

    def run(self, code: str, *arguments: object) -> str:
        """Run Python code against the copy; what it prints."""
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        words = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=self.root)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


RUN = """
import sys, pipeline
settings = {"video.fps": 2, "execution.executor": "in_process", "select.regions": "mouth", "describe.frames": "described"}
run = pipeline.run(sys.argv[1], "run", settings=settings | dict(word.split("=") for word in sys.argv[2:]))
"""


def test_a_detector(copy: Copy, samples: Path) -> None:
    copy.add(
        "faces/detectors/middle.py",
        "import numpy as np\n"
        "from pipeline.faces.detectors import Detector\n"
        "from pipeline.records import Detections\n"
        "class Middle(Detector):\n"
        "    name, device = 'middle', 'cpu'\n"
        "    def detect(self, images):\n"
        "        return [self._face(*image.shape[:2]) for image in images]\n"
        "    def _face(self, height, width):\n"
        "        corner, side = np.array([width / 2 - 50, height / 2 - 60]), np.array([100, 120])\n"
        "        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])\n"
        "        box = np.concatenate([corner, corner + side])[None]\n"
        "        return Detections(box.astype('f4'), np.ones(1, 'f4'), (corner + points * side)[None].astype('f4'))\n",
    )
    copy.insert(
        "faces/detectors/__init__.py",
        '    if device == "auto":\n',
        '    if spec == "middle":\n        from pipeline.faces.detectors.middle import Middle\n\n        return Middle()\n',
    )
    said = copy.run(RUN + "print(run.info['detector'], run.faces.num_rows > 0)", samples / "no_face.mp4", "detect.detector=middle")
    assert said == "middle True"


def test_a_region(copy: Copy, samples: Path) -> None:
    nose = copy.run("from pipeline.vocabulary import REGION; print(REGION['nose'].placement)")
    copy.insert("vocabulary.py", '    Region("right_eye"', f'    Region("philtrum", (46, 66, 66, 79), {nose}),\n')
    said = copy.run(
        RUN + "print(set(run.descriptions['region'].to_pylist()), run.descriptions['AU10'].null_count)",
        samples / "single_face.mp4",
        "select.regions=philtrum",
    )
    assert said == "{'philtrum'} 0"


def test_an_action_unit(copy: Copy, samples: Path) -> None:
    copy.insert(
        "vocabulary.py",
        '    ActionUnit(\n        "AU43"',
        '    ActionUnit("AU38", "nostril dilator", ((46, 56, 66, 66),), ("the nostrils are widened",)),\n',
    )
    said = copy.run(
        "from pipeline.describe.sentences import compose\n"
        + RUN
        + "known = run.descriptions.num_rows - run.descriptions['AU38'].null_count\n"
        "print(compose(['AU38'], None, None), known, 'AU38' in run.faces.column_names)",
        samples / "single_face.mp4",
    )
    assert said == "The nostrils are widened. 0 True", "nano does not know it: null in every row"


def test_a_description_backend(copy: Copy, samples: Path) -> None:
    copy.add(
        "describe/backends/always_smiling.py",
        "import numpy as np\n"
        "from pipeline.describe.describer import BaseDescriber\n"
        "from pipeline.describe.fields import Fields\n"
        "from pipeline.describe.grammar import Grammar\n"
        "from pipeline.vocabulary import AUS\n"
        "class AlwaysSmiling(BaseDescriber):\n"
        "    def _read(self, prompts, then_write):\n"
        "        scores = {au: 0.9 if au == 'AU12' else 0.1 for au in AUS}\n"
        "        return [Fields(scores, np.eye(7)[3], np.eye(101)[30]) for _ in prompts]\n"
        "    def _write(self, prompts, answers):\n"
        "        return ['The lip corners are raised; the face looks happy and about 30 years old.' for _ in prompts]\n"
        "def open_describer(model, **options):\n"
        "    return AlwaysSmiling(model, Grammar(), options['batch_size'])\n",
    )
    said = copy.run(
        RUN + "said, aus = (run.descriptions[name].to_pylist() for name in ('description', 'aus'))\n"
        "print(run.info['model'], set(said), set(map(tuple, aus)))",
        samples / "single_face.mp4",
        "describe.backend=always_smiling",
    )
    assert said == "nano {'The lip corners are raised; the face looks happy and about 30 years old.'} {('AU12',)}"


def test_a_trend_metric(copy: Copy, samples: Path) -> None:
    copy.insert(
        "trends/measures.py",
        '    Measure(\n        "head_speed"',
        '    Measure("brow_raise", "AU01", lambda series: series.scores[:, AUS.index("AU01")]),\n',
    )
    code = (
        "trends = pipeline.load_trends(['run'])\n"
        "print(trends['series']['brow_raise'].null_count, trends['tracks']['brow_raise'].null_count, "
        "'brow_raise' in trends['by_video']['measure'].to_pylist())"
    )
    assert copy.run(RUN + code, samples / "single_face.mp4", "describe.frames=all") == "0 0 True"


def test_a_column(copy: Copy, samples: Path) -> None:
    older = Copy(copy.root / "older")
    older.run(RUN, samples / "single_face.mp4")
    copy.insert("schemas.py", '        _field("sharpness"', '        _field("eye_distance", pa.float32(), "pixels of the frame"),\n')
    copy.insert(
        "execution/analysis.py",
        '"landmarks5": np.ravel(face.landmarks5)',
        '"eye_distance": float(np.linalg.norm(face.landmarks5[1] - face.landmarks5[0])), ',
    )
    column = "print(run.faces['eye_distance'].null_count, run.faces.num_rows > 0)"
    assert copy.run(RUN + column, samples / "single_face.mp4") == "0 True"
    assert copy.run(f"import pipeline; run = pipeline.open_run('older/run'); {column}").split()[0] != "0", "older runs read as null"
