"""The layers of Qwen2.5-VL's language model for inference, with the same weights and the same output in fewer steps.

On a GPU, the modules of the library spend a third of a long pass on steps between the matrix products, and most of a short one on launching
them. Here queries, keys and values are one product, gate and up another; a norm is one step, and sums are part of the product before them.
Training uses the library's modules. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention of one layer: its number, the queries (R, heads, S, d) and the keys, then values (R, 2 * kv_heads, S, d) of the new tokens
-> (R, heads, S, d)."""


def norm(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """(N, D) divided by the root of the mean square of its D numbers, times (D,) weights."""
    return F.rms_norm(hidden, hidden.shape[-1:], weight, epsilon)


def turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary positions for (R, S, heads, d), in place. `cos`, and `sin` with its sign for each half of a head: (R, S, 1, d)."""
    first, second = heads.chunk(2, -1)
    torch.addcmul(heads * cos, torch.cat([second, first], -1), sin, out=heads)


def gate(products: torch.Tensor) -> torch.Tensor:
    """(N, 2 I): gates, then values -> (N, I)."""
    gates, values = products.chunk(2, -1)
    return F.silu(gates).mul_(values)


@dataclass(frozen=True)
class Between:
    """The steps between the matrix products: `norm`, `turn` and `gate`, or functions that do the same."""

    norm: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor] = norm
    turn: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] = turn
    gate: Callable[[torch.Tensor], torch.Tensor] = gate


PLAIN = Between()


class TextLayers:
    """All layers, between the embeddings and the head.

    Attributes:
        heads: number of query heads.
        kv_heads: number of key heads, and of value heads.
        head: d, the width of a head.
    """

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        """Take over a model's weights. Those of joined products move into one tensor, of which the model's own become parts."""
        text, network = model.config.text_config, model.model.language_model
        self.heads, self.kv_heads = text.num_attention_heads, text.num_key_value_heads
        self.head = text.hidden_size // text.num_attention_heads
        self._layers = [_Layer(layer) for layer in network.layers]
        self._norm, self._rotary = network.norm, network.rotary_emb
        self._sections = text.rope_parameters["mrope_section"]

    def __len__(self) -> int:
        return len(self._layers)

    def run(self, embeds: torch.Tensor, positions: torch.Tensor, attend: Attend, between: Between = PLAIN) -> torch.Tensor:
        """Run the layers over S new tokens in each of R rows.

        Args:
            embeds: (R, S, D).
            positions: (3, R, S), Qwen2.5-VL's time, row and column positions.
            attend: computes attention with the tokens before.
            between: computes what is between the products.

        Returns:
            (R, S, D) hidden states after the last norm.
        """
        rows, steps, _ = embeds.shape
        cos, sin = self._angles(positions, embeds.dtype)
        hidden = embeds.flatten(0, 1).clone()  # [R * S, D]; changed in place from here on
        for number, layer in enumerate(self._layers):
            normed = between.norm(hidden, layer.norm.weight, layer.norm.variance_epsilon)
            products = F.linear(normed, layer.qkv, layer.bias).view(rows, steps, -1, self.head)
            between.turn(products[:, :, : self.heads + self.kv_heads], cos, sin)
            query, key_value = products.transpose(1, 2).split([self.heads, 2 * self.kv_heads], 1)
            mixed = attend(number, query, key_value).transpose(1, 2).reshape(rows * steps, -1)
            hidden.addmm_(mixed, layer.out.T)
            normed = between.norm(hidden, layer.second_norm.weight, layer.second_norm.variance_epsilon)
            hidden.addmm_(between.gate(F.linear(normed, layer.gate_up)), layer.down.T)
        return between.norm(hidden, self._norm.weight, self._norm.variance_epsilon).view(rows, steps, -1)

    def _angles(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine, and sine with its sign for the first and the second half of a head: (R, S, 1, d) each."""
        angles = positions.unsqueeze(-1).float() * self._rotary.inv_freq.float()  # [3, R, S, d / 2]
        angles = torch.cat([part[axis] for axis, part in enumerate(angles.split(self._sections, -1))], -1).unsqueeze(2)
        scale = self._rotary.attention_scaling
        cos, sin = angles.cos().mul_(scale).to(dtype), angles.sin().mul_(scale).to(dtype)
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


class _Layer:
    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        queries = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.norm, self.second_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv, self.bias = _joined([part.weight for part in queries]), _joined([part.bias for part in queries])
        self.gate_up = _joined([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.out, self.down = attention.o_proj.weight, mlp.down_proj.weight


def _joined(parts: list[torch.nn.Parameter]) -> torch.Tensor:
    """Parameters as one tensor, of which they become parts, so that weights are in memory once."""
    whole = torch.cat([part.data for part in parts])
    for part, place in zip(parts, whole.split([len(part) for part in parts]), strict=True):
        part.data = place
    return whole
