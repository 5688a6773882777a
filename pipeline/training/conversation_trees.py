"""Training conversations as token trees: what is asked about each face, and the answers that the model learns to write.

A conversation has one turn per box. A turn is a question, all slots of the grammar (which do not attend to each other) and, where the
model practises sentences, the answer. A turn continues from the picture or, in a dialogue, from the previous answer.
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
    """A question about one box.

    Attributes:
        box: in pixels of the aligned crop.
        answer: token ids of the decided fields and the sentence; empty where no answer is practised.
        target_count: number of tokens at the end of `answer` that the model learns to write.
        sees_previous: whether the turn attends to the turns before it.
    """

    box: Box
    answer: tuple[int, ...] = ()
    target_count: int = 0
    sees_previous: bool = False


@dataclass(frozen=True)
class ConversationBatch:
    """The token trees of B faces, padded to S tokens, with T turns and W target tokens in all.

    Attributes:
        ids: (B, S) int64.
        positions: (3, B, S) int64.
        mask: (B, S, S) bool; `mask[b, i, j]` is true where token i attends to token j.
        readout_indices: for each slot (T, readouts) int64, indices into the flattened B * S tokens whose next-token logits answer the
            slot.
        face_of_turn: (T,) int64, the face (row of `ids`) of each turn.
        target_indices: (W,) int64, indices of the target tokens in the flattened B * S tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    readout_indices: list[torch.Tensor]
    face_of_turn: torch.Tensor
    target_indices: torch.Tensor


@dataclass(frozen=True)
class _QuestionTree:
    """Question and slots of one turn: `question_length` tokens of question, then the slots."""

    question_length: int
    ids: np.ndarray
    depths: np.ndarray
    mask: np.ndarray
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class _FaceTree:
    """The whole tree of one face: tokens, depths, mask, (first token, question tree) of each turn, indices of the target tokens."""

    ids: np.ndarray
    depths: np.ndarray
    mask: np.ndarray
    turns: list[tuple[int, _QuestionTree]]
    targets: list[int]


class ConversationLayout:
    """Builds token trees for one checkpoint.

    Args:
        tokenizer, grammar, prefix: the checkpoint's.

    Attributes:
        slots: the grammar's slots.
        graded: whether answers grade their action units: the grammar has levels.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, grammar: Grammar, prefix: Prefix) -> None:
        self._tokenizer = tokenizer
        self.graded = grammar.au_levels
        self._prefix = prefix
        self._scale = prefix.side / CROP_SIZE
        self._questions = [(self.ids(question), [self.ids(choice) for choice in choices]) for question, choices in grammar.slots()]
        (self._newline, *_) = self.ids("\n")
        self._question_tree = lru_cache(maxsize=64)(self._build_question_tree)
        self.slots = self._question_tree(len(self.ids(region_text((1, 2, 3, 4))))).slots

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def build(self, conversations: Sequence[Sequence[Turn]]) -> ConversationBatch:
        """Build the trees of a batch: one conversation per face."""
        trees = [self._face_tree(turns) for turns in conversations]
        width = max(len(tree.ids) for tree in trees)
        batch, prefix = len(trees), len(self._prefix)
        ids = np.zeros((batch, width), np.int64)
        depths = np.zeros((batch, width), np.int64)
        mask = np.zeros((batch, width, width), bool)
        mask[:, np.arange(width), np.arange(width)] = True  # padding attends to itself: softmax over an empty row is undefined
        readouts: list[list[list[int]]] = [[] for _ in self._questions]
        face_of_turn, targets = [], []
        for i, tree in enumerate(trees):
            size = len(tree.ids)
            ids[i, :size], depths[i, :size], mask[i, :size, :size] = tree.ids, tree.depths, tree.mask
            targets += [i * width + index for index in tree.targets]
            for start, question in tree.turns:
                face_of_turn.append(i)
                for own, slot in zip(readouts, question.slots, strict=True):
                    own.append([i * width + start + index for index in slot.readouts])
        positions = (torch.from_numpy(depths) + (self._prefix.end - prefix)).expand(3, -1, -1).clone()
        positions[:, :, :prefix] = self._prefix.positions.unsqueeze(1)
        return ConversationBatch(
            torch.from_numpy(ids),
            positions,
            torch.from_numpy(mask),
            [torch.tensor(own) for own in readouts],
            torch.tensor(face_of_turn),
            torch.tensor(targets, dtype=torch.long),
        )

    def _build_question_tree(self, question_length: int) -> _QuestionTree:
        tree = TokenTree()
        region = tree.add([0] * question_length)
        slots = tuple(add_slot(tree, region, question, choices, self._newline) for question, choices in self._questions)
        return _QuestionTree(question_length, np.array(tree.ids), np.array(tree.positions), tree.mask(), slots)

    def _face_tree(self, turns: Sequence[Turn]) -> _FaceTree:
        prefix = len(self._prefix)
        questions = [self.ids(region_text(scaled(turn.box, self._scale))) for turn in turns]
        trees = [self._question_tree(len(question)) for question in questions]
        size = prefix + sum(len(tree.ids) + len(turn.answer) for tree, turn in zip(trees, turns, strict=True))
        ids, depths, mask = np.empty(size, np.int64), np.empty(size, np.int64), np.zeros((size, size), bool)
        ids[:prefix], depths[:prefix] = self._prefix.ids, np.arange(prefix)
        mask[:prefix, :prefix] = np.tri(prefix, dtype=bool)
        picture = np.arange(prefix)
        context, first = picture, prefix
        starts: list[tuple[int, _QuestionTree]] = []
        targets: list[int] = []
        for turn, question, tree in zip(turns, questions, trees, strict=True):
            context = context if turn.sees_previous else picture
            own = np.arange(first, first + len(tree.ids))
            ids[own], depths[own] = tree.ids, tree.depths + len(context)
            ids[own[: tree.question_length]] = question
            mask[np.ix_(own, context)] = True
            mask[np.ix_(own, own)] = tree.mask
            starts.append((first, tree))
            context = np.concatenate([context, own[: tree.question_length]])
            first += len(own)
            if turn.answer:
                answer = np.arange(first, first + len(turn.answer))
                ids[answer], depths[answer] = turn.answer, len(context) + np.arange(len(answer))
                mask[np.ix_(answer, context)] = True
                mask[np.ix_(answer, answer)] = np.tri(len(answer), dtype=bool)
                targets += answer[len(answer) - turn.target_count :].tolist()
                context = np.concatenate([context, answer])
                first += len(answer)
        return _FaceTree(ids, depths, mask, starts, targets)
