"""Devices: the GPUs of a host learn one model by skipgram or cbow, each from its share of the text.

As in the paper (Gupta and Khare, BlazingText, MLHPC 2017) each device has the tables whole and a thread of its own.
Once or several times an epoch they meet as hosts do, and move rows by what `hosts.joined` makes of their moves. Each
device joins the moves of its part of the rows, which the others then take over, so that all links carry as much.

Imports torch at once: import this module inside the functions that train.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from threading import Event

import numpy as np
import torch

from sagesmith.algorithms.blazingtext import hosts
from sagesmith.algorithms.blazingtext.rows_torch import Table
from sagesmith.algorithms.blazingtext.slices import Progress
from sagesmith.algorithms.blazingtext.word2vec_compiled import Plan
from sagesmith.algorithms.blazingtext.word2vec_torch import OnDevice

APART = 10  # words of a device for a word of the vocabulary, at least, from meeting to meeting


class Devices:
    """The tables on every device, and what is learnt there.

    Args:
        plan: as for the compiled loops; its tables are read here and written by `give_back`.
        mode: `skipgram` or `cbow`.
        width: numbers of a vector.
        seed: of what the first device draws; the others draw other numbers.
    """

    def __init__(self, plan: Plan, mode: str, width: int, seed: int, devices: Sequence[torch.device]) -> None:
        seeds = [seed, *(hash((seed, number)) for number in range(1, len(devices)))]
        self._learners = [OnDevice(plan, mode, width, own, device) for own, device in zip(seeds, devices, strict=True)]
        self._outputs = plan.outputs
        tables = zip(*(learner.tables for learner in self._learners), strict=True) if len(devices) > 1 else ()
        self._copies = [Copies(copies) for copies in tables]
        self._failed = Event()

    def give_back(self) -> bool:
        """Writes what was learnt into the plan's tables; whether it is numbers."""
        return self._learners[0].give_back()

    def epoch(self, words: np.ndarray, stream: int, progress: Progress) -> None:
        """Learns from words, LINE between lines, until the job is asked to stop. An error on a device ends all."""
        size, count = self._learners[0].size_of(len(words)), len(self._learners)
        if count == 1:
            self._learn(0, words, stream, size, progress, progress.done)
            return
        laps = self._laps(len(words) // count, size)
        shares = [np.array_split(share, laps) for share in np.array_split(words, count)]
        with ThreadPoolExecutor(count, "device") as pool:
            for lap, parts in enumerate(zip(*shares, strict=True)):
                turn = partial(
                    self._learn, stream=stream * laps + lap, size=size, progress=progress, begun=progress.done
                )
                list(pool.map(turn, range(count), parts))
                for copies in self._copies:
                    list(pool.map(copies.join, range(count)))
                    list(pool.map(copies.take, range(count)))
                if progress.run.stopping:
                    return

    def _laps(self, words: int, size: int) -> int:
        """How often devices meet that learn from so many words each, in chunks of a size."""
        return max(1, min(words // (APART * len(self._outputs)), words // size))

    @torch.no_grad()
    def _learn(self, number: int, words: np.ndarray, stream: int, size: int, progress: Progress, begun: int) -> None:
        """One device's turn, after `begun` words of all.

        Its rate falls as if the others were as far, so that what is learnt hangs on the seed alone.
        """
        done, count = 0, len(self._learners)
        try:
            for reached in self._learners[number].steps(
                words, stream, size, lambda own: progress.rate_at(begun + own * count)
            ):
                progress.add(reached - done)
                done = reached
                if progress.run.stopping or self._failed.is_set():
                    return
        except BaseException:
            self._failed.set()
            raise


class Copies:
    """One table's copies, the same on all devices after every meeting; its rows are parted among the devices.

    Args:
        tables: a copy on each device, all with the same numbers.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        cuts = np.linspace(0, len(tables[0].values), len(tables) + 1).astype(int).tolist()
        self._parts = [slice(begin, end) for begin, end in pairwise(cuts)]
        self._values = [table.values for table in tables]
        self._before = [values[part].clone() for values, part in zip(self._values, self._parts, strict=True)]

    def join(self, number: int) -> None:
        """On one device: joins what all have moved its part of the rows by."""
        part, before = self._parts[number], self._before[number]
        before += hosts.joined([values[part].to(before.device) - before for values in self._values])

    def take(self, number: int) -> None:
        """On one device: takes all rows over, once all parts are joined."""
        for part, joined in zip(self._parts, self._before, strict=True):
            self._values[number][part] = joined
