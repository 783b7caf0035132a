"""counts: documents as one sparse matrix of counts, (D, V), for topic models; dense rows become sparse as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.first_party import check_finite, check_width, passes
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from scipy import sparse

    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel


def read(channel: Channel, width: int | None, *, empty: bool = False) -> sparse.csr_matrix:
    """All documents of a channel, float32; memory grows with the counts that are not zero.

    Args:
        empty: whether the channel may have no rows, which gives (0, width).

    Raises:
        DataError: another number of columns than `width`, NaN, infinity or negative counts, naming row and column;
            no row at all.
    """
    from scipy import sparse

    parts: list[sparse.csr_matrix] = []
    seen = 0
    for batch in passes(channel, width=width):
        parts.append(_counts(batch, f"channel {channel.name!r}", seen))
        seen += len(batch)
    if not parts and not empty:
        raise DataError(f"channel {channel.name!r} holds no documents")
    if not parts:
        return sparse.csr_matrix(np.empty((0, width or 0), np.float32))
    return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr", dtype=np.float32)


def asked(batch: Batch, width: int) -> sparse.csr_matrix:
    """The documents of a request, checked likewise; raises DataError."""
    check_width(batch, width, "the request has rows")
    check_finite(batch, "the request")
    return _counts(batch, "the request", 0)


def lengths(counts: sparse.csr_matrix) -> np.ndarray:
    """The words of each document, (D,) float64."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def _counts(batch: Batch, where: str, before: int) -> sparse.csr_matrix:
    from scipy import sparse

    features: Any = batch.features
    counts = sparse.csr_matrix(features, dtype=np.float32)
    if len(counts.data) and counts.data.min() < 0:
        at = int(np.argmax(counts.data < 0))
        row = before + int(np.searchsorted(counts.indptr, at, "right")) - 1
        raise DataError(f"{where}: row {row}, column {counts.indices[at]} is {counts.data[at]:g}; counts are 0 or more")
    return counts
