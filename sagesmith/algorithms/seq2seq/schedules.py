"""schedules: how the learning rate falls.

fixed_rate_inv_t and fixed_rate_inv_sqrt_t fall with the number u of updates, to half after H = half life x checkpoint
frequency updates: lr / (1 + u / H) and lr / sqrt(1 + 3 u / H). plateau_reduce multiplies by a factor after a number of
checkpoints without improvement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Schedule:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._kind = settings["lr_scheduler_type"]
        self._first = settings["learning_rate"]
        self._half_life = settings["fixed_rate_lr_half_life"] * settings["checkpoint_frequency_num_batches"]
        self._factor = settings["plateau_reduce_lr_factor"]
        self._threshold = settings["plateau_reduce_lr_threshold"]
        self.reductions = 0
        self.bad = 0  # checkpoints without improvement since the last reduction

    def rate(self, updates: int) -> float:
        """The learning rate of the update that follows `updates` others."""
        share = updates / self._half_life
        if self._kind == "fixed_rate_inv_t":
            return float(self._first / (1 + share))
        if self._kind == "fixed_rate_inv_sqrt_t":
            return float(self._first / (1 + 3 * share) ** 0.5)
        return float(self._first * self._factor**self.reductions)

    def judged(self, improved: bool) -> bool:
        """Notes a checkpoint; True if the rate was reduced."""
        self.bad = 0 if improved else self.bad + 1
        if self._kind != "plateau_reduce" or self.bad < self._threshold:
            return False
        self.bad = 0
        self.reductions += 1
        return True
