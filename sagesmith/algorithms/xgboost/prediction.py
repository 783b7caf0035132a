"""Predicting with one booster or several: mean, or vote where predictions are classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.xgboost import dense

if TYPE_CHECKING:
    import xgboost

_VOTES = ("multi:softmax", "binary:hinge")


def describe(booster: xgboost.Booster) -> tuple[str, int]:
    """A booster's objective and number of classes (0 unless multi-class), from its configuration."""
    learner = json.loads(booster.save_config())["learner"]
    return str(learner["objective"]["name"]), int(learner["learner_model_param"]["num_class"])


class Ensemble:
    """Boosters that answer as one. Predicting changes nothing, so threads may share it."""

    def __init__(self, boosters: Sequence[xgboost.Booster], threads: int = 1) -> None:
        self.boosters = list(boosters)
        self.threads = threads
        self.objective, num_class = describe(boosters[0])
        self.classes = num_class or (2 if self.objective.startswith("binary:") else 0)
        self.width = int(boosters[0].num_features())
        for booster in self.boosters:  # rows come from the host's memory: one trained on a GPU would copy each request
            booster.set_param({"nthread": threads, "device": "cpu"})
        # The linear booster has no in-place prediction.
        self._in_place = '"name":"gblinear"' not in boosters[0].save_config().replace(" ", "")
        self._ranges = [_rounds(booster) for booster in self.boosters]
        self._settings = [dense.configuration(rounds) for rounds in self._ranges]

    def use_threads(self, threads: int) -> None:
        """How many threads a prediction uses: one where every request has its own processor."""
        self.threads = threads
        for booster in self.boosters:
            booster.set_param({"nthread": threads})

    def predict(self, features: Any) -> np.ndarray:
        """What xgboost predicts for the objective, (n,) or (n, classes); NaN and absent entries are missing.

        Raises:
            ValueError: more or fewer columns than the model has (fewer is fine for sparse rows).
        """
        features = self._fitted(features)
        if len(self.boosters) == 1:
            return self._one(0, features)
        each = [self._one(number, features) for number in range(len(self.boosters))]
        if self.objective in _VOTES:
            return np.apply_along_axis(_mode, 0, np.stack(each))
        return np.asarray(np.mean(each, axis=0))

    def _one(self, number: int, features: Any) -> np.ndarray:
        booster, rounds = self.boosters[number], self._ranges[number]
        if self._in_place and isinstance(features, np.ndarray) and features.dtype == np.float32 and len(features):
            return dense.predict(booster, np.ascontiguousarray(features), self._settings[number])
        if self._in_place:
            return np.asarray(booster.inplace_predict(features, iteration_range=rounds, validate_features=False))
        import xgboost

        return np.asarray(booster.predict(xgboost.DMatrix(features), iteration_range=rounds, validate_features=False))

    def _fitted(self, features: Any) -> Any:
        columns = int(features.shape[1])
        if columns == self.width:
            return features
        if hasattr(features, "tocsr") and columns < self.width:
            wider = features.tocsr(copy=True)
            wider.resize(features.shape[0], self.width)
            return wider
        raise ValueError(f"Feature size of the request is {columns}, the model was trained with {self.width}")

    def __getstate__(self) -> dict[str, Any]:
        return {"boosters": self.boosters, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _rounds(booster: xgboost.Booster) -> tuple[int, int]:
    """Rounds to predict with: up to the best one where early stopping recorded it, else all (0, 0)."""
    best = booster.attr("best_iteration")
    if best is None or int(best) + 1 >= booster.num_boosted_rounds():
        return (0, 0)
    return (0, int(best) + 1)


def _mode(column: np.ndarray) -> Any:
    values, counts = np.unique(column, return_counts=True)
    return values[counts.argmax()]
