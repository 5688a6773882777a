"""The onnx backend: a small Qwen2.5-VL on the CPU, through ONNX Runtime (`pipeline.describe.onnx_network`).

It answers as the transformers backend does, which is the reference, and works in the same steps: each distinct face is seen once; the
regions of a face are branches after it, whose fields are read in one pass; sentences are written together, greedily.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from pipeline.describe.checkpoints import grammar_of, locate, name_of
from pipeline.describe.describer import BaseDescriber, Prompt, resized
from pipeline.describe.fields import Fields, unit_readings
from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar
from pipeline.describe.onnx_network import Shape, decode_graph, fits, read_weights, see_graph, text_rotation
from pipeline.describe.slots import Slot, add_slot, probabilities
from pipeline.describe.token_tree import TokenTree
from pipeline.describe.tokens import MAX_SENTENCE, PromptTokens
from pipeline.errors import ModelError
from pipeline.records import Answer

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


@dataclass(frozen=True)
class _Group:
    """Prompts in one cache.

    Attributes:
        rows: indices of the prompts.
        cache: (layers, 2, R, heads, T, d), a row for each prompt.
        position: text position of the token that follows.
        pending: tokens of each prompt that are not in the cache yet.
    """

    rows: list[int]
    cache: np.ndarray
    position: int
    pending: list[list[int]]

    @property
    def length(self) -> int:
        """Number of cached tokens."""
        return int(self.cache.shape[4])


class OnnxDescriber(BaseDescriber):
    """The describer over `pipeline.describe.onnx_network`."""

    keeps_prefill = True

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
        super().__init__(name, grammar, batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads that wait leave the cores to detection and decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._see, self._decode = see_graph(weights, shape, options), decode_graph(weights, shape, options)
        self._embedding, self._shape = weights["model.embed_tokens.weight"], shape
        plain = _PlainTokenizer(tokenizer)
        self._tokens = PromptTokens(plain, grammar, shape.side)
        head, image = plain.encode(USER_START), plain.encode(IMAGE_TOKEN)
        rest = plain.encode(USER_IMAGE_END) + plain.encode(grammar.instruction)
        self._image = slice(len(head), len(head) + shape.tokens)
        self._prefix = np.array([*head, *image * shape.tokens, *rest])
        self._places = prefix_places(len(head), round(shape.tokens**0.5), len(rest))
        self._kept: tuple[list[Prompt], list[_Group]] | None = None  # of the last `_read`, for the `_write` that follows

    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        self._kept = None
        cache, face_of = self._prefill(prompts)
        questions = [self._tokens.question(prompt) for prompt in prompts]
        fields: dict[int, Fields] = {}
        groups = []
        # Questions of one length share one tree. Lengths differ where a tokenizer splits numbers into digits, and after earlier turns.
        for length in sorted({len(question) for question in questions}):
            rows = [i for i, question in enumerate(questions) if len(question) == length]
            read, group = self._read_group(self._group(rows, cache, face_of, questions), then_write)
            fields |= zip(rows, read, strict=True)
            groups.append(group)
        if then_write:
            self._kept = prompts, groups
        return [fields[i] for i in range(len(prompts))]

    def _write(self, prompts: list[Prompt], answers: Sequence[Answer]) -> list[str]:
        kept, self._kept = self._kept, None
        if kept is not None and len(kept[0]) >= len(prompts) and all(one is own for one, own in zip(prompts, kept[0], strict=False)):
            groups = [part for group in kept[1] if (part := _first(group, len(prompts))).rows]
        else:
            cache, face_of = self._prefill(prompts)
            groups = [self._group(range(len(prompts)), cache, face_of, [self._tokens.question(prompt) for prompt in prompts])]
        sentences: dict[int, str] = {}
        for group in groups:
            sentences |= zip(group.rows, self._write_group(group, [answers[i] for i in group.rows]), strict=True)
        return [sentences[i] for i in range(len(prompts))]

    def _prefill(self, prompts: Sequence[Prompt]) -> tuple[np.ndarray, list[int]]:
        """Prefill the prefix of each distinct face: a cache with one row for each, and the row of each prompt."""
        places: dict[bytes, int] = {}
        crops: list[np.ndarray] = []
        face_of: list[int] = []
        for prompt in prompts:
            crop = prompt.request.crop
            if (key := crop.tobytes()) not in places:
                places[key] = len(crops)
                crops.append(resized(crop, self._shape.side))
            face_of.append(places[key])
        (seen,) = self._see.run(["seen"], {"faces": np.stack(crops)})
        embeds = np.repeat(self._embedding[self._prefix][None], len(crops), 0)
        embeds[:, self._image] = seen
        layers, pair, _, heads, _ = self._shape.cache_shape
        empty = np.zeros((layers, pair, len(crops), heads, 0, self._shape.head_size), np.float32)
        size = len(self._prefix)
        _, cache = self._run(embeds, self._places[:, None], np.tri(size, dtype=bool)[None], empty, [size - 1])
        return cache, face_of

    def _group(self, rows: Sequence[int], cache: np.ndarray, face_of: Sequence[int], questions: Sequence[list[int]]) -> _Group:
        """Some prompts in a cache of their own, right after the prefix."""
        own = cache[:, :, [face_of[i] for i in rows]]
        return _Group(list(rows), own, int(self._places.max()) + 1, [questions[i] for i in rows])

    def _read_group(self, group: _Group, then_write: bool) -> tuple[list[Fields], _Group]:
        """Read the fields of questions of one length; the group as it is after its questions."""
        questions = group.pending
        length = len(questions[0])
        tree = TokenTree(prefix=group.length)
        region = tree.add(questions[0])
        slots = [add_slot(tree, region, question, choices, self._tokens.newline) for question, choices in self._tokens.slots]
        ids = np.repeat(np.array(tree.ids)[None], len(questions), 0)  # [R, S]
        ids[:, :length] = questions
        places = np.broadcast_to(np.array(tree.positions) + group.position, (3, 1, len(tree.ids)))
        readouts = [readout for slot in slots for readout in slot.readouts]
        logits, grown = self._run(self._embedding[ids], places, tree.mask()[None], group.cache, readouts, keep=then_write)
        *units, emotion, age = _scores(slots, logits)
        readings = [unit_readings(self.aus, [unit[row] for unit in units]) for row in range(len(questions))]
        fields = [Fields(scores, emotion[row], age[row], au_intensities=values) for row, (scores, values) in enumerate(readings)]
        if not then_write:
            return fields, group
        after = grown[..., : group.length + length, :]
        return fields, replace(group, cache=after, position=group.position + length, pending=[[]] * len(questions))

    def _write_group(self, group: _Group, answers: Sequence[Answer]) -> list[str]:
        """Greedy sentences after the decided fields, all rows together; a row leaves the batch when its sentence ends."""
        openings = [[*pending, *self._tokens.fields(answer)] for pending, answer in zip(group.pending, answers, strict=True)]
        width = max(map(len, openings))
        ids = np.array([[self._tokens.end] * (width - len(row)) + row for row in openings])  # left padding
        pad = np.array([width - len(row) for row in openings])
        steps = np.arange(width)
        seen = np.concatenate([np.ones((len(openings), group.length), bool), steps >= pad[:, None]], 1)  # [R, K]
        causal = np.concatenate([np.ones((width, group.length), bool), np.tri(width, dtype=bool)], 1)
        places = group.position + np.maximum(steps - pad[:, None], 0)
        logits, cache = self._run(
            self._embedding[ids], np.broadcast_to(places, (3, *places.shape)), seen[:, None] & causal, group.cache, [width - 1]
        )
        place = places[:, -1] + 1
        written: list[list[int]] = [[] for _ in openings]
        rows = np.arange(len(openings))
        barred = np.zeros((len(openings), len(self._embedding)), bool)
        for row, answer in enumerate(answers):
            barred[row, self._tokens.barred(answer)] = True
        for _ in range(MAX_SENTENCE):
            token = np.where(barred[rows], -np.inf, logits[:, 0]).argmax(-1)  # [active rows]
            going = token != self._tokens.end
            if not going.any():
                break
            if not going.all():
                cache = cache[:, :, going]
                rows, token, seen, place = rows[going], token[going], seen[going], place[going]
            for row, value in zip(rows.tolist(), token.tolist(), strict=True):
                written[row].append(value)
            seen = np.concatenate([seen, np.ones((len(seen), 1), bool)], 1)
            places = np.broadcast_to(place[:, None], (3, len(place), 1))
            logits, cache = self._run(self._embedding[token][:, None], places, seen[:, None], cache, [0])
            place = place + 1
        return [self._tokens.decode(row) for row in written]

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
        logits, *grown = self._decode.run(["logits", "grown"] if keep else ["logits"], inputs)
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


def _scores(slots: Sequence[Slot], logits: np.ndarray) -> list[np.ndarray]:
    """(R, choices) probabilities of every slot's choices, from the logits of all of their readouts."""
    scores, first = [], 0
    for slot in slots:
        scores.append(probabilities(slot, logits[:, first : first + len(slot.readouts)]))
        first += len(slot.readouts)
    return scores


def _first(group: _Group, count: int) -> _Group:
    """The part of a group that is about the first prompts."""
    places = [place for place, row in enumerate(group.rows) if row < count]
    if len(places) == len(group.rows):
        return group
    chosen = group.cache[:, :, places]
    return replace(group, rows=[group.rows[i] for i in places], cache=chosen, pending=[group.pending[i] for i in places])
