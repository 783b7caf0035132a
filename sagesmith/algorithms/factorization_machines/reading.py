"""Reading: a channel as sparse rows in blocks of whole mini-batches, and kept in memory where they fit.

A pass over a file costs many times what Adam costs: rows of a File channel that take up to KEEP_BYTES are read once for
all epochs. Larger channels, and pipes, are read anew for each epoch, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.first_party import check_labels, passes
from sagesmith.formats.batch import Batch, join

if TYPE_CHECKING:
    from sagesmith.algorithms.factorization_machines.descent_compiled import Rows
    from sagesmith.formats.channel import Channel

KEEP_BYTES = 512 << 20
DENSE_CELLS = 4 << 20  # so many cells of dense rows are made sparse at once


class Reader:
    """The rows of a channel, pass by pass; `width` is None until the first batch tells.

    Args:
        size: rows of a mini-batch: every block but the last is a multiple of it.
        allowed: the labels that are; None: any finite number.
    """

    def __init__(self, channel: Channel, size: int, width: int | None, allowed: tuple[float, ...] | None) -> None:
        self.channel, self.size, self.width, self.allowed = channel, size, width, allowed
        self.sparse = False  # whether the rows read so far were sparse
        self._kept: list[Rows] | None = None

    def blocks(self) -> Iterator[Rows]:
        """One pass.

        Raises:
            DataError: rows of another width, NaN, infinity, missing or wrong labels.
        """
        if self._kept is not None:
            yield from self._kept
            return
        again = self.channel.is_arrays or self.channel.folder is not None  # a pipe may bring another order next time
        kept: list[Rows] | None = [] if again else None
        room = KEEP_BYTES
        for block in self._read():
            if kept is not None:
                room -= sum(part.nbytes for part in block)
                kept = [*kept, block] if room >= 0 else None
            yield block
        self._kept = kept

    def _read(self) -> Iterator[Rows]:
        seen = 0
        for batch in self._whole():
            label = check_labels(batch, f"channel {self.channel.name!r}", self.allowed, seen)
            yield rows_of(batch, label)
            seen += len(batch)

    def _whole(self) -> Iterator[Batch]:
        """The batches as they come, cut where mini-batches end."""
        held: Batch | None = None
        for batch in passes(self.channel, None, self.width):
            self.width, self.sparse = batch.width, batch.is_sparse
            for piece in self._pieces(batch):
                joined = piece if held is None else join([held, piece])
                end = len(joined) - len(joined) % self.size
                if end:
                    yield joined if end == len(joined) else joined.take(slice(0, end))
                held = joined.take(slice(end, None)) if end < len(joined) else None
        if held is not None:
            yield held

    def _pieces(self, batch: Batch) -> Iterator[Batch]:
        rows = max(1, DENSE_CELLS // batch.width // self.size) * self.size
        if batch.is_sparse or len(batch) <= rows:
            yield batch
            return
        for start in range(0, len(batch), rows):
            yield batch.take(slice(start, start + rows))


def rows_of(batch: Batch, label: np.ndarray | None = None) -> Rows:
    """A batch as compiled code takes it. Zeros among dense features are absent, as in sparse rows.

    Raises:
        ValueError: a sparse matrix whose indices lie outside of it.
    """
    from sagesmith.algorithms.factorization_machines.descent_compiled import Rows, pack

    features: Any = batch.features
    if batch.is_sparse:
        starts = features.indptr.astype(np.int64)
        keys = np.ascontiguousarray(features.indices, np.int32)
        values = np.ascontiguousarray(features.data, np.float32)
        _check(starts, keys, batch.width)
    else:
        starts = np.zeros(len(batch) + 1, np.int64)
        count = np.count_nonzero(features)
        keys, values = np.empty(count, np.int32), np.empty(count, np.float32)
        pack(np.ascontiguousarray(features, np.float32), starts, keys, values)
    nothing = np.empty(0, np.float32)
    weight = nothing if batch.weight is None else np.ascontiguousarray(batch.weight, np.float32)
    label = nothing if label is None else np.ascontiguousarray(label, np.float32)
    return Rows(starts, keys, values, label, weight)


def _check(starts: np.ndarray, keys: np.ndarray, width: int) -> None:
    """Compiled code trusts indices: a broken matrix must not let it read or write elsewhere."""
    if starts[0] != 0 or starts[-1] > len(keys) or (starts[1:] < starts[:-1]).any():
        raise ValueError("the sparse matrix is broken: its indptr does not rise from 0 to the number of its entries")
    used = keys[: starts[-1]]
    if len(used) and not 0 <= int(used.min()) <= int(used.max()) < width:
        raise ValueError(f"the sparse matrix is broken: columns {used.min()} to {used.max()}, but it has {width}")
