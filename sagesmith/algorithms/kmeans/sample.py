"""Sample: rows drawn evenly from a pass of unknown length, decayed rows less often; samples can be united.

Efraimidis and Spirakis, Weighted random sampling with a reservoir, Information Processing Letters 97 (2006): every row
gets a key, the logarithm of an exponential clock that runs at the row's weight, and the rows with the smallest keys
stay; a row's weight is divided by its chance to stay (Cohen and Kaplan, Summarizing data using bottom-k sketches,
PODC 2007). A weight that doubles with every half-life, rather than all earlier ones halving, keeps the keys comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sagesmith.formats.batch import Batch, csr, join

MOST_BYTES = 64 << 20


class Sample:
    """At most `size` rows of a pass.

    Attributes:
        seen: rows offered, those that were passed over too.
    """

    def __init__(self, size: int, half_life: int, random: np.random.Generator) -> None:
        self.size, self._half_life, self._random = size, half_life, random
        self.new_pass()

    def new_pass(self) -> None:
        """Forgets all rows."""
        self._parts: list[tuple[np.ndarray, np.ndarray, Any]] = []  # keys, logarithms of weights, rows
        self._held, self.seen = 0, 0
        self._limit = np.inf  # the smallest key that has no place

    def offer(self, features: Any, weights: np.ndarray | None) -> None:
        """Takes rows of (n, d), dense or CSR, with weights (n,) or None, each with its chance."""
        n = int(features.shape[0])
        self.seen += n
        later = self.seen * np.log(2.0) / self._half_life if self._half_life else 0.0
        if weights is None:
            kept, keys = self._among_equals(n, later)
            weight = np.full(len(kept), later)
        else:
            with np.errstate(divide="ignore"):
                weight = np.log(weights.astype(np.float64)) + later
            keys = np.log(self._random.standard_exponential(n)) - weight
            kept = np.flatnonzero(keys < self._limit)
            keys, weight = keys[kept], weight[kept]
        if len(kept):
            self._hold(keys, weight, features if len(kept) == n else features[kept])
        if self._held > 2 * self.size:
            self._shorten()

    def _among_equals(self, n: int, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Which of n rows of one weight have keys below the limit, ascending, and those keys; the others get none."""
        chance = -np.expm1(-np.exp(min(self._limit + weight, 30.0)))
        number = self._random.binomial(n, chance)
        kept = np.arange(n) if number == n else np.sort(self._random.choice(n, number, replace=False))
        clocks = -np.log1p(-chance * self._random.random(number))  # exponential ones, given that they are early
        return kept, np.log(np.maximum(clocks, np.finfo(float).tiny)) - weight

    def _hold(self, keys: np.ndarray, weights: np.ndarray, rows: Any) -> None:
        self._parts.append((keys, weights, rows))
        self._held += len(keys)

    def _shorten(self) -> None:
        """One part, of the smallest keys, in the order in which the rows came."""
        if not self._parts:
            return
        keys, weights = (np.concatenate([part[at] for part in self._parts]) for at in (0, 1))
        rows = _joined([part[2] for part in self._parts])
        if len(keys) > self.size:
            order = np.argpartition(keys, self.size)
            self._limit = min(self._limit, float(keys[order[self.size]]))
            kept = np.sort(order[: self.size])
            keys, weights, rows = keys[kept], weights[kept], rows[kept]
        self._parts, self._held = [(keys, weights, rows)], len(keys)

    def drawn(self) -> tuple[Any, np.ndarray]:
        """The rows, and their weights: each its own, divided by the chance that it had to be in the sample.

        Given the smallest key T that has no place, that chance is 1 - exp(-w exp(T)) for a row of weight w.
        """
        self._shorten()
        [(_, weights, rows)] = self._parts
        if np.isfinite(self._limit):
            ripe = weights + self._limit
            small = np.minimum(ripe, 30.0)  # beyond, the chance is 1
            weights = ripe - np.log(-np.expm1(-np.exp(small)) + (small < -30.0))
            weights = np.where(small < -30.0, 0.0, weights)  # before, the weight is all the same
        return rows, np.exp(weights - weights.max())

    def arrays(self) -> dict[str, np.ndarray]:
        """The sample as named arrays."""
        self._shorten()
        [(keys, weights, rows)] = self._parts
        found = {"keys": keys, "weights": weights, "sample": np.array([self.size, self.seen, self._limit])}
        if isinstance(rows, np.ndarray):
            return found | {"dense": rows}
        return found | {"values": rows.data, "columns": rows.indices, "starts": rows.indptr}

    @classmethod
    def united(cls, parts: Sequence[Mapping[str, np.ndarray]], width: int) -> Self | None:
        """One sample from the `arrays` of several, of rows of `width` columns; None unless all parts have one.

        It can be drawn from, but is offered no further rows.
        """
        if not all("keys" in part for part in parts):
            return None
        union = cls(min(int(part["sample"][0]) for part in parts), 0, np.random.default_rng(0))
        for part in parts:
            rows: Any = part.get("dense")
            if rows is None:
                rows = csr(part["values"], part["columns"], part["starts"], width)
            union._hold(part["keys"], part["weights"], rows)
            union.seen += int(part["sample"][1])
            union._limit = min(union._limit, float(part["sample"][2]))
        return union


def _joined(parts: Sequence[Any]) -> Any:
    """The rows below each other; not copied where they lie so already, as slices of one array do."""
    owner, end = getattr(parts[0], "base", None), None
    for part in parts:
        if owner is None or getattr(part, "base", None) is not owner or not part.flags.c_contiguous:
            break
        begin = part.__array_interface__["data"][0]
        if end not in (None, begin):
            break
        end = begin + part.nbytes
    else:
        rows = sum(map(len, parts))
        return np.lib.stride_tricks.as_strided(parts[0], (rows, parts[0].shape[1]), writeable=False)
    return join([Batch(part) for part in parts]).features


def bytes_of_a_row(features: Any) -> float:
    """What a row takes in memory, on average."""
    if isinstance(features, np.ndarray):
        return 4.0 * float(features.shape[1])
    return 8.0 + 8.0 * float(features.nnz) / float(features.shape[0])
