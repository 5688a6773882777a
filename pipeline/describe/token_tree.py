"""Token trees: many branches that share a trunk, as one sequence with one attention mask.

A branch sees its ancestors and itself, never its siblings, and counts its positions on from its parent; so one forward pass gives
for every branch what a pass over that branch alone would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class TokenTree:
    """Branches over an unseen or already cached trunk.

    Attributes:
        trunk: tokens before the tree that every branch sees (0 when the trunk itself is a branch).
        ids: the tokens, branch after branch.
        positions: each token's text position, counted from the trunk's end.
    """

    trunk: int = 0
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    _seen: list[list[tuple[int, int]]] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def add(self, tokens: Sequence[int], parent: int | None = None) -> int:
        """Grow a branch from the end of `parent` (None: from the trunk); returns its number.

        Raises:
            ValueError: when `tokens` is empty.
        """
        if not tokens:
            raise ValueError("a branch needs at least one token")
        start = len(self.ids)
        first = 0 if parent is None else self._ends[parent]
        self.ids.extend(tokens)
        self.positions.extend(range(first, first + len(tokens)))
        self._seen.append([*([] if parent is None else self._seen[parent]), (start, start + len(tokens))])
        self._ends.append(first + len(tokens))
        return len(self._seen) - 1

    def span(self, branch: int) -> tuple[int, int]:
        """First index and past-the-last index of a branch within `ids`."""
        return self._seen[branch][-1]

    def end(self, branch: int) -> int:
        """Position of the token that would follow a branch."""
        return self._ends[branch]

    def mask(self) -> torch.Tensor:
        """(S, trunk + S) bool: which token (row) sees which (column)."""
        size = len(self.ids)
        mask = torch.zeros(size, self.trunk + size, dtype=torch.bool)
        mask[:, : self.trunk] = True
        for seen in self._seen:
            start, stop = seen[-1]
            for first, last in seen[:-1]:
                mask[start:stop, self.trunk + first : self.trunk + last] = True
            mask[start:stop, self.trunk + start : self.trunk + stop] = torch.ones(stop - start, stop - start).tril().bool()
        return mask
