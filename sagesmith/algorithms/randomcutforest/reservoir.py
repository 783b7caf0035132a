"""Reservoir: a uniform sample without replacement of a stream of rows, in one pass, mergeable over hosts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Self

import numpy as np


class Reservoir:
    """Up to `capacity` of the rows seen; all of them, in their order, as long as they fit (Vitter 1985, algorithm R).

    One random number is drawn for every row beyond the capacity, so batches of any size give the same sample.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self.seen = 0
        self._random = np.random.default_rng(seed)
        self._waiting: list[np.ndarray] = []  # before the reservoir is full
        self._rows: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """(min(seen, capacity), d) float32."""
        if self._rows is None:
            self._rows = np.concatenate(self._waiting) if self._waiting else np.empty((0, 0), np.float32)
            self._waiting = []
        return self._rows

    def add(self, rows: np.ndarray) -> None:
        """Takes rows (n, d) of the stream."""
        free = max(0, self.capacity - self.seen)
        if free:
            if self._rows is not None:
                self._waiting, self._rows = [self._rows] if len(self._rows) else [], None
            self._waiting.append(np.array(rows[:free], np.float32))
        rest = rows[free:]
        first = max(self.seen, self.capacity)
        self.seen += len(rows)
        if len(rest):
            places = (self._random.random(len(rest)) * np.arange(first + 1, first + 1 + len(rest))).astype(np.int64)
            kept = np.flatnonzero(places < self.capacity)
            self.rows[places[kept]] = rest[kept]  # of two rows for one place the later stays

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, rows=self.rows, seen=np.int64(self.seen))
        return buffer.getvalue()

    @classmethod
    def merged(cls, states: Iterable[bytes], capacity: int, seed: int) -> Self:
        """One sample of what all hosts have seen, in the order of hosts; each row had the same chance.

        How many rows come from each host is drawn as if from one urn (multivariate hypergeometric); they are a random
        part of the host's sample, left in their order.

        Raises:
            ValueError: hosts whose rows differ in width.
        """
        parts, seen = [], []
        for state in states:
            with np.load(io.BytesIO(state), allow_pickle=False) as archive:
                parts.append(archive["rows"])
                seen.append(int(archive["seen"]))
        widths = sorted({part.shape[1] for part in parts if len(part)})
        if len(widths) > 1:
            raise ValueError(f"hosts have rows of {widths[0]} and of {widths[-1]} columns; all must agree")
        result = cls(capacity, seed)
        random = result._random
        taken = np.array([len(part) for part in parts])
        if sum(seen) > capacity:
            taken = random.multivariate_hypergeometric(seen, capacity, method="marginals")
        chosen = [
            part[np.sort(random.choice(len(part), count, replace=False))]
            for part, count in zip(parts, taken.tolist(), strict=True)
            if count
        ]
        result._rows = np.concatenate(chosen) if chosen else np.empty((0, 0), np.float32)
        result.seen = sum(seen)
        return result
