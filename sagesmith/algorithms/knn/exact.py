"""exact: the k nearest rows of a flat index, by matrix products, and exactly.

faiss 1.15 measures pair by pair up to 128,000 queries (distance_compute_blas_threshold), and scikit-learn multiplies in
double precision. Here blocks fit the cache, and products are float32. What float32 loses is bounded: with u = 2^-24, a
computed x·y of d terms is off by at most (d + 2) u |x| |y| (Higham, Accuracy and Stability, section 3.1). Every row
whose distance could, within that bound, be among the k smallest is a candidate, and candidates are measured again in
double precision. So the answer is that of an exact search whatever the size of the batch, equal distances in the order
of rows. Distances are measured from about the mean of the rows, which takes cancellation out of data far from zero.

Queries whose candidates do not fit (hundreds of rows at the same distance) are compared with all rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

QUERIES = 1024  # that are searched for at a time by a thread
SEEN = 1 << 14  # rows, at least half as many, whose mean is taken: any point near the middle will do
FEW = 20  # queries below which measuring without products is faster
SPARE = 256  # candidates beyond twice k that a query may have
_EPSILON = 2.0**-24
_UNDERFLOW = 1e-36  # more than sums of products too small for float32 can lose
_LARGEST = 1e36  # squares above this would overflow in sums


class Exact:
    """Exact search by L2 or inner product over the rows of a flat faiss index, (n, d) float32, where they lie."""

    def __init__(self, index: Any, product: bool, threads: int) -> None:
        from sagesmith.algorithms.knn.exact_compiled import lengths

        vectors = vectors_of(index)
        self.index = index
        self.vectors = vectors
        self.product = product
        self.threads = threads
        width = vectors.shape[1]
        self._center = np.zeros(width, np.float32)
        if not product and len(vectors):
            seen = vectors[:: -(-len(vectors) // SEEN)]
            self._center = seen.mean(axis=0, dtype=np.float64).astype(np.float32)
        norms = lengths(vectors, self._center)
        self._loss = 2 * (width + 8) * _EPSILON  # of |x| |y| in 2 x·y, with some to spare for |y|² and the center
        weight = 0.0 if product else 1.0
        with np.errstate(over="ignore"):
            self._base = (norms * (weight - 2 * self._loss) - _UNDERFLOW).astype(np.float32)
            self._slack = (norms * (4 * self._loss) + 2 * _UNDERFLOW).astype(np.float32)
        self._longest = float(np.sqrt(norms.max(initial=0.0)))
        self._bounded = bool(norms.max(initial=0.0) < _LARGEST)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances (or inner products) and row numbers of the k nearest, (q, k) each, the nearest first."""
        distances = np.empty((len(queries), k))
        nearest = np.empty((len(queries), k), np.int64)
        if len(queries) < FEW and self._measurable(queries):
            unsure = self._scan(queries, k, distances, nearest)
            if len(unsure):
                distances[unsure], nearest[unsure] = self._multiply(queries[unsure], k)
        else:
            distances, nearest = self._multiply(queries, k)
        largest = np.finfo(np.float32).max  # JSON knows no infinity
        return np.clip(-distances if self.product else distances, -largest, largest).astype(np.float32), nearest

    def _scan(self, queries: np.ndarray, k: int, distances: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        """Searches by faiss, which measures without products, and names the queries for which that is not certain."""
        from sagesmith.algorithms.knn.exact_compiled import settle

        found, rows = self.index.search(queries, min(len(self.vectors), 2 * k + 16))
        counts = (rows >= 0).sum(axis=1)
        settle(queries, self.vectors, rows, counts, k, self.product, distances, nearest)
        if rows.shape[1] == len(self.vectors):
            return np.empty(0, np.int64)
        last = -found[:, -1].astype(float) if self.product else found[:, -1] * (1.0 - self._loss)
        if self.product:
            last -= self._loss * self._longest * np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        return np.flatnonzero(~(distances[:, -1] < last))

    def _measurable(self, queries: np.ndarray) -> bool:
        """Whether no sum of these queries and the rows leaves float32."""
        return self._bounded and bool(np.einsum("ij,ij->i", queries, queries, dtype=np.float64).max() < _LARGEST)

    def _multiply(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        from sagesmith.algorithms.knn.tiles_compiled import LANES

        distances = np.empty((len(queries), k))
        nearest = np.empty((len(queries), k), np.int64)
        tiles = -(-len(queries) // LANES)
        size = LANES * max(1, min(QUERIES // LANES, -(-tiles // self.threads)))
        blocks = [slice(start, start + size) for start in range(0, len(queries), size)]

        def search(block: slice) -> None:
            self._search(queries[block], k, distances[block], nearest[block])

        if len(blocks) == 1 or self.threads == 1:
            for block in blocks:
                search(block)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(search, blocks))
        return distances, nearest

    def _search(self, queries: np.ndarray, k: int, distances: np.ndarray, nearest: np.ndarray) -> None:
        """Candidates of a block of queries by products, then the k nearest of them."""
        from sagesmith.algorithms.knn.exact_compiled import collect, settle

        with np.errstate(over="ignore", invalid="ignore"):
            moved = queries - self._center
            norms = np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
        rows = np.empty((len(queries), 2 * k + SPARE), np.int64)
        counts = np.zeros(len(queries), np.int64)
        if self._bounded and norms.max() < _LARGEST:
            own, low = (norms * (4 * self._loss)).astype(np.float32), np.empty(rows.shape, np.float32)
            shared = (self.vectors, self._center, self._base, self._slack)
            collect(_tiles(2 * moved), *shared, own, k, low, rows, counts)
        settle(queries, self.vectors, rows, counts, k, self.product, distances, nearest)


def _tiles(queries: np.ndarray) -> np.ndarray:
    """Queries as the columns of tiles, (tiles, d, LANES); the last is filled up with zeros."""
    from sagesmith.algorithms.knn.tiles_compiled import LANES

    tiles = -(-len(queries) // LANES)
    filled = np.zeros((tiles * LANES, queries.shape[1]), np.float32)
    filled[: len(queries)] = queries
    return np.ascontiguousarray(filled.reshape(tiles, LANES, -1).transpose(0, 2, 1))


def vectors_of(index: Any) -> np.ndarray:
    """The rows that lie in a flat index, (n, d), without a copy."""
    import faiss

    if index.ntotal == 0:
        return np.empty((0, index.d), np.float32)
    values: np.ndarray = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return values.reshape(index.ntotal, index.d)
