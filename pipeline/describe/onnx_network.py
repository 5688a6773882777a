"""A small Qwen2.5-VL as two ONNX graphs, made from the weights of its checkpoint.

ONNX Runtime starts in a tenth of the time of torch and transformers, and reads nano twice as fast. The graphs are built in memory, so that
a checkpoint stays one folder of safetensors. They compute what `transformers` computes; a test compares the two. A row's result does not
depend on the other rows of its batch.

`see` takes aligned faces and gives the picture's tokens. `decode` runs the language model over new tokens after cached ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors import deserialize

OPSET = 23

_FLOAT, _UINT8 = TensorProto.FLOAT, TensorProto.UINT8

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """What of a checkpoint's configuration the graphs depend on.

    Attributes:
        vision, text: `vision_config` and `text_config` of `config.json`.
        mean, std: pixel normalisation, from `preprocessor_config.json`.
        side: width of the square picture in pixels.
    """

    vision: Config
    text: Config
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int

    @property
    def grid(self) -> int:
        """Patches along a side of the picture."""
        return int(self.side // self.vision["patch_size"])

    @property
    def tokens(self) -> int:
        """Tokens of a picture after merging."""
        return int((self.grid // self.vision["spatial_merge_size"]) ** 2)

    @property
    def head_size(self) -> int:
        """Width of an attention head of the language model."""
        return int(self.text["hidden_size"] // self.text["num_attention_heads"])

    @property
    def cache_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of an empty cache with no rows: layers, keys and values (2), rows, heads, tokens; the head's width follows."""
        return (self.text["num_hidden_layers"], 2, 0, self.text["num_key_value_heads"], 0)


def fits(config: Config, side: int) -> bool:
    """Whether the graphs can stand for a checkpoint: its tower attends to the whole picture at once, with the usual activations."""
    vision, text = config.get("vision_config", {}), config.get("text_config", {})
    whole = vision.get("window_size", 0) >= side or set(range(vision.get("depth", 0))) <= set(vision.get("fullatt_block_indexes", ()))
    return bool(
        config.get("model_type") == "qwen2_5_vl"
        and whole
        and vision.get("hidden_act") == text.get("hidden_act") == "silu"
        and vision.get("temporal_patch_size") == 2
        and config.get("tie_word_embeddings")
        and text.get("rope_parameters", {}).get("rope_type") == "default"
        and not text.get("use_sliding_window")
    )


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint's safetensors files, in float32.

    Raises:
        ValueError: a tensor has a type that is none of bfloat16, float16 and float32.
    """
    weights: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in deserialize(path.read_bytes()):
            kind, data = tensor["dtype"], tensor["data"]
            if kind == "BF16":  # the upper half of a float32
                values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            elif kind in ("F16", "F32"):
                values = np.frombuffer(data, np.float16 if kind == "F16" else np.float32).astype(np.float32)
            else:
                raise ValueError(f"{path}: {name} is {kind}, not BF16, F16 or F32")
            weights[name] = values.reshape(tensor["shape"])
    return weights


class _Graph:
    """Collects the nodes and constants of one ONNX graph."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def constant(self, value: np.ndarray | Sequence[int]) -> str:
        """Add a constant; sequences become int64."""
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name := self._name()))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", domain: str = "", **attributes: Any) -> Any:
        """Add an operator; returns the name of its output, or of all of them if there are several."""
        names = [name or self._name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """(N, D) -> (N, M), with `weight` (M, D) as torch keeps it."""
        inputs = [x, self.constant(weight.T)] + ([] if bias is None else [self.constant(bias)])
        return str(self.op("Gemm", *inputs))

    def norm(self, x: str, weight: np.ndarray, epsilon: float) -> str:
        """Root mean square norm over the last axis."""
        return str(self.op("SimplifiedLayerNormalization", x, self.constant(weight), axis=-1, epsilon=epsilon, stash_type=1))

    def gated(self, x: str, weights: Mapping[str, np.ndarray], prefix: str) -> str:
        """The feed-forward part of a block: down(silu(gate(x)) * up(x))."""

        def part(name: str, value: str) -> str:
            return self.linear(value, weights[f"{prefix}{name}.weight"], weights.get(f"{prefix}{name}.bias"))

        gate = part("gate_proj", x)
        silu = self.op("Mul", gate, self.op("Sigmoid", gate))
        return part("down_proj", self.op("Mul", silu, part("up_proj", x)))

    def rotated(self, x: str, cos: str, sin: str) -> str:
        """Rotary position embedding of (..., d); `cos` and `sin` broadcast."""
        low, high = self.op("Split", x, outputs=2, axis=-1, num_outputs=2)
        turned = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return str(self.op("Add", self.op("Mul", x, cos), self.op("Mul", turned, sin)))

    def session(self, inputs: Sequence[Any], outputs: Sequence[Any], options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        """Open the graph."""
        graph = helper.make_graph(self._nodes, "focalface", list(inputs), list(outputs), self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _patches(g: _Graph, shape: Shape, name: str = "") -> str:
    """Cut `faces` (F, side, side, 3) into (F * patches, patch * patch * 3) floats, in the tower's order; pixels stay as they are."""
    patch, merge = shape.vision["patch_size"], shape.vision["spatial_merge_size"]
    rows = shape.grid // merge
    x = g.op("Reshape", "faces", g.constant([-1, rows, merge, patch, rows, merge, patch, 3]))
    x = g.op("Transpose", x, perm=[0, 1, 4, 2, 5, 3, 6, 7])  # [F, rows, columns, merge, merge, patch, patch, 3]
    return str(g.op("Cast", g.op("Reshape", x, g.constant([-1, patch * patch * 3])), to=_FLOAT, name=name))


def patch_graph(shape: Shape, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """The first step of `see_graph` alone: `faces` (F, side, side, 3) uint8 RGB -> `patches` (F * patches, patch * patch * 3) float32."""
    g = _Graph()
    _patches(g, shape, "patches")
    return g.session(
        [helper.make_tensor_value_info("faces", _UINT8, ["F", shape.side, shape.side, 3])],
        [helper.make_tensor_value_info("patches", _FLOAT, ["N", shape.vision["patch_size"] ** 2 * 3])],
        options,
    )


def see_graph(weights: Mapping[str, np.ndarray], shape: Shape, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """The vision tower: `faces` (F, side, side, 3) uint8 RGB -> `seen` (F, tokens, D)."""
    vision, g = shape.vision, _Graph()
    merge, width, heads = vision["spatial_merge_size"], vision["hidden_size"], vision["num_heads"]
    length = shape.grid**2
    # A still picture is repeated along time and its pixels are normalised: both become part of the patch embedding's weights.
    embed = weights["visual.patch_embed.proj.weight"].astype(np.float64).sum(2)  # [D, 3, patch, patch]
    mean, std = np.array(shape.mean)[:, None, None], np.array(shape.std)[:, None, None]
    bias = -(embed * mean / std).sum((1, 2, 3)).astype(np.float32)
    embed = (embed / (255 * std)).astype(np.float32).transpose(0, 2, 3, 1)  # channels last, as they are in a picture
    x = g.linear(_patches(g, shape), embed.reshape(width, -1), bias)  # [F * length, D]
    cos, sin = (g.constant(table[None, :, None]) for table in _picture_rotation(shape))  # [1, length, 1, d]
    size = width // heads
    scale = g.constant(np.array(size**-0.5, np.float32))
    for number in range(vision["depth"]):
        name = f"visual.blocks.{number}."
        y = g.norm(x, weights[f"{name}norm1.weight"], 1e-6)
        y = g.linear(y, weights[f"{name}attn.qkv.weight"], weights[f"{name}attn.qkv.bias"])
        q, k, v = g.op("Split", g.op("Reshape", y, g.constant([-1, length, 3 * heads, size])), outputs=3, axis=2, num_outputs=3)
        q = g.op("Transpose", g.op("Mul", g.rotated(q, cos, sin), scale), perm=[0, 2, 1, 3])
        k = g.op("Transpose", g.rotated(k, cos, sin), perm=[0, 2, 3, 1])
        shares = g.op("Softmax", g.op("MatMul", q, k), axis=-1)
        y = g.op("MatMul", shares, g.op("Transpose", v, perm=[0, 2, 1, 3]))
        y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.constant([-1, width]))
        x = g.op("Add", x, g.linear(y, weights[f"{name}attn.proj.weight"], weights[f"{name}attn.proj.bias"]))
        x = g.op("Add", x, g.gated(g.norm(x, weights[f"{name}norm2.weight"], 1e-6), weights, f"{name}mlp."))
    x = g.op("Reshape", g.norm(x, weights["visual.merger.ln_q.weight"], 1e-6), g.constant([-1, width * merge**2]))
    x = g.op("Gelu", g.linear(x, weights["visual.merger.mlp.0.weight"], weights["visual.merger.mlp.0.bias"]))
    x = g.linear(x, weights["visual.merger.mlp.2.weight"], weights["visual.merger.mlp.2.bias"])
    g.op("Reshape", x, g.constant([-1, shape.tokens, vision["out_hidden_size"]]), name="seen")
    return g.session(
        [helper.make_tensor_value_info("faces", _UINT8, ["F", shape.side, shape.side, 3])],
        [helper.make_tensor_value_info("seen", _FLOAT, ["F", shape.tokens, vision["out_hidden_size"]])],
        options,
    )


def decode_graph(weights: Mapping[str, np.ndarray], shape: Shape, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """The language model: R rows of S new tokens after T cached ones.

    Inputs: `embeds` (R, S, D); `cos`, `sin` (1 or R, S, 1, d), of the tokens' positions; `mask` (1 or R, 1, 1, S, T + S), added to the
    attention; `cache` (layers, 2, R, heads, T, d); `read` (n,), the new tokens whose next-token logits are wanted.

    Outputs: `logits` (R, n, V); `grown` (layers, 2, R, heads, T + S, d).
    """
    text, g = shape.text, _Graph()
    width, heads, groups, size = text["hidden_size"], text["num_attention_heads"], text["num_key_value_heads"], shape.head_size
    layers, epsilon = text["num_hidden_layers"], text["rms_norm_eps"]
    rows, steps = (g.op("Gather", g.op("Shape", "embeds"), g.constant([axis]), axis=0) for axis in (0, 1))
    flat = g.constant([-1, width])

    def shaped(value: str, *sizes: str | int) -> str:
        parts = [size if isinstance(size, str) else g.constant([size]) for size in sizes]
        return str(g.op("Reshape", value, g.op("Concat", *parts, axis=0)))

    def projected(value: str, name: str) -> str:
        return g.linear(value, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    scale = g.constant(np.array(size**-0.5, np.float32))
    cached = g.op("Split", "cache", outputs=layers, axis=0, num_outputs=layers) if layers > 1 else ["cache"]
    x = g.op("Reshape", "embeds", flat)
    grown = []
    for number, own in enumerate(cached):
        name = f"model.layers.{number}."
        y = g.norm(x, weights[f"{name}input_layernorm.weight"], epsilon)
        q, k, v = (shaped(projected(y, f"{name}self_attn.{part}_proj"), rows, steps, -1, size) for part in "qkv")
        q = g.op("Transpose", g.op("Mul", g.rotated(q, "cos", "sin"), scale), perm=[0, 2, 1, 3])  # [R, heads, S, d]
        q = shaped(q, rows, groups, -1, size)  # the heads that share keys are rows of one product
        pair = [g.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (g.rotated(k, "cos", "sin"), v)]
        new = g.op("Concat", *(g.op("Unsqueeze", part, g.constant([0, 1])) for part in pair), axis=1)
        grown.append(g.op("Concat", own, new, axis=4))  # [1, 2, R, groups, T + S, d]
        keys, values = (g.op("Squeeze", part, g.constant([0, 1])) for part in g.op("Split", grown[-1], outputs=2, axis=1, num_outputs=2))
        scores = g.op("MatMul", q, g.op("Transpose", keys, perm=[0, 1, 3, 2]))  # [R, groups, heads / groups * S, T + S]
        scores = g.op("Add", shaped(scores, rows, groups, heads // groups, steps, -1), "mask")
        shares = g.op("Softmax", scores, axis=-1)
        y = g.op("MatMul", shaped(shares, rows, groups, g.op("Mul", steps, g.constant([heads // groups])), -1), values)
        y = g.op("Transpose", shaped(y, rows, heads, steps, size), perm=[0, 2, 1, 3])
        x = g.op("Add", x, projected(g.op("Reshape", y, flat), f"{name}self_attn.o_proj"))
        x = g.op("Add", x, g.gated(g.norm(x, weights[f"{name}post_attention_layernorm.weight"], epsilon), weights, f"{name}mlp."))
    g.op("Concat", *grown, axis=0, name="grown")
    chosen = g.op("Gather", shaped(x, rows, steps, width), "read", axis=1)
    x = g.norm(g.op("Reshape", chosen, flat), weights["model.norm.weight"], epsilon)
    count = g.op("Shape", "read")
    logits = g.linear(x, weights["model.embed_tokens.weight"])
    vocabulary = weights["model.embed_tokens.weight"].shape[0]
    g.op("Reshape", logits, g.op("Concat", rows, count, g.constant([vocabulary]), axis=0), name="logits")
    value = helper.make_tensor_value_info
    return g.session(
        [
            value("embeds", _FLOAT, ["R", "S", width]),
            value("cos", _FLOAT, ["P", "S", 1, size]),
            value("sin", _FLOAT, ["P", "S", 1, size]),
            value("mask", _FLOAT, ["M", 1, 1, "S", "K"]),
            value("cache", _FLOAT, [layers, 2, "R", groups, "T", size]),
            value("read", TensorProto.INT64, ["n"]),
        ],
        [value("logits", _FLOAT, ["R", "n", vocabulary]), value("grown", _FLOAT, [layers, 2, "R", groups, "K", size])],
        options,
    )


def _picture_rotation(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the patches' places, (patches, d) float32 each: rows turn one half of the frequencies, columns the other."""
    vision = shape.vision
    merge, grid = vision["spatial_merge_size"], shape.grid
    quarter = vision["hidden_size"] // vision["num_heads"] // 4
    frequencies = 1 / vision["rope_parameters"]["rope_theta"] ** (np.arange(quarter) / quarter)
    places = np.arange(grid**2).reshape(grid, grid)
    # The patches of a merged token are neighbours.
    order = places.reshape(grid // merge, merge, grid // merge, merge).transpose(0, 2, 1, 3).ravel()
    row, column = np.divmod(order, grid)
    angles = np.concatenate([row[:, None] * frequencies, column[:, None] * frequencies] * 2, 1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def text_rotation(shape: Shape, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of tokens' places.

    Args:
        positions: (3, R, S), Qwen2.5-VL's time, row and column positions; R may be 1.

    Returns:
        (R, S, 1, d) float32 each.
    """
    rope = shape.text["rope_parameters"]
    half = shape.head_size // 2
    frequencies = 1 / rope["rope_theta"] ** (np.arange(half) / half)
    which = np.repeat(np.arange(3), rope["mrope_section"])  # of each frequency: time, row or column
    angles = np.moveaxis(positions[which], 0, -1) * frequencies  # [R, S, half]
    angles = np.concatenate([angles, angles], -1)[:, :, None]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
