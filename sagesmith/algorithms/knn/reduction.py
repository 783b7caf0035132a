"""reduction: fewer dimensions by a random projection that is made anew from its seed wherever it is needed.

`sign`: a matrix of random ±1 over sqrt(t), O(n d t) (Achlioptas, Database-friendly random projections, JCSS 66, 2003).
`fjlt`: random signs, a Walsh-Hadamard transform and t of its coordinates, O(n d log d) (Ailon and Chazelle, The fast
Johnson-Lindenstrauss transform, SIAM J. Comput. 39, 2009, in its subsampled form: Tropp, 2011). Both keep the expected
length of a vector. SageMaker's own random numbers are unknown: another implementation's artifact of the same seed
would be projected by another matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

BLOCK_ROWS = 4096  # rows of sparse input that are dense at a time
KINDS = ("sign", "fjlt")


@dataclass(frozen=True)
class Reduction:
    """A projection of `input_dim` columns to `target_dim`."""

    kind: str  # one of KINDS
    seed: int
    target_dim: int
    input_dim: int

    def apply(self, features: Any) -> np.ndarray:
        """(n, input_dim), dense or CSR, to (n, target_dim) float32."""
        if self.kind == "sign":
            return np.ascontiguousarray(features @ self._signs, dtype=np.float32)
        out = np.empty((features.shape[0], self.target_dim), np.float32)
        for rows, block in dense_blocks(features):
            out[rows] = self._mixed(block)
        return out

    @cached_property
    def _signs(self) -> np.ndarray:
        """(input_dim, target_dim) of ±1/sqrt(target_dim)."""
        signs = _random_signs(self._random(), (self.input_dim, self.target_dim))
        return signs / np.float32(np.sqrt(self.target_dim))

    @cached_property
    def _mixing(self) -> tuple[np.ndarray, np.ndarray]:
        """Signs of the columns, (input_dim,), and which coordinates of the transform are kept, (target_dim,)."""
        random = self._random()
        signs = _random_signs(random, (self.input_dim,))
        return signs, random.choice(self._mixed_dim, size=min(self.target_dim, self._mixed_dim), replace=False)

    @property
    def _mixed_dim(self) -> int:
        """The next power of two: the transform exists for these."""
        return 1 << max(0, self.input_dim - 1).bit_length()

    def _random(self) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, 1 + KINDS.index(self.kind)]))

    def _mixed(self, block: np.ndarray) -> np.ndarray:
        signs, chosen = self._mixing
        padded = np.zeros((len(block), self._mixed_dim), np.float32)
        np.multiply(block, signs, out=padded[:, : self.input_dim])
        out = np.zeros((len(block), self.target_dim), np.float32)  # a target above the power of two is padded
        out[:, : len(chosen)] = walsh_hadamard(padded)[:, chosen] / np.float32(np.sqrt(self.target_dim))
        return out


def walsh_hadamard(rows: np.ndarray) -> np.ndarray:
    """The Walsh-Hadamard transform of every row, unscaled; the width must be a power of two. Works in place."""
    count, width = rows.shape
    half = 1
    while half < width:
        pairs = rows.reshape(count, width // (2 * half), 2, half)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        difference = first - second
        first += second
        second[...] = difference
        half *= 2
    return rows


def dense_blocks(features: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows in blocks, (rows, block), dense whatever they were."""
    for start in range(0, features.shape[0], BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, features.shape[0]))
        block = features[rows]
        yield rows, block if isinstance(block, np.ndarray) else block.toarray()


def _random_signs(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (2 * random.integers(0, 2, shape, dtype=np.int8) - 1).astype(np.float32)
