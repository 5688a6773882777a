"""The public API: documented names that load nothing heavy until they are used."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import align


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'transformers', 'onnxruntime', 'cv2', 'pyarrow', 'numpy', 'av', 'decord'}"
    code = f"import sys, pipeline; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", sorted(set(pipeline.__all__) - {"__version__"}))
def test_every_public_name_has_a_docstring_with_arguments_and_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(pipeline, name)) or ""
    assert "Args:" in text and "Raises:" in text, f"{name}: {text}"
    assert ">>>" in text, name
    assert name in dir(pipeline)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = pipeline.no_such_name


def test_a_clip_becomes_tables(samples: Path, tmp_path: Path) -> None:
    settings = {"video.fps": 3, "select.regions": "mouth", "execution.executor": "in_process"}
    run = pipeline.run(samples / "single_face.mp4", tmp_path / "run", settings=settings)
    assert run.videos["status"].to_pylist() == ["ok"]
    assert set(run.descriptions["region"].to_pylist()) == {"mouth"}
    assert run.faces.to_pandas()["time_s"].diff().dropna().ge(0).all()
    assert pipeline.open_run(tmp_path / "run").faces.equals(run.faces)
    with pytest.raises(SettingsError, match=r"unknown setting video\.fsp"):
        pipeline.run([samples / "single_face.mp4"], tmp_path / "run", settings={"video.fsp": 3})


def test_open_run_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run"):
        pipeline.open_run(tmp_path)


def test_an_image_is_described_by_path_or_pixels(samples: Path) -> None:
    path = samples / "multi_face.jpg"
    describer, detector = pipeline.load_describer(), pipeline.load_detector()
    faces = pipeline.describe_image(path, ["eyes", "mouth"], describer=describer, detector=detector)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    again = pipeline.describe_image(pixels, ["eyes", "mouth"], describer=describer, detector=detector)
    assert len(faces) == 5
    assert [face.as_dict() for face in faces] == [face.as_dict() for face in again]
    smiles = ["AU12" in face.regions[1].answer.aus for face in faces]
    assert smiles == [True, True, False, True, True], "all smile broadly but the young man behind, whose closed lips show a trace of it"
    assert [face.box[0] for face in faces] == sorted(face.box[0] for face in faces)
    whole = pipeline.describe_image(pixels, ["face"], describer=describer, detector=detector)
    for face, other in zip(faces, whole, strict=True):
        answers = [region.answer for region in (*face.regions, *other.regions)]
        assert len({(answer.emotion, answer.age, answer.age_low, answer.age_high) for answer in answers}) == 1, "they are the face's"
        assert all(answer.emotion_scores == pytest.approx(answers[-1].emotion_scores, abs=1e-5) for answer in answers)
    places = pipeline.place_regions(faces[0].landmarks5, align(faces[0].landmarks5))
    assert set(places) >= {"eyes", "mouth", "face"}


def test_what_is_wrong_with_a_question_about_an_image_is_said_in_one_line(samples: Path) -> None:
    path = samples / "single_face.jpg"
    for arguments, reason in (
        ({"regions": "ears"}, "unknown region 'ears'"),
        ({"regions": "auto"}, "auto needs movement"),
        ({"box": (-9.0, -9.0, -1.0, -1.0)}, "outside the image"),
    ):
        with pytest.raises(SettingsError, match=reason) as caught:
            pipeline.describe_image(path, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(FocalfaceError, match="there is no file"):
        pipeline.describe_image("nowhere.jpg")


LIGHT = ("vocabulary", "records", "settings", "errors", "video", "faces", "regions", "storage", "execution", "describe", "trends", "report")


@pytest.mark.parametrize("room", LIGHT)
def test_the_examples_in_docstrings_run(room: str) -> None:
    root = importlib.import_module(f"pipeline.{room}")
    names = [root.__name__, *(found.name for found in pkgutil.walk_packages(getattr(root, "__path__", []), f"{root.__name__}."))]
    for name in names:
        if name.endswith(".vllm"):  # an extra that is not installed with the others
            continue
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
