"""The onnx backend answers as transformers does, whatever the checkpoint, and the same in every batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.describe.backends import automatic_backend, load_describer
from pipeline.describe.backends.onnx import can_open, open_describer
from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import locate, open_checkpoint
from pipeline.describe.grammar import FILE
from pipeline.describe.prefix import build_prefix
from pipeline.errors import ModelError
from pipeline.faces.detectors.devices import has_gpu
from pipeline.records import Answer, Request
from pipeline.training.nano import GRAMMAR, PREPROCESSOR_CONFIG, build_model, build_tokenizer, save_checkpoint


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random nano that answers with levels, after an instruction, and whose fields see the earlier turns."""
    tokenizer = build_tokenizer()
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("levels")
    grammar = replace(GRAMMAR, instruction="The lips are parted.", earlier_turns="all")
    save_checkpoint(build_model(tokenizer), tokenizer, grammar, PREPROCESSOR_CONFIG, folder)
    return folder


def alike(ours: list[Answer], theirs: list[Answer], within: float = 5e-6) -> None:
    """The same answers, and scores that differ by rounding alone."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.au_scores.keys() == other.au_scores.keys() and one.au_intensities.keys() == other.au_intensities.keys()
        for own, reference in ((one.au_scores, other.au_scores), (one.emotion_scores, other.emotion_scores)):
            assert [own[name] for name in reference] == pytest.approx(list(reference.values()), abs=within)
        assert [one.au_intensities[au] for au in other.au_intensities] == pytest.approx(list(other.au_intensities.values()), abs=5 * within)
        assert (one.aus, one.emotion, one.age) == (other.aus, other.emotion, other.age)
        assert (one.description, one.own_sentence) == (other.description, other.own_sentence)


@pytest.mark.parametrize("name", ["nano", "levels", "spelled"])
def test_answers_are_those_of_transformers(name: str, asked_faces: list[Request], request: pytest.FixtureRequest) -> None:
    model = name if name == "nano" else str(request.getfixturevalue(name))
    asked = asked_faces if name == "nano" else asked_faces[:6]
    ours, reference = open_describer(model), TransformersDescriber(open_checkpoint(model, device="cpu"))
    alike(ours.describe(asked), reference.describe(asked))
    alike(ours.read(asked), reference.read(asked))
    alike(ours.converse(asked[:4]), reference.converse(asked[:4]))


def test_the_prefix_is_the_reference_models(levels: Path) -> None:
    checkpoint = open_checkpoint(str(levels), device="cpu")
    expected = build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)
    describer = open_describer(str(levels))
    assert describer._prefix.tolist() == expected.ids.tolist()
    assert describer._places.tolist() == expected.positions.tolist()
    assert describer._image == expected.image


def test_an_answer_does_not_depend_on_its_batch_in_any_bit(asked_faces: list[Request]) -> None:
    together = open_describer("nano", batch_size=64)
    expected = together.describe(asked_faces)
    alone = open_describer("nano", batch_size=1, threads=1)
    for size in (1, 3, 20):
        describer = open_describer("nano", batch_size=size)
        assert describer.describe(asked_faces) == expected, size
        assert describer.read(asked_faces) == together.read(asked_faces), size
    assert alone.describe(asked_faces[:5]) == expected[:5]


def test_neither_torch_nor_transformers_is_imported() -> None:
    script = """
import sys
import numpy as np
from pipeline.describe.backends import load_describer
from pipeline.records import Request
(answer,) = load_describer("nano", device="cpu").describe([Request(np.full((112, 112, 3), 90, np.uint8), (10, 10, 100, 100), "face")])
assert answer.description and answer.own_sentence
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "[]", ended.stderr


@pytest.mark.skipif(has_gpu(), reason="says what happens without a GPU")
def test_it_is_the_default_for_small_checkpoints(spelled: Path, tmp_path: Path) -> None:
    assert automatic_backend("nano") == automatic_backend("nano", device="cpu") == automatic_backend(str(spelled)) == "onnx"
    assert automatic_backend("nano", device="cuda") == automatic_backend("nano", adapter="loud") == "transformers"
    other = shutil.copytree(locate("nano"), tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["vision_config"] |= {"window_size": 56, "fullatt_block_indexes": [3]}
    (other / "config.json").write_text(json.dumps(config))
    assert not can_open(other) and automatic_backend(str(other)) == "transformers"
    with pytest.raises(ModelError, match="does not know this architecture"):
        open_describer(str(other))
    assert type(load_describer("nano", device="cpu", backend="transformers")).__name__ == "TransformersDescriber"


def test_what_it_cannot_open_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no adapter"):
        open_describer("nano", adapter="loud")
    broken = shutil.copytree(locate("nano"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ModelError, match=r"not a Qwen2\.5-VL checkpoint that can be opened"):
        open_describer(str(broken))
    (broken / FILE).write_text("{")
    with pytest.raises(ModelError, match="not a grammar file"):
        open_describer(str(broken))


def test_levels_have_intensities(levels: Path, asked_faces: list[Request]) -> None:
    answers = open_describer(str(levels)).read(asked_faces[:4])
    assert {au for answer in answers for au in answer.au_intensities} > {"AU12", "AU04"}
    assert all(0 <= value <= 5 for answer in answers for value in answer.au_intensities.values())
    assert np.ptp([answer.au_intensities["AU12"] for answer in answers if "AU12" in answer.au_intensities]) > 0
