"""Batch: rows as arrays, the common coin between formats and algorithms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.formats.errors import DataError, NoData

if TYPE_CHECKING:  # scipy takes a fifth of a second to import, and dense data never needs it
    from scipy import sparse


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
        return not isinstance(self.features, np.ndarray)

    def take(self, rows: Any) -> Batch:
        """The rows of a slice, mask or index array."""

        def pick(part: Any) -> Any:
            return None if part is None else part[rows]

        return Batch(pick(self.features), pick(self.label), pick(self.weight), pick(self.group))

    def widened(self, width: int) -> Batch:
        """The same sparse rows in a matrix of more columns."""
        return self if width == self.width else replace(self, features=_widened(self.features, width))


def csr(values: np.ndarray, keys: np.ndarray, starts: np.ndarray, width: int) -> sparse.csr_matrix:
    """A CSR matrix over arrays that the caller has checked: (nnz,), (nnz,), (n + 1,)."""
    from scipy import sparse

    matrix = sparse.csr_matrix((values, keys, starts), shape=(len(starts) - 1, width), copy=False)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix


def join(batches: Sequence[Batch]) -> Batch:
    """Batches below each other. Sparse ones may differ in width (libsvm): the widest wins. Sparse and dense give CSR.

    Raises:
        DataError: some have labels or groups and others not, or dense widths differ.
    """
    if len(batches) == 1:
        return batches[0]
    return Batch(
        _join_features(batches),
        _join_all_or_none([batch.label for batch in batches], "label"),
        _join_weights(batches),
        _join_all_or_none([batch.group for batch in batches], "query id"),
    )


def rechunk(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """The same rows in batches of exactly `rows` (the last may be shorter); holds `rows` plus one batch in memory."""
    waiting: list[Batch] = []
    held = 0
    for batch in batches:
        start = 0
        while held + len(batch) - start >= rows:
            stop = start + rows - held
            part = batch if (start, stop) == (0, len(batch)) else batch.take(slice(start, stop))
            yield join([*waiting, part])
            waiting, held, start = [], 0, stop
        if start < len(batch):
            waiting.append(batch if start == 0 else batch.take(slice(start, None)))
            held += len(batch) - start
    if waiting:
        yield join(waiting)


def _join_features(batches: Sequence[Batch]) -> Any:
    widths = sorted({batch.width for batch in batches})
    if not any(batch.is_sparse for batch in batches):
        if len(widths) > 1:
            raise DataError(f"rows of {widths[0]} and of {widths[-1]} feature columns cannot be joined")
        return np.concatenate([batch.features for batch in batches])
    from scipy import sparse

    return sparse.vstack([_widened(batch.features, widths[-1]) for batch in batches], format="csr", dtype=np.float32)


def _widened(features: Any, width: int) -> Any:
    from scipy import sparse

    matrix = sparse.csr_matrix(features)
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width), copy=False)


def _join_all_or_none(parts: Sequence[np.ndarray | None], what: str) -> np.ndarray | None:
    given = [part for part in parts if part is not None]
    if not given:
        return None
    if len(given) < len(parts):
        raise DataError(f"some rows have a {what} and others have none")
    return np.concatenate(given)


def _join_weights(batches: Sequence[Batch]) -> np.ndarray | None:
    if all(batch.weight is None for batch in batches):
        return None
    ones = [np.ones(len(b), np.float32) if b.weight is None else b.weight for b in batches]
    return np.concatenate(ones)


__all__ = ["Batch", "DataError", "NoData", "csr", "join", "rechunk"]
