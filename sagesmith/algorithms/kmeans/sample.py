"""Sample: rows drawn evenly from a pass of unknown length, decayed rows less often; samples can be united.

Efraimidis and Spirakis, Weighted random sampling with a reservoir, Information Processing Letters 97 (2006): every row
gets a key, the logarithm of an exponential clock that runs at the row's weight, and the rows with the smallest keys
stay. A weight that doubles with every half-life, rather than all earlier ones halving, keeps the keys comparable.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from sagesmith.formats.batch import Batch, csr, join

MOST_BYTES = 64 << 20


class Sample:
    """At most `size` rows.

    Attributes:
        rows: (m, d) float32, dense or CSR; None before the first.
        seen: rows offered, those that were passed over too.
    """

    def __init__(self, size: int, half_life: int, random: np.random.Generator) -> None:
        self.size, self._half_life, self._random = size, half_life, random
        self._parts: list[Any] = []
        self._keys = np.empty(0)
        self._weights = np.empty(0)  # logarithms
        self.seen = 0

    def new_pass(self) -> None:
        """Forgets all rows."""
        self._parts, self._keys, self._weights, self.seen = [], np.empty(0), np.empty(0), 0

    def offer(self, features: Any, weights: np.ndarray | None) -> None:
        """Takes rows of (n, d), dense or CSR, with weights (n,) or None, each with its chance."""
        n = int(features.shape[0])
        with np.errstate(divide="ignore"):
            weight = np.zeros(n) if weights is None else np.log(weights.astype(np.float64))
        self.seen += n
        if self._half_life:
            weight += self.seen * np.log(2.0) / self._half_life
        keys = np.log(self._random.standard_exponential(n)) - weight
        kept = np.flatnonzero(keys < self._limit)
        if len(kept):
            self._parts.append(features[kept])
            self._keys = np.append(self._keys, keys[kept])
            self._weights = np.append(self._weights, weight[kept])
        if len(self._keys) > 2 * self.size:
            self._shorten()

    @property
    def _limit(self) -> float:
        """The key above which a row surely has no place."""
        return float(self._keys[: self.size].max()) if len(self._keys) >= self.size else np.inf

    def _shorten(self) -> None:
        if len(self._keys) > self.size:
            kept = np.sort(np.argpartition(self._keys, self.size - 1)[: self.size])
            self._parts = [self._joined()[kept]]
            self._keys, self._weights = self._keys[kept], self._weights[kept]

    def _joined(self) -> Any:
        return join([Batch(part) for part in self._parts]).features

    def drawn(self) -> tuple[Any, np.ndarray]:
        """The rows, and their weights: equal ones where rows were passed over, whose chance was their weight."""
        self._shorten()
        if len(self._keys) < self.seen:
            return self._joined(), np.ones(len(self._keys))
        return self._joined(), np.exp(self._weights - self._weights.max())

    def arrays(self) -> dict[str, np.ndarray]:
        """The sample as named arrays."""
        self._shorten()
        found = {"keys": self._keys, "weights": self._weights, "seen_by_sample": np.array(self.seen)}
        if self._parts:
            rows = self._joined()
            if isinstance(rows, np.ndarray):
                found["dense"] = rows
            else:
                found |= {"values": rows.data, "columns": rows.indices, "starts": rows.indptr}
        return found

    def add(self, arrays: dict[str, np.ndarray], width: int) -> Self:
        """Takes in another sample's `arrays`; `width` is the number of columns."""
        self._keys = np.append(self._keys, arrays["keys"])
        self._weights = np.append(self._weights, arrays["weights"])
        self.seen += int(arrays["seen_by_sample"])
        if "dense" in arrays:
            self._parts.append(arrays["dense"])
        elif "values" in arrays:
            self._parts.append(csr(arrays["values"], arrays["columns"], arrays["starts"], width))
        return self
