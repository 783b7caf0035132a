"""Workers: threads over ranges of columns. Compiled code runs without the GIL, and a column needs no other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

COLUMNS = 16  # columns that compiled code takes at once; ranges are multiples of it


class Workers:
    """A number of threads, each of which calls `begin` first; used as a context manager.

    May be asked from several threads at once: copies of a network share them.
    """

    def __init__(self, threads: int, begin: Callable[[], object] | None = None) -> None:
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self.threads, initializer=begin) if self.threads > 1 else None

    def columns(self, function: Callable[..., None], count: int, *arguments: Any) -> None:
        """function(begin, end, *arguments) over 0..count, a multiple of 16, one equal part a thread."""
        units = count // COLUMNS
        cuts = sorted({units * part // self.threads * COLUMNS for part in range(self.threads + 1)})
        self.each(lambda bounds: function(*bounds, *arguments), list(pairwise(cuts)))

    def each(self, function: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
        """function(task) for every task, in threads; the results in the order of tasks."""
        if self._pool is None or len(tasks) == 1:
            return [function(task) for task in tasks]
        return list(self._pool.map(function, tasks))

    def __deepcopy__(self, _known: object) -> Workers:
        return self

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
