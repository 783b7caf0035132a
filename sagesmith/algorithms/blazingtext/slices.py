"""Slices: threads that take a text slice by slice, with a rate that falls in a straight line; and what the log says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np

from sagesmith.algorithms.blazingtext.chance_compiled import seeded
from sagesmith.algorithms.run import Run

PARTS = 32  # slices of an epoch and a thread
SECONDS = 2.0  # between two lines of the log
LOOK = 0.05  # seconds between two looks whether the job was asked to stop

Learn = Callable[[int, int, tuple[float, float], np.ndarray], Any]  # begin, end, rates at both, random state


class Progress:
    """How far training is, in words: the rate, and lines for the log.

    Args:
        words: of the text, all epochs together.
        form: the line, of rate, percent and million words per second.
    """

    def __init__(self, run: Run, rate: float, words: int, form: str) -> None:
        self.run, self.form = run, form
        self._rate, self._words = rate, max(1, words)
        self._started = self._told = time.monotonic()
        self._begun = 0  # words that an earlier run had done
        self._lock = Lock()
        self.done = 0

    def resume(self, words: int) -> None:
        """So many words were learnt from before a checkpoint."""
        self._begun = self.done = words

    def add(self, words: int) -> None:
        """So many more words are done; any thread may say so."""
        with self._lock:
            self.done += words
            self.tell()

    def rate_at(self, words: int) -> float:
        """The rate once so many words are done."""
        return self._rate * max(0.0, 1 - words / self._words)

    @property
    def seconds(self) -> float:
        return max(1e-9, time.monotonic() - self._started)

    @property
    def speed(self) -> float:
        """Million words a second."""
        return (self.done - self._begun) / self.seconds / 1e6

    def tell(self, at_once: bool = False) -> None:
        """A line for the log, if it is time for one."""
        if at_once or time.monotonic() - self._told >= SECONDS:
            self._told = time.monotonic()
            self.run.log(self.form, self.rate_at(self.done), 100 * min(1, self.done / self._words), self.speed)


class Team:
    """The threads; used as a context manager."""

    def __init__(self, run: Run, seed: int) -> None:
        self._run, self._seed, self.threads = run, seed, run.threads
        self._pool = ThreadPoolExecutor(run.threads) if run.threads > 1 else None

    def epoch(
        self, learn: Learn, cuts: Sequence[int], words: Sequence[int], stream: int, progress: Progress
    ) -> list[Any]:
        """learn() over every slice cuts[i]..cuts[i + 1]; what it returned, as far as the job went on.

        Args:
            words: how many words are done at each cut, of this epoch.
            stream: a number of this epoch's own, for the random numbers.
        """
        before = progress.done
        found: list[Any] = []
        plan = iter(enumerate(zip(pairwise(cuts), pairwise(words), strict=True)))
        waiting: dict[Future[Any], int] = {}
        for part, ((begin, end), (first, last)) in self._going(plan, waiting, found, progress):
            rates = progress.rate_at(before + first), progress.rate_at(before + last)
            state = np.empty(1, np.uint64)
            seeded(hash((self._seed, self._run.rank, stream, part)) & 0x7FFFFFFFFFFFFFFF, state)
            if self._pool is None:
                found.append(learn(begin, end, rates, state))
                progress.add(last - first)
            else:
                waiting[self._pool.submit(learn, begin, end, rates, state)] = last - first
        return found

    def _going(
        self, plan: Iterator[Any], waiting: dict[Future[Any], int], found: list[Any], progress: Progress
    ) -> Iterator[Any]:
        """The next slice once a thread is free, until the job is asked to stop; then what was begun is done."""
        for one in plan:
            while len(waiting) >= 2 * self._run.threads:
                self._gather(waiting, found, progress)
            if self._run.stopping:
                break
            yield one
        while waiting:
            self._gather(waiting, found, progress)

    def _gather(self, waiting: dict[Future[Any], int], found: list[Any], progress: Progress) -> None:
        done, _ = wait(waiting, LOOK, return_when="FIRST_COMPLETED")
        for future in done:
            progress.add(waiting.pop(future))
            found.append(future.result())

    def map(self, function: Callable[[int, int], Any], count: int) -> list[Any]:
        """function(begin, end) over 0..count, in a part a thread."""
        cuts = np.linspace(0, count, self._run.threads + 1).astype(int).tolist()
        if self._pool is None:
            return [function(0, count)]
        return list(self._pool.map(function, cuts[:-1], cuts[1:]))

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def cuts_of(count: int, threads: int, least: int) -> list[int]:
    """Where slices of 0..count begin and end: enough for all threads, none much shorter than `least`."""
    parts = max(1, min(PARTS * threads, count // least))
    return np.linspace(0, count, parts + 1).astype(int).tolist()  # type: ignore[no-any-return]
