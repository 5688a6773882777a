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
from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.prefix import lay_trunk
from pipeline.describe.slots import Slot, plant, probabilities
from pipeline.describe.token_tree import TokenTree
from pipeline.records import Answer, Request


class QwenDescriber(FocalDescriber):
    """The describer over `Qwen2_5_VLForConditionalGeneration`."""

    def __init__(self, checkpoint: Checkpoint, batch_size: int = 32) -> None:
        self._trunk = lay_trunk(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)
        super().__init__(checkpoint.name, checkpoint.grammar, checkpoint.tokenizer, self._trunk.side, batch_size)
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._model = checkpoint.model
        self._device = self._model.device
        self._decoder = self._model.model.language_model
        vision = self._model.config.vision_config
        self._patch, self._merge, self._frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
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
        trunk = self._look(crops)
        branches = [self._branch(request) for request in requests]
        # Branches of one length make trees of one shape: digits are tokens to some checkpoints, so lengths can differ.
        for size in sorted({len(branch) for branch in branches}):
            rows = [i for i, branch in enumerate(branches) if len(branch) == size]
            cache = _rows(trunk, [face_of[i] for i in rows])
            scores = self._fields([branches[i] for i in rows], cache, len(self._trunk), self._trunk.end)
            yield rows, scores, partial(self._write, cache=cache, length=len(self._trunk) + size, position=self._trunk.end + size)

    @torch.inference_mode()
    def _open(self, crop: np.ndarray) -> Hear:
        cache, length, position = self._look([crop]), len(self._trunk), self._trunk.end

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
        side = self._trunk.side
        resized = np.stack([self._resized(crop) for crop in crops])
        images = torch.from_numpy(resized).to(self._device).permute(0, 3, 1, 2)  # [F, 3, side, side]
        patches = patchify(
            images,
            mean=self._mean,
            std=self._std,
            patch_size=self._patch,
            merge_size=self._merge,
            temporal_patch_size=self._frames,
        )
        grid = grid_thw(len(crops), side, side, self._patch).to(self._device)
        seen = self._model.model.visual(patches.to(self._model.dtype), grid_thw=grid).pooler_output  # [F * N, D]
        embeds = self._decoder.embed_tokens(self._trunk.ids.to(self._device)).repeat(len(crops), 1, 1)
        embeds[:, self._trunk.image] = seen.view(len(crops), -1, seen.shape[-1]).to(embeds.dtype)
        cache = DynamicCache(config=self._model.config.text_config)
        size = len(self._trunk)
        mask = torch.ones(size, size, dtype=torch.bool, device=self._device).tril().expand(len(crops), 1, -1, -1)
        self._forward(embeds, self._trunk.positions.to(self._device).unsqueeze(1).expand(-1, len(crops), -1), mask, cache)
        return cache

    def _forward(self, embeds: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """(B, S, D) embeddings at (3, B, S) positions, seeing the cache and each other as `mask` (B, 1, S, K) bool says -> hidden."""
        additive = torch.zeros(mask.shape, dtype=embeds.dtype, device=embeds.device).masked_fill_(~mask, torch.finfo(embeds.dtype).min)
        return self._decoder(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask={"full_attention": additive},
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _fields(self, branches: Sequence[list[int]], cache: DynamicCache, length: int, position: int) -> Scores:
        """Probabilities of every slot's choices, (R, choices) each; branches of one length. The cache then ends with the region."""
        tree = TokenTree(trunk=length)
        region = tree.add(branches[0])
        slots = [plant(tree, region, question, answers, self._newline) for question, answers in self._slots]
        ids = torch.tensor(tree.ids, device=self._device).repeat(len(branches), 1)  # [R, Q]
        ids[:, : len(branches[0])] = torch.tensor(list(branches), device=self._device)
        positions = (torch.tensor(tree.positions, device=self._device) + position).expand(3, len(branches), -1)
        mask = tree.mask().to(self._device).expand(len(branches), 1, -1, -1)
        hidden = self._forward(self._decoder.embed_tokens(ids), positions, mask, cache)
        cache.crop(len(branches[0]) - len(tree.ids))  # the slots go; trunk and region stay
        return self._read(slots, hidden)

    def _read(self, slots: Sequence[Slot], hidden: torch.Tensor) -> Scores:
        """Probabilities of every slot's choices, (R, choices) each."""
        looks = [look for slot in slots for look in slot.looks]
        logits = self._model.lm_head(hidden[:, looks])  # [R, looks, V]
        scores, first = [], 0
        for slot in slots:
            scores.append(probabilities(slot, logits[:, first : first + len(slot.looks)]).double().cpu().numpy())
            first += len(slot.looks)
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
        hidden = self._forward(
            self._decoder.embed_tokens(ids), positions.expand(3, -1, -1), (seen[:, None, :] & causal).unsqueeze(1), cache
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
            hidden = self._forward(
                self._decoder.embed_tokens(token[:, None]), position_now.view(1, -1, 1).expand(3, -1, -1), seen[:, None, None, :], cache
            )[:, -1]
            position_now = position_now + 1
        return [self._text(row) for row in written]


def _rows(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A new cache with the chosen rows of another one."""
    chosen = DynamicCache()
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[list(rows)], layer.values[list(rows)], index)
    return chosen
