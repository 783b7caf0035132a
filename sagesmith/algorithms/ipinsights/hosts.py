"""Several hosts: each learns from its rows, and after every epoch their networks become one.

A table's row becomes the mean of the hosts' rows, weighted by how often each host moved it; others stay.
Weights and biases are weighted by the batches of each host (local SGD; McMahan et al., Communication-Efficient Learning
of Deep Networks from Decentralized Data, 2017). Tables travel in pieces: they may be gigabytes.
"""

from __future__ import annotations

import hashlib

import numpy as np

from sagesmith.algorithms.ipinsights.pairs import Pairs
from sagesmith.algorithms.ipinsights.training import Training
from sagesmith.algorithms.run import Run
from sagesmith.formats.errors import DataError

PIECE_BYTES = 64 << 20


def share_of(pairs: Pairs, run: Run) -> Pairs:
    """This host's part of the training pairs: its shard, or, where every host was given the same, every n-th pair."""
    if len(run.hosts) == 1:
        return pairs
    if len(set(run.gather(hashlib.sha256(pairs.tobytes()).digest()))) > 1:
        return pairs
    return Pairs(pairs.entities[run.rank :: len(run.hosts)], pairs.ips[run.rank :: len(run.hosts)])


def all_of(pairs: Pairs, run: Run) -> Pairs:
    """The pairs of all hosts; once, where every host was given the same."""
    if len(run.hosts) == 1:
        return pairs
    parts = run.gather(pairs.tobytes())
    return pairs if len(set(parts)) == 1 else Pairs.joined([Pairs.frombytes(part) for part in parts])


def known_of(hashes: np.ndarray, run: Run) -> np.ndarray:
    """The sorted distinct entity hashes of all hosts.

    Raises:
        DataError: there are none.
    """
    mine: np.ndarray = np.unique(hashes)
    if len(run.hosts) > 1:
        mine = np.unique(np.concatenate([np.frombuffer(part, "<u8") for part in run.gather(mine.tobytes())]))
    if not len(mine):
        raise DataError("the train channel holds no pairs" + (" on any host" if len(run.hosts) > 1 else ""))
    return mine


def prepare(training: Training, run: Run) -> None:
    """Lets the rows' steps be counted, where there are several hosts."""
    if len(run.hosts) > 1:
        for name in ("entities", "prefixes"):
            training.counts[name] = np.zeros(len(getattr(training.network, name)), np.int32)


def meet(training: Training, run: Run, batches: int) -> bool:
    """Makes one network of all hosts' after an epoch, and tells whether one of them was asked to stop: then all do."""
    if len(run.hosts) == 1:
        return run.stopping
    for name, counts in training.counts.items():
        table = getattr(training.network, name)
        rows = max(1, PIECE_BYTES // table[0].nbytes)
        for at in range(0, len(table), rows):
            _average(table[at : at + rows], counts[at : at + rows], run)
        counts[:] = 0
    for name in ("weights", "biases"):
        table = getattr(training.network, name)
        if table.size:
            flat = table.reshape(1, -1)
            _average(flat, np.array([batches], np.int32), run)
    return any(part[0] for part in run.gather(bytes([run.stopping])))


def _average(table: np.ndarray, counts: np.ndarray, run: Run) -> None:
    """Rows in place become the hosts' mean, weighted by their counts."""
    moved = np.flatnonzero(counts).astype("<i4")
    message = moved.tobytes() + counts[moved].astype("<i4").tobytes() + table[moved].astype("<f4").tobytes()
    sums = np.zeros(table.shape, np.float64)
    weights = np.zeros(len(table), np.int64)
    for part in run.gather(message):
        size = len(part) // (8 + 4 * table.shape[1])
        rows, weight = np.frombuffer(part, "<i4", size), np.frombuffer(part, "<i4", size, 4 * size)
        values = np.frombuffer(part, "<f4", size * table.shape[1], 8 * size).reshape(size, table.shape[1])
        sums[rows] += weight[:, None] * values
        weights[rows] += weight
    found = weights > 0
    table[found] = sums[found] / weights[found, None]
