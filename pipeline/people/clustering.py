"""Clustering of tracks into people: average linkage below a threshold, with pairs that must not and pairs that must be together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from pipeline.errors import FocalfaceError

Pair = tuple[int, int]

MOST_TRACKS = 20_000
"""Tracks that are clustered together at most. The distances of all pairs are held in memory, 1.6 GB for this many, and once more while they
are clustered."""


def cluster(embeddings: np.ndarray, threshold: float, apart: Iterable[Pair] = (), together: Sequence[Pair] = ()) -> np.ndarray:
    """Put tracks that show the same person into one cluster.

    Agglomerative clustering with average linkage (UPGMA, Sokal and Michener 1958): the two clusters with the least mean distance between
    their tracks are joined, until that mean exceeds the threshold. A pair of `apart` gets a distance so large that no mean which holds it
    can reach the threshold. So two such tracks are never in one cluster, whatever other tracks lie between them.

    Args:
        embeddings: (N, D).
        threshold: mean Euclidean distance up to which clusters are joined.
        apart: pairs of rows that are different people, such as tracks that share a frame.
        together: pairs of rows that are the same person. Rows that such pairs connect count as identical.

    Returns:
        (N,) cluster of each row, numbered from 0 in the order of their first rows.

    Raises:
        FocalfaceError: more than `MOST_TRACKS` rows, or a pair is in both lists.

    >>> cluster(np.array([[0.0], [0.1], [0.9], [0.1]]), 0.5, apart=[(0, 3)]).tolist()
    [0, 0, 1, 2]
    """
    count = len(embeddings)
    if count > MOST_TRACKS:
        raise FocalfaceError(f"{count} tracks are more than can be linked together ({MOST_TRACKS}): link fewer runs at a time")
    if count < 2:
        return np.zeros(count, np.int64)
    distances = pdist(np.asarray(embeddings, np.float64))
    groups = closed(together, count)
    members = [np.flatnonzero(groups == group).tolist() for group in np.unique(groups[[row for pair in together for row in pair]])]
    same, different = _places([pair for group in members for pair in combinations(group, 2)], count), _places(apart, count)
    if len(np.intersect1d(same, different)):
        raise FocalfaceError("tracks that were merged by hand are different people: they share a frame, or were split by hand")
    distances[same] = 0.0
    distances[different] = threshold * count**2 + 1.0  # a mean over at most count**2 / 4 pairs stays above the threshold
    labels = fcluster(linkage(distances, "average"), threshold, "distance")
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[place.reshape(-1)]


def _places(pairs: Iterable[Pair], count: int) -> np.ndarray:
    """Places of pairs of rows in the condensed distances of `count` rows."""
    rows = np.array(sorted({(min(pair), max(pair)) for pair in pairs}), np.int64).reshape(-1, 2)
    one, other = rows.T
    return count * one - one * (one + 1) // 2 + other - one - 1


def sharing_frames(frames: np.ndarray, tracks: np.ndarray) -> list[Pair]:
    """Pairs of tracks of one video that are on screen in one frame.

    Args:
        frames, tracks: (N,) frame and track of every face.

    >>> sharing_frames(np.array([1, 1, 2]), np.array([7, 8, 9]))
    [(7, 8)]
    """
    if not len(tracks):
        return []
    numbers, columns = np.unique(tracks, return_inverse=True)
    _, rows = np.unique(frames, return_inverse=True)
    seen = coo_matrix((np.ones(len(tracks), np.int64), (rows.reshape(-1), columns.reshape(-1)))).tocsr()
    one, other = (seen.T @ seen).nonzero()
    return sorted((int(numbers[a]), int(numbers[b])) for a, b in zip(one, other, strict=True) if a < b)


def closed(pairs: Iterable[Sequence[int]], count: int) -> np.ndarray:
    """(count,) group of each row, where rows of a pair are in one group."""
    rows = np.array(list(pairs), np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(rows), bool), (rows[:, 0], rows[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)
