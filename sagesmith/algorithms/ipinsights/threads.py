"""Workers: threads over ranges of rows.

Compiled code and matrix products run without the GIL, so that threads of ours share the work. BLAS's own would wait
for each other by spinning (blas.py): on a machine with other things to do, training took ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

ALONE = 64  # rows for which no thread is worth waking


class Workers:
    """A number of threads; used as a context manager."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def each(self, function: Callable[..., None], count: int, *arguments: Any) -> None:
        """function(begin, end, *arguments) over 0..count, one equal part a thread."""
        if count < ALONE:
            function(0, count, *arguments)
        else:
            self.parts(lambda _, begin, end: function(begin, end, *arguments), count, self.threads, 1)

    def parts(self, function: Callable[[int, int, int], None], count: int, parts: int, unit: int) -> None:
        """function(part, begin, end) over 0..count in `parts` parts, each a multiple of `unit` but for the last."""
        units = -(-count // unit)
        cuts = sorted({min(count, units * part // parts * unit) for part in range(parts)} | {count})
        ranges = [(part, begin, end) for part, (begin, end) in enumerate(pairwise(cuts))]
        if self._pool is None or len(ranges) == 1:
            for one in ranges:
                function(*one)
            return
        for future in [self._pool.submit(function, *one) for one in ranges]:
            future.result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
