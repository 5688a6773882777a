"""Sentences on a GPU: a token for each row at a time, in a step that is recorded once as a CUDA graph and then replayed.

A large model's step takes less time on a GPU than Python takes to launch it, and a growing cache is copied whole for each token. So the
step works on a cache of fixed size, and the chosen tokens stay on the GPU until all sentences end.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.describe.text_layers import PLAIN, Between, TextLayers, gate, norm, turn
from pipeline.describe.tokens import MAX_SENTENCE
from pipeline.errors import FocalfaceWarning

if TYPE_CHECKING:
    from transformers import DynamicCache, Qwen2_5_VLForConditionalGeneration

    from pipeline.describe.local_describer import Begun

ROWS = 8
"""A batch is filled up to a multiple of this many rows, so that few steps are recorded; rows cost little beside the weights."""

PLACES = 64
"""The cache has a multiple of this many places, for the same reason."""

RECORDED = 4
"""Steps that are kept, each with its cache."""

LOOK = 8
"""Tokens between two looks at whether all sentences have ended; each look waits for the GPU."""

FUSED_ROWS = 32
"""Batches of at least so many rows get compiled kernels; compiling takes seconds, for which a photo or a run's first words would wait."""

_KERNELS = [SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Attention on a GPU, the fastest for one token a row first."""


@lru_cache(maxsize=1)
def fused() -> Between:
    """The steps between matrix products, each compiled into one kernel: a tenth of the time of a 7B model's token."""
    import torch._inductor.config as settings

    settings.compile_threads = 1  # three small functions: no pool of processes
    return Between(torch.compile(norm), torch.compile(turn), torch.compile(gate))


class GraphedWriter:
    """Writes the rest of each sentence greedily: each token replays a CUDA graph. On the CPU the same step runs without one."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, layers: TextLayers, end: int) -> None:
        """Prepare a model.

        Args:
            model: has the embeddings and the head.
            layers: of the model.
            end: the token that ends a sentence.
        """
        self._model, self._layers, self._end = model, layers, end
        self._steps: OrderedDict[tuple[int, int], _Step] = OrderedDict()

    @torch.inference_mode()
    def write(self, groups: Sequence[tuple[Begun, DynamicCache]]) -> list[list[int]]:
        """The tokens of each sentence of all groups, at most `MAX_SENTENCE`, without the one that ends it.

        Args:
            groups: sentences' first tokens and what they follow, with keys and values of the tokens before them.
        """
        rows = sum(len(begun.token) for begun, _ in groups)
        seen = max(begun.seen.shape[1] for begun, _ in groups)
        size = (-(-rows // ROWS) * ROWS, -(-(seen + MAX_SENTENCE) // PLACES) * PLACES)
        if size not in self._steps:
            while len(self._steps) >= RECORDED:
                self._steps.popitem(last=False)
            self._steps[size] = _Step(self._model, self._layers, *size)
        self._steps.move_to_end(size)
        step = self._steps[size]
        step.load(groups, seen, self._end)
        for number in range(1, MAX_SENTENCE):
            if number % LOOK == 0 and bool((step.written[:rows, :number] == self._end).any(1).all()):
                break
            step.run()
        written = step.written[:rows].cpu().numpy()
        ends = np.concatenate([written == self._end, np.ones((rows, 1), bool)], 1).argmax(1)
        return [row[:length].tolist() for row, length in zip(written, ends, strict=True)]


class _Step:
    """One more token for each of R rows, with a cache of T places. `load` comes first, then `run` for each token.

    Attributes:
        written: (R, MAX_SENTENCE): the tokens so far.
    """

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, layers: TextLayers, rows: int, places: int) -> None:
        self._embed, self._head, self._layers = model.model.language_model.embed_tokens, model.lm_head.weight, layers
        like: Any = {"dtype": self._head.dtype, "device": self._head.device}
        self._cache = torch.zeros(len(layers), rows, 2 * layers.kv_heads, places, layers.head, **like)
        self._unseen = torch.zeros(rows, 1, 1, places, **like)  # added to the scores: 0, or the least number where a place is not seen
        self._barred = torch.zeros(rows, len(self._head), **like)  # added to the logits
        whole: Any = {"dtype": torch.long, "device": self._head.device}
        self._token, self._position = torch.zeros(rows, **whole), torch.zeros(rows, 1, **whole)
        self._place, self._number = torch.zeros(1, **whole), torch.zeros(1, **whole)  # of the token in the cache, and in its sentence
        self.written = torch.zeros(rows, MAX_SENTENCE, **whole)
        self._between = PLAIN
        self._graph: Any = None
        if self._head.is_cuda:
            self._record()

    def load(self, groups: Sequence[tuple[Begun, DynamicCache]], seen: int, end: int) -> None:
        """Take over the first tokens of up to R sentences, and the caches before them, of which the longest has `seen` tokens."""
        self._unseen.fill_(torch.finfo(self._unseen.dtype).min)
        self._barred.zero_()
        self._token.fill_(end)
        first = 0
        for begun, cache in groups:
            rows = slice(first, first + len(begun.token))
            first = rows.stop
            own = self._device(begun.seen)
            self._unseen[rows, 0, 0, : own.shape[1]].masked_fill_(own, 0)
            self._barred[rows, begun.names] = torch.where(self._device(begun.barred), -torch.inf, 0.0).to(self._barred.dtype)
            for places, layer in zip(self._cache[:, rows, :, : own.shape[1]], cache.layers, strict=True):
                places[:] = torch.cat([layer.keys, layer.values], 1)
            self._token[rows], self._position[rows] = self._device(begun.token), self._device(begun.position)
        self._unseen[first:, ..., 0] = 0  # rows without a sentence must see something
        self._place.fill_(seen)
        self._number.fill_(1)
        self.written.fill_(end)
        self.written[:, 0] = self._token

    def run(self) -> None:
        """Choose the next token of each row."""
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()

    def _device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._head.device)

    def _record(self) -> None:
        with sdpa_kernel(_KERNELS, set_priority=True):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._set_up()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._compute()
        self._graph = graph

    def _set_up(self) -> None:
        """Compute a first time, as compilers and libraries set themselves up then, which must not be recorded."""
        if len(self._token) >= FUSED_ROWS:
            self._between = fused()
            try:
                self._compute()
                return
            except Exception as error:  # torch.compile needs a C compiler, and fails in many ways
                reason = str(error).partition("\n")[0]
                text = f"sentences are written a tenth slower: torch.compile does not work here ({reason})"
                warnings.warn(text, FocalfaceWarning, stacklevel=2)
                self._between = PLAIN
        self._compute()

    def _compute(self) -> None:
        self._unseen.index_fill_(3, self._place, 0)
        hidden = self._layers.run(self._embed(self._token[:, None]), self._position.expand(3, -1, -1), self._attend, self._between)
        logits = F.linear(hidden[:, 0], self._head).add_(self._barred)
        self._token.copy_(logits.argmax(-1))
        self.written.index_copy_(1, self._number, self._token[:, None])
        for counter in (self._position, self._place, self._number):
            counter.add_(1)

    def _attend(self, number: int, query: torch.Tensor, key_value: torch.Tensor) -> torch.Tensor:
        keys, values = self._cache[number].index_copy_(2, self._place, key_value).chunk(2, 1)  # [R, kv_heads, T, d] each
        grouped = query.reshape(len(query), self._layers.kv_heads, -1, self._layers.head)  # heads that share keys, like tokens that do
        mask = self._unseen.expand(-1, keys.shape[1], grouped.shape[2], -1)
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask).reshape(query.shape)
