"""Plan: what is settled before the first epoch: loss, scaler, weights of classes, the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.linear_learner.grid import Model
from sagesmith.algorithms.linear_learner.losses import BINARY, MULTICLASS, REGRESSOR, Loss
from sagesmith.algorithms.linear_learner.scaler import Scaler
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError

UNSEEN = 1_000_000.0  # weight of a class that does not occur (balance_multiclass_weights)


class Plan:
    """Attributes beside the constructor's: `models`; `steps` of an epoch; `parameter` of the loss."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        run: Run,
        loss: Loss,
        outputs: int,
        width: int,
        scaler: Scaler,
        lazy: bool,
    ) -> None:
        self.settings, self.run, self.loss = settings, run, loss
        self.outputs, self.width, self.scaler, self.lazy = outputs, width, scaler, lazy
        self.models: list[Model] = []
        self.steps = 1
        self.parameter = float(settings[loss.parameter]) if loss.parameter else 0.0
        self._class_weight: np.ndarray | None = None
        self._ratio = 1.0

    def weigh(self, counts: np.ndarray) -> None:
        """Takes the weights of classes from how often they occur, (classes,).

        Raises:
            DataError: a positive weight that depends on the classes where one of the two does not occur.
        """
        mult = self.settings["positive_example_weight_mult"]
        if self.loss.predictor == BINARY and mult in ("balanced", "auto"):
            if not counts.all():
                raise DataError(
                    f"positive_example_weight_mult={mult} needs rows of both classes; all labels are {counts.argmax()}"
                )
            self._ratio = float(counts[0] / counts[1])
        if self.loss.predictor == MULTICLASS and self.settings["balance_multiclass_weights"]:
            share = counts / counts.sum()
            self._class_weight = np.where(share > 0, 1 / np.where(share > 0, share, 1), UNSEEN).astype(np.float32)

    @property
    def up(self) -> np.ndarray:
        """(models,) float32: what a positive row counts more, in every model."""
        mult = self.settings["positive_example_weight_mult"]
        if mult == "auto":
            return np.array([self._ratio**model.balance for model in self.models], np.float32)
        return np.full(len(self.models), self._ratio if mult == "balanced" else mult, np.float32)

    @property
    def judged_up(self) -> float:
        """What a positive row counts more where models are compared: with `auto`, where they differ, nothing."""
        mult = self.settings["positive_example_weight_mult"]
        return 1.0 if mult == "auto" else self._ratio if mult == "balanced" else float(mult)

    @property
    def has_class_weights(self) -> bool:
        """Whether the objective is not the mean loss of the rows as they are."""
        return self._class_weight is not None or (self.loss.predictor == BINARY and self.judged_up != 1)

    def prepared(self, batch: Batch, plain: bool = False) -> tuple[np.ndarray, np.ndarray, float]:
        """Labels as they are learnt (n,), the rows' weights (n,) and the sum of these without classes' weights."""
        assert batch.label is not None
        label = self.scaler.labels(np.asarray(batch.label, np.float32))
        if batch.weight is None:
            weight, total = np.ones(len(batch), np.float32), float(len(batch))
        else:
            weight = np.asarray(batch.weight, np.float32)
            total = float(weight.sum(dtype=np.float64))
        if self._class_weight is not None and not plain:
            weight = weight * self._class_weight[label.astype(np.int64)]
        return label, weight, total

    def without_effect(self) -> Iterator[str]:
        """A line for each hyperparameter that was set and does nothing here."""
        settings, optimizer = self.settings, self.settings["optimizer"]
        optimizer = "adam" if optimizer == "auto" else optimizer
        idle = {
            "momentum": settings["momentum"] != "auto" and optimizer != "sgd",
            "beta_1": settings["beta_1"] != "auto" and optimizer != "adam",
            "beta_2": settings["beta_2"] != "auto" and optimizer != "adam",
            "normalize_label": settings["normalize_label"] is True and self.loss.predictor != REGRESSOR,
            "unbias_label": settings["unbias_label"] is True
            and (self.loss.predictor != REGRESSOR or not settings["use_bias"]),
            "positive_example_weight_mult": settings["positive_example_weight_mult"] != 1
            and self.loss.predictor != BINARY,
            "balance_multiclass_weights": settings["balance_multiclass_weights"] and self.loss.predictor != MULTICLASS,
        }
        for name in (name for name, set_in_vain in idle.items() if set_in_vain):
            yield (
                f"Hyperparameter {name} has no effect with predictor_type {settings['predictor_type']} "
                f"and optimizer {optimizer}"
            )
        if self.lazy and settings["unbias_data"] == "auto":
            yield f"Sparse rows of {self.width} columns: features are scaled, not shifted, and updates are lazy"
