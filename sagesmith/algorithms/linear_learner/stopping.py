"""Early stopping: an epoch that improves the criterion by less than a part of it counts as none."""

from __future__ import annotations

import math
from collections.abc import Mapping


class EarlyStopping:
    """Asks `better` after each epoch and `over` afterwards. Values are such that more is better.

    Attributes: `best` of all epochs, whose model is kept; `without`: epochs on end that brought nothing.
    """

    def __init__(self, patience: int, tolerance: float) -> None:
        self._patience, self._tolerance = patience, tolerance
        self.best = -math.inf
        self._loss = math.inf  # of the best
        self._base = -math.inf  # what the next improvement is measured from
        self.without = 0

    def better(self, value: float, loss: float) -> bool:
        """Takes the criterion of an epoch; whether it is the best so far, the lower loss deciding between equals."""
        gain = value - self._base
        if math.isinf(self._base) or gain > self._tolerance * max(abs(self._base), 1e-12):
            self._base, self.without = value, 0
        else:
            self.without += 1
        if (value, -loss) > (self.best, -self._loss):
            self.best, self._loss = value, loss
            return True
        return False

    @property
    def over(self) -> bool:
        """Whether `patience` epochs on end brought nothing."""
        return self.without >= self._patience

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"best": self.best, "loss": self._loss, "base": self._base, "without": self.without}

    def restore(self, state: Mapping[str, float]) -> None:
        """Goes on from a checkpoint's state."""
        self.best, self._loss, self._base = state["best"], state["loss"], state["base"]
        self.without = int(state["without"])
