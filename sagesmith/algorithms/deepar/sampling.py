"""Sampling: which windows make an epoch.

Every series is visited, its forecast starting at a moment drawn at random, the later the likelier: late windows have
long lags behind them, as those that will be forecast have, and are nearer to them. A data set with few series is passed
several times, each series kept with a probability that makes it 1,280 windows (inferred from a log of SageMaker's).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

WINDOWS = 1280  # of an epoch, where there are fewer series


@dataclass(frozen=True)
class Epochs:
    """Args:
    lengths: (n,) of this host's series, none shorter than the horizon.
    everywhere: series on all hosts.
    """

    lengths: np.ndarray
    everywhere: int
    context: int
    horizon: int

    @property
    def passes(self) -> int:
        return max(1, math.ceil(WINDOWS / max(1, self.everywhere)))

    @property
    def probability(self) -> float:
        """With which a series is kept in a pass."""
        return min(1.0, WINDOWS / max(1, self.everywhere) / self.passes)

    @property
    def expected(self) -> float:
        """Windows of this host in an epoch."""
        return len(self.lengths) * self.passes * self.probability

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's windows in random order: series (n,) and the position at which each window begins (n,)."""
        count = len(self.lengths)
        kept = random.random((self.passes, count)) < self.probability if self.probability < 1 else None
        chosen = np.tile(np.arange(count), self.passes) if kept is None else np.nonzero(kept)[1]
        chosen = random.permutation(chosen)
        latest = self.lengths[chosen] - self.horizon
        places = np.rint(np.sqrt(random.random(len(chosen))) * latest).astype(np.int64)
        return chosen, np.maximum(places, np.minimum(1, latest)) - self.context
