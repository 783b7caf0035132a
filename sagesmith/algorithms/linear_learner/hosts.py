"""The hosts of a job: one model, trained on every host's rows, a batch of each host to a step, gradients added up.

Every host makes the same steps from the same sums, so that weights, and the decision to stop, are equal everywhere. A
host that has no row left, or never had one, adds nothing until all are through.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner.rows import Labels, Rows
from sagesmith.algorithms.linear_learner.scaler import Moments, moments_of_all
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch, csr, join
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError


@dataclass
class Step:
    """Sums over a batch of every host; see `Gang.together`."""

    lost: np.ndarray
    total: float
    gradient: np.ndarray
    rows: np.ndarray
    stopping: bool


class Gang:
    """All hosts, seen from one of them. Each method is called by all, in the same order."""

    def __init__(self, run: Run) -> None:
        self._run, self.alone = run, len(run.hosts) == 1
        self._sharded: dict[int, bool] = {}

    def added(self, values: np.ndarray) -> np.ndarray:
        """The sum over hosts of equal float64 vectors."""
        if self.alone:
            return values
        parts = self._run.gather(np.asarray(values, np.float64).tobytes())
        return np.asarray(np.sum([np.frombuffer(part) for part in parts], axis=0))

    def total(self, count: float) -> int:
        return int(self.added(np.array([float(count)]))[0])

    def largest(self, value: int) -> int:
        """The largest of the hosts' values."""
        return value if self.alone else max(int(part) for part in self._run.gather(str(value).encode()))

    def any(self, truth: bool) -> bool:
        return self.total(truth) > 0

    def joined(self, values: np.ndarray) -> np.ndarray:
        """The hosts' float32 vectors after each other."""
        if self.alone:
            return values
        parts = self._run.gather(np.asarray(values, np.float32).tobytes())
        return np.concatenate([np.frombuffer(part, np.float32) for part in parts])

    def agreed_width(self, width: int | None) -> int:
        """The number of columns; raises DataError where hosts differ."""
        parts = [b"" if width is None else str(width).encode()]
        found = {int(part) for part in (parts if self.alone else self._run.gather(parts[0])) if part}
        if len(found) > 1:
            raise DataError(f"hosts have rows of {min(found)} and of {max(found)} columns in channel 'train'")
        return found.pop()

    def moments(self, batch: Batch | None) -> Moments:
        """The moments of every host's sample."""
        found = moments_of_all(batch, self._run)
        assert found is not None
        return found

    def sharded(self, rows: Rows) -> bool:
        """Whether hosts have other rows than each other."""
        if self.alone:
            return False
        if id(rows) not in self._sharded:
            digest = 0
            for batch in rows.batches(8192):
                features: Any = batch.features.data if batch.is_sparse else batch.features
                digest = zlib.crc32(np.ascontiguousarray(features).tobytes(), digest)
                digest = zlib.crc32(np.ascontiguousarray(batch.label).tobytes(), digest)
            parts = self._run.gather(f"{rows.count} {digest}".encode())
            self._sharded[id(rows)] = len(set(parts)) > 1
        return self._sharded[id(rows)]

    def sample(self, rows: Rows, most: int, labels: Labels) -> Rows:
        """A sample of the training rows of all hosts, the same on every host; shares follow the hosts' rows."""
        total = self.total(rows.count)
        share = min(len(rows.sample), round(most * rows.count / total) if total > most else rows.count)
        return Rows(Channel.of("validation", self.shared(rows.spread(share))), None, labels)

    def shared(self, batch: Batch | None) -> Batch:
        """The rows of all hosts, below each other."""
        if self.alone:
            assert batch is not None
            return batch
        parts = self._run.gather(b"" if batch is None or not len(batch) else _packed(batch))
        return join([_unpacked(part) for part in parts if part])

    def together(
        self,
        lost: np.ndarray,
        total: float,
        gradient: np.ndarray | None,
        moved: np.ndarray | None,
        columns: int,
        stopping: bool,
    ) -> Step | None:
        """The sums over the hosts' batches; None when no host has one.

        Args:
            lost: (models,) losses; total: weight of the rows.
            gradient: (r, columns) for the rows `moved` of the weights; None: this host has no batch.
        """
        if self.alone:
            return None if gradient is None or moved is None else Step(lost, total, gradient, moved, stopping)
        head = np.array([stopping, -1 if gradient is None else len(gradient), total, *lost]).tobytes()
        body = b"" if gradient is None or moved is None else moved.astype(np.int64).tobytes() + gradient.tobytes()
        return _summed(self._run.gather(head + body), len(lost), columns)


def _summed(parts: list[bytes], models: int, columns: int) -> Step | None:
    size = 8 * (3 + models)
    heads = np.array([np.frombuffer(part[:size]) for part in parts])
    found = []
    for head, part in zip(heads, parts, strict=True):
        rows = int(head[1])
        if rows >= 0:
            moved = np.frombuffer(part, np.int64, rows, size)
            found.append((moved, np.frombuffer(part, np.float32, offset=size + 8 * rows).reshape(rows, columns)))
    if not found:
        return None
    moved = found[0][0]
    if not all(np.array_equal(moved, other) for other, _ in found):
        moved = np.unique(np.concatenate([rows for rows, _ in found]))
    gradient = np.zeros((len(moved), columns), np.float32)
    for own, slopes in found:
        gradient[np.searchsorted(moved, own)] += slopes
    return Step(heads[:, 3:].sum(axis=0), float(heads[:, 2].sum()), gradient, moved, bool(heads[:, 0].any()))


def _packed(batch: Batch) -> bytes:
    """Rows as npz, sparse ones as CSR."""
    matrix: Any = batch.features
    arrays: dict[str, Any] = {"label": batch.label}
    if batch.weight is not None:
        arrays["weight"] = batch.weight
    if batch.is_sparse:
        arrays |= {"values": matrix.data, "keys": matrix.indices, "starts": matrix.indptr, "width": matrix.shape[1]}
    else:
        arrays["features"] = matrix
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _unpacked(part: bytes) -> Batch:
    with np.load(io.BytesIO(part), allow_pickle=False) as arrays:
        weight = arrays.get("weight")
        if "features" in arrays:
            return Batch(arrays["features"], arrays["label"], weight)
        matrix = csr(arrays["values"], arrays["keys"], arrays["starts"], int(arrays["width"]))
        return Batch(matrix, arrays["label"], weight)
