"""Hosts: several hosts learn one model by batch_skipgram, each from its share of the same text.

All have the whole text and thus the same vocabulary and the same numbers to begin with. Once or several times an epoch
they meet: what each host has moved a row by is sent, and a row becomes what it was plus what `joined` makes of the
moves. A rare word that one host alone has seen goes the whole way, and where all hosts lead a row the same way, it goes
as far as one of them. Moves travel as float16, whose eleven bits are more than a step of HogWild is true to; every host
joins what was sent, its own as well, so that all have the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sagesmith.algorithms.run import Run

LAPS = 4  # meetings an epoch, at most
APART = 50  # words of a host for a word of the vocabulary, at least, from meeting to meeting: both then cost time
ROWS = 1 << 12  # rows that are joined at once
TINY = 1e-30  # the square of a move that is none


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


def joined(moves: Sequence[Any]) -> Any:
    """What rows move by when each of several learners moved them: Adasum (Maleki et al., arXiv 2006.02924).

    Moves at right angles, which know nothing of each other, are added up; of moves the same way the mean is taken,
    since each of them alone went as far as it should.

    Args:
        moves: (rows, width) of each learner, NumPy arrays or tensors.
    """
    if len(moves) == 1:
        return moves[0]
    one, other = joined(moves[: len(moves) // 2]), joined(moves[len(moves) // 2 :])
    shared = (one * other).sum(1, keepdims=True) / 2
    one_kept, other_kept = (1 - shared / (move * move).sum(1, keepdims=True).clip(TINY) for move in (one, other))
    return one * one_kept + other * other_kept


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
            sent = [_read(message, begin, table.shape[1]) for message, begin in zip(messages, at, strict=True)]
            at = [end for _, _, end in sent]
            for begin in range(0, len(table), ROWS):
                part = before[begin : begin + ROWS]
                part += joined([_moved(rows, moves, begin, part.shape) for rows, moves, _ in sent])
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


def _read(message: bytes, at: int, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Of a table the rows that a host moved, (n,) in their order; by what, (n, width); where the next table begins."""
    count = int(np.frombuffer(message, np.int64, 1, at)[0])
    rows = np.frombuffer(message, np.int32, count, at + 8)
    begin = at + 8 + 4 * count
    moves = np.frombuffer(message, np.float16, count * width, begin).reshape(count, width)
    return rows, moves, begin + 2 * count * width


def _moved(rows: np.ndarray, moves: np.ndarray, begin: int, shape: tuple[int, ...]) -> np.ndarray:
    """A host's moves of `shape` rows from `begin` on, 0 where it moved none."""
    found = np.zeros(shape, np.float32)
    low, high = np.searchsorted(rows, (begin, begin + len(found)))
    found[rows[low:high] - begin] = moves[low:high]
    return found
