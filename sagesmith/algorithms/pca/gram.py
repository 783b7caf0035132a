"""Gram: count, sum and scatter matrix of many dense rows, by compiled code and several threads."""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.lanes import LANES
from sagesmith.algorithms.parallel import each
from sagesmith.algorithms.pca import gram_compiled as compiled

ALONE = 512  # columns up to which each thread has a matrix of its own; beyond, threads share one, and read all rows
SEGMENT = 1 << 16  # rows that are summed in one matrix of a thread's own, so that sums do not hang on threads


class Gram:
    """Of n rows x: `count` n, their sum and Σ (x - o)(x - o)ᵀ about an origin o, in float64.

    Args:
        first: some rows, (m, d); their mean is the origin.
    """

    def __init__(self, first: np.ndarray) -> None:
        self.width = first.shape[1]
        side = compiled.padded(self.width)
        self.count = 0
        self._origin = np.zeros(side, np.float32)
        self._origin[: self.width] = first[: compiled.CHUNK].mean(axis=0, dtype=np.float64)
        self._sums, self._products = np.zeros(side), np.zeros((side, side))

    def add(self, rows: np.ndarray, threads: int) -> list[np.ndarray]:
        """Takes rows, (n, d) float32, and returns those left, in parts that begin with what overflows or underflows."""
        rows = np.ascontiguousarray(rows)
        if self.width <= ALONE:
            return self._by_rows(rows, threads)
        return self._by_triangle(rows, threads)

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (d,), spread (d,) and scatter matrix (d, d) about the mean."""
        width, sums = self.width, self._sums[: self.width]
        products = compiled.unfolded(self._products, width, sums, self.count)
        return self._origin[:width] + sums / self.count, products.diagonal().copy(), products

    def _by_rows(self, rows: np.ndarray, threads: int) -> list[np.ndarray]:
        parts = [rows[start : start + SEGMENT] for start in range(0, len(rows), SEGMENT)]

        def one(part: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
            sums, products = np.zeros_like(self._sums), np.zeros_like(self._products)
            return self._scatter(part, 0, self.width, sums, products), sums, products

        left = []
        for part, (taken, sums, products) in zip(parts, each(one, parts, threads), strict=True):
            self._sums += sums
            self._products += products
            self.count += taken
            left += [part[taken:]] * (taken < len(part))
        return left

    def _by_triangle(self, rows: np.ndarray, threads: int) -> list[np.ndarray]:
        """Each thread multiplies for some rows of the triangle, about as many numbers as the others."""
        shares = np.sqrt(np.arange(threads + 1) / threads)  # of a triangle's rows hold the same numbers each
        edges = (np.ceil(shares * self.width / compiled.ROWS) * compiled.ROWS).astype(int).tolist()

        def one(number: int) -> tuple[int, np.ndarray]:
            sums = np.zeros_like(self._sums)
            return self._scatter(rows, edges[number], edges[number + 1], sums, self._products), sums

        taken, sums = each(one, range(threads), threads)[0]  # all threads have the same
        self._sums += sums
        self.count += taken
        return [rows[taken:]] * (taken < len(rows))

    def _scatter(self, rows: np.ndarray, first: int, last: int, sums: np.ndarray, products: np.ndarray) -> int:
        packed = np.empty((len(sums) // LANES, compiled.CHUNK, LANES), np.float32)
        return int(compiled.scatter(rows, self._origin, first, last, packed, sums, products))
