"""Linear Learner's last step: where how to reach the optimum was left to it, it ends there, as a solver does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import LinearLearner
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.test_linear_learner_job import InGang, together

BINARY: dict[str, Any] = {
    "predictor_type": "binary_classifier", "binary_classifier_model_selection_criteria": "cross_entropy_loss",
    "epochs": 1, "mini_batch_size": 100,
}  # fmt: skip
REGRESSOR: dict[str, Any] = {"predictor_type": "regressor", "epochs": 1, "mini_batch_size": 100}
STEP = "Newton's step"


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """12,000 rows of five columns of unlike scales, and labels from a logistic model."""
    random = np.random.default_rng(4)
    X = random.normal(size=(12_000, 5)) * [1, 3, 0.1, 20, 1] + [0, 5, 1, 0, 0]
    z = X @ [0.8, -0.3, 4, 0.02, 0] - 3
    return X.astype(np.float32), (random.random(len(X)) < 1 / (1 + np.exp(-z))).astype(np.float32)


def fitted(settings: dict[str, Any], X: np.ndarray, y: np.ndarray, **further: Any) -> tuple[LinearLearner, str]:
    """The model, and what the log says of the step."""
    run = RecordingRun()
    model = LinearLearner(**settings).fit(X, y, run=run, **further)
    return model, "\n".join(line for line in run.lines if STEP in line)


def slope(model: LinearLearner, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The gradient of the mean logistic loss by weights of columns of deviation 1, and by the bias."""
    z = X.astype(float) @ model.weight_[:, 0] + model.bias_[0]
    rest = (1 / (1 + np.exp(-z)) - y) * (1.0 if weight is None else weight)
    scaled = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
    return np.append(scaled.T @ rest, rest.sum()) / (len(X) if weight is None else weight.sum())


def test_one_epoch_ends_at_the_optimum(rows: Any) -> None:
    X, y = rows
    model, line = fitted(BINARY, X, y)
    assert line.endswith(", kept")
    without, nothing = fitted(BINARY | {"learning_rate": 0.005}, X, y)
    assert not nothing
    assert abs(slope(model, X, y)).max() < 3e-4
    assert abs(slope(without, X, y)).max() > 3e-2


def test_weights_of_rows_and_classes_belong_to_the_optimum(rows: Any) -> None:
    X, y = rows
    each = np.random.default_rng(0).uniform(0.5, 2, len(X)).astype(np.float32)
    model, line = fitted(BINARY | {"positive_example_weight_mult": 3.0}, X, y, sample_weight=each)
    assert line.endswith(", kept")
    assert abs(slope(model, X, y, each * np.where(y > 0, 3, 1))).max() < 1e-3


@pytest.mark.parametrize("bias", [True, False])
def test_a_regression_ends_at_least_squares(rows: Any, bias: bool) -> None:
    X, _ = rows
    y = (X @ [1.0, 2, -3, 0.1, 0] + 7 + np.random.default_rng(1).normal(size=len(X))).astype(np.float32)
    model, line = fitted(REGRESSOR | {"use_bias": bias}, X, y)
    assert line.endswith(", kept")
    table = np.column_stack([X, np.ones(len(X))]) if bias else X
    best = np.linalg.lstsq(table.astype(float), y.astype(float), rcond=None)[0]
    assert X @ model.weight_[:, 0] + model.bias_[0] == pytest.approx(table @ best, abs=1e-2)


def test_weight_decay_belongs_to_the_optimum(rows: Any) -> None:
    """A decay that the user set is kept to, although the loss that models are judged by has none."""
    X, y = rows
    model, line = fitted(BINARY | {"wd": 0.01, "bias_wd_mult": 1.0}, X, y)
    assert line.endswith(", kept")
    weights = np.append(model.weight_[:, 0] * X.std(axis=0), model.bias_[0] + X.mean(axis=0) @ model.weight_[:, 0])
    assert slope(model, X, y) == pytest.approx(-0.01 * weights, abs=5e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "adam"}, {"learning_rate": 0.01}, {"beta_1": 0.8}, {"beta_2": 0.99}, {"bias_lr_mult": 1.0},
        {"use_lr_scheduler": False}, {"lr_scheduler_step": 10}, {"lr_scheduler_factor": 0.9},
        {"lr_scheduler_minimum_lr": 0.001}, {"l1": 0.001}, {"loss": "hinge_loss", **BINARY,
        "binary_classifier_model_selection_criteria": "loss_function"},
        {"binary_classifier_model_selection_criteria": "accuracy"},
    ],
    ids=str,
)  # fmt: skip
def test_there_is_none_where_it_would_change_what_a_hyperparameter_means(rows: Any, changed: dict[str, Any]) -> None:
    assert not fitted(BINARY | {"num_models": 2} | changed, *rows)[1]


def test_there_is_none_with_few_rows(rows: Any) -> None:
    X, y = rows
    assert not fitted(BINARY | {"num_models": 2}, X[:5_900], y[:5_900])[1]
    assert fitted(BINARY | {"num_models": 2}, X[:6_000], y[:6_000])[1]


def test_held_out_rows_decide_whether_it_is_kept(rows: Any) -> None:
    X, y = rows
    opposite = (X[:2000], 1 - y[:2000])
    model, line = fitted(BINARY, X, y, validation=opposite)
    assert line.endswith(", not kept")
    assert abs(slope(model, X, y)).max() > 1e-3


def test_hosts_add_up_what_it_is_made_of(rows: Any) -> None:
    X, y = rows
    parts = (slice(0, 3000), slice(3000, None))

    def one(run: InGang) -> LinearLearner:
        return LinearLearner(**BINARY).fit(Channel.of("train", X[parts[run.rank]], y[parts[run.rank]]), run=run)

    models = together(2, one)
    assert np.array_equal(models[0].weight_, models[1].weight_)
    assert abs(slope(models[0], X, y)).max() < 5e-4


def test_a_resumed_job_makes_the_same_step(rows: Any, tmp_path: Path) -> None:
    whole, line = fitted(BINARY | {"epochs": 3}, *rows)
    assert line.endswith(", kept")
    for epochs in (1, 3):
        run = RecordingRun()
        run.checkpoints = tmp_path
        resumed = LinearLearner(**BINARY | {"epochs": epochs}).fit(*rows, run=run)
    assert "Resuming from checkpoint 0: 2 epochs remain" in run.lines
    assert np.array_equal(resumed.weight_, whole.weight_)
