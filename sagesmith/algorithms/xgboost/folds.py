"""Cross-validation (`_kfold`, `_num_cv_round`): one model per fold, and what they predict for the rows left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost
from scipy import sparse

from sagesmith.algorithms.xgboost import matrix, metrics
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.xgboost.hosts import Gang
    from sagesmith.algorithms.xgboost.plan import Plan


def cross_validate(plan: Plan, gang: Gang, initial: xgboost.Booster | None) -> list[xgboost.Booster]:
    """Boosters of all folds and repeats; logs means of the folds' own metrics, writes predictions.csv.

    The original reports metrics on the data it trained with; here `validation` is the fold left out.
    """
    from sagesmith.algorithms.xgboost.boosting import boost

    gang.refuse("Hyperparameter _kfold")
    rows = _together(gang.train, gang.validation)
    gang.release()
    by_class = plan.settings["num_class"] is not None or plan.objective.startswith("binary:")
    out = Held(rows, plan.objective)
    boosters: list[xgboost.Booster] = []
    repeats = int(plan.settings["num_cv_round"])
    scores: list[dict[str, float]] = []
    for repeat in range(repeats):
        for inside, outside in _split(rows, plan, repeat, by_class):
            plan.run.log("Training fold %d of %d", len(boosters) + 1, repeats * plan.settings["kfold"])
            evals = [
                (matrix.matrix(rows.take(inside), plan.objective, plan.parameters["nthread"]), "train"),
                (matrix.matrix(rows.take(outside), plan.objective, plan.parameters["nthread"]), "validation"),
            ]
            booster = boost(plan, evals, initial, gang, part=f"model-{len(boosters)}")
            boosters.append(booster)
            scores.append(_score(booster, evals, plan))
            out.take(repeat, outside, booster, evals[1][0])
        _report(plan, scores[-plan.settings["kfold"] :], f"[{plan.settings['num_round']}]")
    if repeats > 1:
        plan.run.log("Overall cross validation metrics:")
        _report(plan, scores, f"[{plan.settings['num_round']}]")
    if plan.run.output is not None:
        out.write(plan.run.output / "predictions.csv")
    return boosters


def _together(train: Batch, validation: Batch | None) -> Batch:
    if validation is None:
        return train
    stack: Any = sparse.vstack if train.is_sparse or validation.is_sparse else np.vstack
    stacked: Any = stack([train.features, validation.features])
    features = stacked.tocsr() if hasattr(stacked, "tocsr") else stacked
    weights = [np.ones(len(b), np.float32) if b.weight is None else b.weight for b in (train, validation)]
    weighted = train.weight is not None or validation.weight is not None
    label = np.concatenate([train.label, validation.label])
    return replace(train, features=features, label=label, weight=np.concatenate(weights) if weighted else None)


def _split(rows: Batch, plan: Plan, repeat: int, by_class: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row indices inside and outside of each fold, both ascending; shuffled, and class by class if asked."""
    assert rows.label is not None
    folds, count = int(plan.settings["kfold"]), len(rows)
    if count < folds:
        raise DataError(f"Cannot have number of folds _kfold={folds} greater than the number of rows {count}")
    random = np.random.default_rng([abs(int(plan.settings["seed"])), repeat])
    order = random.permutation(count)
    if by_class:
        order = order[np.argsort(rows.label[order], kind="stable")]  # neighbours share a class: deal them out in turn
    fold_of = np.empty(count, np.int64)
    fold_of[order] = np.arange(count) % folds
    for fold in range(folds):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _score(booster: xgboost.Booster, evals: list[tuple[xgboost.DMatrix, str]], plan: Plan) -> dict[str, float]:
    custom = metrics.custom(plan.custom, plan.objective, plan.classes) if plan.custom else None
    text = booster.eval_set(evals, 0, custom, output_margin=False)
    return {name: float(value) for name, _, value in (part.rpartition(":") for part in text.split("\t")[1:])}


def _report(plan: Plan, scores: list[dict[str, float]], head: str) -> None:
    """`[num_round]<TAB>train-rmse:mean<TAB>validation-rmse:mean`, train's metrics first."""
    names = sorted(scores[0], key=lambda name: not name.startswith("train-"))
    means = [f"\t{name}:{np.mean([score[name] for score in scores]):.5f}" for name in names]
    plan.run.metric_line(head + "".join(means))


class Held:
    """Predictions for every row by the models that did not see it, one per repeat."""

    def __init__(self, rows: Batch, objective: str) -> None:
        assert rows.label is not None
        self.truth, self.objective = rows.label, objective
        self.classifies = objective.startswith(("binary:", "multi:"))
        self.values: dict[int, np.ndarray] = {}
        self.labels: dict[int, np.ndarray] = {}

    def take(self, repeat: int, outside: np.ndarray, booster: xgboost.Booster, data: xgboost.DMatrix) -> None:
        predicted = booster.predict(data)
        values = self.values.setdefault(repeat, np.zeros(len(self.truth)))
        values[outside] = self._probability(predicted, booster, data) if self.classifies else predicted
        if self.classifies:
            labels = self.labels.setdefault(repeat, np.zeros(len(self.truth), np.int64))
            labels[outside] = metrics.labels_of(predicted, self.objective)

    def _probability(self, predicted: np.ndarray, booster: xgboost.Booster, data: xgboost.DMatrix) -> np.ndarray:
        """Of class 1, or of the likeliest class."""
        if self.objective == "multi:softmax":
            margin = booster.predict(data, output_margin=True)
            exponential = np.exp(margin - margin.max(axis=1, keepdims=True))
            return np.asarray((exponential / exponential.sum(axis=1, keepdims=True)).max(axis=1))
        if self.objective == "binary:logitraw":
            return np.asarray(1 / (1 + np.exp(-predicted)))
        return np.asarray(predicted.max(axis=1) if predicted.ndim == 2 else predicted)

    def write(self, path: Path) -> None:
        """predictions.csv: truth, mean probability and most frequent label; or truth and mean prediction."""
        columns = [self.truth, np.mean(list(self.values.values()), axis=0)]
        if self.classifies:
            votes = np.stack(list(self.labels.values()))
            counts = np.stack([(votes == label).sum(axis=0) for label in range(int(votes.max()) + 1)])
            columns.append(counts.argmax(axis=0))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        np.savetxt(partial, np.column_stack(columns), delimiter=",", fmt="%f")
        partial.replace(path)
