"""The transformers backend: a Qwen2.5-VL in this process, asked about many boxes of many faces at once.

For a batch of prompts the vision tower and the prefix of the conversation run once for each distinct face. Each region is a branch after
its face's prefix, and all its fields are read in one further pass. Then the sentences are written together, greedily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import DynamicCache

from pipeline.describe.checkpoints import Checkpoint, open_checkpoint
from pipeline.describe.describer import BaseDescriber, Prompt, resized
from pipeline.describe.fields import Fields, unit_readings
from pipeline.describe.prefill import decode, embed_with_images, encode_images, log_probabilities
from pipeline.describe.prefix import build_prefix
from pipeline.describe.slots import Slot, add_slot
from pipeline.describe.token_tree import TokenTree
from pipeline.describe.tokens import MAX_SENTENCE, PromptTokens
from pipeline.records import Answer


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


@dataclass(frozen=True)
class _Group:
    """Prompts in one cache.

    Attributes:
        rows: indices of the prompts.
        cache: one row for each prompt.
        length: number of cached tokens.
        position: text position of the token that follows.
        pending: tokens of each prompt that are not in the cache yet.
    """

    rows: list[int]
    cache: DynamicCache
    length: int
    position: int
    pending: list[list[int]]


class TransformersDescriber(BaseDescriber):
    """The describer over `Qwen2_5_VLForConditionalGeneration`."""

    keeps_prefill = True

    def __init__(self, checkpoint: Checkpoint, batch_size: int = 32) -> None:
        """Describe with an opened checkpoint.

        Args:
            checkpoint: from `pipeline.describe.checkpoints.open_checkpoint`.
            batch_size: requests answered together.
        """
        super().__init__(checkpoint.name, checkpoint.grammar, batch_size)
        self._model, self._mean, self._std = checkpoint.model, checkpoint.mean, checkpoint.std
        self._device = self._model.device
        self._decoder = self._model.model.language_model
        self._prefix = build_prefix(checkpoint.model, checkpoint.tokenizer, checkpoint.grammar)
        self._tokens = PromptTokens(checkpoint.tokenizer, checkpoint.grammar, self._prefix.side)
        self._kept: tuple[list[Prompt], list[_Group]] | None = None  # of the last `_read`, for the `_write` that follows

    @torch.inference_mode()
    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        self._kept = None
        cache, face_of = self._prefill(prompts)
        questions = [self._tokens.question(prompt) for prompt in prompts]
        fields: dict[int, Fields] = {}
        groups = []
        # Questions of one length share one tree. Lengths differ where a tokenizer splits numbers into digits, and after earlier turns.
        for length in sorted({len(question) for question in questions}):
            rows = [i for i, question in enumerate(questions) if len(question) == length]
            group = self._group(rows, cache, face_of, questions)
            fields |= zip(rows, self._read_group(group), strict=True)
            groups.append(replace(group, length=group.length + length, position=group.position + length, pending=[[]] * len(rows)))
        if then_write:
            self._kept = prompts, groups
        return [fields[i] for i in range(len(prompts))]

    @torch.inference_mode()
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

    def _prefill(self, prompts: Sequence[Prompt]) -> tuple[DynamicCache, list[int]]:
        """Prefill the prefix of each distinct face: a cache with one row for each, and the row of each prompt."""
        places: dict[bytes, int] = {}
        crops: list[np.ndarray] = []
        face_of: list[int] = []
        for prompt in prompts:
            crop = prompt.request.crop
            if (key := crop.tobytes()) not in places:
                places[key] = len(crops)
                crops.append(resized(crop, self._prefix.side))
            face_of.append(places[key])
        images = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2)  # [F, 3, side, side]
        seen = encode_images(self._model, images, self._mean, self._std)  # [F, N, D]
        ids = self._prefix.ids.to(self._device).repeat(len(crops), 1)
        cache = DynamicCache(config=self._model.config.text_config)
        size = len(self._prefix)
        mask = torch.ones(size, size, dtype=torch.bool, device=self._device).tril().expand(len(crops), 1, -1, -1)
        positions = self._prefix.positions.to(self._device).unsqueeze(1).expand(-1, len(crops), -1)
        decode(self._model, embed_with_images(self._model, ids, self._prefix, seen), positions, mask, cache)
        return cache, face_of

    def _group(self, rows: Sequence[int], cache: DynamicCache, face_of: Sequence[int], questions: Sequence[list[int]]) -> _Group:
        """Some prompts in a cache of their own, right after the prefix."""
        own = _select(cache, [face_of[i] for i in rows])
        return _Group(list(rows), own, len(self._prefix), self._prefix.end, [questions[i] for i in rows])

    def _read_group(self, group: _Group) -> list[Fields]:
        """Read the fields of questions of one length. The cache then ends with the questions."""
        questions = group.pending
        tree = TokenTree(prefix=group.length)
        region = tree.add(questions[0])
        slots = [add_slot(tree, region, question, choices, self._tokens.newline) for question, choices in self._tokens.slots]
        ids = torch.tensor(tree.ids, device=self._device).repeat(len(questions), 1)  # [R, Q]
        ids[:, : len(questions[0])] = torch.tensor(questions, device=self._device)
        positions = (torch.tensor(tree.positions, device=self._device) + group.position).expand(3, len(questions), -1)
        mask = torch.from_numpy(tree.mask()).to(self._device).expand(len(questions), 1, -1, -1)
        hidden = decode(self._model, self._decoder.embed_tokens(ids), positions, mask, group.cache)
        group.cache.crop(len(questions[0]) - len(tree.ids))  # drop the slots, keep prefix and question
        *units, emotion, age = self._scores(slots, hidden)
        readings = [unit_readings(self.aus, [unit[row] for unit in units]) for row in range(len(questions))]
        return [Fields(scores, emotion[row], age[row], au_intensities=intensities) for row, (scores, intensities) in enumerate(readings)]

    def _scores(self, slots: Sequence[Slot], hidden: torch.Tensor) -> list[np.ndarray]:
        """(R, choices) probabilities of every slot's choices."""
        readouts = [readout for slot in slots for readout in slot.readouts]
        logits = self._model.lm_head(hidden[:, readouts])  # [R, readouts, V]
        scores, first = [], 0
        for slot in slots:
            own = logits[:, first : first + len(slot.readouts)]
            steps = [own[:, number, list(ids)] for number, ids in enumerate(slot.children)]
            scores.append(log_probabilities(slot, steps).exp().double().cpu().numpy())
            first += len(slot.readouts)
        return scores

    def _write_group(self, group: _Group, answers: Sequence[Answer]) -> list[str]:
        """Greedy sentences after the decided fields, all rows together; a row leaves the batch when its sentence ends."""
        openings = [[*pending, *self._tokens.fields(answer)] for pending, answer in zip(group.pending, answers, strict=True)]
        width = max(map(len, openings))
        ids = torch.tensor([[self._tokens.end] * (width - len(row)) + row for row in openings], device=self._device)  # left padding
        pad = torch.tensor([width - len(row) for row in openings], device=self._device)
        steps = torch.arange(width, device=self._device)
        cached = torch.ones(len(openings), group.length, dtype=torch.bool, device=self._device)
        seen = torch.cat([cached, steps >= pad[:, None]], 1)  # [R, K]
        causal = torch.cat(
            [torch.ones(width, group.length, device=self._device), torch.ones(width, width, device=self._device).tril()], 1
        ).bool()
        positions = group.position + (steps - pad[:, None]).clamp(min=0)
        mask = (seen[:, None, :] & causal).unsqueeze(1)
        hidden = decode(self._model, self._decoder.embed_tokens(ids), positions.expand(3, -1, -1), mask, group.cache)[:, -1]
        position = positions[:, -1] + 1
        written: list[list[int]] = [[] for _ in openings]
        rows = torch.arange(len(openings), device=self._device)
        barred = torch.zeros(len(openings), self._model.lm_head.weight.shape[0], dtype=torch.bool, device=self._device)
        for row, answer in enumerate(answers):
            barred[row, self._tokens.barred(answer)] = True
        for _ in range(MAX_SENTENCE):
            token = self._model.lm_head(hidden).masked_fill(barred[rows], -torch.inf).argmax(-1)  # [active rows]
            going = token != self._tokens.end
            if not bool(going.any()):
                break
            if not bool(going.all()):
                keep = going.nonzero()[:, 0]
                group.cache.batch_select_indices(keep)
                rows, token, seen, position = rows[keep], token[keep], seen[keep], position[keep]
            for row, value in zip(rows.tolist(), token.tolist(), strict=True):
                written[row].append(value)
            seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool, device=self._device)], 1)
            embeds = self._decoder.embed_tokens(token[:, None])
            hidden = decode(self._model, embeds, position.view(1, -1, 1).expand(3, -1, -1), seen[:, None, None, :], group.cache)[:, -1]
            position = position + 1
        return [self._tokens.decode(row) for row in written]


def _first(group: _Group, count: int) -> _Group:
    """The part of a group that is about the first prompts."""
    places = [place for place, row in enumerate(group.rows) if row < count]
    if len(places) == len(group.rows):
        return group
    return replace(
        group, rows=[group.rows[i] for i in places], cache=_select(group.cache, places), pending=[group.pending[i] for i in places]
    )


def _select(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A new cache with some rows of another one."""
    chosen = DynamicCache()
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[list(rows)], layer.values[list(rows)], index)
    return chosen
