"""Scoring a fixed set of answers to a short question by the model's own token probabilities.

Each answer is a path through a trie of tokens. If the tokenizer has one token for every answer, one position of the output decides.
If answers take several tokens ("3", "1"), every inner node of the trie becomes a branch of the token tree, so one forward pass still
suffices. The probability of an answer is the product, along its path, of the softmax over the tokens that could follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.describe.token_tree import TokenTree


@dataclass(frozen=True)
class Slot:
    """A question and its answers, laid out in a token tree.

    Attributes:
        readouts: for each inner node of the trie, the index in the tree of the token whose next-token logits decide there.
        children: for each readout, the token ids that may follow.
        paths: for each answer, its (readout, child) steps.
    """

    readouts: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]


def add_slot(tree: TokenTree, parent: int | None, question: Sequence[int], answers: Sequence[Sequence[int]], end: int) -> Slot:
    """Add a question and the inner nodes of its answers to a tree.

    Args:
        tree: gets the new branches.
        parent: branch that the question follows; None: the prefix.
        question: token ids of the question.
        answers: token ids of each answer, all different.
        end: token that closes an answer if it is the beginning of another one.
    """
    spelled = [tuple(answer) for answer in answers]
    if any(a != b and b[: len(a)] == a for a in spelled for b in spelled):
        spelled = [(*answer, end) for answer in spelled]
    numbers: dict[tuple[int, ...], int] = {}
    children: list[tuple[int, ...]] = []
    readouts: list[int] = []
    branches: dict[tuple[int, ...], int] = {(): tree.add(question, parent)}
    nodes = sorted({answer[:depth] for answer in spelled for depth in range(len(answer))}, key=lambda node: (len(node), node))
    for node in nodes:
        if node:
            branches[node] = tree.add([node[-1]], branches[node[:-1]])
        numbers[node] = len(children)
        children.append(tuple(sorted({answer[len(node)] for answer in spelled if answer[: len(node)] == node})))
        readouts.append(tree.span(branches[node])[1] - 1)
    paths = tuple(
        tuple((numbers[answer[:d]], children[numbers[answer[:d]]].index(answer[d])) for d in range(len(answer))) for answer in spelled
    )
    return Slot(tuple(readouts), tuple(children), paths)


def readout_places(slots: Sequence[Slot]) -> Iterator[slice]:
    """For each slot, the place of its readouts among those of all slots in order."""
    first = 0
    for slot in slots:
        last = first + len(slot.readouts)
        yield slice(first, last)
        first = last


def probabilities(slot: Slot, logits: np.ndarray) -> np.ndarray:
    """(B, readouts, V) next-token logits at `slot.readouts` -> (B, answers) float64 probabilities that sum to 1."""
    steps = []
    for number, ids in enumerate(slot.children):
        chosen = logits[:, number, list(ids)].astype(np.float64)
        powers = np.exp(chosen - chosen.max(-1, keepdims=True))
        steps.append(powers / powers.sum(-1, keepdims=True))
    return np.stack([np.prod([steps[readout][:, child] for readout, child in path], axis=0) for path in slot.paths], -1)
