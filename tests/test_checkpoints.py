"""Other checkpoints than nano: LoRA adapters, and a tokenizer that spells numbers digit by digit, as the full-size models' does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import embedded, fingerprint, locate, open_checkpoint
from pipeline.errors import ModelError
from pipeline.records import Request


@pytest.fixture(scope="module")
def asked(samples: Path) -> list[Request]:
    face = np.asarray(Image.open(samples / "single_face.jpg").convert("RGB").resize((112, 112)))
    return [Request(face, (5, 5, 107, 107), "face"), Request(face, (36, 68, 76, 92), "mouth"), Request(face, (0, 0, 9, 9), "box")]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on nano's language model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lora") / "loud"
    config = LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False)
    get_peft_model(open_checkpoint("nano", device="cpu").model, config).save_pretrained(str(folder))
    return folder


def test_an_adapter_changes_the_answers_and_the_name(adapter: Path, asked: list[Request]) -> None:
    plain = TransformersDescriber(open_checkpoint("nano", device="cpu"))
    tuned = TransformersDescriber(open_checkpoint("nano", adapter=str(adapter), device="cpu"))
    assert (plain.name, tuned.name) == ("nano", "nano+loud")
    changes = [
        abs(a.emotion_scores[emotion] - b.emotion_scores[emotion])
        for a, b in zip(plain.describe(asked), tuned.describe(asked), strict=True)
        for emotion in a.emotion_scores
    ]
    assert max(changes) > 0.01


def test_an_adapter_that_finds_no_place_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    weights = load_file(other / "adapter_model.safetensors")
    save_file({name.replace("layers.0.", "layers.40."): tensor for name, tensor in weights.items()}, other / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="has no place in this model"):
        open_checkpoint("nano", adapter=str(other), device="cpu")


@pytest.mark.slow
def test_answers_of_several_tokens_are_probabilities_too(spelled: Path, asked: list[Request]) -> None:
    describer = TransformersDescriber(open_checkpoint(str(spelled), device="cpu"))
    together = describer.describe(asked)
    for request, answer in zip(asked, together, strict=True):
        (alone,) = describer.describe([request])
        assert sum(answer.emotion_scores.values()) == pytest.approx(1)
        assert answer.age_low is not None and answer.age_high is not None
        assert 0 <= answer.age_low <= answer.age <= answer.age_high <= 100
        assert alone.au_scores == pytest.approx(answer.au_scores, abs=1e-5)
        assert alone.emotion_scores == pytest.approx(answer.emotion_scores, abs=1e-5)
        assert alone.description == answer.description
    assert together[2].au_scores == {}


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    assert "nano" in embedded()
    copy = shutil.copytree(locate("nano"), tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(locate("nano"))
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, copy / "model.safetensors", {"format": "pt"})
    assert fingerprint(copy) != fingerprint(locate("nano"))


def test_a_broken_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    copy = shutil.copytree(locate("nano"), tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(copy), device="cpu")
    assert "\n" not in str(caught.value)
