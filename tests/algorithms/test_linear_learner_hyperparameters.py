"""Every hyperparameter of Linear Learner does something, and what cannot be is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import LinearLearner
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.linear_learner import grid
from sagesmith.container.log_lines import progress_line, throughput_line
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun

BINARY, REGRESSOR, MULTICLASS = "binary_classifier", "regressor", "multiclass_classifier"
BASE: dict[str, Any] = {"predictor_type": BINARY, "epochs": 2, "mini_batch_size": 64, "num_models": 1}


def rows(task: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    X = (random.normal(size=(600, 4)) * [1, 5, 0.2, 1] + [0, 3, 1, 0]).astype(np.float32)
    z = X @ np.array([1.0, 0.2, 2.0, 0.0]) + random.normal(size=600)
    y = {REGRESSOR: 10 * z + 50, BINARY: z > 3.5, MULTICLASS: (z > 2.5).astype(int) + (z > 4.5)}[task]
    return X, y.astype(np.float32)


def learnt(run: RecordingRun | None = None, **settings: Any) -> LinearLearner:
    given = BASE | settings
    X, y = rows(given["predictor_type"])
    return LinearLearner(**given).fit(X, y, run=run)


REGRESSION = {"predictor_type": REGRESSOR}


@pytest.mark.parametrize(
    ("changed", "base"),
    [
        ({"mini_batch_size": 32}, {}), ({"epochs": 3}, {}), ({"num_models": 4}, {}), ({"loss": "hinge_loss"}, {}),
        ({"optimizer": "sgd"}, {}), ({"optimizer": "rmsprop"}, {}), ({"optimizer": "adagrad"}, {}),
        ({"learning_rate": 0.02}, {}), ({"momentum": 0.5}, {"optimizer": "sgd"}), ({"beta_1": 0.5}, {}),
        ({"beta_2": 0.9}, {}), ({"wd": 0.1}, {}), ({"l1": 0.05}, {}), ({"bias_lr_mult": 1}, {}),
        ({"bias_wd_mult": 1}, {"wd": 0.1}), ({"use_lr_scheduler": False}, {"lr_scheduler_step": 1}),
        ({"lr_scheduler_step": 2}, {}), ({"lr_scheduler_factor": 0.5}, {"lr_scheduler_step": 1}),
        ({"lr_scheduler_minimum_lr": 0.004}, {"lr_scheduler_step": 1, "lr_scheduler_factor": 0.5}),
        ({"init_method": "normal"}, {}), ({"init_scale": 0.5}, {}), ({"init_sigma": 0.5}, {"init_method": "normal"}),
        ({"init_bias": 1.0}, {}), ({"use_bias": False}, {}), ({"normalize_data": False}, {}),
        ({"unbias_data": False}, {}), ({"normalize_label": False}, REGRESSION), ({"unbias_label": False}, REGRESSION),
        ({"num_point_for_scaler": 20}, {}), ({"positive_example_weight_mult": 3.0}, {}),
        ({"balance_multiclass_weights": True}, {"predictor_type": MULTICLASS}),
        ({"margin": 0.1}, {"loss": "hinge_loss"}),
        ({"quantile": 0.9}, REGRESSION | {"loss": "quantile_loss"}),
        ({"loss_insensitivity": 0.5}, REGRESSION | {"loss": "eps_insensitive_squared_loss"}),
        ({"huber_delta": 0.1}, REGRESSION | {"loss": "huber_loss"}),
        ({"num_calibration_samples": 30}, {}), ({"binary_classifier_model_selection_criteria": "loss_function"}, {}),
        ({"f_beta": 3.0}, {"binary_classifier_model_selection_criteria": "f_beta"}),
        ({"target_recall": 0.3}, {"binary_classifier_model_selection_criteria": "precision_at_target_recall"}),
        ({"target_precision": 0.99}, {"binary_classifier_model_selection_criteria": "recall_at_target_precision"}),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()),
)  # fmt: skip
def test_it_changes_the_model(changed: dict[str, Any], base: dict[str, Any]) -> None:
    before, after = learnt(**base), learnt(**base | changed)
    assert (before.weight_.tolist(), before.bias_.tolist(), before.margin_) != (
        after.weight_.tolist(), after.bias_.tolist(), after.margin_
    )  # fmt: skip


def test_top_k_names_and_widens_the_metric() -> None:
    values = {}
    for k in (1, 3):
        run = RecordingRun()
        X, y = rows(MULTICLASS)
        settings = BASE | {"predictor_type": MULTICLASS, "accuracy_top_k": k}
        LinearLearner(**settings).fit(X, y, run=run, validation=(X, y))
        line = next(line for line in run.lines if f"validation multiclass_top_k_accuracy_{k} <score>=" in line)
        values[k] = float(line.split("=")[-1])
    assert values[1] < values[3] == 1.0


def test_patience_and_tolerance_end_the_training() -> None:
    def epochs(**settings: Any) -> int:
        run = RecordingRun()
        learnt(run, epochs=12, **settings)
        return sum("#early_stopping_criteria_metric" in line for line in run.lines)

    assert epochs(early_stopping_tolerance=10.0) == 4
    assert epochs(early_stopping_tolerance=10.0, early_stopping_patience=1) == 2
    assert epochs(early_stopping_patience=13) == 12


def test_l1_leaves_zeros_where_nothing_is_to_be_learnt() -> None:
    model = learnt(l1=0.05, epochs=30, early_stopping_patience=40, learning_rate=0.02)
    assert abs(model.weight_[3, 0]) < 1e-3 < abs(model.weight_[0, 0])


def test_without_bias_there_is_none() -> None:
    assert learnt(use_bias=False).bias_[0] == 0


def test_the_first_model_is_as_configured_and_the_rest_vary_what_is_auto() -> None:
    settings = LinearLearner(predictor_type=BINARY, wd=0.25).settings
    models = grid.models(settings, 40, 0.005, 50)
    assert (models[0].learning_rate, models[0].l1, models[0].wd, models[0].every) == (0.005, 0.0, 0.25, 100)
    assert {model.wd for model in models} == {0.25}
    assert len({(m.learning_rate, m.l1, m.every) for m in models}) == 40
    fixed = LinearLearner(
        predictor_type=BINARY, wd=0, l1=0, learning_rate=0.1, lr_scheduler_step=10, lr_scheduler_factor=0.9
    )
    assert len(set(grid.models(fixed.settings, 32, 0.005, 50))) == 1


def test_a_tuning_job_trains_one_model_whatever_the_user_says() -> None:
    model = LinearLearner.from_strings(
        {"predictor_type": BINARY, "num_models": "8", "_tuning_objective_metric": "validation:objective_loss"}
    )
    assert model.settings["num_models"] == 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"predictor_type": "ranker"}, "predictor_type"),
        ({"predictor_type": REGRESSOR, "loss": "logistic"}, r"logistic is not in \[auto, squared_loss"),
        ({"predictor_type": MULTICLASS}, "num_classes"),
        ({"predictor_type": MULTICLASS, "num_classes": 2}, "num_classes"),
        ({"predictor_type": BINARY, "loss": "hinge_loss",
          "binary_classifier_model_selection_criteria": "cross_entropy_loss"}, "needs loss logistic"),
        ({"predictor_type": BINARY, "positive_example_weight_mult": "heavy"}, "positive_example_weight_mult"),
        ({"predictor_type": BINARY, "feature_dim": 0}, "feature_dim"),
        ({"predictor_type": BINARY, "learning_rate": "nan"}, "learning_rate"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(HyperparameterError, match=text):
        LinearLearner(**settings).validate()


def test_sagemakers_strings_are_taken() -> None:
    model = LinearLearner.from_strings(
        {"predictor_type": REGRESSOR, "normalize_data": "True", "unbias_data": "auto", "num_models": "auto",
         "use_bias": "false", "learning_rate": "0.1", "feature_dim": "4"}
    )  # fmt: skip
    assert (model.settings["normalize_data"], model.settings["use_bias"], model.settings["unbias_data"]) == (
        True, False, "auto"
    )  # fmt: skip


def test_feature_dim_is_held_to() -> None:
    X, y = rows(BINARY)
    with pytest.raises(DataError, match="rows of 4 columns, but feature_dim is 5"):
        LinearLearner(**BASE, feature_dim=5).fit(Channel.of("train", X, y))


def test_settings_without_effect_are_told() -> None:
    run = RecordingRun()
    learnt(run, momentum=0.9, normalize_label=True)
    assert [line.split()[1] for line in run.lines if "has no effect" in line] == ["momentum", "normalize_label"]


def test_the_log_reads_as_sagemakers() -> None:
    X, y = rows(BINARY)
    run = RecordingRun()
    seen: list[tuple[Any, ...]] = []
    run.metrics = lambda operation, values, **where: seen.append((operation, values, where))  # type: ignore[method-assign]
    LinearLearner(**BASE | {"num_models": 3}).fit(X, y, run=run, validation=(X, y), test=(X, y))
    objective = "binary_classification_cross_entropy_objective"
    epoch = [line for line in run.lines if "epoch=1" in line]
    assert epoch[0].startswith(f"#quality_metric: host=algo-1, epoch=1, train {objective} <loss>=")
    assert epoch[1].startswith(f"#quality_metric: host=algo-1, epoch=1, validation {objective} <loss>=")
    assert epoch[2].startswith(
        "#early_stopping_criteria_metric: host=algo-1, epoch=1, criteria=sampled_accuracy, value="
    )
    of_models = {where["model"]: values for operation, values, where in seen if where.get("epoch") == 1}
    assert list(of_models) == [0, 1, 2]
    assert float(epoch[1].split("=")[-1]) == of_models[0][f"validation_{objective}"], "the quality line is model 0's"
    scores = [line.split("'")[1] for line in run.lines if line.startswith("#validation_score (algo-1) : ('")]
    assert scores == [
        objective, "binary_classification_accuracy", "binary_f_1.000", "precision", "recall", "roc_auc_score",
        "binary_balanced_accuracy", "binary_log_loss",
    ]  # fmt: skip
    best = next(line for line in run.lines if line.startswith("Best model found for hyperparameters: "))
    assert json.loads(best.split(": ", 1)[1])["optimizer"] == "adam"
    assert any(line.startswith("#test_score (algo-1) : (") for line in run.lines)


def test_every_metric_is_found_in_some_log() -> None:
    lines = [progress_line("algo-1", 1, 15, LinearLearner.whole_percents), throughput_line("algo-1", 1000.0)]
    assert lines[0] == "#progress_metric: host=algo-1, completed 6 % of epochs", "as SageMaker's log has it"
    for task in (BINARY, REGRESSOR, MULTICLASS):
        run, (X, y) = RecordingRun(), rows(task)
        LinearLearner(**BASE | {"predictor_type": task}).fit(X, y, run=run, validation=(X, y), test=(X, y))
        lines += run.lines
    for metric in LinearLearner.metrics:
        assert any(re.search(metric.regex, line) for line in lines), metric.name
