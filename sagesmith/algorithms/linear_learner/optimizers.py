"""The optimizers: sgd with momentum, Adam, RMSProp and AdaGrad, over every weight of every model at once.

The gradient is the mean over the batch plus `wd` times the weight, as in MXNet, so that Adam too ends at the minimum of
loss + wd / 2 |w|^2. L1 is a proximal step: after the step, a weight is drawn towards 0 by l1 times its own step size,
and stays at 0 when it gets there. Each model has its own learning rate, schedule, L1 and weight decay.
Adam: Kingma and Ba, ICLR 2015. RMSProp: Tieleman and Hinton 2012. AdaGrad: Duchi et al., JMLR 12 (2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner.grid import Model

NAMES = ("sgd", "adam", "rmsprop", "adagrad")
LEARNING_RATE = {"sgd": 0.05, "adam": 0.005, "rmsprop": 0.005, "adagrad": 0.05}  # `auto`
MOMENTUM, BETA_1, BETA_2, RMS_DECAY = 0.0, 0.9, 0.999, 0.9
BIAS_LR_MULT, BIAS_WD_MULT = 10.0, 0.0


class Optimizer:
    """One optimizer for weights (features + 1, models * outputs), the last row the bias.

    `rules` and `state` are what the compiled step takes; the weights are the state's.
    """

    def __init__(self, settings: Mapping[str, Any], models: Sequence[Model], weights: np.ndarray) -> None:
        from sagesmith.algorithms.linear_learner.optimizers_compiled import Rules, State

        def value(name: str, auto: float) -> float:
            return auto if settings[name] == "auto" else float(settings[name])

        def each(values: Any) -> np.ndarray:
            return np.repeat(np.asarray(values, np.float32), weights.shape[1] // len(models))

        name = "adam" if settings["optimizer"] == "auto" else str(settings["optimizer"])
        first, second = {
            "sgd": (value("momentum", MOMENTUM), 0.0),
            "adam": (value("beta_1", BETA_1), value("beta_2", BETA_2)),
            "rmsprop": (0.0, RMS_DECAY),
            "adagrad": (0.0, 1.0),
        }[name]
        table = np.array([[m.learning_rate, m.factor, m.minimum, float(m.every)] for m in models])
        rate, factor, minimum, every = np.ascontiguousarray(table.T)
        l1 = each([m.l1 for m in models])
        self.rules = Rules(
            name != "sgd",
            name == "adam",
            np.float32(first),
            np.float32(second),
            np.float32(1.0 if name == "adagrad" else 1 - second),
            rate,
            factor,
            minimum,
            every,
            l1,
            each([m.wd for m in models]),
            bool(l1.any()),
            np.float32(value("bias_lr_mult", BIAS_LR_MULT) if settings["use_bias"] else 0.0),
            np.float32(value("bias_wd_mult", BIAS_WD_MULT)),
        )
        square = np.zeros((0, weights.shape[1]), np.float32) if name == "sgd" else np.zeros_like(weights)
        self.state = State(weights, np.zeros_like(weights), square, np.zeros(1, np.int64))

    def restart(self) -> None:
        """Forgets the moments and begins the schedules anew; the weights stay."""
        for kept in self.state[1:]:
            kept[:] = 0

    def step(self, gradient: np.ndarray, rows: np.ndarray, total: float) -> None:
        """Moves the weights of `rows`.

        Args:
            gradient: (len(rows), models * outputs) float32, sums over the batch; overwritten.
            rows: the rows of the weights that the gradient is for; the others rest, as MXNet's lazy updates have it.
            total: weight of the rows summed up.
        """
        from sagesmith.algorithms.linear_learner.optimizers_compiled import step

        step(self.rules, self.state, rows, gradient, float(total))
