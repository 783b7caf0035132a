"""Batch: rows as arrays, the common coin between formats and algorithms; and the error for data that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse


class DataError(ValueError):
    """Data that cannot be read: the message names the file and the line or record number, and what was expected."""


@dataclass(frozen=True)
class Batch:
    """n rows. `features` is (n, d) float32, C-contiguous or CSR; the rest is (n,) float32 unless said otherwise."""

    features: np.ndarray | sparse.csr_matrix
    label: np.ndarray | None = None  # (n,), or (n, label_size) when a format was told of more than one label column
    weight: np.ndarray | None = None
    group: np.ndarray | None = None  # int64 query ids (ranking)

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def width(self) -> int:
        """Number of feature columns."""
        return int(self.features.shape[1])

    @property
    def is_sparse(self) -> bool:
        return sparse.issparse(self.features)

    def take(self, rows: Any) -> Batch:
        """The rows of a slice, mask or index array."""

        def pick(part: Any) -> Any:
            return None if part is None else part[rows]

        return Batch(pick(self.features), pick(self.label), pick(self.weight), pick(self.group))
