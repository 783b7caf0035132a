"""The container's own metrics against scikit-learn's values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.xgboost.metrics import split

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")


def averaged(score: Callable[..., Any], average: str) -> Callable[..., Any]:
    return lambda truth, predicted, **weights: score(truth, predicted, average=average, **weights)


BINARY: dict[str, Any] = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "f1": averaged(reference.f1_score, "macro"),
    "f1_binary": reference.f1_score,
    "f1_macro": averaged(reference.f1_score, "macro"),
    "precision": reference.precision_score,
    "precision_macro": averaged(reference.precision_score, "macro"),
    "precision_micro": averaged(reference.precision_score, "micro"),
    "recall": reference.recall_score,
    "recall_macro": averaged(reference.recall_score, "macro"),
    "recall_micro": averaged(reference.recall_score, "micro"),
}
MULTI = {name: score for name, score in BINARY.items() if name not in ("f1_binary", "precision", "recall")}


def last(lines: list[str]) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"\tvalidation-([^:]+):(\S+)", lines[-1])}


@pytest.mark.parametrize("objective", ["binary:logistic", "binary:logitraw", "binary:hinge"])
def test_binary_metrics_are_true(objective: str, cancer, job) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    model = XGBoost(objective=objective, num_round=3, max_depth=1, eval_metric=list(BINARY))
    model.fit(X[:60], y[:60], validation=(X[60:], y[60:]), run=job)
    predicted = model.predict(X[60:])
    for name, score in BINARY.items():
        assert last(job.rounds)[name] == pytest.approx(score(y[60:], predicted), abs=6e-6), name
    assert 0.5 < last(job.rounds)["accuracy"] < 1


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
def test_multiclass_metrics_are_true(objective: str, wine, job) -> None:  # type: ignore[no-untyped-def]
    X, y = wine
    model = XGBoost(objective=objective, num_class=4, num_round=1, max_depth=1, eval_metric=list(MULTI))
    model.fit(X[:40], y[:40], validation=(X[40:], y[40:]), run=job)
    predicted = model.predict(X[40:])
    for name, score in MULTI.items():
        assert last(job.rounds)[name] == pytest.approx(score(y[40:], predicted), abs=6e-6), name


@pytest.mark.parametrize("objective", ["reg:squarederror", "reg:gamma", "count:poisson"])
def test_regression_metrics_are_true(objective: str, diabetes, job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    model = XGBoost(objective=objective, num_round=10, eval_metric="mse,r2,rmse,mae").fit(
        X[:300], y[:300], validation=(X[300:], y[300:]), run=job
    )
    predicted, seen = model.predict(X[300:]), last(job.rounds)
    assert seen["mse"] == pytest.approx(reference.mean_squared_error(y[300:], predicted), rel=1e-5)
    assert seen["r2"] == pytest.approx(reference.r2_score(y[300:], predicted), abs=1e-5)
    assert seen["rmse"] == pytest.approx(reference.root_mean_squared_error(y[300:], predicted), rel=1e-5)
    assert seen["mae"] == pytest.approx(reference.mean_absolute_error(y[300:], predicted), rel=1e-5)


def test_metrics_and_the_tuning_objective_are_merged() -> None:
    assert split(["rmse", "mae"], None) == (["rmse", "mae"], [])
    assert split(["rmse", "f1"], "accuracy") == (["rmse"], ["accuracy", "f1"])
    assert split([], "logloss") == (["logloss"], [])
    assert split(["logloss", "auc"], "logloss") == (["logloss", "auc"], [])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_random_decisions_agree_with_scikit_learn(classes: int) -> None:
    from sagesmith.algorithms.xgboost.metrics import classification, confusion

    random = np.random.default_rng(classes)
    for _ in range(20):
        truth, predicted = random.integers(0, classes, (2, 12))
        found = confusion(truth, predicted, classes)
        for name in ("accuracy", "f1_macro", "precision_micro"):
            assert classification(name, found) == pytest.approx(BINARY[name](truth, predicted))
        occurring = sorted({*truth, *predicted})
        expected = reference.recall_score(truth, predicted, average="macro", labels=occurring, zero_division=0)
        assert classification("recall_macro", found) == pytest.approx(expected)


@pytest.mark.parametrize("objective", ["binary:logistic", "binary:hinge"])
def test_weights_count_as_in_xgboosts_own_metrics(objective: str, cancer, job) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    weight = np.random.default_rng(0).uniform(0, 3, len(y)).astype(np.float32)
    names = ["error", "rmse", *BINARY, "mse", "r2"]
    model = XGBoost(objective=objective, num_round=3, max_depth=1, eval_metric=names)
    model.fit(X[:60], y[:60], sample_weight=weight[:60], validation=(X[60:], y[60:], weight[60:]), run=job)
    predicted, seen = model.predict(X[60:]), last(job.rounds)
    for name, score in BINARY.items():
        expected = score(y[60:], predicted, sample_weight=weight[60:])
        assert seen[name] == pytest.approx(expected, abs=6e-6), name
    assert seen["error"] == pytest.approx(1 - seen["accuracy"], abs=2e-5)
    assert seen["mse"] == pytest.approx(seen["rmse"] ** 2, abs=2e-5)
    score = model.ensemble_.predict(X[60:])
    assert seen["r2"] == pytest.approx(reference.r2_score(y[60:], score, sample_weight=weight[60:]), abs=6e-6)


def test_a_querys_weight_counts_for_each_of_its_rows() -> None:
    import xgboost

    from sagesmith.algorithms.xgboost.metrics import weights_of

    data = xgboost.DMatrix(np.zeros((5, 1)), np.arange(5))
    assert weights_of(data) is None
    data.set_group([2, 3])
    data.set_weight([0.5, 2])
    assert weights_of(data).tolist() == [0.5, 0.5, 2, 2, 2]  # type: ignore[union-attr]
