"""The transformers backend: a Qwen2.5-VL in this process, asked about many boxes of many faces at once.

For a batch of prompts the vision tower and the prefix of the conversation run once for each distinct face. Each region is a branch after
its face's prefix, and all its fields are read in one further pass. Then the sentences are written together, greedily; on a GPU in
recorded steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from pipeline.describe.checkpoints import Checkpoint, open_checkpoint
from pipeline.describe.graphed_writing import GraphedWriter
from pipeline.describe.local_describer import Begun, LocalDescriber, NewTokens
from pipeline.describe.prefill import added_to_scores, embed_with_images, encode_images, log_probabilities
from pipeline.describe.prefix import build_prefix
from pipeline.describe.slots import Slot, readout_places
from pipeline.describe.text_layers import TextLayers
from pipeline.describe.tokens import PromptTokens
from pipeline.describe.vision_tower import prepare_for_inference


def open_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
    endpoint: str | None = None,
) -> TransformersDescriber:
    """Open a checkpoint; see `pipeline.describe.backends.load_describer`. `endpoint` is not used."""
    if threads is not None:
        torch.set_num_threads(threads)
    return TransformersDescriber(open_checkpoint(model, adapter=adapter, device=device), batch_size)


class TransformersDescriber(LocalDescriber[DynamicCache]):
    """The describer over `Qwen2_5_VLForConditionalGeneration`."""

    def __init__(self, checkpoint: Checkpoint, batch_size: int = 32) -> None:
        """Describe with an opened checkpoint.

        Args:
            checkpoint: from `pipeline.describe.checkpoints.open_checkpoint`.
            batch_size: requests answered together.
        """
        self._model, self._mean, self._std = checkpoint.model, checkpoint.mean, checkpoint.std
        self._device = self._model.device
        self._prefix = build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)
        tokens = PromptTokens(checkpoint.tokenizer, checkpoint.grammar, self._prefix.side)
        super().__init__(checkpoint.name, checkpoint.grammar, batch_size, tokens, len(self._prefix), self._prefix.end)
        prepare_for_inference(self._model.model.visual)
        self._layers = TextLayers(self._model)
        self._writer = GraphedWriter(self._model, self._layers, tokens.end) if self._device.type == "cuda" else None

    @torch.inference_mode()
    def _prefill(self, pictures: np.ndarray) -> DynamicCache:
        images = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2)  # [F, 3, side, side]
        seen = encode_images(self._model, images, self._mean, self._std)  # [F, N, D]
        ids = self._prefix.ids.to(self._device).repeat(len(images), 1)
        cache = DynamicCache()
        size = len(self._prefix)
        mask = torch.ones(1, size, size, dtype=torch.bool, device=self._device).tril()
        positions = self._prefix.positions.to(self._device).unsqueeze(1).expand(-1, len(images), -1)
        self._run(embed_with_images(self._model, ids, self._prefix, seen), positions, mask, cache)
        return cache

    @torch.inference_mode()
    def _select(self, cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
        chosen = DynamicCache()
        for index, layer in enumerate(cache.layers):
            chosen.update(layer.keys[list(rows)], layer.values[list(rows)], index)
        return chosen

    @torch.inference_mode()
    def _score(self, new: NewTokens, cache: DynamicCache, slots: Sequence[Slot], keep: int) -> tuple[list[np.ndarray], DynamicCache]:
        hidden = self._run_text(new, cache)
        cache.crop(keep - new.ids.shape[1])  # a negative number of tokens is dropped from the end
        readouts = [readout for slot in slots for readout in slot.readouts]
        answers = sorted({token for slot in slots for ids in slot.children for token in ids})
        column = {token: number for number, token in enumerate(answers)}
        logits = F.linear(hidden[:, readouts], self._model.lm_head.weight[answers])  # [R, readouts, answers]
        scores = []
        for slot, place in zip(slots, readout_places(slots), strict=True):
            own = logits[:, place]
            steps = [own[:, number, [column[token] for token in ids]] for number, ids in enumerate(slot.children)]
            scores.append(log_probabilities(slot, steps).exp().double().cpu().numpy())
        return scores, cache

    @torch.inference_mode()
    def _choose(self, new: NewTokens, cache: DynamicCache, names: Sequence[int], barred: np.ndarray) -> tuple[np.ndarray, DynamicCache]:
        logits = self._model.lm_head(self._run_text(new, cache)[:, -1])  # [R, V]
        logits[:, names] = logits[:, names].masked_fill(torch.from_numpy(barred).to(self._device), -torch.inf)
        return logits.argmax(-1).cpu().numpy(), cache

    def _continue(self, groups: Sequence[tuple[Begun, DynamicCache]]) -> list[list[int]]:
        return super()._continue(groups) if self._writer is None else self._writer.write(groups)

    def _run_text(self, new: NewTokens, cache: DynamicCache) -> torch.Tensor:
        """(R, S, D) hidden states of new tokens; the cache grows by them."""
        ids, positions, mask = (torch.from_numpy(part).to(self._device) for part in (new.ids, new.positions, new.mask))
        embeds = self._model.model.language_model.embed_tokens(ids)
        return self._run(embeds, positions.expand(3, len(ids), -1), mask, cache)

    def _run(self, embeds: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """(R, S, D) hidden states; the cache grows by the new tokens. `mask`: (1 or R, S, T + S) bool, which token each new one sees."""
        added = added_to_scores(mask, embeds.dtype).unsqueeze(1).expand(len(embeds), self._layers.heads, -1, -1)

        def attend(number: int, query: torch.Tensor, key_value: torch.Tensor) -> torch.Tensor:
            keys, values = cache.update(*key_value.chunk(2, 1), number)
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=added, enable_gqa=True)

        return self._layers.run(embeds, positions, attend)
