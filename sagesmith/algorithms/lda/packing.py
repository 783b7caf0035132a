"""Packing: tensors that are symmetric in two axes, of whose entries half are kept: half the work and half the memory.

A pair (j, k), j <= k, of r numbers has one column of r (r + 1) / 2: first those with j = 0, then with j = 1, ….
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def _starts(rank: int) -> list[tuple[int, int]]:
    """The columns of each j."""
    return list(pairwise(np.cumsum([0, *range(rank, 0, -1)]).tolist()))


def pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The symmetric part of left⊗right of rows (n, r) and (n, r), packed: (left_j right_k + left_k right_j) / 2."""
    rows, rank = left.shape
    packed = np.empty((rows, rank * (rank + 1) // 2), left.dtype)
    half = left / 2
    for j, (begin, end) in enumerate(_starts(rank)):
        np.multiply(half[:, j, None], right[:, j:], out=packed[:, begin:end])
        packed[:, begin:end] += right[:, j, None] * half[:, j:]
    return packed


def packed(tensor: np.ndarray) -> np.ndarray:
    """A tensor (n, r, r), symmetric in the last two axes, such that `pairs` @ packed.T are its sums over both: entries
    off the diagonal stand for two, and are doubled; (n, r (r + 1) / 2).
    """
    rank = tensor.shape[-1]
    one, other = np.triu_indices(rank)
    return np.asarray(tensor[:, one, other] * np.where(one == other, 1.0, 2.0))


def unpacked(entries: np.ndarray, rank: int) -> np.ndarray:
    """(n, r (r + 1) / 2) as (n, r, r), each entry where it stands and mirrored."""
    place = np.empty((rank, rank), np.int64)
    one, other = np.triu_indices(rank)
    place[one, other] = place[other, one] = np.arange(len(one))
    return np.asarray(entries[:, place])
