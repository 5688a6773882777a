"""The network in plain torch gives the numbers of transformers' model, and loads the checkpoints that transformers writes and publishes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pipeline.describe.checkpoints import locate
from pipeline.describe.grammar import IMAGE_TOKEN, Grammar
from pipeline.describe.network import KeyValueCache, Qwen25VL
from pipeline.describe.network_config import parse_config, read_config, unsupported_feature
from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.prefill import decode
from pipeline.describe.prefix import build_prefix
from pipeline.describe.tokenizer import FastTokenizer, load_tokenizer
from pipeline.describe.weights import fill, load_network
from pipeline.errors import ModelError

SIDE = 28 * 5
"""Five merged tokens a side: windows of two leave shorter ones at the edges."""


@pytest.fixture(scope="module")
def reference() -> Qwen2_5_VLForConditionalGeneration:
    """A random model whose tower mixes windows and full attention, and whose language model groups its queries."""
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 96,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "num_heads": 4,
            "intermediate_size": 96,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=5,
    )
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name or "ln_q" in name:
            torch.nn.init.normal_(weight, 0.5, 0.2)
    return model


@pytest.fixture(scope="module")
def network(reference: Qwen2_5_VLForConditionalGeneration) -> Qwen25VL:
    return fill(Qwen25VL(parse_config(reference.config.to_dict())), reference.state_dict())


@pytest.mark.parametrize("side", [SIDE, 112])
def test_the_vision_tower_gives_the_same_tokens(reference: Qwen2_5_VLForConditionalGeneration, network: Qwen25VL, side: int) -> None:
    images = torch.randint(0, 256, (3, 3, side, side)).float()
    patches, grid = patchify(images, mean=torch.full((3,), 0.4), std=torch.full((3,), 0.3)), grid_thw(3, side, side)
    with torch.inference_mode():
        expected = reference.model.visual(patches, grid_thw=grid).pooler_output
        assert torch.allclose(network.model.visual(patches, grid).pooler_output, expected, atol=1e-5)


def test_the_language_model_gives_the_same_states_and_cache(reference: Qwen2_5_VLForConditionalGeneration, network: Qwen25VL) -> None:
    """A prefill, two tokens after it, and one more with a hole in the mask and rows dropped and repeated."""
    ours, theirs = KeyValueCache(), DynamicCache(config=reference.config.text_config)

    def same(length: int, cached: int, rows: int, hidden: int | None = None) -> None:
        embeds = torch.randn(rows, length, 64)
        positions = torch.randint(0, 40, (3, rows, length))
        mask = torch.ones(length, cached + length, dtype=torch.bool).tril(cached).expand(rows, 1, -1, -1).clone()
        if hidden is not None:
            mask[:, :, :, hidden] = False
        with torch.inference_mode():
            expected = decode(reference, embeds, positions, mask, theirs)
            assert torch.allclose(decode(network, embeds, positions, mask, ours), expected, atol=1e-5)

    same(7, 0, 3)
    same(2, 7, 3)
    assert ours.get_seq_length() == 9
    rows = torch.tensor([2, 0])
    for cache in (ours, theirs):
        cache.crop(-2)
        cache.batch_select_indices(rows)
    same(1, 7, 2, hidden=3)
    assert torch.equal(ours.select([1, 1, 0]).keys[0][2], ours.keys[0][0])


@pytest.mark.parametrize("instruction", ["", "You are a FACS coder."])
def test_positions_are_those_of_transformers(reference: Qwen2_5_VLForConditionalGeneration, network: Qwen25VL, instruction: str) -> None:
    tokenizer = load_tokenizer(locate("nano"))
    prefix = build_prefix(network, tokenizer, Grammar(instruction=instruction, face_size=SIDE))
    (image,) = tokenizer.encode(IMAGE_TOKEN, add_special_tokens=False)
    is_image = (prefix.ids == image)[None].int()
    expected, _ = reference.model.get_rope_index(prefix.ids[None], image_grid_thw=grid_thw(1, SIDE, SIDE), mm_token_type_ids=is_image)
    assert torch.equal(prefix.positions, expected[:, 0])


def test_nano_gives_the_very_same_numbers() -> None:
    folder = locate("nano")
    network = load_network(folder, torch.float32)
    reference = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    embeds, positions = torch.randn(2, 9, 256), torch.randint(0, 40, (3, 2, 9))
    mask = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    with torch.inference_mode():
        ours, theirs = (model.lm_head(decode(model, embeds, positions, mask)) for model in (network, reference))
    assert torch.equal(ours, theirs)


def test_checkpoints_of_several_files_and_of_the_published_layout_load(
    reference: Qwen2_5_VLForConditionalGeneration, network: Qwen25VL, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_weights(load_network(tmp_path, torch.float32), network)
    assert load_network(tmp_path, torch.bfloat16).dtype == torch.bfloat16
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    config |= text | {"model_type": "qwen2_5_vl", "tie_word_embeddings": False, "rope_theta": rope["rope_theta"]}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["vision_config"]["in_chans"] = config["vision_config"].pop("in_channels")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert unsupported_feature(config) is None
    published = load_network(tmp_path, torch.float32)
    assert published.config == network.config
    assert_equal_weights(published, network)


def assert_equal_weights(one: Qwen25VL, other: Qwen25VL) -> None:
    weights = other.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights: weights.pop("model.norm.weight"), r"lacks tensor model\.language_model\.norm\.weight"),
        (lambda weights: weights.update({"model.other": torch.zeros(1)}), r"unknown tensor model\.language_model\.other"),
        (lambda weights: weights.update({"model.norm.weight": torch.zeros(3)}), "has the shape 3, not 256"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: object, says: str, tmp_path: Path) -> None:
    copy = shutil.copytree(locate("nano"), tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    assert callable(change)
    change(weights)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=says):
        load_network(copy, torch.float32)


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"text_config": {"rope_parameters": {"rope_type": "yarn"}}}, "yarn"),
        ({"use_sliding_window": True}, "sliding"),
        ({"vision_config": {"hidden_act": "gelu"}}, "gelu"),
        (None, None),
    ],
)
def test_what_the_network_does_not_implement_is_known(values: dict[str, object] | None, feature: str | None) -> None:
    found = unsupported_feature(read_config(locate("nano")) if values is None else values)
    assert (feature in found) if feature and found else found is feature is None


def test_the_tokenizer_gives_the_tokens_and_texts_of_transformers() -> None:
    ours = load_tokenizer(locate("nano"))
    assert isinstance(ours, FastTokenizer)
    theirs = AutoTokenizer.from_pretrained(locate("nano"))
    for text in ("\nBox: 3 10 88 102<|im_end|>\n<|im_start|>assistant\n", " AU12 AU25 happiness 31\nThe lips part, naïvely.", ""):
        ids = ours.encode(text, add_special_tokens=False)
        assert ids == theirs.encode(text, add_special_tokens=False)
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_describing_imports_no_transformers() -> None:
    """Their import would take twice as long as torch's."""
    code = """
import sys
import numpy as np
from pipeline.describe.backends import load_describer
from pipeline.records import Request

describer = load_describer("nano", device="cpu")
describer.describe([Request(np.zeros((112, 112, 3), np.uint8), (0, 0, 112, 112), "face")])
print([name for name in ("transformers", "peft", "torch._dynamo") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
