"""Token trees and the scoring of choices: many questions in one pass give what each alone would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.describe.prefill import log_probabilities
from pipeline.describe.slots import add_slot, probabilities
from pipeline.describe.token_tree import TokenTree


def test_a_branch_sees_its_ancestors_and_its_own_past_only() -> None:
    tree = TokenTree(prefix=2)
    region = tree.add([5, 6])
    left, right = tree.add([7], region), tree.add([8, 9], region)
    assert tree.positions == [0, 1, 2, 2, 3]
    assert (tree.span(left), tree.span(right)) == ((2, 3), (3, 5))
    seen = [[int(column) for column in np.flatnonzero(row)] for row in tree.mask()]
    assert seen == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 5], [0, 1, 2, 3, 5, 6]]


def test_an_empty_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenTree().add([])


def test_single_token_choices_are_a_softmax_over_their_tokens() -> None:
    slot = add_slot(TokenTree(), None, [1], [[3], [2]], end=0)
    logits = torch.tensor([[[9.0, 9.0, 1.0, 2.0]]])
    assert np.allclose(probabilities(slot, logits.numpy()), torch.softmax(torch.tensor([[2.0, 1.0]]), -1))
    assert np.allclose(log_probabilities(slot, [logits[:, 0, [2, 3]]]).exp(), torch.softmax(torch.tensor([[2.0, 1.0]]), -1))


def test_choices_of_several_tokens_multiply_along_their_path_and_sum_to_one() -> None:
    """Answers "3", "31" and "4", where one is the beginning of another: the end token tells them apart."""
    tree = TokenTree()
    slot = add_slot(tree, None, [9], [[3], [3, 1], [4]], end=0)
    assert (tree.ids, tree.positions) == ([9, 3, 4, 1], [0, 1, 1, 2])  # the question, then every beginning of an answer, once
    torch.manual_seed(0)
    logits = torch.randn(2, len(slot.readouts), 10)
    scores = log_probabilities(slot, [logits[:, number, list(ids)] for number, ids in enumerate(slot.children)]).exp()
    assert np.allclose(probabilities(slot, logits.numpy()), scores)
    root = torch.softmax(logits[:, 0, [3, 4]], -1)
    after_three = torch.softmax(logits[:, 1, [0, 1]], -1)
    assert torch.allclose(scores.sum(-1), torch.ones(2))
    assert torch.allclose(scores[:, 0], root[:, 0] * after_three[:, 0])
    assert torch.allclose(scores[:, 1], root[:, 0] * after_three[:, 1])
    assert torch.allclose(scores[:, 2], root[:, 1])
