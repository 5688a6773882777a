"""The focal describer: a Qwen2.5-VL asked about many boxes of many faces at once.

For a batch of requests the vision tower and the trunk of the conversation run once for each distinct face; every region is a branch
on its face's trunk; all fields of a region are read in one further pass; then the sentences are written together, greedily.
A checkpoint may ask for the mirror image to be read too (`Grammar.mirror`): fields are then the mean of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
import torch
from transformers import DynamicCache

from pipeline.align import CROP_SIZE
from pipeline.checkpoints import Checkpoint, open_checkpoint
from pipeline.choices import Slot, plant, probabilities
from pipeline.grammar import AGE_CHOICES, ANSWER_END, fields_text, region_text, scaled
from pipeline.preprocess import grid_thw, patchify
from pipeline.records import Answer, Request
from pipeline.tree import TokenTree
from pipeline.trunk import lay_trunk
from pipeline.vocabulary import EMOTION_WORDS, EMOTIONS, region_aus
from pipeline.wording import agrees, compose

MAX_SENTENCE = 96
"""Tokens after which a sentence is cut; nano's longest take about 60."""


class Describer(Protocol):
    """Answers batches of (face, box) requests.

    Attributes:
        name: the checkpoint, as the tables name it.
        aus: the action units that it knows.
        replaced: how many of its sentences so far gave way to the plain wording of their fields (`checked`).
    """

    name: str
    aus: tuple[str, ...]
    replaced: int

    def describe(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in order."""
        ...

    def converse(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, all of one face, each seeing the ones before it."""
        ...


def load_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
) -> Describer:
    """Open a checkpoint as a describer.

    Args:
        model, adapter, device: see `pipeline.checkpoints.open_checkpoint`.
        batch_size: requests answered together; memory grows with it, speed too up to a point.
        threads: CPU threads of torch, in this process; None leaves them.

    Raises:
        ModelError: when the checkpoint cannot be opened.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return QwenDescriber(open_checkpoint(model, adapter=adapter, device=device), batch_size)


class QwenDescriber:
    """The describer over `Qwen2_5_VLForConditionalGeneration`."""

    def __init__(self, checkpoint: Checkpoint, batch_size: int = 32) -> None:
        self.name = checkpoint.name
        self.grammar = checkpoint.grammar
        self.aus = checkpoint.grammar.aus
        self.replaced = 0
        self.batch_size = batch_size
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._tokenizer = checkpoint.tokenizer
        self._model = checkpoint.model
        self._device = self._model.device
        self._text = self._model.model.language_model
        vision = self._model.config.vision_config
        self._patch, self._merge, self._frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        self._trunk = lay_trunk(self._model, self._tokenizer, self.grammar)
        self._slots = [(self._ids(q), [self._ids(c) for c in choices]) for q, choices in self.grammar.slots()]
        (self._end,) = self._ids(ANSWER_END)
        (self._newline, *_) = self._ids("\n")
        self._names = self._name_tokens()
        self._all_names = frozenset().union(*self._names.values())
        self._scale = self._trunk.side / CROP_SIZE

    @torch.inference_mode()
    def describe(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in order; a request alone and in any batch gets the same one."""
        answers: list[Answer] = []
        for start in range(0, len(requests), self.batch_size):
            answers.extend(self._batch(requests[start : start + self.batch_size]))
        return answers

    @torch.inference_mode()
    def converse(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask about several boxes of one face in turn: each answer sees the ones before it. The face's mirror image has no part in it.

        Raises:
            ValueError: when the requests are not of one face.
        """
        if len({request.crop.tobytes() for request in requests}) > 1:
            raise ValueError("a conversation is about one face")
        answers: list[Answer] = []
        if requests:
            cache, length, position = self._look([requests[0].crop]), len(self._trunk), self._trunk.end
        for request in requests:
            branch = self._ids(region_text(scaled(request.box, self._scale)))
            decided = self._decide(request, [score[0] for score in self._fields([branch], cache, length, position)])
            (sentence,) = self._write([decided], cache, length + len(branch), position + len(branch))
            answer = self._finished(decided, sentence)
            fields = self._ids(fields_text(answer.aus, answer.emotion, round(answer.age)))
            said = [*fields, *self._ids(answer.description + ANSWER_END)]
            cache.crop(length + len(branch) - cache.get_seq_length())  # what was written may have been replaced
            length, position = length + len(branch), position + len(branch)
            steps = torch.arange(len(said), device=self._device)
            mask = (torch.arange(length + len(said), device=self._device) <= length + steps[:, None])[None, None]
            embeds = self._text.embed_tokens(torch.tensor([said], device=self._device))
            self._forward(embeds, (position + steps).expand(3, 1, -1), mask, cache)
            length, position = length + len(said), position + len(said)
            answers.append(answer)
        return answers

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _name_tokens(self) -> dict[str, frozenset[int]]:
        """For each emotion and age the tokens that name it; a name of several tokens is left to `checked`."""
        words = {emotion: [f" {word}" for word in names] for emotion, names in EMOTION_WORDS.items()}
        words |= {choice.strip(): [choice] for choice in AGE_CHOICES}
        tokens = {name: [self._ids(word) for word in names] for name, names in words.items()}
        return {name: frozenset(ids[0] for ids in spelled if len(ids) == 1) for name, spelled in tokens.items()}

    def rivals(self, answer: Answer) -> list[int]:
        """Tokens that a sentence for these fields may not hold: the names of the other emotions and ages."""
        own = self._names[answer.emotion] | self._names[str(round(answer.age))]
        return sorted(self._all_names - own)

    def _batch(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(requests)
        mirrored = self._scores([_mirrored(request) for request in requests]) if self.grammar.mirror else None
        for rows, scores, cache, size in self._ask(requests):
            if mirrored is not None:
                scores = [(own + other[rows]) / 2 for own, other in zip(scores, mirrored, strict=True)]
            decided = [self._decide(requests[row], [score[i] for score in scores]) for i, row in enumerate(rows)]
            sentences = self._write(decided, cache, len(self._trunk) + size, self._trunk.end + size)
            for row, fields, sentence in zip(rows, decided, sentences, strict=True):
                answers[row] = self._finished(fields, sentence)
        return [answer for answer in answers if answer is not None]

    def _scores(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Probabilities of every slot's choices, (R, choices) each."""
        scores = [np.empty((len(requests), len(choices))) for _, choices in self._slots]
        for rows, read, _, _ in self._ask(requests):
            for all_rows, own in zip(scores, read, strict=True):
                all_rows[rows] = own
        return scores

    def _ask(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], list[np.ndarray], DynamicCache, int]]:
        """Read the fields of every request, group by group.

        Yields:
            (rows of `requests`, their scores, the cache of trunk and region, the region's length).
        """
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
        branches = [self._ids(region_text(scaled(request.box, self._scale))) for request in requests]
        # Branches of one length make trees of one shape: digits are tokens to some checkpoints, so lengths can differ.
        for size in sorted({len(branch) for branch in branches}):
            rows = [i for i, branch in enumerate(branches) if len(branch) == size]
            cache = _rows(trunk, [face_of[i] for i in rows])
            yield rows, self._fields([branches[i] for i in rows], cache, len(self._trunk), self._trunk.end), cache, size

    def _look(self, crops: Sequence[np.ndarray]) -> DynamicCache:
        """Prefill what all regions of a face share; the cache has a row a face."""
        side = self._trunk.side
        resized = [crop if crop.shape[0] == side else cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC) for crop in crops]
        images = torch.from_numpy(np.stack(resized)).to(self._device).permute(0, 3, 1, 2)  # [F, 3, side, side]
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
        embeds = self._text.embed_tokens(self._trunk.ids.to(self._device)).repeat(len(crops), 1, 1)
        embeds[:, self._trunk.image] = seen.view(len(crops), -1, seen.shape[-1]).to(embeds.dtype)
        cache = DynamicCache(config=self._model.config.text_config)
        size = len(self._trunk)
        mask = torch.ones(size, size, dtype=torch.bool, device=self._device).tril().expand(len(crops), 1, -1, -1)
        self._forward(embeds, self._trunk.positions.to(self._device).unsqueeze(1).expand(-1, len(crops), -1), mask, cache)
        return cache

    def _forward(self, embeds: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """(B, S, D) embeddings at (3, B, S) positions, seeing the cache and each other as `mask` (B, 1, S, K) bool says -> hidden."""
        additive = torch.zeros(mask.shape, dtype=embeds.dtype, device=embeds.device).masked_fill_(~mask, torch.finfo(embeds.dtype).min)
        return self._text(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask={"full_attention": additive},
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _fields(self, branches: Sequence[list[int]], cache: DynamicCache, length: int, position: int) -> list[np.ndarray]:
        """Probabilities of every slot's choices, (R, choices) each; branches of one length. The cache then ends with the region."""
        tree = TokenTree(trunk=length)
        region = tree.add(branches[0])
        slots = [plant(tree, region, question, answers, self._newline) for question, answers in self._slots]
        ids = torch.tensor(tree.ids, device=self._device).repeat(len(branches), 1)  # [R, Q]
        ids[:, : len(branches[0])] = torch.tensor(list(branches), device=self._device)
        positions = (torch.tensor(tree.positions, device=self._device) + position).expand(3, len(branches), -1)
        mask = tree.mask().to(self._device).expand(len(branches), 1, -1, -1)
        hidden = self._forward(self._text.embed_tokens(ids), positions, mask, cache)
        cache.crop(len(branches[0]) - len(tree.ids))  # the slots go; trunk and region stay
        return self._read(slots, hidden)

    def _finished(self, fields: Answer, sentence: str) -> Answer:
        """Fields with a sentence that says them, the model's own where it does."""
        kept = checked(sentence, fields)
        self.replaced += kept != sentence
        return replace(fields, description=kept)

    def _read(self, slots: Sequence[Slot], hidden: torch.Tensor) -> list[np.ndarray]:
        """Probabilities of every slot's choices, (R, choices) each."""
        looks = [look for slot in slots for look in slot.looks]
        logits = self._model.lm_head(hidden[:, looks])  # [R, looks, V]
        scores, first = [], 0
        for slot in slots:
            scores.append(probabilities(slot, logits[:, first : first + len(slot.looks)]).double().cpu().numpy())
            first += len(slot.looks)
        return scores

    def _decide(self, request: Request, scores: Sequence[np.ndarray]) -> Answer:
        """Fields from probabilities; the sentence is still to come."""
        can_show = set(region_aus(request.region, request.box))
        *units, emotion, age = scores
        au_scores = {au: float(score[0]) for au, score in zip(self.aus, units, strict=True) if au in can_show}
        return Answer(
            au_scores=au_scores,
            aus=tuple(au for au, score in au_scores.items() if score >= self.grammar.threshold(au)),
            emotion_scores={name: float(score) for name, score in zip(EMOTIONS, emotion / emotion.sum(), strict=True)},
            emotion=EMOTIONS[int(emotion.argmax())],
            age=_percentile(age, 0.5),
            age_low=_percentile(age, 0.1),
            age_high=_percentile(age, 0.9),
            description="",
        )

    def _write(self, decided: Sequence[Answer], cache: DynamicCache, length: int, position: int) -> list[str]:
        """Greedy sentences after the decided fields, all rows together; a row leaves the batch when its sentence ends.

        The names of other emotions and ages than the decided ones are not on offer.
        """
        fields = [self._ids(fields_text(answer.aus, answer.emotion, round(answer.age))) for answer in decided]
        width = max(map(len, fields))
        ids = torch.tensor([[self._end] * (width - len(row)) + row for row in fields], device=self._device)  # left padding
        pad = torch.tensor([width - len(row) for row in fields], device=self._device)
        steps = torch.arange(width, device=self._device)
        real = steps >= pad[:, None]  # [R, width]
        seen = torch.cat([torch.ones(len(fields), length, dtype=torch.bool, device=self._device), real], 1)  # [R, K]
        causal = torch.cat([torch.ones(width, length, device=self._device), torch.ones(width, width, device=self._device).tril()], 1).bool()
        positions = position + (steps - pad[:, None]).clamp(min=0)
        hidden = self._forward(self._text.embed_tokens(ids), positions.expand(3, -1, -1), (seen[:, None, :] & causal).unsqueeze(1), cache)[
            :, -1
        ]
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
                self._text.embed_tokens(token[:, None]), position_now.view(1, -1, 1).expand(3, -1, -1), seen[:, None, None, :], cache
            )[:, -1]
            position_now = position_now + 1
        return [self._tokenizer.decode(row, skip_special_tokens=True).strip() for row in written]


def checked(sentence: str, fields: Answer) -> str:
    """The model's sentence where it says what its fields say, no more and no less; else their plain wording."""
    own = fields.aus, fields.emotion, round(fields.age)
    return sentence if agrees(sentence, *own) else compose(*own)


def _mirrored(request: Request) -> Request:
    """The same question about the face's mirror image; what a box can show has no side."""
    x0, y0, x1, y1 = request.box
    width = request.crop.shape[1]
    return Request(np.ascontiguousarray(request.crop[:, ::-1]), (width - x1, y0, width - x0, y1), request.region)


def _rows(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A new cache with the chosen rows of another one."""
    chosen = DynamicCache()
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[list(rows)], layer.values[list(rows)], index)
    return chosen


def _percentile(distribution: np.ndarray, share: float) -> float:
    """The age below which `share` of a distribution over years lies."""
    below = distribution.cumsum() / distribution.sum()
    return float(np.minimum(np.searchsorted(below, share), len(distribution) - 1))
