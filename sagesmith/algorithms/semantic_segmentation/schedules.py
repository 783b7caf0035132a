"""schedules: the learning rate at each iteration, and when to stop early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

POWER = 0.9  # of the polynomial decay; fits the numbers that SageMaker's own log shows


class Schedule:
    """The learning rate by iteration, counted from 0.

    `poly` lr (1 - t/T)^0.9 and `cosine` lr (1 + cos(pi t/T)) / 2 reach 0 after the last of T iterations; `step`
    multiplies by lr_scheduler_factor after each of the epochs in lr_scheduler_step.
    """

    def __init__(self, settings: Mapping[str, Any], per_epoch: int) -> None:
        self._settings, self.per_epoch = settings, per_epoch
        self._total = per_epoch * settings["epochs"]

    def rate(self, iteration: int) -> float:
        """The learning rate with which iteration number `iteration` moves the weights."""
        rate, kind = float(self._settings["learning_rate"]), self._settings["lr_scheduler"]
        if kind == "step":
            epoch = iteration // self.per_epoch
            passed = sum(epoch >= step for step in self._settings["lr_scheduler_step"])
            return rate * self._settings["lr_scheduler_factor"] ** passed  # type: ignore[no-any-return]
        share = min(1.0, iteration / self._total)
        if kind == "cosine":
            return rate * (1 + math.cos(math.pi * share)) / 2
        return float(rate * (1 - share) ** POWER)


@dataclass
class Patience:
    """Epochs in a row whose mIOU did not improve enough; stopping early is for the caller to do.

    Attributes:
        best: the best mIOU so far.
        bad: epochs since it last improved by more than `tolerance`, relative.
    """

    tolerance: float
    patience: int
    least: int  # epochs before which nothing stops
    best: float = 0.0
    bad: int = 0

    def judge(self, epoch: int, miou: float) -> bool:
        """Takes the mIOU of an epoch, counted from 0; True if training should end."""
        improved = miou > self.best * (1 + self.tolerance)
        self.bad = 0 if improved else self.bad + 1
        self.best = max(self.best, miou)
        return epoch + 1 >= self.least and self.bad >= self.patience

    def state(self) -> dict[str, Any]:
        """Best and bad, for a checkpoint."""
        return {name: value for name, value in asdict(self).items() if name in ("best", "bad")}
