"""What the backends share that run the model in this process: which tokens the network gets, and after which cached ones.

For a batch of prompts, the prefix of the conversation runs once for each distinct face. Each prompt is a branch after its face's prefix,
and all its fields are read in one further pass. Then the sentences are written together, greedily.

A backend is a subclass of `LocalDescriber` with four methods that run the network: `_prefill`, `_select`, `_score` and `_choose`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from pipeline.describe.describer import BaseDescriber, Prompt, resized
from pipeline.describe.fields import Fields, unit_readings
from pipeline.describe.grammar import Grammar
from pipeline.describe.slots import Slot, add_slot
from pipeline.describe.token_tree import TokenTree
from pipeline.describe.tokens import MAX_SENTENCE, PromptTokens
from pipeline.records import Answer

Cache = TypeVar("Cache")
"""A backend's keys and values of the tokens so far, with R rows."""


@dataclass(frozen=True)
class NewTokens:
    """S text tokens for each of R rows of a cache, which follow the T tokens in it.

    Attributes:
        ids: (R, S) int64.
        positions: (1 or R, S) int64 text positions.
        mask: (1 or R, S, T + S) bool: which of the cached and new tokens each new one sees.
    """

    ids: np.ndarray
    positions: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Group(Generic[Cache]):
    """Prompts in one cache.

    Attributes:
        rows: indices of the prompts.
        cache: a row for each prompt.
        length: number of cached tokens.
        position: text position of the token that follows.
        pending: tokens of each prompt that are not in the cache yet.
    """

    rows: list[int]
    cache: Cache
    length: int
    position: int
    pending: list[list[int]]


@dataclass(frozen=True)
class Begun:
    """R sentences whose first token is chosen.

    Attributes:
        token: (R,) int64: it is not in the cache yet.
        position: (R, 1) int64: its text position.
        seen: (R, T) bool: which of the cached tokens it sees.
        names: N tokens that some row must not choose.
        barred: (R, N) bool: which rows must not choose which of them.
    """

    token: np.ndarray
    position: np.ndarray
    seen: np.ndarray
    names: Sequence[int]
    barred: np.ndarray


class LocalDescriber(BaseDescriber, Generic[Cache]):
    """A describer whose model runs in this process, but for the network: a subclass runs it, over caches of its own type."""

    keeps_prefill = True

    def __init__(self, name: str, grammar: Grammar, batch_size: int, tokens: PromptTokens, prefix_length: int, prefix_end: int) -> None:
        """Prepare what does not depend on how the network is run.

        Args:
            name: the checkpoint, as the tables name it.
            grammar: how it is asked.
            batch_size: requests answered together.
            tokens: prompts as the model takes them.
            prefix_length: number of tokens of the prefix.
            prefix_end: text position of the token that follows the prefix.
        """
        super().__init__(name, grammar, batch_size)
        self._tokens = tokens
        self._prefix_length, self._prefix_end = prefix_length, prefix_end
        self._kept: tuple[list[Prompt], list[Group[Cache]]] | None = None  # of the last `_read`, for the `_write` that follows

    @abstractmethod
    def _prefill(self, pictures: np.ndarray) -> Cache:
        """Run the prefix with each of some pictures.

        Args:
            pictures: (F, side, side, 3) uint8, with the side of `PromptTokens`.

        Returns:
            A cache with a row for each picture.
        """

    @abstractmethod
    def _select(self, cache: Cache, rows: Sequence[int]) -> Cache:
        """A new cache with some rows of another one. A row may be taken several times."""

    @abstractmethod
    def _score(self, new: NewTokens, cache: Cache, slots: Sequence[Slot], keep: int) -> tuple[list[np.ndarray], Cache]:
        """Run a token tree, and score the answers of its slots.

        Args:
            new: the tree, the same one in each row but for its tokens.
            cache: what the tree follows; it may be changed.
            slots: those of the tree.
            keep: how many of the new tokens, from the first, the returned cache holds; 0 where it is not used any more.

        Returns:
            (R, choices) float64 probabilities of every slot's choices, and the cache.
        """

    @abstractmethod
    def _choose(self, new: NewTokens, cache: Cache, names: Sequence[int], barred: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Run new tokens and choose the most probable one after them.

        Args:
            new: the tokens.
            cache: what they follow; it may be changed.
            names: the N tokens that some rows must not choose.
            barred: (R, N) bool: which rows must not choose which of them.

        Returns:
            (R,) tokens, and the cache with the new tokens.
        """

    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        self._kept = None
        cache, face_of = self._prefill_faces(prompts)
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
            groups = [part for group in kept[1] if (part := self._first(group, len(prompts))).rows]
        else:
            cache, face_of = self._prefill_faces(prompts)
            groups = [self._group(range(len(prompts)), cache, face_of, [self._tokens.question(prompt) for prompt in prompts])]
        begun = [self._begin(group, [answers[i] for i in group.rows]) for group in groups]
        rows = [i for group in groups for i in group.rows]
        sentences = dict(zip(rows, self._continue(begun), strict=True))
        return [self._tokens.decode(sentences[i]) for i in range(len(prompts))]

    def _prefill_faces(self, prompts: Sequence[Prompt]) -> tuple[Cache, list[int]]:
        """Prefill the prefix of each distinct face: a cache with one row for each, and the row of each prompt."""
        places: dict[bytes, int] = {}
        pictures: list[np.ndarray] = []
        face_of: list[int] = []
        for prompt in prompts:
            crop = prompt.request.crop
            if (key := crop.tobytes()) not in places:
                places[key] = len(pictures)
                pictures.append(resized(crop, self._tokens.side))
            face_of.append(places[key])
        return self._prefill(np.stack(pictures)), face_of

    def _group(self, rows: Sequence[int], cache: Cache, face_of: Sequence[int], questions: Sequence[list[int]]) -> Group[Cache]:
        """Some prompts in a cache of their own, right after the prefix."""
        own = self._select(cache, [face_of[i] for i in rows])
        return Group(list(rows), own, self._prefix_length, self._prefix_end, [questions[i] for i in rows])

    def _first(self, group: Group[Cache], count: int) -> Group[Cache]:
        """The part of a group that is about the first prompts."""
        places = [place for place, row in enumerate(group.rows) if row < count]
        if len(places) == len(group.rows):
            return group
        chosen = self._select(group.cache, places)
        return replace(group, rows=[group.rows[i] for i in places], cache=chosen, pending=[group.pending[i] for i in places])

    def _read_group(self, group: Group[Cache], then_write: bool) -> tuple[list[Fields], Group[Cache]]:
        """Read the fields of questions of one length; the group as it is after its questions, for what is written then."""
        questions = group.pending
        length = len(questions[0])
        tree = TokenTree(prefix=group.length)
        region = tree.add(questions[0])
        slots = [add_slot(tree, region, question, choices, self._tokens.newline) for question, choices in self._tokens.slots]
        ids = np.repeat(np.array(tree.ids)[None], len(questions), 0)  # [R, S]
        ids[:, :length] = questions
        new = NewTokens(ids, np.array(tree.positions)[None] + group.position, tree.mask()[None])
        (*units, emotion, age), cache = self._score(new, group.cache, slots, length if then_write else 0)
        readings = [unit_readings(self.aus, [unit[row] for unit in units]) for row in range(len(questions))]
        fields = [Fields(scores, emotion[row], age[row], au_intensities=values) for row, (scores, values) in enumerate(readings)]
        after = Group(group.rows, cache, group.length + length, group.position + length, pending=[[] for _ in questions])
        return fields, after

    def _begin(self, group: Group[Cache], answers: Sequence[Answer]) -> tuple[Begun, Cache]:
        """Take in the decided fields of all rows of a group together, and choose the first token of each sentence."""
        openings = [[*pending, *self._tokens.fields(answer)] for pending, answer in zip(group.pending, answers, strict=True)]
        width = max(map(len, openings))
        pad = np.array([[width - len(row)] for row in openings])  # [R, 1]
        ids = np.array([[self._tokens.end] * (width - len(row)) + row for row in openings])  # [R, S], padded on the left
        steps = np.arange(width)
        seen = np.concatenate([np.ones((len(openings), group.length), bool), steps >= pad], 1)  # [R, T + S]
        causal = np.tri(width, group.length + width, group.length, dtype=bool)  # [S, T + S]
        positions = group.position + np.maximum(steps - pad, 0)  # [R, S]
        excluded = [set(self._tokens.barred(answer)) for answer in answers]
        names = sorted(set().union(*excluded))
        barred = np.array([[name in own for name in names] for own in excluded], bool)  # [R, N]
        token, cache = self._choose(NewTokens(ids, positions, seen[:, None] & causal), group.cache, names, barred)
        return Begun(token, positions[:, -1:] + 1, seen, names, barred), cache

    def _continue(self, groups: Sequence[tuple[Begun, Cache]]) -> list[list[int]]:
        """Go on greedily with sentences that have begun.

        Returns:
            The tokens of each sentence of all groups, at most `MAX_SENTENCE`, without the one that ends it.
        """
        return [tokens for begun, cache in groups for tokens in self._continue_group(begun, cache)]

    def _continue_group(self, begun: Begun, cache: Cache) -> list[list[int]]:
        """All rows together; a row leaves the batch when its sentence ends."""
        token, position, seen, barred = begun.token, begun.position, begun.seen, begun.barred
        written: list[list[int]] = [[] for _ in token]
        rows = np.arange(len(token))
        for _ in range(MAX_SENTENCE):
            going = token != self._tokens.end
            if not going.any():
                break
            if not going.all():
                cache = self._select(cache, np.flatnonzero(going).tolist())
                rows, token, seen, position, barred = rows[going], token[going], seen[going], position[going], barred[going]
            for row, value in zip(rows.tolist(), token.tolist(), strict=True):
                written[row].append(value)
            seen = np.concatenate([seen, np.ones((len(seen), 1), bool)], 1)
            token, cache = self._choose(NewTokens(token[:, None], position, seen[:, None]), cache, begun.names, barred)
            position = position + 1
        return written
