"""The rows of a channel, pass after pass: kept in memory where they fit, read again where they do not.

The first pass looks at every row: labels, widths, finite numbers; it counts rows and classes and draws a sample, from
which the scaler, and without a validation channel the calibration, take what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from sagesmith.algorithms.first_party import check_labels, passes
from sagesmith.formats.batch import Batch, join, rechunk
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError

KEPT = 2 << 30  # bytes of decoded rows that are kept for the next pass
SHUFFLED = 64 << 20  # bytes up to which kept rows are shuffled anew for every pass
PIECE = 65_536  # labels that are looked at together: fresh memory for all takes longer than the look

Labels = Callable[[Batch, str, int], np.ndarray]


class Rows:
    """Attributes: `count`; `width` (None without a row); `is_sparse`; `classes`: (n,) weight of each class's rows."""

    def __init__(self, channel: Channel, width: int | None, labels: Labels, sampled: int = 0, classes: int = 0) -> None:
        """Reads the channel once; `sampled` rows are drawn for `sample`, all alike likely; `classes` are counted.

        Raises:
            DataError: a row that cannot be learnt from.
        """
        self._channel, self._expected, self._check = channel, width, labels
        self.width: int | None = None
        self.count, self.is_sparse = 0, False
        self.classes = np.zeros(classes)
        self._kept: list[Batch] | None = []
        self.sample = Batch(np.empty((0, 0), np.float32), np.empty(0, np.float32))
        self._read_first(sampled)

    def _read_first(self, sampled: int) -> None:
        random, keys, held = np.random.default_rng(0), np.empty(0), 0
        for batch in self._checked():
            self.width, self.is_sparse = batch.width, self.is_sparse or batch.is_sparse
            self.count += len(batch)
            if len(self.classes):
                self._count(batch)
            if sampled:
                keys = self._draw(batch, random, keys, sampled)
            held += size_of(batch)
            if self._kept is not None and (held <= KEPT or self._channel.is_arrays):
                self._kept.append(batch)
            else:
                self._kept = None
        if self._kept and held <= SHUFFLED:
            self._kept = [join(self._kept)]

    def _count(self, batch: Batch) -> None:
        assert batch.label is not None
        for start in range(0, len(batch), PIECE):
            part = slice(start, start + PIECE)
            weight = None if batch.weight is None else batch.weight[part]
            self.classes += np.bincount(batch.label[part].astype(np.int64), weight, len(self.classes))

    def _checked(self) -> Iterator[Batch]:
        seen = 0
        where = f"channel {self._channel.name!r}"
        for batch in passes(self._channel, None, self._expected):
            yield replace(batch, label=self._check(batch, where, seen))
            seen += len(batch)

    def _draw(self, batch: Batch, random: np.random.Generator, keys: np.ndarray, sampled: int) -> np.ndarray:
        """Every row gets a random key, and those with the smallest keys so far are the sample."""
        new = random.random(len(batch), np.float32)
        limit = keys.max() if len(keys) >= sampled else np.inf
        near = np.flatnonzero(new < min(limit, 1.2 * sampled / len(batch)))  # of many rows few are looked at
        if len(near) < sampled:
            near = np.flatnonzero(new < limit)
        if len(near) > sampled:
            near = np.sort(near[np.argpartition(new[near], sampled - 1)[:sampled]])
        if not len(near):
            return keys
        taken = batch.take(near)
        both = np.concatenate([keys, new[near]])
        pool = join([self.sample, taken]) if len(keys) else taken
        best = np.sort(np.argpartition(both, sampled - 1)[:sampled]) if len(both) > sampled else np.arange(len(both))
        self.sample = pool if len(best) == len(pool) else pool.take(best)
        return both[best]

    @property
    def is_kept(self) -> bool:
        """Whether all rows are in memory."""
        return self._kept is not None

    def batches(self, rows: int, random: np.random.Generator | None = None) -> Iterator[Batch]:
        """One pass in batches of `rows`; with `random`, small data come in an order of their own."""
        if self._kept is None:
            return rechunk(self._checked(), rows)
        if random is not None and len(self._kept) == 1 and size_of(self._kept[0]) <= SHUFFLED:
            return _shuffled(self._kept[0], rows, random)
        return rechunk(self._kept, rows)

    def dealt(self, rows: int, lane: int, lanes: int) -> Iterator[Batch]:
        """Every `lanes`-th batch of at most `rows` rows from the one numbered `lane` on; of rows in memory."""
        assert self._kept is not None
        parts = [(batch, start) for batch in self._kept for start in range(0, len(batch), rows)]
        for batch, start in parts[lane::lanes]:
            yield batch.take(slice(start, start + rows))

    def spread(self, rows: int) -> Batch | None:
        """At most `rows` rows of the sample, from all over the channel; None without any."""
        if not self.count:
            return None
        size = len(self.sample)
        return self.sample if size <= rows else self.sample.take(np.arange(rows) * size // max(1, rows))

    def some(self, rows: int) -> Batch:
        """At most `rows` rows: of the sample where one was drawn, else the first."""
        found = self.spread(rows) if len(self.sample) else next(self.batches(rows), None)
        return self.sample if found is None else found


def _shuffled(batch: Batch, rows: int, random: np.random.Generator) -> Iterator[Batch]:
    order = random.permutation(len(batch))
    for start in range(0, len(batch), rows):
        yield batch.take(order[start : start + rows])


def size_of(batch: Batch) -> int:
    """Bytes of the features."""
    features = batch.features
    if isinstance(features, np.ndarray):
        return int(features.nbytes)
    return int(features.data.nbytes + features.indices.nbytes + features.indptr.nbytes)


def class_labels(classes: int) -> Labels:
    """A check that labels are 0 … classes - 1."""

    def check(batch: Batch, where: str, before: int) -> np.ndarray:
        label = check_labels(batch, where, before=before)
        for start in range(0, len(label), PIECE):
            part = label[start : start + PIECE]
            wrong = (part < 0) | (part >= classes) | (part != np.floor(part))
            if wrong.any():
                row = start + int(np.argmax(wrong))
                wanted = "0 or 1" if classes == 2 else f"a whole number from 0 to {classes - 1}"
                raise DataError(f"{where}: the label of row {before + row} is {label[row]:g}, it must be {wanted}")
        return label

    return check


def any_number(batch: Batch, where: str, before: int) -> np.ndarray:
    """The check of a regression's labels."""
    return check_labels(batch, where, before=before)
