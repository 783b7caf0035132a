"""Hosts: several hosts learn one model by batch_skipgram, each from its share of the same text.

All have the whole text and thus the same vocabulary and the same numbers to begin with. Once or several times an epoch
they meet: what each host has moved a row by is sent, and a row becomes what it was plus the mean of the moves of those
hosts that moved it. A rare word that one host alone has seen goes the whole way, and a frequent one is averaged.
Moves travel as float16, whose eleven bits are more than a step of HogWild is true to; every host adds up what was sent,
its own as well, so that all have the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sagesmith.algorithms.run import Run

LAPS = 4  # meetings an epoch, at most
APART = 50  # words of a host for a word of the vocabulary, at least, from meeting to meeting: both then cost time


def share_of(words: np.ndarray, run: Run) -> np.ndarray:
    """This host's part of a text."""
    cuts = np.linspace(0, len(words), len(run.hosts) + 1).astype(int)
    return words[cuts[run.rank] : cuts[run.rank + 1]]


def meetings(words: int, vocabulary: int, run: Run) -> int:
    """How often hosts meet in an epoch of so many words of all of them: the same number on each."""
    return max(1, min(LAPS, words // len(run.hosts) // (APART * vocabulary))) if len(run.hosts) > 1 else 1


def laps(cuts: Sequence[int], count: int) -> Iterator[list[int]]:
    """An epoch's cuts, in as many parts as there are meetings."""
    ends = np.linspace(0, len(cuts) - 1, count + 1).astype(int).tolist()
    for begin, end in pairwise(ends):
        yield list(cuts[begin : end + 1])


class Together:
    """The tables of all hosts, which are the same on each after every meeting."""

    def __init__(self, run: Run, *tables: np.ndarray) -> None:
        self._run, self._tables = run, tables
        self._before = [table.copy() for table in tables] if len(run.hosts) > 1 else []

    def meet(self) -> bool:
        """Brings the tables together; whether a host was asked to stop: then all do."""
        if len(self._run.hosts) == 1:
            return self._run.stopping
        messages = self._run.gather(bytes([self._run.stopping]) + b"".join(self._moves()))
        at = [1] * len(messages)
        for table, before in zip(self._tables, self._before, strict=True):
            total, hosts = np.zeros_like(table), np.zeros((len(table), 1), np.float32)
            for number, message in enumerate(messages):
                at[number] = _take(message, at[number], total, hosts)
            np.divide(total, hosts, out=total, where=hosts > 0)
            before += total
            table[:] = before
        return any(message[0] for message in messages)

    def _moves(self) -> Iterator[bytes]:
        """For each table how many rows were moved, which, and by what."""
        for table, before in zip(self._tables, self._before, strict=True):
            move = table - before
            rows = np.flatnonzero(move.any(axis=1)).astype(np.int32)
            yield np.int64(len(rows)).tobytes()
            yield rows.tobytes()
            yield move[rows].astype(np.float16).tobytes()


def _take(message: bytes, at: int, total: np.ndarray, hosts: np.ndarray) -> int:
    """Adds one host's moves of a table up, and counts it for the rows that it moved; where the next table begins."""
    count = int(np.frombuffer(message, np.int64, 1, at)[0])
    rows = np.frombuffer(message, np.int32, count, at + 8)
    begin = at + 8 + 4 * count
    size = count * total.shape[1]
    total[rows] += np.frombuffer(message, np.float16, size, begin).reshape(count, total.shape[1])
    hosts[rows] += 1
    return int(begin + 2 * size)
