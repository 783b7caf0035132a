"""All rows of a channel in one array, gathered as they are read.

A list of the reader's batches, small ones that suit the processor's cache, would keep the heap in pieces: freed after
they were joined, they stay with the process (100 MB for 48 MB of rows). Here each is copied at once to its place in a
large block, and its memory serves the next. A block is memory of its own, which goes back to the system when freed, and
its part that no row has reached takes none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import numpy as np

from sagesmith.formats.batch import Batch, join

BLOCK_BYTES = 64 << 20


def gather(batches: Iterable[Batch]) -> Batch | None:
    """`join` of the batches, or None where there is none; one alone is passed through.

    Raises:
        DataError: what `join` raises, and what reading raises.
    """
    coming = iter(batches)
    first = next(coming, None)
    second = next(coming, None)
    if first is None or second is None:
        return first
    coming = chain([first, second], coming)
    if first.is_sparse:
        return join(list(coming))
    blocks: list[np.ndarray] = []
    filled = 0  # rows of the last block
    others: list[Batch] = []  # labels, weights and query ids, on rows without features
    for batch in coming:
        if batch.is_sparse or batch.width != first.width:
            return join([_together(blocks, filled, others), batch, *coming])
        if not blocks or filled + len(batch) > len(blocks[-1]):
            if blocks:
                blocks[-1] = blocks[-1][:filled]
            blocks.append(
                np.empty((max(len(batch), BLOCK_BYTES // (4 * max(1, batch.width))), batch.width), np.float32)
            )
            filled = 0
        blocks[-1][filled : filled + len(batch)] = batch.features
        filled += len(batch)
        others.append(replace(batch, features=np.empty((len(batch), 0), np.float32)))
    return _together(blocks, filled, others)


def _together(blocks: list[np.ndarray], filled: int, others: list[Batch]) -> Batch:
    blocks[-1] = blocks[-1][:filled]
    features = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return replace(join(others), features=features)
