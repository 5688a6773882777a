"""Full-size models with random weights: our describer against plain transformers, and against the limits of the device.

Random weights take the same work as trained ones, except that sentences never end before they are cut. The tokenizer is nano's; the
questions have the default grammar, which checkpoints from elsewhere get.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import Checkpoint, locate
from pipeline.describe.grammar import Grammar, fields_text, region_text
from pipeline.describe.prefix import build_prefix
from pipeline.describe.slots import add_slot
from pipeline.describe.token_tree import TokenTree
from pipeline.describe.vision_tower import speed_up
from pipeline.errors import ModelError
from pipeline.faces.alignment import CROP_SIZE, TEMPLATE
from pipeline.records import Alignment, Answer, Request
from pipeline.regions.placement import place_regions
from pipeline.speed.agreement import same_answers
from pipeline.speed.baseline_describer import SENTENCE_TOKENS, BaselineDescriber

REGIONS = ("face", "eyes", "mouth", "brows")
"""Regions asked about each face."""

SINGLE_REGIONS = 2
"""Regions of a pass that asks one by one; more take longer and give the same rate."""

EXACT_REGIONS = 8
"""Regions that are read in float32 as well."""

_TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "fullatt_block_indexes": [7, 15, 23, 31]}


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2.5-VL, from its published configuration."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    tower: dict[str, Any]
    face_size: int = 336

    @property
    def rotary(self) -> list[int]:
        """Number of rotary pairs of a head for time, rows and columns: 1 to 1.5 to 1.5."""
        pairs = self.hidden // self.heads // 2
        return [pairs // 4, pairs * 3 // 8, pairs * 3 // 8]


SHAPES = {
    "3b": Shape(2048, 11008, 36, 16, 2, 151936, True, _TOWER),
    "7b": Shape(3584, 18944, 28, 28, 4, 152064, False, _TOWER),
    "tiny": Shape(
        128, 256, 2, 2, 1, 1024, True, {**_TOWER, "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2}, CROP_SIZE
    ),
}
"""Qwen2.5-VL-3B and 7B (Bai et al. 2025, arXiv 2502.13923), and a tiny one for tests."""


def build(shape: Shape, device: str, own_tower: bool) -> Checkpoint:
    """A checkpoint with random weights, the same ones each time: bfloat16 on CUDA, float32 elsewhere.

    Args:
        own_tower: whether to use this project's implementation of the vision tower; otherwise transformers' own.
    """
    tokenizer = AutoTokenizer.from_pretrained(locate("nano"), padding_side="left")
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": shape.rotary},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": shape.tied,
        },
        vision_config={**shape.tower, "out_hidden_size": shape.hidden},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=shape.tied,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32, attn_implementation="sdpa"
        )
    half = torch.full((3,), 0.5, device=device)
    network = (speed_up(model) if own_tower else model).to(device).eval()
    return Checkpoint("random", network, tokenizer, Grammar(face_size=shape.face_size), half, half / 2)


def questions(faces: int) -> list[Request]:
    """Requests for `REGIONS` of a number of faces that are random noise."""
    rng = np.random.default_rng(0)
    places = place_regions(TEMPLATE, Alignment(np.eye(2, 3)))
    crops = [rng.integers(0, 256, (CROP_SIZE, CROP_SIZE, 3), np.uint8) for _ in range(faces)]
    return [Request(crop, places[name], name) for crop in crops for name in REGIONS]


@dataclass(frozen=True)
class Limit:
    """Least possible time on the device, from the shapes and two measured rates.

    Attributes:
        bandwidth: bytes per second, read and written, of a large copy.
        rate: floating-point operations per second of a large matrix product.
        reading_s: least seconds for pictures, prefixes, regions and the questions of their fields, which are limited by `rate`.
        writing_s: least seconds for decided fields and sentences. A sentence's step is limited by reading weights and cache, or by its
            matrix products.
    """

    bandwidth: float
    rate: float
    reading_s: float
    writing_s: float


def limit(checkpoint: Checkpoint, faces: int, regions: int) -> Limit:
    """Least time to describe regions of faces when each face is encoded once. The products inside attention are not counted."""
    model, tokenizer, grammar = checkpoint.model, checkpoint.tokenizer, checkpoint.grammar
    device, dtype = model.device, model.dtype
    bandwidth, rate = _bandwidth(device), _rate(device, dtype)
    tower, text = model.model.visual, model.config.text_config

    def size(module: torch.nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters())

    def ids(words: str) -> list[int]:
        return list(tokenizer.encode(words, add_special_tokens=False))

    prefix = build_prefix(model, tokenizer, grammar)
    tree = TokenTree(prefix=len(prefix))
    region = tree.add(ids(region_text((10, 10, 90, 90))))
    for asked, choices in grammar.slots():
        add_slot(tree, region, ids(asked), [ids(choice) for choice in choices], 0)
    opening = len(ids(fields_text(("AU12",), "neutral", 30)))
    merged = prefix.image.stop - prefix.image.start
    patches = merged * model.config.vision_config.spatial_merge_size**2
    layers, head = size(model.model.language_model.layers), model.lm_head.weight.numel()
    reading = faces * (patches * (size(tower.patch_embed) + size(tower.blocks)) + merged * size(tower.merger) + len(prefix) * layers)
    reading += regions * len(tree.ids) * layers
    opening_s = 2 * regions * opening * layers / rate
    step_products = 2 * regions * (layers + head)
    length = len(prefix) + len(ids(region_text((10, 10, 90, 90)))) + opening + SENTENCE_TOKENS // 2
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads)
    step_bytes = (layers + head + regions * length * kept) * dtype.itemsize
    writing_s = opening_s + SENTENCE_TOKENS * max(step_bytes / bandwidth, step_products / rate)
    return Limit(bandwidth, rate, 2 * reading / rate, writing_s)


def _timed(work: Callable[[], Any], device: torch.device, times: int = 10) -> float:
    """Seconds of the fastest of several calls."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _bandwidth(device: torch.device) -> float:
    source = torch.ones(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _timed(lambda: target.copy_(source), device)


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    side = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _timed(lambda: matrix @ matrix, device)


def _score_error(checkpoint: Checkpoint, asked: list[Request], answers: dict[str, list[Answer]]) -> dict[str, float]:
    """Largest difference of a probability from the same weights in float32, for each side; sentences of bfloat16 part at near ties."""
    exact = replace(checkpoint, model=deepcopy(checkpoint.model).float())
    right = TransformersDescriber(exact, batch_size=len(asked)).read(asked)
    return {
        side: max(abs(a.au_scores[au] - b.au_scores[au]) for a, b in zip(right, given[: len(right)], strict=True) for au in a.au_scores)
        for side, given in answers.items()
    }


def measure(name: str, device: str, faces: int, repeats: int) -> dict[str, Any]:
    """Regions per second of our describer, of plain transformers one by one and in padded batches, and the limits of reading and writing.

    Args:
        name: a key of `SHAPES`.
        device: `cpu` or `cuda`.
        faces: number of faces described together, with `REGIONS` of each.
        repeats: passes of each side, in turns.

    Raises:
        ModelError: when the machine has no such device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"--shape {name} needs a CUDA device and torch sees none here; use another machine, or --shape tiny --device cpu")
    shape, asked = SHAPES[name], questions(faces)
    own, other = build(shape, device, own_tower=True), build(shape, device, own_tower=False)
    ours = TransformersDescriber(own, batch_size=len(asked))
    size = {"shortest_edge": shape.face_size**2, "longest_edge": shape.face_size**2}
    processor = Qwen2VLImageProcessorPil(size=size, image_mean=own.mean.tolist(), image_std=own.std.tolist())
    theirs = BaselineDescriber(other.model, other.tokenizer, other.grammar, processor)
    ours.describe(asked), theirs.describe(asked[:1])  # in a first pass, libraries set themselves up
    rates: dict[str, list[float]] = {"ours": [], "theirs_single": [], "theirs_batched": []}
    reading, writing = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        ours.read(asked)
        read = time.perf_counter()
        answers = ours.describe(asked)
        described = time.perf_counter()
        reading.append(read - began)
        writing.append(described - read - reading[-1])
        rates["ours"].append(len(asked) / (described - read))
        for mode, some in (("single", asked[:SINGLE_REGIONS]), ("batched", asked)):
            theirs.batched = mode == "batched"
            began = time.perf_counter()
            parts = [some] if theirs.batched else [[one] for one in some]
            baseline_answers = [answer for part in parts for answer in theirs.describe(part)]
            rates[f"theirs_{mode}"].append(len(some) / (time.perf_counter() - began))
    same, differences = same_answers(answers, baseline_answers)
    exact = _score_error(own, asked[:EXACT_REGIONS], {"focalface": answers, "transformers": baseline_answers})
    best = limit(own, faces, len(asked))
    least_s = best.reading_s + best.writing_s
    device_name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    return {
        "name": f"describe_{name}",
        "device": device_name,
        "dtype": str(own.model.dtype),
        "faces": faces,
        "regions": len(asked),
        "unit": "regions/s",
        **{key: median(values) for key, values in rates.items()},
        "ratio_single": median(a / b for a, b in zip(rates["ours"], rates["theirs_single"], strict=True)),
        "ratio_batched": median(a / b for a, b in zip(rates["ours"], rates["theirs_batched"], strict=True)),
        "limit": len(asked) / least_s,
        "fraction_of_limit": median(rates["ours"]) * least_s / len(asked),
        "limits": asdict(best),
        "reading_s": median(reading),
        "writing_s": median(writing),
        "same_answers": same,
        "differences": differences,
        "score_errors": exact,
    }
