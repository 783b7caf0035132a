"""sampling: equally likely rows without replacement from a stream that is spread over hosts.

Every row draws a random 64-bit key, and the sample is the rows with the smallest keys: a reservoir whose states can be
merged, because the smallest of several hosts' smallest are the smallest of all (Cohen, Size-estimation framework, JCSS
55, 1997: bottom-k sketches). Keys come from a counter-based generator per host, one number a row, so neither the size
of batches nor the way in which a host reads matters. Rows keep the order of hosts and, within a host, of its data.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch, join

PIECE_BYTES = 64 << 20  # of a sample, sent between hosts at a time
_SLACK = 1 << 16  # rows held beyond the sample before those that lost are dropped


class Reservoir:
    """At most `size` rows of those that were added, each subset of that size equally likely; None keeps all."""

    def __init__(self, size: int | None, seed: int, rank: int = 0, digest: bool = False) -> None:
        self.size = size
        self.seen = 0  # rows added
        self.digest = 0  # of all rows added, where asked for: hosts with the same data are found by it
        self._random = np.random.Generator(np.random.Philox(key=[seed, rank]))
        self._parts: list[tuple[np.ndarray, Batch]] = []  # keys and their rows, in the order of the stream
        self._held = 0
        self._limit = np.uint64(2**64 - 1)  # rows with larger keys have lost
        self._digests = digest

    def add(self, batch: Batch) -> None:
        """Takes the rows of a batch, of which each has one label."""
        if self._digests:
            self.digest = _digested(batch, self.digest)
        keys = self._random.integers(0, 2**64, len(batch), dtype=np.uint64)
        self.seen += len(batch)
        self._keep(keys, batch)
        if self.size is not None and self._held > self.size + max(self.size // 4, _SLACK):
            self.cut(_smallest(np.concatenate([keys for keys, _ in self._parts]), self.size))

    def _keep(self, keys: np.ndarray, batch: Batch) -> None:
        kept = keys <= self._limit
        if kept.all():
            self._parts.append((keys, batch))
        elif kept.any():
            self._parts.append((keys[kept], batch.take(kept)))
        self._held += int(kept.sum())

    def keys(self) -> np.ndarray:
        """The keys of the rows in the sample, (n,) uint64."""
        self.cut(self._limit if self.size is None else _smallest(_joined(self._parts), self.size))
        return _joined(self._parts)

    def cut(self, limit: np.uint64) -> None:
        """Drops rows whose key is above `limit`."""
        self._limit = min(self._limit, limit)
        parts, self._parts, self._held = self._parts, [], 0
        while parts:  # part by part, so that never more than one is held twice
            self._keep(*parts.pop(0))

    def rows(self) -> Batch | None:
        """The sample, or None where no row was added; the reservoir is empty afterwards."""
        self.keys()
        parts, self._parts, self._held = self._parts, [], 0
        return join([batch for _, batch in parts]) if parts else None


def gathered(reservoir: Reservoir, run: Run) -> Batch | None:
    """The sample over all hosts, on every host; hosts that read the same data count as one.

    First only keys travel, which tell where the sample ends; then the rows below it.
    """
    if len(run.hosts) == 1:
        return reservoir.rows()
    keys = reservoir.keys()
    notes = np.array([reservoir.seen, reservoir.digest], np.uint64)
    states = [np.frombuffer(state, np.uint64) for state in run.gather(np.concatenate([notes, keys]).tobytes())]
    same = reservoir.seen > 0 and all(np.array_equal(state[:2], states[0][:2]) for state in states)
    if same:
        run.log("All %s hosts read the same rows: the sample is %s's", len(states), run.hosts[0])
        reservoir.cut(np.uint64(2**64 - 1) if run.is_master else np.uint64(0))
    elif reservoir.size is not None:
        reservoir.cut(_smallest(np.concatenate([state[2:] for state in states]), reservoir.size))
    mine = reservoir.rows()
    found = [_unpacked(state) for state in _exchange(b"" if mine is None else _packed(mine), run) if state]
    return join(found) if found else None


def _exchange(state: bytes, run: Run) -> list[bytes]:
    """`run.gather` of a large state in pieces, so that no host holds all states twice."""
    longest = max(int(size) for size in run.gather(str(len(state)).encode()))
    pieces: list[list[bytes]] = [[] for _ in run.hosts]
    for start in range(0, longest, PIECE_BYTES):
        for kept, piece in zip(pieces, run.gather(state[start : start + PIECE_BYTES]), strict=True):
            kept.append(piece)
    return [b"".join(kept) for kept in pieces]


def _joined(parts: Sequence[tuple[np.ndarray, Batch]]) -> np.ndarray:
    return np.concatenate([keys for keys, _ in parts]) if parts else np.empty(0, np.uint64)


def _smallest(keys: np.ndarray, size: int) -> np.uint64:
    """The largest of the `size` smallest keys."""
    return np.uint64(2**64 - 1) if len(keys) <= size else np.uint64(np.partition(keys, size - 1)[size - 1])


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    features: Any = batch.features
    label = np.asarray(batch.label, np.float32)
    if not batch.is_sparse:
        return {"label": label, "values": features}
    return {
        "label": label,
        "values": features.data,
        "keys": features.indices,
        "starts": features.indptr,
        "shape": np.array(features.shape),
    }


def _digested(batch: Batch, digest: int) -> int:
    for array in _arrays(batch).values():
        digest = zlib.crc32(np.ascontiguousarray(array).data, digest)
    return digest


def _packed(batch: Batch) -> bytes:
    file = io.BytesIO()
    arrays: Any = _arrays(batch)
    np.savez(file, **arrays)
    return file.getvalue()


def _unpacked(state: bytes) -> Batch:
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
        if "keys" not in arrays:
            return Batch(arrays["values"], arrays["label"])
        from scipy import sparse

        parts = (arrays["values"], arrays["keys"], arrays["starts"])
        return Batch(sparse.csr_matrix(parts, shape=tuple(arrays["shape"])), arrays["label"])
