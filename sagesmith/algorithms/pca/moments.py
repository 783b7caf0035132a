"""Moments: the mergeable state of PCA, count, mean and second moments about the mean, of any number of rows.

Rows come in blocks. Few rows, and sparse ones, are squared in double precision; many dense rows are squared by
compiled code (gram.py), or sketched, in single precision, always near their own mean. Blocks, and hosts, are joined in
double precision by the update of Chan, Golub and LeVeque (Algorithms for Computing the Sample Variance, The American
Statistician 37, 1983), so that nothing cancels when the mean is far greater than the spread.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.pca.gram import Gram

BLOCK = 1 << 18  # numbers in a block at least: 1 MB, which stays in a processor's own cache
DOUBLE = 1 << 28  # multiplications up to which rows are squared in double precision: some hundredths of a second
DENSE = 1 / 16  # share of non-zeros from which a block of sparse rows is multiplied faster as a dense one
ODD = 512  # rows that are taken in double precision where single precision cannot hold them
SMALLEST, LARGEST = 1e-24, 1e36  # second moments outside of these under- or overflow in single precision


class Moments:
    """Of n rows x: `count` n, `mean` (d,), `spread` (d,) and `products` (l, d), all about the mean, in float64.

    With `probes` (d, l), products are probesᵀ S of the scatter matrix S = Σ (x - mean)(x - mean)ᵀ, and S is never
    formed; without them, products are S itself. `spread` is the diagonal of S. All that was added is in them after
    `settle`; `seen` are the rows that were added so far.
    """

    def __init__(self, width: int, probes: np.ndarray | None = None) -> None:
        self.seen = self.count = 0
        self.mean = np.zeros(width)
        self.spread = np.zeros(width)
        self.products = np.zeros((width if probes is None else probes.shape[1], width))
        self.probes = probes
        self._gram: Gram | None = None  # rows that are not in the other sums yet

    @property
    def block_rows(self) -> int:
        """Rows for one block: no more bytes than the state holds, unless so few would make products slow."""
        sketch, width = self.products.shape
        return max(2 * sketch, BLOCK // width, min(1024, 16 * BLOCK // width), 1)

    def add(self, rows: Any, threads: int = 1) -> None:
        """Takes rows, (n, d) float32 or CSR, in double precision where they are few.

        Raises:
            DataError: NaN or infinity among the rows.
        """
        self.seen += rows.shape[0]
        few = self.seen * self.products.size <= DOUBLE
        step = self.block_rows
        if not isinstance(rows, np.ndarray):
            step = max(step, rows.shape[1])  # then their products with the probes are no more than the state
        elif self.probes is None and not few:
            self._square(rows, threads)
            return
        for start in range(0, rows.shape[0], step):
            with np.errstate(all="ignore"):  # what overflows is looked at and done again in double precision
                self._add_block(rows[start : start + step], np.float64 if few else np.float32, threads)

    def settle(self) -> None:
        """Brings all sums together."""
        gram, self._gram = self._gram, None
        if gram is not None and gram.count:
            self._join(gram.count, *gram.moments())

    def join(self, other: Moments) -> None:
        """Takes the rows, and the arrays, of another state with the same probes."""
        self.settle()
        other.settle()
        self.seen += other.count
        self._join(other.count, other.mean, other.spread, other.products)

    def second_moments(self, about_mean: bool) -> tuple[np.ndarray, float]:
        """The products, (l, d), and the sum of squares over all columns, about the mean or about zero."""
        self.settle()
        if about_mean:
            return self.products, float(self.spread.sum())
        seen = np.outer(self._probed(self.mean), self.count * self.mean)
        return self.products + seen, float(self.spread.sum() + self.count * (self.mean**2).sum())

    def to_bytes(self) -> bytes:
        """The state without its probes, which every host draws alike."""
        self.settle()
        file = io.BytesIO()
        np.savez(file, count=self.count, mean=self.mean, spread=self.spread, products=self.products)
        return file.getvalue()

    @classmethod
    def of_bytes(cls, content: bytes, probes: np.ndarray | None) -> Self:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state = cls(len(arrays["mean"]), probes)
            state.seen = state.count = int(arrays["count"])
            state.mean, state.spread, state.products = (arrays[name] for name in ("mean", "spread", "products"))
        return state

    def _square(self, rows: np.ndarray, threads: int) -> None:
        """Takes dense rows in single precision; those that it cannot hold in double precision."""
        from sagesmith.algorithms.pca.gram import Gram

        left = [rows]
        with np.errstate(all="ignore"):
            self._gram = self._gram or Gram(rows)
            while left:
                for rest in self._gram.add(left.pop(), threads):
                    self._add_block(rest[:ODD], np.float64, threads)
                    left.append(rest[ODD:])

    def _add_block(self, block: Any, kind: type[np.floating[Any]], threads: int) -> None:
        if not isinstance(block, np.ndarray):
            if self.probes is not None or block.nnz < DENSE * block.shape[0] * block.shape[1]:
                self._join(block.shape[0], *self._of_sparse(block))
                return
            block = block.toarray()
            if kind is np.float32:
                self._square(block, threads)
                return
        found = self._centred(block.astype(kind, copy=False))
        if not _representable(found[1], found[2]):
            if not np.isfinite(block).all():
                raise DataError("rows hold NaN or infinity; PCA takes finite numbers only")
            found = self._centred(block.astype(np.float64))
        self._join(len(block), *found)

    def _centred(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, spread and products of a block about its own mean."""
        count, ones = len(block), np.ones(len(block), block.dtype)
        about = (ones @ block) / block.dtype.type(count)
        block = block - about
        rest = (ones @ block) / np.float64(count)  # what rounding left of the mean
        if self.probes is None:
            products = (block.T @ block).astype(np.float64)
            spread = products.diagonal()
        else:
            products = ((block @ self.probes.astype(block.dtype, copy=False)).T @ block).astype(np.float64)
            spread = np.einsum("nd,nd->d", block, block).astype(np.float64)
        spread = np.maximum(spread - count * rest**2, 0)
        return about + rest, spread, products - np.outer(self._probed(rest), count * rest)

    def _of_sparse(self, block: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of CSR rows, in double precision and without making the zeros."""
        block = block.astype(np.float64)
        count = block.shape[0]
        mean = np.asarray(block.sum(axis=0)).ravel() / count
        square = np.asarray(block.multiply(block).sum(axis=0)).ravel()
        if self.probes is None:
            products = (block.T @ block).toarray()
        else:
            products = (block.T @ (block @ self.probes.astype(np.float64))).T
        if not np.isfinite(square).all():
            raise DataError("rows hold NaN or infinity; PCA takes finite numbers only")
        spread = np.maximum(square - count * mean**2, 0)
        return mean, spread, products - np.outer(self._probed(mean), count * mean)

    def _join(self, count: int, mean: np.ndarray, spread: np.ndarray, products: np.ndarray) -> None:
        if not count:
            return
        if not self.count:
            self.count, self.mean, self.spread, self.products = count, mean, spread, products
            return
        total = self.count + count
        apart = mean - self.mean
        weight = self.count * (count / total)
        self.products += products
        self.products += np.outer(self._probed(apart), weight * apart)
        self.spread += spread + weight * apart**2
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def _probed(self, vector: np.ndarray) -> np.ndarray:
        return vector if self.probes is None else vector @ self.probes


def _representable(spread: np.ndarray, products: np.ndarray) -> bool:
    """Whether single precision could hold the squares: they are finite, and no column has only what underflows."""
    largest = float(np.abs(spread).max())
    return bool(largest < LARGEST and np.isfinite(products).all() and (largest > SMALLEST))
