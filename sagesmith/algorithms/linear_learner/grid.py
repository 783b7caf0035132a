"""The grid of models: what the num_models models that train side by side differ in.

Model 0 is as configured, with the defaults for what is `auto`. The others vary learning rate, schedule, L1 and weight
decay around it; a value that the user fixed is never varied. The first 32 are a fixed grid, further ones are drawn.
SageMaker does not publish its grid; logs of its jobs show blocks of learning rates with rising regularisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MODELS = 32  # `auto`
RATES = (1.0, 10.0, 3.0, 30.0)  # times the configured learning rate
STEP, FACTOR = 100, 0.99  # lr_scheduler_step, lr_scheduler_factor
CUTS, CUT = 10, 0.93  # the other schedule: reductions in an epoch, and their factor; in all half is left
PENALTIES = ((0.0, 0.0), (0.0, 1e-4), (1e-5, 1e-5), (1e-4, 1e-3))  # l1, wd
MINIMUM = 1e-5  # lr_scheduler_minimum_lr
MOST_BYTES = 1 << 30  # of one copy of all models' weights; `auto` trains fewer models where they are larger


@dataclass(frozen=True)
class Model:
    """The hyperparameters of one model. `every` steps the learning rate is multiplied by `factor`, down to `minimum`.

    `balance` is the power of the classes' ratio that positive rows weigh with; for positive_example_weight_mult=auto.
    """

    learning_rate: float
    l1: float
    wd: float
    every: int
    factor: float
    minimum: float
    balance: float = 0.0

    def described(self, optimizer: str) -> dict[str, Any]:
        """As the log names the best model."""
        return {
            "optimizer": optimizer,
            "learning_rate": self.learning_rate,
            "l1": self.l1,
            "wd": self.wd,
            "lr_scheduler_step": self.every,
            "lr_scheduler_factor": self.factor,
            "lr_scheduler_minimum_lr": self.minimum,
        }


def count(settings: Mapping[str, Any], size: int) -> int:
    """How many models are trained; `size` is the number of weights of one."""
    if settings["num_models"] != "auto":
        return int(settings["num_models"])
    return int(max(1, min(MODELS, MOST_BYTES // (4 * size))))


def models(settings: Mapping[str, Any], number: int, base_rate: float, steps: int) -> list[Model]:
    """The models; `base_rate` is the learning rate that `auto` stands for, `steps` are those of an epoch."""

    def axis(name: str, values: tuple[float, ...]) -> tuple[float, ...]:
        return values if settings[name] == "auto" else (float(settings[name]),) * len(values)

    rate = base_rate if settings["learning_rate"] == "auto" else float(settings["learning_rate"])
    multiples = RATES if settings["learning_rate"] == "auto" else (1.0,)
    every = axis("lr_scheduler_step", (STEP, max(1, steps // CUTS)))
    factors = axis("lr_scheduler_factor", (FACTOR, CUT))
    l1 = axis("l1", tuple(l1 for l1, _ in PENALTIES))
    wd = axis("wd", tuple(wd for _, wd in PENALTIES))
    minimum = axis("lr_scheduler_minimum_lr", (MINIMUM,))[0]
    schedules = _distinct(zip(every, factors, strict=True))
    if not settings["use_lr_scheduler"]:
        schedules = [(1.0, 1.0)]
    grid = list(itertools.product(_distinct(zip(l1, wd, strict=True)), schedules, multiples))
    tries = _balances(settings, number)
    found = []
    for index, balance in zip(range(number), tries, strict=True):
        lone = index // len(grid)
        (first, second), (step, factor), multiple = grid[index % len(grid)]
        if lone:
            first, second, multiple = _drawn(settings, index, first, second, multiple)
        found.append(Model(rate * multiple, first, second, int(step), factor, minimum, balance))
    return found


def _distinct(pairs: Any) -> list[tuple[float, float]]:
    return list(dict.fromkeys(pairs))


def _drawn(
    settings: Mapping[str, Any], index: int, l1: float, wd: float, multiple: float
) -> tuple[float, float, float]:
    """A model beyond the grid: what is `auto` is drawn from AWS's ranges on a logarithmic scale."""
    random = np.random.default_rng((1, index))
    one, two, three = random.uniform(size=3)
    return (
        float(10 ** (-7 + 4 * one)) if settings["l1"] == "auto" else l1,
        float(10 ** (-7 + 4 * two)) if settings["wd"] == "auto" else wd,
        float(10 ** (-0.5 + 2 * three)) if settings["learning_rate"] == "auto" else multiple,
    )


def _balances(settings: Mapping[str, Any], number: int) -> list[float]:
    """For positive_example_weight_mult=auto: unweighted, balanced and halfway, in blocks; the first is unweighted."""
    if settings["positive_example_weight_mult"] != "auto":
        return [0.0] * number
    return [(0.0, 1.0, 0.5)[index // len(RATES) % 3] for index in range(number)]
