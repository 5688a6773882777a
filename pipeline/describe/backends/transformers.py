"""The transformers backend: a Qwen2.5-VL asked about many boxes of many faces at once.

For a batch of requests the vision tower and the shared prefix of the conversation run once for each distinct face; every region is
a branch on its face's prefix; all fields of a region are read in one further pass; then the sentences are written together, greedily.
A checkpoint may ask for the mirror image to be read too (`Grammar.mirror`): fields are then the mean of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from transformers import DynamicCache

from pipeline.describe.checkpoints import Checkpoint
from pipeline.describe.decisions import MAX_SENTENCE, FocalDescriber, Hear, Scores, Write
from pipeline.describe.prefill import decode, embed_with_images, encode_images
from pipeline.describe.prefix import build_prefix
from pipeline.describe.slots import Slot, add_slot, probabilities
from pipeline.describe.token_tree import TokenTree
from pipeline.records import Answer, Request


class QwenDescriber(FocalDescriber):
    """The describer over `Qwen2_5_VLForConditionalGeneration`."""

    def __init__(self, checkpoint: Checkpoint, batch_size: int = 32) -> None:
        self._prefix = build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)
        super().__init__(checkpoint.name, checkpoint.grammar, checkpoint.tokenizer, self._prefix.side, batch_size)
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._model = checkpoint.model
        self._device = self._model.device
        self._decoder = self._model.model.language_model
        self._slots = [(self._ids(q), [self._ids(c) for c in choices]) for q, choices in self.grammar.slots()]

    @torch.inference_mode()
    def _ask(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], Scores, Write]]:
        places: dict[bytes, int] = {}
        crops: list[np.ndarray] = []
        face_of: list[int] = []
        for request in requests:
            key = request.crop.tobytes()
            if key not in places:
                places[key] = len(crops)
                crops.append(request.crop)
            face_of.append(places[key])
        prefix = self._look(crops)
        branches = [self._branch(request) for request in requests]
        # Branches of one length make trees of one shape: digits are tokens to some checkpoints, so lengths can differ.
        for size in sorted({len(branch) for branch in branches}):
            rows = [i for i, branch in enumerate(branches) if len(branch) == size]
            cache = _rows(prefix, [face_of[i] for i in rows])
            scores = self._fields([branches[i] for i in rows], cache, len(self._prefix), self._prefix.end)
            yield rows, scores, partial(self._write, cache=cache, length=len(self._prefix) + size, position=self._prefix.end + size)

    @torch.inference_mode()
    def _open(self, crop: np.ndarray) -> Hear:
        cache, length, position = self._look([crop]), len(self._prefix), self._prefix.end

        @torch.inference_mode()
        def hear(said: list[int], request: Request) -> tuple[Scores, Write]:
            nonlocal length, position
            tokens = [*said, *self._branch(request)]
            scores = self._fields([tokens], cache, length, position)
            length, position = length + len(tokens), position + len(tokens)
            return scores, write

        def write(decided: Sequence[Answer]) -> list[str]:
            sentences = self._write(decided, cache, length, position)
            cache.crop(length - cache.get_seq_length())  # what was written may be replaced: it is heard with the next tokens
            return sentences

        return hear

    def _look(self, crops: Sequence[np.ndarray]) -> DynamicCache:
        """Prefill what all regions of a face share; the cache has a row a face."""
        resized = np.stack([self._resized(crop) for crop in crops])
        images = torch.from_numpy(resized).to(self._device).permute(0, 3, 1, 2)  # [F, 3, side, side]
        seen = encode_images(self._model, images, self._mean, self._std)  # [F, N, D]
        embeds = embed_with_images(self._model, self._prefix.ids.to(self._device).repeat(len(crops), 1), self._prefix, seen)
        cache = DynamicCache(config=self._model.config.text_config)
        size = len(self._prefix)
        mask = torch.ones(size, size, dtype=torch.bool, device=self._device).tril().expand(len(crops), 1, -1, -1)
        decode(self._model, embeds, self._prefix.positions.to(self._device).unsqueeze(1).expand(-1, len(crops), -1), mask, cache)
        return cache

    def _fields(self, branches: Sequence[list[int]], cache: DynamicCache, length: int, position: int) -> Scores:
        """Probabilities of every slot's choices, (R, choices) each; branches of one length. The cache then ends with the region."""
        tree = TokenTree(prefix=length)
        region = tree.add(branches[0])
        slots = [add_slot(tree, region, question, answers, self._newline) for question, answers in self._slots]
        ids = torch.tensor(tree.ids, device=self._device).repeat(len(branches), 1)  # [R, Q]
        ids[:, : len(branches[0])] = torch.tensor(list(branches), device=self._device)
        positions = (torch.tensor(tree.positions, device=self._device) + position).expand(3, len(branches), -1)
        mask = tree.mask().to(self._device).expand(len(branches), 1, -1, -1)
        hidden = decode(self._model, self._decoder.embed_tokens(ids), positions, mask, cache)
        cache.crop(len(branches[0]) - len(tree.ids))  # the slots go; prefix and region stay
        return self._read(slots, hidden)

    def _read(self, slots: Sequence[Slot], hidden: torch.Tensor) -> Scores:
        """Probabilities of every slot's choices, (R, choices) each."""
        looks = [look for slot in slots for look in slot.readouts]
        logits = self._model.lm_head(hidden[:, looks])  # [R, looks, V]
        scores, first = [], 0
        for slot in slots:
            scores.append(probabilities(slot, logits[:, first : first + len(slot.readouts)]).double().cpu().numpy())
            first += len(slot.readouts)
        return scores

    @torch.inference_mode()
    def _write(self, decided: Sequence[Answer], cache: DynamicCache, length: int, position: int) -> list[str]:
        """Greedy sentences after the decided fields, all rows together; a row leaves the batch when its sentence ends.

        The names of other emotions and ages than the decided ones are not on offer.
        """
        fields = [self._fields_ids(answer) for answer in decided]
        width = max(map(len, fields))
        ids = torch.tensor([[self._end] * (width - len(row)) + row for row in fields], device=self._device)  # left padding
        pad = torch.tensor([width - len(row) for row in fields], device=self._device)
        steps = torch.arange(width, device=self._device)
        real = steps >= pad[:, None]  # [R, width]
        seen = torch.cat([torch.ones(len(fields), length, dtype=torch.bool, device=self._device), real], 1)  # [R, K]
        causal = torch.cat([torch.ones(width, length, device=self._device), torch.ones(width, width, device=self._device).tril()], 1).bool()
        positions = position + (steps - pad[:, None]).clamp(min=0)
        hidden = decode(
            self._model, self._decoder.embed_tokens(ids), positions.expand(3, -1, -1), (seen[:, None, :] & causal).unsqueeze(1), cache
        )[:, -1]
        position_now = positions[:, -1] + 1
        written: list[list[int]] = [[] for _ in fields]
        rows = torch.arange(len(fields), device=self._device)
        barred = torch.zeros(len(fields), self._model.lm_head.weight.shape[0], dtype=torch.bool, device=self._device)
        for row, answer in enumerate(decided):
            barred[row, self.rivals(answer)] = True
        for _ in range(MAX_SENTENCE):
            token = self._model.lm_head(hidden).masked_fill(barred[rows], -torch.inf).argmax(-1)  # [active]
            going = token != self._end
            if not bool(going.any()):
                break
            if not bool(going.all()):
                keep = going.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, token, seen, position_now = rows[keep], token[keep], seen[keep], position_now[keep]
            for row, value in zip(rows.tolist(), token.tolist(), strict=True):
                written[row].append(value)
            seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool, device=self._device)], 1)
            hidden = decode(
                self._model,
                self._decoder.embed_tokens(token[:, None]),
                position_now.view(1, -1, 1).expand(3, -1, -1),
                seen[:, None, None, :],
                cache,
            )[:, -1]
            position_now = position_now + 1
        return [self._text(row) for row in written]


def _rows(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A new cache with the chosen rows of another one."""
    chosen = DynamicCache()
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[list(rows)], layer.values[list(rows)], index)
    return chosen
