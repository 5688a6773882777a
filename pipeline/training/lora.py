"""Low-rank adapters on a Qwen2.5-VL: where they sit, and why there."""

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
"""Every linear layer of the language model (it learns the form of question and answer), of the vision tower (it learns to see small
movements that general pictures do not ask for) and of the merger between them. Spelled out for each part: a bare suffix such as
`up_proj` would match both language and vision. The patch embedding, a convolution, and the vocabulary stay as they are."""


def adapted(model: Qwen2_5_VLForConditionalGeneration, rank: int, adapter: Path | None = None) -> PeftModel:
    """A model whose adapters alone are trained.

    Args:
        rank: of new adapters; scaled so that a change of rank leaves the size of their effect (alpha = 2 * rank).
        adapter: go on with these instead.
    """
    if adapter is not None:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=TARGETS))
