"""The vision tower of Qwen2.5-VL with the same weights and the same output, faster on batches of equally sized crops.

Two modules of the reference tower are slow on many small images. Its patch embedding is a 3-D convolution whose kernel covers its whole
input; that is one matrix product. Its attention runs window by window in Python; windows of one length can run as a batch. `speed_up`
replaces the two in place. On GPUs two more are slow: norms, in seven steps, and products whose sides are no multiples of eight numbers.
`prepare_for_inference` replaces those. Tests compare the towers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLMLP,
    Qwen2_5_VLRMSNorm,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)


class LinearPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """`Qwen2_5_VisionPatchEmbed` as one matrix product."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # [S, C * T * p * p] -> [S, D]
        weight = self.proj.weight.flatten(1)
        return F.linear(hidden_states.to(weight.dtype), weight)


class EqualWindowAttention(Qwen2_5_VLVisionAttention):
    """`Qwen2_5_VLVisionAttention`, with windows of one length as a batch."""

    def forward(
        self,
        hidden_states: torch.Tensor,  # [S, D], S = windows * length
        cu_seqlens: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        max_seqlen: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        length = int(cu_seqlens[1])
        windows = cu_seqlens.numel() - 1
        if position_embeddings is None or bool((cu_seqlens.diff() != length).any()):
            return super().forward(
                hidden_states, cu_seqlens=cu_seqlens, position_embeddings=position_embeddings, max_seqlen=max_seqlen, **kwargs
            )
        q, k, v = self.qkv(hidden_states).view(-1, 3, self.num_heads, self.head_dim).unbind(1)  # [S, H, d]
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (t.to(v.dtype).reshape(windows, length, self.num_heads, self.head_dim).transpose(1, 2) for t in (q, k, v))
        if self.training:  # on CPUs the backward pass of the fused kernel is slower
            out = ((q @ k.transpose(-1, -2)) * self.scaling).softmax(-1).to(v.dtype) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v)  # [windows, H, length, d]
        return self.proj(out.transpose(1, 2).reshape(hidden_states.shape))


def speed_up(tower: PreTrainedModel) -> PreTrainedModel:
    """Replace the two slow modules of a Qwen2.5-VL vision tower, or of a whole model, in place; returns it."""
    for module in tower.modules():
        if type(module) is Qwen2_5_VLVisionAttention:
            module.__class__ = EqualWindowAttention
        elif type(module) is Qwen2_5_VisionPatchEmbed:
            module.__class__ = LinearPatchEmbed
    return tower


ALIGNED = 8
"""Sides of a matrix that are multiples of this many numbers take the fast kernels of GPUs; Qwen2.5-VL's 3420 hidden ones are none."""


class OneStepNorm(Qwen2_5_VLRMSNorm):
    """`Qwen2_5_VLRMSNorm` as one step."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # [S, D] -> [S, D]
        return F.rms_norm(hidden_states, hidden_states.shape[-1:], self.weight, self.variance_epsilon)


def prepare_for_inference(tower: PreTrainedModel) -> None:
    """Replace norms and fill up the hidden numbers of a vision tower in place. Afterwards its weights must not be saved or trained."""
    for module in tower.modules():
        if type(module) is Qwen2_5_VLRMSNorm:
            module.__class__ = OneStepNorm
        elif isinstance(module, Qwen2_5_VLMLP) and (missing := -module.intermediate_size % ALIGNED):
            for linear in (module.gate_proj, module.up_proj):
                linear.weight.data, linear.bias.data = F.pad(linear.weight.data, (0, 0, 0, missing)), F.pad(linear.bias.data, (0, missing))
            module.down_proj.weight.data = F.pad(module.down_proj.weight.data, (0, missing))
            module.intermediate_size += missing
