"""The onnx backend: a small Qwen2.5-VL on the CPU, through ONNX Runtime (`pipeline.describe.onnx_network`).

It answers as the transformers backend does, which is the reference, and works in the same steps: each distinct face is seen once; the
regions of a face are branches after it, whose fields are read in one pass; sentences are written together, greedily.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from pipeline.describe.checkpoints import grammar_of, locate, name_of
from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar
from pipeline.describe.local_describer import LocalDescriber, NewTokens
from pipeline.describe.onnx_network import Shape, decode_graph, fits, read_weights, see_graph, text_rotation
from pipeline.describe.slots import Slot, probabilities, readout_places
from pipeline.describe.tokens import PromptTokens
from pipeline.errors import ModelError

HIDDEN = np.float32(np.finfo(np.float32).min)
"""Added to the attention between tokens that do not see each other."""


def open_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
    endpoint: str | None = None,
) -> OnnxDescriber:
    """Open a checkpoint; see `pipeline.describe.backends.load_describer`. `endpoint` is not used.

    Raises:
        ModelError: the checkpoint cannot be opened, or not by this backend.
    """
    if adapter or device.startswith("cuda"):
        raise ModelError("the backend onnx takes no adapter and runs on the CPU; use --backend transformers")
    folder = locate(model)
    try:
        shape, grammar, tokenizer = shape_of(folder), grammar_of(folder, None), Tokenizer.from_file(str(folder / "tokenizer.json"))
        weights = read_weights(folder)
        return OnnxDescriber(name_of(model, None), weights, shape, grammar, tokenizer, batch_size, threads)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise exceptions of many types
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint that can be opened ({str(error).partition(chr(10))[0]})") from error


def can_open(folder: Path) -> bool:
    """Whether this backend can open a checkpoint."""
    try:
        shape_of(folder)
    except (ModelError, OSError, ValueError, KeyError):
        return False
    return (folder / "tokenizer.json").is_file() and any(folder.glob("*.safetensors"))


def shape_of(folder: Path) -> Shape:
    """What the graphs of a checkpoint depend on.

    Raises:
        ModelError: this backend does not know its architecture.
    """
    config = json.loads((folder / "config.json").read_text())
    pixels = json.loads((folder / "preprocessor_config.json").read_text())
    vision = config["vision_config"]
    side = grammar_of(folder, None).picture_side(vision["patch_size"] * vision["spatial_merge_size"])
    if not fits(config, side):
        raise ModelError(f"{folder}: the backend onnx does not know this architecture; use --backend transformers")
    return Shape(vision, config["text_config"], tuple(pixels["image_mean"]), tuple(pixels["image_std"]), side)


class _PlainTokenizer:
    """A tokenizer's two methods that prompts need, without transformers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))


class OnnxDescriber(LocalDescriber[np.ndarray]):
    """The describer over `pipeline.describe.onnx_network`. A cache is (layers, 2, R, heads, T, d)."""

    def __init__(
        self,
        name: str,
        weights: dict[str, np.ndarray],
        shape: Shape,
        grammar: Grammar,
        tokenizer: Tokenizer,
        batch_size: int = 32,
        threads: int | None = None,
    ) -> None:
        """Build the graphs of a checkpoint.

        Args:
            name: of the checkpoint, for the tables.
            weights: all of its tensors, in float32.
            shape: what the graphs depend on.
            grammar, tokenizer: of the checkpoint.
            batch_size: requests answered together.
            threads: of the processor; None for one for each core.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads that wait leave the cores to detection and decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._vision, self._decoder = see_graph(weights, shape, options), decode_graph(weights, shape, options)
        self._embedding, self._shape = weights["model.embed_tokens.weight"], shape
        plain = _PlainTokenizer(tokenizer)
        head, image = plain.encode(USER_START), plain.encode(IMAGE_TOKEN)
        rest = plain.encode(USER_IMAGE_END) + plain.encode(grammar.instruction)
        self._image = slice(len(head), len(head) + shape.tokens)
        self._prefix = np.array([*head, *image * shape.tokens, *rest])
        self._places = prefix_places(len(head), round(shape.tokens**0.5), len(rest))
        tokens = PromptTokens(plain, grammar, shape.side)
        super().__init__(name, grammar, batch_size, tokens, len(self._prefix), int(self._places.max()) + 1)

    def _prefill(self, pictures: np.ndarray) -> np.ndarray:
        (seen,) = self._vision.run(["seen"], {"faces": pictures})
        embeds = np.repeat(self._embedding[self._prefix][None], len(pictures), 0)
        embeds[:, self._image] = seen
        layers, pair, _, heads, _ = self._shape.cache_shape
        empty = np.zeros((layers, pair, len(pictures), heads, 0, self._shape.head_size), np.float32)
        size = len(self._prefix)
        _, cache = self._run(embeds, self._places[:, None], np.tri(size, dtype=bool)[None], empty, [size - 1])
        return cache

    def _select(self, cache: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        return cache[:, :, rows]

    def _score(self, new: NewTokens, cache: np.ndarray, slots: Sequence[Slot], keep: int) -> tuple[list[np.ndarray], np.ndarray]:
        readouts = [readout for slot in slots for readout in slot.readouts]
        logits, grown = self._run_text(new, cache, readouts, keep > 0)
        scores = [probabilities(slot, logits[:, place]) for slot, place in zip(slots, readout_places(slots), strict=True)]
        return scores, grown[..., : cache.shape[4] + keep, :] if keep else cache

    def _choose(self, new: NewTokens, cache: np.ndarray, names: Sequence[int], barred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, grown = self._run_text(new, cache, [new.ids.shape[1] - 1])
        last = logits[:, 0]
        last[:, names] = np.where(barred, -np.inf, last[:, names])
        return last.argmax(-1), grown

    def _run_text(self, new: NewTokens, cache: np.ndarray, read: Sequence[int], keep: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """`_run` for text, whose three positions are the same."""
        return self._run(self._embedding[new.ids], np.broadcast_to(new.positions, (3, *new.positions.shape)), new.mask, cache, read, keep)

    def _run(
        self, embeds: np.ndarray, places: np.ndarray, mask: np.ndarray, cache: np.ndarray, read: Sequence[int], keep: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """One pass of the language model.

        Args:
            embeds: (R, S, D) new tokens.
            places: (3, 1 or R, S) their positions.
            mask: (1 or R, S, T + S) bool: which of the cached and new tokens each new one sees.
            cache: (layers, 2, R, heads, T, d).
            read: the n new tokens whose logits are wanted.
            keep: whether the grown cache is wanted.

        Returns:
            (R, n, V) logits; the cache with the new tokens, or an empty one.
        """
        cos, sin = text_rotation(self._shape, places)
        added = np.where(mask, np.float32(0), HIDDEN)[:, None, None]
        inputs = {"embeds": embeds, "cos": cos, "sin": sin, "mask": added, "cache": cache, "read": np.array(read, np.int64)}
        logits, *grown = self._decoder.run(["logits", "grown"] if keep else ["logits"], inputs)
        return logits, grown[0] if keep else np.empty(0, np.float32)


def prefix_places(before: int, grid: int, after: int) -> np.ndarray:
    """Positions of a prefix: text, a square picture of `grid` x `grid` tokens, text.

    In the picture, time stands still while row and column count; the text after it goes on from the largest position.

    Returns:
        (3, tokens) int64: time, row and column positions.

    >>> prefix_places(1, 2, 1).tolist()
    [[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]]
    """
    row, column = np.divmod(np.arange(grid**2), grid)
    picture = np.stack([np.zeros_like(row), row, column]) + before
    text = np.arange(before), np.arange(after) + before + grid
    return np.concatenate([np.tile(text[0], (3, 1)), picture, np.tile(text[1], (3, 1))], 1)
