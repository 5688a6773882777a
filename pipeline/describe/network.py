"""Qwen2.5-VL for inference in plain torch: the weights and the numbers of transformers' model, without importing transformers.

Importing transformers' model takes twice as long as importing torch, and each of its calls passes through several layers of Python.
Modules and parameters have transformers' names, so that its checkpoints load, and the calls that `pipeline.describe.prefill` makes have
transformers' signatures, so that training can use transformers' own model. A test holds the two models against each other.

Shapes: B batch, S new tokens, K all tokens, D hidden size, H heads, d size of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.describe.network_config import NetworkConfig, TextConfig, VisionConfig

VISION_EPS = 1e-6
"""Epsilon of the vision tower's norms; no configuration changes it."""


@dataclass(frozen=True)
class VisionOutput:
    """Result of the vision tower: `pooler_output` (images * N, D), the N merged tokens of each image."""

    pooler_output: torch.Tensor


@dataclass(frozen=True)
class TextOutput:
    """Result of the language model: `last_hidden_state` (B, S, D), after the last norm."""

    last_hidden_state: torch.Tensor


class KeyValueCache:
    """Keys and values of all layers, (B, H, K, d) each.

    Attributes:
        keys, values: one tensor per layer; empty before the first update.
    """

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens of one layer; returns all of its keys and values."""
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], keys], 2)
            self.values[layer] = torch.cat([self.values[layer], values], 2)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self) -> int:
        """Number of cached tokens."""
        return self.keys[0].shape[2] if self.keys else 0

    def crop(self, count: int) -> None:
        """Remove the last `-count` tokens; as in transformers, `count` is not positive."""
        length = self.get_seq_length() + count
        self.keys = [keys[:, :, :length] for keys in self.keys]
        self.values = [values[:, :, :length] for values in self.values]

    def batch_select_indices(self, indices: torch.Tensor | Sequence[int]) -> None:
        """Keep some rows of the batch, in this order."""
        self.keys = [keys[indices] for keys in self.keys]
        self.values = [values[indices] for values in self.values]

    def select(self, indices: torch.Tensor | Sequence[int]) -> KeyValueCache:
        """A new cache with some rows of the batch; a row may be taken several times."""
        chosen = KeyValueCache()
        chosen.keys, chosen.values = self.keys, self.values
        chosen.batch_select_indices(indices)
        return chosen


class Linear(nn.Linear):
    """A linear layer whose weights are not initialised: a checkpoint provides them."""

    def reset_parameters(self) -> None:
        """Keep the memory as it is."""


class Embedding(nn.Embedding):
    """An embedding whose weights are not initialised: a checkpoint provides them."""

    def reset_parameters(self) -> None:
        """Keep the memory as it is."""


class Conv3d(nn.Conv3d):
    """A convolution whose weights are not initialised: a checkpoint provides them."""

    def reset_parameters(self) -> None:
        """Keep the memory as it is."""


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        full = x.to(torch.float32)
        full = full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * full.to(x.dtype)


class GatedMLP(nn.Module):
    """Feed-forward layer with a SiLU gate."""

    def __init__(self, size: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = Linear(size, inner, bias=bias)
        self.up_proj = Linear(size, inner, bias=bias)
        self.down_proj = Linear(inner, size, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embeddings to queries or keys (..., d); `cos` and `sin` broadcast to their shape."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def inverse_frequencies(theta: float, size: int) -> torch.Tensor:
    """(size / 2,) float32 rotary frequencies."""
    return 1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.float) / size))


class PatchEmbed(nn.Module):
    """Projects patches to tokens. The kernel covers a whole patch, so the 3-D convolution of the checkpoint is one matrix product."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = Conv3d(config.in_channels, config.hidden_size, kernel, stride=kernel, bias=False)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:  # [S, C * T * p * p] -> [S, D]
        weight = self.proj.weight.flatten(1)
        return F.linear(patches.to(weight.dtype), weight)


class VisionAttention(nn.Module):
    """Attention within windows of patches."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads, self.head_size = config.num_heads, config.hidden_size // config.num_heads
        self.qkv = Linear(config.hidden_size, config.hidden_size * 3)
        self.proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor, windows: Windows, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:  # [S, D] -> [S, D]
        q, k, v = self.qkv(x).view(-1, 3, self.heads, self.head_size).unbind(1)  # [S, H, d]
        q, k = (rotate(t.float(), cos, sin).to(v.dtype) for t in (q, k))
        return self.proj(windows.attend(q, k, v).reshape(x.shape))


class VisionBlock(nn.Module):
    """One layer of the vision tower."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, VISION_EPS)
        self.norm2 = RMSNorm(config.hidden_size, VISION_EPS)
        self.attn = VisionAttention(config)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, bias=True)

    def forward(self, x: torch.Tensor, windows: Windows, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), windows, cos, sin)
        return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Module):
    """Joins each square of neighbouring patches into one token of the language model."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.size = config.hidden_size * config.spatial_merge_size**2
        self.ln_q = RMSNorm(config.hidden_size, VISION_EPS)
        self.mlp = nn.Sequential(Linear(self.size, self.size), nn.GELU(), Linear(self.size, config.out_hidden_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [S, D] -> [S / merge ** 2, D_out]
        return self.mlp(self.ln_q(x).view(-1, self.size))


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of patches; `lengths` are the lengths of the windows of one image, repeated for each of `images`."""

    lengths: tuple[int, ...]
    images: int

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attention within each window: (S, H, d) queries, keys, values -> (S, H, d). Windows of equal length go as one batch."""
        if len(set(self.lengths)) == 1:
            q, k, v = (t.reshape(-1, self.lengths[0], *t.shape[1:]).transpose(1, 2) for t in (q, k, v))  # [windows, H, length, d]
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
        q, k, v = (t.reshape(self.images, -1, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))  # [images, H, S / images, d]
        parts = zip(*(t.split(list(self.lengths), 2) for t in (q, k, v)), strict=True)
        return torch.cat([F.scaled_dot_product_attention(*part) for part in parts], 2).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class VisionLayout:
    """The order and positions of the patches of one image.

    Attributes:
        order: (N,) order of the merged tokens by window; `restore` undoes it.
        windows, whole: lengths in patches of the windows, and of the whole image as one window.
        cos, sin: (patches, 1, d) rotary embeddings, ordered by window.
    """

    order: torch.Tensor
    restore: torch.Tensor
    windows: tuple[int, ...]
    whole: tuple[int, ...]
    cos: torch.Tensor
    sin: torch.Tensor


@lru_cache(maxsize=8)
def vision_layout(config: VisionConfig, rows: int, columns: int, device: torch.device) -> VisionLayout:
    """Lay out an image of `rows` x `columns` patches, which come grouped by merge square, row by row."""
    merge = config.spatial_merge_size
    span = config.window_size // merge // config.patch_size  # side of a window, in merged tokens
    cells = torch.arange(rows // merge * (columns // merge)).view(rows // merge, columns // merge)
    windows = [window.flatten() for band in cells.split(span) for window in band.split(span, 1)]
    order = torch.cat(windows)
    square = (rows // merge, merge, columns // merge, merge)
    places = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    row, column = (place.reshape(square).transpose(1, 2).reshape(-1, merge**2)[order].flatten() for place in places)
    head_size = config.hidden_size // config.num_heads
    angles = torch.stack([row, column], -1)[..., None].float() * inverse_frequencies(config.rope_theta, head_size // 2)  # [S, 2, d / 4]

    def spread(values: torch.Tensor) -> torch.Tensor:
        both = torch.cat([values[:, 0], values[:, 1]], -1)
        return torch.cat([both, both], -1).unsqueeze(1).to(device)  # [S, 1, d]

    lengths = tuple(len(window) * merge**2 for window in windows)
    return VisionLayout(
        order.to(device), order.argsort().to(device), lengths, (rows * columns,), spread(angles.cos()), spread(angles.sin())
    )


class VisionTower(nn.Module):
    """Encodes images of one size."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList([VisionBlock(config) for _ in range(config.depth)])
        self.merger = PatchMerger(config)

    def forward(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor) -> VisionOutput:
        """Encode images.

        Args:
            hidden_states: (images * patches, C * T * p * p) patches, as `pipeline.describe.patches.patchify` orders them.
            grid_thw: (images, 3) time, rows and columns of each image; all equal, and one step in time.

        Raises:
            ValueError: when the images differ in size.
        """
        images = len(grid_thw)
        steps, rows, columns = grid_thw[0].tolist()
        if steps != 1 or not bool((grid_thw == grid_thw[0]).all()):
            raise ValueError("the vision tower encodes still images of one size")
        layout = vision_layout(self.config, rows, columns, hidden_states.device)
        merge = self.config.spatial_merge_size**2
        x = self.patch_embed(hidden_states)
        x = x.view(images, -1, merge, x.shape[-1])[:, layout.order].flatten(0, 2)  # [images * patches, D]
        cos, sin = (t.repeat(images, 1, 1) for t in (layout.cos, layout.sin))
        by_window, whole = Windows(layout.windows, images), Windows(layout.whole, images)
        for index, block in enumerate(self.blocks):
            x = block(x, whole if index in self.config.fullatt_block_indexes else by_window, cos, sin)
        x = self.merger(x)
        return VisionOutput(x.view(images, -1, x.shape[-1])[:, layout.restore].flatten(0, 1))


class TextAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.groups = layer, config.num_attention_heads // config.num_key_value_heads
        self.head_size = config.hidden_size // config.num_attention_heads
        self.q_proj = Linear(config.hidden_size, config.num_attention_heads * self.head_size)
        self.k_proj = Linear(config.hidden_size, config.num_key_value_heads * self.head_size)
        self.v_proj = Linear(config.hidden_size, config.num_key_value_heads * self.head_size)
        self.o_proj = Linear(config.num_attention_heads * self.head_size, config.hidden_size, bias=False)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KeyValueCache | None
    ) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.head_size).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H, S, d]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        if length == 1:  # the queries of a group attend to the same keys: they become rows of one query
            out = F.scaled_dot_product_attention(q.reshape(batch, -1, self.groups, self.head_size), k, v, mask)
        else:
            k, v = (self._repeated(t) for t in (k, v))
            out = F.scaled_dot_product_attention(q, k, v, mask)
        out = out.reshape(batch, -1, length, self.head_size).transpose(1, 2)
        return self.o_proj(out.reshape(batch, length, -1))

    def _repeated(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H / groups, K, d) -> (B, H, K, d): each key-value head once for every query head of its group."""
        batch, heads, length, size = x.shape
        return x[:, :, None].expand(batch, heads, self.groups, length, size).reshape(batch, heads * self.groups, length, size)


class TextLayer(nn.Module):
    """One layer of the language model."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = TextAttention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, bias=False)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KeyValueCache | None
    ) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    """The language model without its output layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([TextLayer(config, layer) for layer in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: Mapping[str, torch.Tensor],
        past_key_values: KeyValueCache | None = None,
        use_cache: bool = False,
    ) -> TextOutput:
        """Run all layers.

        Args:
            inputs_embeds: (B, S, D).
            position_ids: (3, B, S) time, row and column positions.
            attention_mask: under `full_attention` (B, 1, S, K), added to the attention scores.
            past_key_values: grows by the S new tokens.
            use_cache: ignored; a cache is used when there is one.
        """
        cos, sin = self._rotary(position_ids, inputs_embeds.dtype)
        x = inputs_embeds
        for layer in self.layers:
            x = layer(x, attention_mask["full_attention"], cos, sin, past_key_values)
        return TextOutput(self.norm(x))

    def _rotary(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, S, d) cosines and sines: sections of each head turn with the time, row or column position."""
        head_size = self.config.hidden_size // self.config.num_attention_heads
        frequencies = inverse_frequencies(self.config.rope_theta, head_size).to(positions.device)
        angles = positions[..., None].float() * frequencies  # [3, B, S, d / 2]

        def spread(values: torch.Tensor) -> torch.Tensor:
            sections = values.split(list(self.config.mrope_section), -1)
            mixed = torch.cat([section[index % 3] for index, section in enumerate(sections)], -1)
            return torch.cat([mixed, mixed], -1).to(dtype).unsqueeze(1)

        return spread(angles.cos()), spread(angles.sin())


class _Core(nn.Module):
    """Vision tower and language model, nested as in the checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.visual = VisionTower(config.vision_config)
        self.language_model = LanguageModel(config.text_config)


class Qwen25VL(nn.Module):
    """A whole Qwen2.5-VL.

    >>> small = NetworkConfig(VisionConfig(depth=1, hidden_size=32, num_heads=2, intermediate_size=8, out_hidden_size=16),
    ...                       TextConfig(32, 16, 8, 1, 2, 1, mrope_section=(1, 1, 2)))
    >>> sum(weight.numel() for weight in Qwen25VL(small).parameters()) > 0
    True
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Core(config)
        self.lm_head = Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.lm_head.weight.dtype
