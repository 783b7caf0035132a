"""batches: which pairs are learnt together, which negatives go with them, and how devices share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sagesmith.algorithms.object2vec.pairs import Pairs


def order_of(pairs: Pairs, size: int, bucket_width: int, random: np.random.Generator) -> list[np.ndarray]:
    """The numbers of all pairs in a random order, in batches of `size` (the last of each bucket may be smaller).

    With a bucket width w > 0 a batch holds pairs whose lengths, on either side, lie in one range k w + 1 .. (k + 1) w.
    """
    order = random.permutation(len(pairs))
    if not bucket_width:
        return [order[at : at + size] for at in range(0, len(order), size)]
    first, second = ((side.lengths - 1) // bucket_width for side in pairs.sides)
    bucket = (first * (second.max() + 1) + second)[order]
    order = order[np.argsort(bucket, kind="stable")]
    ends = np.cumsum(np.unique(bucket, return_counts=True)[1])
    begins = np.concatenate([[0], ends[:-1]])
    batches = [order[at : min(at + size, end)] for begin, end in zip(begins, ends, strict=True)
               for at in range(begin, end, size)]  # fmt: skip
    return [batches[k] for k in random.permutation(len(batches))]


@dataclass(frozen=True)
class Part:
    """A batch, or what one device takes of it.

    `in0` (n,) and `in1` (m,): numbers of the data's pairs whose sides are encoded. The pairs that are learnt are those
    of `in0[first]` with `in1[second]`, (k,) each, labelled `label` (k,). Without `first` and `second`, one by one.
    """

    in0: np.ndarray
    in1: np.ndarray
    label: np.ndarray
    first: np.ndarray | None = None
    second: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def share(self, rows: np.ndarray) -> Part:
        """The pairs whose in0 is at one of these places: each with all its negatives. Of in1 what these need."""
        if self.first is None or self.second is None:
            return Part(self.in0[rows], self.in1[rows], self.label[rows])
        mine = np.flatnonzero(np.isin(self.first, rows))
        in0, first = np.unique(self.first[mine], return_inverse=True)
        in1, second = np.unique(self.second[mine], return_inverse=True)
        return Part(self.in0[in0], self.in1[in1], self.label[mine], first, second)


class Negatives:
    """Draws pairs that do not occur: the in0 of a positive pair with the in1 of others.

    The others are those of the same batch, each as often as any, so that a vector is worked out once however many
    pairs it is part of; a batch with fewer others than the rate gets further ones from the rest of the data.

    Args:
        rate: negative pairs for each pair whose label is not 0.
        count: pairs in the data.
    """

    def __init__(self, rate: int, count: int, random: np.random.Generator) -> None:
        self._rate, self._count, self._random = min(rate, count - 1), count, random

    def batch(self, index: np.ndarray, label: np.ndarray) -> Part:
        """The pairs `index` with their negatives."""
        pool = np.concatenate([index, self.others(index)]) if label.any() else index
        first, second, labels = self.drawn(label, len(pool))
        return Part(index, pool, labels, first, second)

    def others(self, index: np.ndarray) -> np.ndarray:
        """The numbers of the pairs whose in1 are needed beside those of the batch `index`."""
        missing = self._rate + 1 - len(index)
        if missing <= 0:
            return index[:0]
        rest = np.setdiff1d(np.arange(self._count), index)
        return self._random.choice(rest, min(missing, len(rest)), replace=False)

    def drawn(self, label: np.ndarray, pool: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of rows: each of the batch with its own, then the negatives.

        Args:
            label: (B,) of the batch.
            pool: how many in1 there are, those of the batch first.

        Returns:
            numbers of in0, numbers of in1 and labels of all pairs.
        """
        own = np.arange(len(label))
        positive = np.flatnonzero(label)
        rate = min(self._rate, pool - 1)
        shifts = 1 + self._random.choice(pool - 1, rate, replace=False) if rate > 0 else np.empty(0, np.int64)
        second = (positive[:, None] + shifts) % pool
        first = np.repeat(positive, len(shifts))
        return (
            np.concatenate([own, first]),
            np.concatenate([own, second.ravel()]),
            np.concatenate([label, np.zeros(len(first))]),
        )
