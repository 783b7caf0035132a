"""Crew: threads over parts of the work. Parts are the same for any number of threads, and so is what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np


class Crew:
    """A number of threads; used as a context manager."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """function(item) of all, in their order."""
        if self._pool is None or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def even(starts: np.ndarray, parts: int) -> list[tuple[int, int]]:
    """Ranges of rows with about as many entries each, of CSR; `starts` (rows + 1,) may begin above 0."""
    cuts = np.searchsorted(starts, starts[0] + (starts[-1] - starts[0]) * np.arange(1, parts) // parts)
    return list(pairwise([0, *cuts.tolist(), len(starts) - 1]))
