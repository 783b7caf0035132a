"""The losses: which predictor takes which, the name of the objective in the log, and its compiled gradient.

With z the model's output and y the label (regression: the normalised label, where normalize_label is on):

    squared_loss                    (z - y)^2
    absolute_loss                   |z - y|
    eps_insensitive_squared_loss    max(0, |z - y| - eps)^2         eps = loss_insensitivity
    eps_insensitive_absolute_loss   max(0, |z - y| - eps)
    quantile_loss                   q max(0, y - z) + (1 - q) max(0, z - y): P(y < z) = q = quantile
    huber_loss                      r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2)
    logistic                        log(1 + exp(z)) - y z
    hinge_loss                      max(0, margin - (2 y - 1) z)
    softmax_loss                    log sum_c exp(z_c) - z_y
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

REGRESSOR, BINARY, MULTICLASS = "regressor", "binary_classifier", "multiclass_classifier"


@dataclass(frozen=True)
class Loss:
    """`code` and the value of the hyperparameter `parameter` are what the compiled gradients are told."""

    name: str
    predictor: str
    objective: str
    code: int
    parameter: str = ""


_ALL = (
    Loss("squared_loss", REGRESSOR, "mse_objective", 0),
    Loss("absolute_loss", REGRESSOR, "absolute_loss_objective", 1),
    Loss("eps_insensitive_squared_loss", REGRESSOR, "eps_insensitive_squared_loss_objective", 2, "loss_insensitivity"),
    Loss(
        "eps_insensitive_absolute_loss", REGRESSOR, "eps_insensitive_absolute_loss_objective", 3, "loss_insensitivity"
    ),
    Loss("quantile_loss", REGRESSOR, "quantile_loss_objective", 4, "quantile"),
    Loss("huber_loss", REGRESSOR, "huber_loss_objective", 5, "huber_delta"),
    Loss("logistic", BINARY, "binary_classification_cross_entropy_objective", 6),
    Loss("hinge_loss", BINARY, "hinge_loss_objective", 7, "margin"),
    Loss("softmax_loss", MULTICLASS, "multiclass_cross_entropy_objective", 8),
)
LOSSES: Mapping[str, Loss] = {loss.name: loss for loss in _ALL}
CURVED = ("squared_loss", "logistic")  # those with a second derivative everywhere, of one output
AUTO = {REGRESSOR: "squared_loss", BINARY: "logistic", MULTICLASS: "softmax_loss"}


def chosen(settings: Mapping[str, Any]) -> Loss:
    """The loss in force; `auto` is the first of the predictor's."""
    name = settings["loss"]
    return LOSSES[AUTO[settings["predictor_type"]] if name == "auto" else name]


def allowed(predictor: str) -> list[str]:
    """The losses of a predictor_type."""
    return [loss.name for loss in _ALL if loss.predictor == predictor]


def gradient(
    loss: Loss, parameter: float, z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.ndarray, total: np.ndarray
) -> None:
    """Puts the weighted gradient of every output in place of `z`, and adds the weighted losses to `total`.

    Args:
        z: (n, models * outputs) float32.
        y: (n,) labels; weight: (n,) of the rows; both float32.
        up: (models,) float32, what a positive row counts more in each model; binary classifiers only.
        total: (models,) float64.
    """
    from sagesmith.algorithms.linear_learner import losses_compiled as kernels

    if loss.predictor == MULTICLASS:
        kernels.softmax(z, y, weight, total)
    elif loss.name == "logistic":
        kernels.logistic(z, y, weight, up, total)
    elif loss.name == "hinge_loss":
        kernels.hinge(np.float32(parameter), z, y, weight, up, total)
    else:
        kernels.regression(loss.code, np.float32(parameter), z, y, weight, total)


def curvature(loss: Loss, z: np.ndarray, y: np.ndarray, weight: np.ndarray, up: np.float32) -> np.ndarray:
    """The weighted second derivatives of a CURVED loss, (n,), at the outputs `z` (n,) of one model; see `gradient`."""
    if loss.name == "squared_loss":
        return 2 * weight
    small = np.exp(-np.abs(z))
    return np.asarray(weight * np.where(y > 0, up, np.float32(1)) * small / (1 + small) ** 2)
