"""Token trees: many branches after one shared prefix, evaluated as one sequence with one attention mask.

A branch sees its ancestors and itself, never its siblings, and its positions continue its parent's. One forward pass over the tree
therefore gives for every branch what a pass over that branch alone would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class TokenTree:
    """Branches after a prefix.

    Attributes:
        prefix: number of cached tokens before the tree, which every branch sees; 0 if the prefix is itself a branch.
        ids: the tokens, branch after branch.
        positions: text position of each token, counted from the end of the prefix.
    """

    prefix: int = 0
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    _ancestry: list[list[tuple[int, int]]] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def add(self, tokens: Sequence[int], parent: int | None = None) -> int:
        """Add a branch after the branch `parent`, or after the prefix if None.

        Returns:
            The number of the new branch.

        Raises:
            ValueError: if `tokens` is empty.
        """
        if not tokens:
            raise ValueError("a branch needs at least one token")
        start = len(self.ids)
        first = 0 if parent is None else self._ends[parent]
        self.ids.extend(tokens)
        self.positions.extend(range(first, first + len(tokens)))
        self._ancestry.append([*([] if parent is None else self._ancestry[parent]), (start, start + len(tokens))])
        self._ends.append(first + len(tokens))
        return len(self._ancestry) - 1

    def span(self, branch: int) -> tuple[int, int]:
        """Indices of a branch in `ids`: `[start, stop)`."""
        return self._ancestry[branch][-1]

    def mask(self) -> np.ndarray:
        """(S, prefix + S) bool: which token (row) sees which token (column)."""
        size = len(self.ids)
        mask = np.zeros((size, self.prefix + size), bool)
        mask[:, : self.prefix] = True
        for seen in self._ancestry:
            start, stop = seen[-1]
            for first, last in seen[:-1]:
                mask[start:stop, self.prefix + first : self.prefix + last] = True
            mask[start:stop, self.prefix + start : self.prefix + stop] = np.tri(stop - start, dtype=bool)
        return mask
