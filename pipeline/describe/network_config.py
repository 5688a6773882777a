"""The sizes of a Qwen2.5-VL checkpoint, read from its `config.json` without importing transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ModelError

MODEL_TYPE = "qwen2_5_vl"

T = TypeVar("T")


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the vision tower. Names and defaults are those of transformers' `Qwen2_5_VLVisionConfig`."""

    depth: int = 32
    hidden_size: int = 3584
    intermediate_size: int = 3420
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    window_size: int = 112
    out_hidden_size: int = 3584
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the language model. Names and defaults are those of transformers' `Qwen2_5_VLTextConfig`."""

    vocab_size: int = 152064
    hidden_size: int = 8192
    intermediate_size: int = 29568
    num_hidden_layers: int = 80
    num_attention_heads: int = 64
    num_key_value_heads: int = 8
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1000000.0
    mrope_section: tuple[int, ...] = (16, 24, 24)


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a whole model.

    Attributes:
        tie_word_embeddings: whether the output layer shares the weights of the token embedding.
    """

    vision_config: VisionConfig
    text_config: TextConfig
    tie_word_embeddings: bool = False


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's `config.json`.

    Raises:
        ModelError: when the file cannot be read, or is not the configuration of a Qwen2.5-VL.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != MODEL_TYPE:
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint (its config.json has model_type {kind!r}, not {MODEL_TYPE!r})")
    return dict(values)


def parse_config(values: Mapping[str, Any]) -> NetworkConfig:
    """Read sizes from the content of `config.json`.

    Published checkpoints keep the language model's values at the top level, newer ones under `text_config`.

    >>> parse_config({"vision_config": {"depth": 6}, "hidden_size": 256}).text_config.hidden_size
    256
    """
    text = dict(values.get("text_config") or values)
    vision = dict(values.get("vision_config") or {})
    vision.setdefault("in_channels", vision.get("in_chans", VisionConfig.in_channels))
    text_rope, vision_rope = rope_parameters(text), rope_parameters(vision)
    text = {name: value for name, value in (text | text_rope).items() if value is not None}
    return NetworkConfig(
        vision_config=_from_mapping(VisionConfig, vision | vision_rope),
        text_config=_from_mapping(TextConfig, {"num_key_value_heads": text.get("num_attention_heads", 8)} | text),
        tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
    )


def rope_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary parameters of a part of the configuration, under whichever of its three names the file uses."""
    return dict(values.get("rope_scaling") or values.get("rope_parameters") or {})


def unsupported_feature(values: Mapping[str, Any]) -> str | None:
    """A feature of the configuration that `pipeline.describe.network` does not implement, or None.

    Args:
        values: content of `config.json`.
    """
    text = dict(values.get("text_config") or values)
    rope = rope_parameters(text)
    if values.get("quantization_config") or text.get("quantization_config"):
        return "quantised weights"
    if rope.get("rope_type", rope.get("type", "default")) not in ("default", "mrope"):
        return f"rotary embeddings of type {rope.get('rope_type', rope.get('type'))}"
    if text.get("use_sliding_window"):
        return "sliding-window attention"
    activations = {part.get("hidden_act", "silu") for part in (text, values.get("vision_config") or {})}
    return None if activations == {"silu"} else f"activation {', '.join(sorted(activations - {'silu'}))}"


def _from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    known = {field.name: values[field.name] for field in fields(kind) if field.name in values}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})
