"""The optimizers: sgd with momentum, Adam, RMSProp and AdaGrad, over every weight of every model at once.

The gradient is the mean over the batch plus `wd` times the weight, as in MXNet, so that Adam too ends at the minimum of
loss + wd / 2 |w|^2. L1 is a proximal step: after the step, a weight is drawn towards 0 by l1 times its own step size,
and stays at 0 when it gets there. Each model has its own learning rate, schedule, L1 and weight decay.
Adam: Kingma and Ba, ICLR 2015. RMSProp: Tieleman and Hinton 2012. AdaGrad: Duchi et al., JMLR 12 (2011).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner.grid import Model

NAMES = ("sgd", "adam", "rmsprop", "adagrad")
LEARNING_RATE = {"sgd": 0.05, "adam": 0.005, "rmsprop": 0.005, "adagrad": 0.05}  # `auto`
MOMENTUM, BETA_1, BETA_2, RMS_DECAY = 0.0, 0.9, 0.999, 0.9
BIAS_LR_MULT, BIAS_WD_MULT = 10.0, 0.0


class Optimizer:
    """The state of one optimizer for weights (features + 1, models * outputs), the last row the bias."""

    def __init__(self, settings: Mapping[str, Any], models: Sequence[Model], weights: np.ndarray) -> None:
        def value(name: str, auto: float) -> float:
            return auto if settings[name] == "auto" else float(settings[name])

        self.name = "adam" if settings["optimizer"] == "auto" else str(settings["optimizer"])
        self.first, self.second = {
            "sgd": (value("momentum", MOMENTUM), 0.0),
            "adam": (value("beta_1", BETA_1), value("beta_2", BETA_2)),
            "rmsprop": (0.0, RMS_DECAY),
            "adagrad": (0.0, 1.0),
        }[self.name]
        self.bias_rate = value("bias_lr_mult", BIAS_LR_MULT) if settings["use_bias"] else 0.0
        self.bias_decay = value("bias_wd_mult", BIAS_WD_MULT)
        self.outputs = weights.shape[1] // len(models)
        self._table = np.array([(m.learning_rate, m.factor, m.minimum, m.every) for m in models]).T
        self._l1 = self._wide([m.l1 for m in models])
        self._wd = self._wide([m.wd for m in models])
        self._any_l1 = bool(self._l1.any())
        self.moment = np.zeros_like(weights)
        self.square = np.zeros_like(weights) if self.name != "sgd" else np.zeros((0, weights.shape[1]), np.float32)
        self.steps = 0
        self._often = math.gcd(*(m.every for m in models))  # steps between which no learning rate changes
        self._rates = self.rates()

    def _wide(self, values: Any) -> np.ndarray:
        return np.repeat(np.asarray(values, np.float32), self.outputs)

    def rates(self) -> np.ndarray:
        """(models,) the learning rates in force."""
        rate, factor, minimum, every = self._table
        decayed = rate * factor ** np.floor(self.steps / every)
        return np.asarray(np.where(factor < 1, np.maximum(decayed, np.minimum(minimum, rate)), rate))

    def step(self, weights: np.ndarray, gradient: np.ndarray, rows: np.ndarray, total: float) -> None:
        """Moves the weights of `rows`.

        Args:
            weights: (d + 1, models * outputs) float32, changed in place.
            gradient: (len(rows), models * outputs) float32, sums over the batch; overwritten.
            rows: the rows of `weights` that the gradient is for; the others rest, as MXNet's lazy updates have it.
            total: weight of the rows summed up.
        """
        from sagesmith.algorithms.linear_learner import optimizers_compiled as kernels

        if self.steps % self._often == 0:
            self._rates = self.rates()
        rates = self._rates
        self.steps += 1
        if self.name == "adam":
            rates = rates * ((1 - self.second**self.steps) ** 0.5 / (1 - self.first**self.steps))
        rate, scale = self._wide(rates), np.float32(1 / total)
        shared: tuple[Any, ...] = (rows, weights, gradient, self.moment)
        rest: tuple[Any, ...] = (
            rate,
            self._l1,
            self._wd,
            np.float32(self.bias_rate),
            np.float32(self.bias_decay),
            scale,
            self._any_l1,
        )
        if self.name == "sgd":
            every: tuple[Any, ...] = (*shared, np.float32(self.first), *rest)
            kernels.sgd(*every)
        else:
            own = np.float32(1.0 if self.name == "adagrad" else 1 - self.second)
            every = (*shared, self.square, np.float32(self.first), np.float32(self.second), own, *rest)
            kernels.adaptive(*every)
