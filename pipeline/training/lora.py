"""LoRA adapters on a Qwen2.5-VL: which layers get one, and why."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen2_5_VLForConditionalGeneration

TARGETS = "|".join(
    (
        r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",
        r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(gate|up|down)_proj)",
        r".*visual\.merger\.mlp\.(0|2)",
    )
)
"""Layers that get an adapter: every linear layer of the language model (which learns the form of question and answer), of the vision
tower (which learns small movements that general pictures do not show) and of the merger between them. The pattern names each part in full:
a bare suffix such as `up_proj` matches both language and vision layers. The patch embedding, a convolution, and the vocabulary stay
frozen."""


def with_lora(model: Qwen2_5_VLForConditionalGeneration, rank: int, adapter: Path | None = None) -> PeftModel:
    """Add LoRA adapters to a model and freeze everything else.

    Args:
        rank: rank of new adapters; alpha is 2 * rank, so that the size of their effect does not depend on the rank.
        adapter: folder of adapters to continue with instead of new ones.
    """
    if adapter is not None:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=TARGETS))
