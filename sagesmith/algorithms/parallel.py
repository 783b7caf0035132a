"""parallel: work on arrays shared among threads that are kept; for compiled code, which runs without the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def divided(work: Callable[[int, int], None], size: int, threads: int) -> None:
    """Calls work(first, last) for parts of 0 to size, one part a thread, this thread's own among them."""
    parts = min(threads, size)
    edges = [size * number // max(1, parts) for number in range(parts + 1)]
    each(lambda number: work(edges[number], edges[number + 1]), range(parts), threads)


def each(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """The results of work(item) in the order of items, by several threads, this one among them."""
    threads = min(threads, len(items))
    if threads <= 1:
        return [work(item) for item in items]

    def share(first: int) -> list[Result]:
        return [work(item) for item in items[first::threads]]

    pool = _pool(threads)
    others = [pool.submit(share, number) for number in range(1, threads)]
    shares = [share(0), *(other.result() for other in others)]
    return [shares[number % threads][number // threads] for number in range(len(items))]


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that are kept: starting one takes longer than a mini-batch."""
    key = os.getpid(), threads  # a forked process has the dictionary, but not the threads
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads - 1, "sagesmith")
    return _pools[key]
