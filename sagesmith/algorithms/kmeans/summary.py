"""Summary: what a pass leaves of the rows: K weighted centers, updated by mini-batches; summaries can be united.

Sculley, Web-Scale K-Means Clustering, WWW 2010, with the mean of a whole batch in place of one row at a time: for a
center with n rows so far and m new ones of mean d, p = m / (n + m) and c = (1 - p) c + p d. Kept as sums and counts,
that is c = sum / count; a half-life multiplies both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.kmeans.centers import Centers, add_rows, weighted
from sagesmith.formats.errors import DataError

FORGOTTEN = 1e-200  # a count so small, which has no reciprocal soon, is none: the center stays where it is


class Summary:
    """K centers with what they have seen.

    Attributes:
        centers: the points, (K, d).
        sums, counts: (K, d) and (K,), of the rows that were nearest to each, decayed.
        rows, weight: how many since `new_pass`, and the sum of their weights.
        ssd: weighted sum of their squared distances to the centers as they were when each row came.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.centers = Centers(points)
        self.sums = np.zeros_like(self.centers.points)
        self.counts = np.zeros(len(points))
        self.rows, self.weight, self.ssd = 0, 0.0, 0.0

    def new_pass(self) -> None:
        """Begins to count rows anew; centers, sums and counts go on."""
        self.rows, self.weight, self.ssd = 0, 0.0, 0.0

    def update(self, features: Any, weights: np.ndarray | None, half_life: int, threads: int) -> None:
        """Takes a mini-batch in: rows of (n, d), dense or CSR, and their weights, (n,) or None."""
        labels, squares = self.centers.nearest(features, threads)
        if half_life:
            decay = 2.0 ** (-len(labels) / half_life)
            self.sums *= decay
            self.counts *= decay
            forgotten = self.counts < FORGOTTEN
            self.sums[forgotten], self.counts[forgotten] = 0.0, 0.0
        add_rows(features, weights, labels, self.sums, threads)
        self.counts += np.bincount(labels, weights, len(self.counts))
        self._move()
        self.rows += len(labels)
        self.weight += len(labels) if weights is None else float(weights.sum(dtype=np.float64))
        self.ssd += weighted(squares, weights)

    def _move(self) -> None:
        from sagesmith.algorithms.kmeans import search_compiled as search

        search.means(self.sums, self.counts, self.centers.points)
        self.centers.moved()

    def arrays(self) -> dict[str, np.ndarray]:
        """What other hosts need of it, as named arrays."""
        seen = np.array([self.rows, self.weight, self.ssd])
        return {"points": self.centers.points, "counts": self.counts, "seen": seen}

    @classmethod
    def united(cls, parts: Sequence[Mapping[str, np.ndarray]]) -> Self:
        """All centers of summaries, given as their `arrays`, in their order; it can be read, but not updated.

        Raises:
            DataError: rows of different widths.
        """
        widths = sorted({part["points"].shape[1] for part in parts})
        if len(widths) > 1:
            raise DataError(f"hosts have rows of {widths[0]} and of {widths[-1]} columns")
        union = cls(np.concatenate([part["points"] for part in parts]))
        union.counts = np.concatenate([part["counts"] for part in parts])
        rows, union.weight, union.ssd = (float(value) for value in np.sum([part["seen"] for part in parts], axis=0))
        union.rows = int(rows)
        return union
