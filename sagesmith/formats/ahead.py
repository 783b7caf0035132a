"""ahead: a stream worked on by several threads, the results in the order of the stream, a few of them held at a time.

Text is cut where lines end, and compiled code reads the pieces side by side, since it does not need the GIL.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

HELD = 3  # items of each thread that are worked on, or done and not yet asked for


def processors() -> int:
    """How many this process may use: OMP_NUM_THREADS, which a job is given, or as many as the system lets it have."""
    return int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0))


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`work` of each item, in their order, by `threads` threads; this one takes the items, HELD for each thread ahead.

    What `work` or `items` raises comes after the results of all items before it.
    """
    if threads < 2:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "reading ahead")
    try:
        failure = None
        given = iter(items)
        while failure is None:
            try:
                waiting.append(pool.submit(work, next(given)))
            except Exception as error:  # the last item is before it, and StopIteration is one too
                failure = error
            while waiting and (failure or len(waiting) >= HELD * threads or waiting[0].done()):
                yield waiting.popleft().result()
        if not isinstance(failure, StopIteration):
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
