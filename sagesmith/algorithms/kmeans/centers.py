"""Centers: points that are searched: the nearest to each row, dense or sparse, by several threads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from sagesmith.algorithms.parallel import divided, each

LEAST_WORK = 1 << 21  # multiplications that are worth waking another thread for (some 20 us)
WIDE = 256  # columns with which four rows are added at once; of fewer it takes longer than one by one
ROWS_AT_ONCE = 4096  # in double precision beside the rows themselves
SMALL_WORK = 1 << 20  # multiplications that plain numpy does in a few milliseconds


class Centers:
    """k centers, (k, d) float64, laid out for search.

    Attributes:
        points: the centers; the array itself that it was made from where that is float64.
        origin: (d,), a point near the data, from which float32 products are taken.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = np.ascontiguousarray(points, np.float64)
        self.origin = self.points.mean(axis=0)
        self._panels: tuple[np.ndarray, np.ndarray] | None = None  # for dense rows
        self._turned: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # for sparse rows

    def __len__(self) -> int:
        return len(self.points)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_panels": None, "_turned": None}

    @property
    def width(self) -> int:
        return int(self.points.shape[1])

    def moved(self) -> None:
        """To be called after `points` has changed."""
        self._turned = None
        if self._panels is not None:
            from sagesmith.algorithms.kmeans import search_compiled as search

            search.pack(self.points, self.origin, *self._panels)

    def nearest(self, features: Any, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The nearest center of each row, (n,) int32, the first of equal ones, and its squared distance, (n,) float64.

        Args:
            features: (n, d) float32, dense or CSR. What comes out does not depend on `threads`.
        """
        rows = int(features.shape[0])
        labels, squares = np.empty(rows, np.int32), np.empty(rows, np.float64)
        if isinstance(features, np.ndarray):
            search = self._dense_search(features, labels, squares)
            work = rows * self.width * len(self)
        else:
            search = self._sparse_search(features, labels, squares)
            work = int(features.nnz) * len(self)
        divided(search, rows, threads if work > LEAST_WORK else 1)
        return labels, squares

    def distances(self, features: Any) -> np.ndarray:
        """The Euclidean distance of every row to every center, (n, k) float64."""
        if not isinstance(features, np.ndarray):
            exact = features.astype(np.float64)
            norms = np.asarray(exact.multiply(exact).sum(axis=1)).reshape(-1, 1)
            squares = norms - 2 * (exact @ self.points.T) + (self.points**2).sum(axis=1)
            return np.asarray(np.sqrt(np.maximum(squares, 0)))
        moved = self.points - self.origin
        found = np.empty((len(features), len(self)))
        for first in range(0, len(features), ROWS_AT_ONCE):
            rows = features[first : first + ROWS_AT_ONCE] - self.origin
            squares = (rows**2).sum(axis=1)[:, None] - 2 * (rows @ moved.T) + (moved**2).sum(axis=1)
            found[first : first + ROWS_AT_ONCE] = np.sqrt(np.maximum(squares, 0))
        return found

    def nearest_for_a_request(self, features: Any, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`; a few rows by plain numpy, in less time than it takes to import numba.

        Where two centers are equally near but for float32's rounding, the two ways may choose differently, so that
        training, which is to give the same model every time, has only one.
        """
        if "numba" in sys.modules or features.shape[0] * self.width * len(self) > SMALL_WORK:
            return self.nearest(features, threads)
        rows = features if isinstance(features, np.ndarray) else features.toarray()
        squares = ((rows[:, None, :] - self.points[None]) ** 2).sum(axis=2)
        labels = squares.argmin(axis=1)
        return labels.astype(np.int32), squares[np.arange(len(rows)), labels]

    def _dense_search(self, rows: np.ndarray, labels: np.ndarray, squares: np.ndarray) -> Callable[[int, int], None]:
        from sagesmith.algorithms.kmeans import search_compiled as search

        if self._panels is None:
            laid = search.room(*self.points.shape)
            search.pack(self.points, self.origin, *laid)
            self._panels = laid  # only now: a server asks from several threads
        panels, bias = self._panels
        rows = np.ascontiguousarray(rows, np.float32)

        def part(first: int, last: int) -> None:
            search.nearest(rows[first:last], panels, bias, self.points, labels[first:last], squares[first:last])

        return part

    def _sparse_search(self, rows: Any, labels: np.ndarray, squares: np.ndarray) -> Callable[[int, int], None]:
        from sagesmith.algorithms.kmeans import search_compiled as search

        if self._turned is None:
            turned = (self.points - self.origin).astype(np.float32)
            small = turned.astype(np.float64)
            bias = -np.einsum("kd,d->k", small, self.origin) - 0.5 * np.einsum("kd,kd->k", small, small)
            norms = np.einsum("kd,kd->k", self.points, self.points)
            self._turned = np.ascontiguousarray(turned.T), bias.astype(np.float32), norms
        turned, bias, norms = self._turned
        values, columns, starts = parts_of(rows)

        def part(first: int, last: int) -> None:
            search.nearest_sparse(
                values, columns, starts[first : last + 1], turned, bias, self.points, norms,
                labels[first:last], squares[first:last],
            )  # fmt: skip

        return part


def parts_of(rows: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, columns and starts of a CSR matrix, in the types that are compiled for."""
    return (
        np.ascontiguousarray(rows.data, np.float32),
        np.ascontiguousarray(rows.indices, np.int32),
        np.ascontiguousarray(rows.indptr, np.int64),
    )


def add_rows(features: Any, weights: np.ndarray | None, labels: np.ndarray, sums: np.ndarray, threads: int) -> None:
    """Adds weighted rows to the sums (k, d) of their centers. Threads share the centers, so all add in one order."""
    from sagesmith.algorithms.kmeans import search_compiled as search

    weight = np.empty(0) if weights is None else np.ascontiguousarray(weights, np.float64)
    if not isinstance(features, np.ndarray):
        search.add_sparse(*parts_of(features), weight, labels, sums)
        return
    rows = np.ascontiguousarray(features, np.float32)

    shares = min(threads, len(sums)) if rows.size > LEAST_WORK else 1
    if rows.shape[1] < WIDE:
        each(lambda share: search.add(rows, weight, labels, sums, share, shares), range(shares), shares)
        return
    order, starts = search.by_center(labels, len(sums))
    each(lambda share: search.add_wide(rows, weight, order, starts, sums, share, shares), range(shares), shares)


def weighted(squares: np.ndarray, weights: np.ndarray | None) -> float:
    """The sum of squares (n,) times weights (n,); None are weights of 1.

    Not by BLAS, which would wake its threads for it, and add in an order that hangs on their number.
    """
    return float(squares.sum() if weights is None else np.einsum("n,n->", squares, weights))
