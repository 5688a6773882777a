"""Laying out what a face is asked in training, and what it should answer, as one token tree a face.

Each turn is one box: its question, all slots of the grammar (which do not see each other), and, where words are practised, the answer. A
turn grows from the picture or, in a dialogue, from the answer before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from pipeline.describe.grammar import Grammar, region_text, scaled
from pipeline.describe.prefix import Prefix
from pipeline.describe.slots import Slot, add_slot
from pipeline.describe.token_tree import TokenTree
from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import Box


@dataclass(frozen=True)
class Turn:
    """One box to ask about.

    Attributes:
        box: aligned-crop pixels.
        answer: tokens of decided fields and sentence; empty where none is practised.
        written: how many of them, from the end, the model is to write itself.
        follows: whether the turn sees the turns before it.
    """

    box: Box
    answer: tuple[int, ...] = ()
    written: int = 0
    follows: bool = False


@dataclass(frozen=True)
class Laid:
    """The trees of B faces, padded to S tokens; they hold T turns and W tokens to write.

    Attributes:
        ids: (B, S) int64.
        positions: (3, B, S) int64.
        mask: (B, S, S) bool, which token (row) sees which (column).
        looks: for each slot (T, looks) int64, places in the flattened B * S tokens whose next-token logits decide there.
        row: (T,) int64, the face of each turn.
        written: (W,) int64, places of the tokens to write in the flattened B * S tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    looks: list[torch.Tensor]
    row: torch.Tensor
    written: torch.Tensor


@dataclass(frozen=True)
class _Block:
    """Question and slots of one turn: `opening` tokens of question, then the slots."""

    opening: int
    ids: np.ndarray
    depths: np.ndarray
    mask: np.ndarray
    slots: tuple[Slot, ...]


class Layout:
    """Lays out conversations for one checkpoint.

    Args:
        tokenizer, grammar, prefix: of the checkpoint.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, grammar: Grammar, prefix: Prefix) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._scale = prefix.side / CROP_SIZE
        self._questions = [(self.ids(question), [self.ids(choice) for choice in choices]) for question, choices in grammar.slots()]
        (self._newline, *_) = self.ids("\n")
        self._block = lru_cache(maxsize=64)(self._make_block)
        self.slots = self._block(len(self.ids(region_text((1, 2, 3, 4))))).slots

    def ids(self, text: str) -> list[int]:
        """Tokens of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _make_block(self, opening: int) -> _Block:
        tree = TokenTree()
        region = tree.add([0] * opening)
        slots = tuple(add_slot(tree, region, question, choices, self._newline) for question, choices in self._questions)
        return _Block(opening, np.array(tree.ids), np.array(tree.positions), tree.mask().numpy(), slots)

    def lay(self, conversations: Sequence[Sequence[Turn]]) -> Laid:
        """Lay out the turns of each face of a batch."""
        trees = [self._tree(turns) for turns in conversations]
        width = max(len(ids) for ids, *_ in trees)
        batch, prefix = len(trees), len(self._prefix)
        ids = np.zeros((batch, width), np.int64)
        depths = np.zeros((batch, width), np.int64)
        mask = np.zeros((batch, width, width), bool)
        mask[:, np.arange(width), np.arange(width)] = True  # padding sees itself: a row that sees nothing has no softmax
        looks: list[list[list[int]]] = [[] for _ in self._questions]
        row, written = [], []
        for i, (tokens, deep, sees, starts, writes) in enumerate(trees):
            size = len(tokens)
            ids[i, :size], depths[i, :size], mask[i, :size, :size] = tokens, deep, sees
            written += [i * width + place for place in writes]
            for start, block in starts:
                row.append(i)
                for own, slot in zip(looks, block.slots, strict=True):
                    own.append([i * width + start + look for look in slot.readouts])
        positions = (torch.from_numpy(depths) + (self._prefix.end - prefix)).expand(3, -1, -1).clone()
        positions[:, :, :prefix] = self._prefix.positions.unsqueeze(1)
        return Laid(
            torch.from_numpy(ids),
            positions,
            torch.from_numpy(mask),
            [torch.tensor(own) for own in looks],
            torch.tensor(row),
            torch.tensor(written, dtype=torch.long),
        )

    def _tree(self, turns: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, _Block]], list[int]]:
        """One face's (tokens, depths, mask, (start, block) of each turn, places of the tokens to write)."""
        prefix = len(self._prefix)
        asked = [self.ids(region_text(scaled(turn.box, self._scale))) for turn in turns]
        blocks = [self._block(len(question)) for question in asked]
        size = prefix + sum(len(block.ids) + len(turn.answer) for block, turn in zip(blocks, turns, strict=True))
        tokens, depths, mask = np.empty(size, np.int64), np.empty(size, np.int64), np.zeros((size, size), bool)
        tokens[:prefix], depths[:prefix] = self._prefix.ids, np.arange(prefix)
        mask[:prefix, :prefix] = np.tri(prefix, dtype=bool)
        root = np.arange(prefix)
        seen, at = root, prefix
        starts, writes = [], []
        for turn, question, block in zip(turns, asked, blocks, strict=True):
            seen = seen if turn.follows else root
            here = np.arange(at, at + len(block.ids))
            tokens[here], depths[here] = block.ids, block.depths + len(seen)
            tokens[here[: block.opening]] = question
            mask[np.ix_(here, seen)] = True
            mask[np.ix_(here, here)] = block.mask
            starts.append((at, block))
            seen = np.concatenate([seen, here[: block.opening]])
            at += len(here)
            if turn.answer:
                answer = np.arange(at, at + len(turn.answer))
                tokens[answer], depths[answer] = turn.answer, len(seen) + np.arange(len(answer))
                mask[np.ix_(answer, seen)] = True
                mask[np.ix_(answer, answer)] = np.tri(len(answer), dtype=bool)
                writes += answer[len(answer) - turn.written :].tolist()
                seen = np.concatenate([seen, answer])
                at += len(answer)
        return tokens, depths, mask, starts, writes
