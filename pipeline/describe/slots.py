"""Scoring a fixed set of answers to a short question by a model's own token probabilities.

Each answer is a path through a trie of tokens. A model whose tokenizer has a token for every answer needs one look; where answers
take several tokens ("3", "1"), every inner node of the trie becomes a branch of the token tree, so it is still one forward pass.
The probability of an answer is the product, along its path, of the softmax over the tokens that could follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.describe.token_tree import TokenTree


@dataclass(frozen=True)
class Slot:
    """A question planted in a token tree.

    Attributes:
        looks: for each inner node of the trie, the index of the token in the tree whose next-token logits decide there.
        children: the token ids that may follow, a tuple for each look.
        paths: for each answer, its (look, child) steps.
    """

    looks: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]


def plant(tree: TokenTree, parent: int | None, question: Sequence[int], answers: Sequence[Sequence[int]], end: int) -> Slot:
    """Grow a question and the inner nodes of its answers from `parent`.

    Args:
        tree: grows by this call.
        question: token ids of the question.
        answers: token ids of each answer, all different.
        end: token that closes an answer which is the beginning of another one.
    """
    paths_ids = [tuple(answer) for answer in answers]
    if any(a != b and b[: len(a)] == a for a in paths_ids for b in paths_ids):
        paths_ids = [(*answer, end) for answer in paths_ids]
    looks: dict[tuple[int, ...], int] = {}
    children: list[tuple[int, ...]] = []
    positions: list[int] = []
    branches: dict[tuple[int, ...], int] = {(): tree.add(question, parent)}
    prefixes = sorted({answer[:depth] for answer in paths_ids for depth in range(len(answer))}, key=lambda p: (len(p), p))
    for prefix in prefixes:
        if prefix:
            branches[prefix] = tree.add([prefix[-1]], branches[prefix[:-1]])
        following = tuple(sorted({answer[len(prefix)] for answer in paths_ids if answer[: len(prefix)] == prefix}))
        looks[prefix] = len(children)
        children.append(following)
        positions.append(tree.span(branches[prefix])[1] - 1)
    paths = tuple(
        tuple((looks[answer[:d]], children[looks[answer[:d]]].index(answer[d])) for d in range(len(answer))) for answer in paths_ids
    )
    return Slot(tuple(positions), tuple(children), paths)


def log_probabilities(slot: Slot, logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, answers) float32 logarithms of probabilities that sum to 1.

    Args:
        logits: for each look (B, children), the next-token logits of `slot.children` there.
    """
    steps = [torch.log_softmax(look.float(), -1) for look in logits]
    if len(steps) == 1:
        return steps[0][:, [path[0][1] for path in slot.paths]]
    return torch.stack([torch.stack([steps[look][:, child] for look, child in path]).sum(0) for path in slot.paths], -1)


def probabilities(slot: Slot, logits: torch.Tensor) -> torch.Tensor:
    """(B, answers) float32 probabilities that sum to 1.

    Args:
        logits: (B, looks, V), the next-token logits at `slot.looks`.
    """
    return log_probabilities(slot, [logits[:, look, list(ids)] for look, ids in enumerate(slot.children)]).exp()
