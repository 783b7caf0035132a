"""XGBoost's hyperparameters: every row of the specification's table, its rules, and what became of dropped ones."""

from __future__ import annotations

import numpy as np
import pytest

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.xgboost import rules

GOOD = {
    "num_class": "3", "csv_weights": "1", "early_stopping_rounds": "1", "booster": "dart", "verbosity": "3",
    "nthread": "1", "eta": "1", "gamma": "0", "max_depth": "0", "min_child_weight": "0", "max_delta_step": "0",
    "subsample": "1", "colsample_bytree": "0.1", "colsample_bylevel": "0.1", "colsample_bynode": "0.1", "lambda": "0",
    "alpha": "0", "tree_method": "approx", "sketch_eps": "0.5", "scale_pos_weight": "0.1", "updater": "grow_colmaker",
    "dsplit": "row", "refresh_leaf": "0", "process_type": "default", "grow_policy": "lossguide", "max_leaves": "0",
    "max_bin": "2", "predictor": "cpu_predictor", "sample_type": "weighted", "normalize_type": "forest",
    "rate_drop": "1", "one_drop": "1", "skip_drop": "1", "lambda_bias": "1", "tweedie_variance_power": "1.1",
    "objective": "survival:cox", "base_score": "0", "eval_metric": "rmse,mae", "seed": "-5", "num_parallel_tree": "1",
    "save_model_on_termination": "true", "aft_loss_distribution": "extreme", "aft_loss_distribution_scale": "0",
    "deterministic_histogram": "false", "single_precision_histogram": "true", "sampling_method": "gradient_based",
    "prob_buffer_row": "1.1", "use_dask_gpu_training": "false", "_kfold": "2", "_num_cv_round": "1",
    "_tuning_objective_metric": "validation:rmse",
}  # fmt: skip
BAD = {
    "num_round": "0", "num_class": "1", "csv_weights": "2", "early_stopping_rounds": "0", "booster": "tree",
    "verbosity": "4", "nthread": "0", "eta": "1.1", "gamma": "-1", "max_depth": "-1", "min_child_weight": "-1",
    "max_delta_step": "-1", "subsample": "0", "colsample_bytree": "0", "colsample_bylevel": "1.1",
    "colsample_bynode": "0", "lambda": "-1", "alpha": "-1", "tree_method": "fast", "sketch_eps": "0",
    "scale_pos_weight": "0", "updater": "grow_fast", "dsplit": "both", "refresh_leaf": "2", "process_type": "new",
    "grow_policy": "deep", "max_leaves": "-1", "max_bin": "-1", "predictor": "tpu", "sample_type": "x",
    "normalize_type": "x", "rate_drop": "2", "one_drop": "2", "skip_drop": "-1", "lambda_bias": "2",
    "tweedie_variance_power": "2", "objective": "aft_loss_distribution", "base_score": "-1", "eval_metric": "loss",
    "seed": "2147483647", "num_parallel_tree": "0", "save_model_on_termination": "perhaps",
    "aft_loss_distribution": "uniform", "aft_loss_distribution_scale": "-1", "deterministic_histogram": "2",
    "sampling_method": "x", "prob_buffer_row": "1", "use_dask_gpu_training": "x", "_kfold": "1", "_num_cv_round": "0",
    "_tuning_objective_metric": "rmse", "monotone_constraints": "(2)", "interaction_constraints": "[[-1]]",
}  # fmt: skip


def test_the_table_is_whole() -> None:
    names = {parameter.name for parameter in XGBoost.hyperparameters.values()}
    assert names == set(GOOD) | {"num_round", "monotone_constraints", "interaction_constraints"}
    assert names - {"single_precision_histogram"} == set(BAD)


@pytest.mark.parametrize("name", GOOD)
def test_edges_of_every_range_are_taken(name: str) -> None:
    XGBoost.from_strings({"num_round": "1", name: GOOD[name]})


@pytest.mark.parametrize("name", BAD)
def test_values_out_of_range_are_refused_by_name(name: str) -> None:
    with pytest.raises(HyperparameterError, match=f"Hyperparameter {name}: "):
        XGBoost.from_strings({"num_round": "1", name: BAD[name]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": "1"}, "Extraneous hyperparameter found: learning_rat"),
        ({"objective": "multi:softmax"}, "Require input for parameter 'num_class'"),
        ({"objective": "multi:softmax", "num_class": "3", "eval_metric": "auc"}, "Metric 'auc' can only be applied"),
        ({"eval_metric": "aft-nloglik"}, "can only be applied for 'survival:aft'"),
        ({"eval_metric": "accuracy"}, "can only be applied for classification"),
        ({"objective": "multi:softmax", "num_class": "3", "eval_metric": "f1_binary"}, "two classes"),
        ({"eval_metric": "rmse@3"}, "rmse@3 is not in"),
        ({"eval_metric": "ndcg@x", "objective": "rank:ndcg"}, "ndcg@x is not in"),
        ({"updater": "grow_colmaker,grow_histmaker"}, "exactly one tree builder"),
        ({"updater": "prune"}, "exactly one tree builder"),
        ({"updater": "shotgun"}, "need booster gblinear"),
        ({"updater": "shotgun,coord_descent", "booster": "gblinear"}, "exactly one of"),
        ({"updater": "grow_colmaker", "process_type": "update"}, "only refresh, prune"),
        ({"monotone_constraints": "(1,0)"}, "tree_method must be one of exact, hist, is auto"),
        ({"interaction_constraints": "[[0,1]]"}, "tree_method must be one of exact, hist, approx"),
        ({"max_bin": "1"}, "max_bin: 1 is not in"),
        ({"interaction_constraints": "[0,1]", "tree_method": "hist"}, "could not parse value"),
    ],
)
def test_rules_between_hyperparameters(given: dict[str, str], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        XGBoost.from_strings({"num_round": "1", **given})


def test_constraints_reach_xgboost(diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    constraints = "(" + ",".join(["1"] + ["0"] * 9) + ")"
    model = XGBoost.from_strings({"num_round": "20", "tree_method": "hist", "monotone_constraints": constraints})
    model.fit(X, y)
    probe = np.tile(X[:1], (50, 1))
    probe[:, 0] = np.linspace(-0.1, 0.1, 50)
    assert (np.diff(model.predict(probe)) >= 0).all()
    grouped = XGBoost.from_strings(
        {"num_round": "5", "tree_method": "hist", "interaction_constraints": "[[0,1],[2,3,4,5,6,7,8,9]]"}
    ).fit(X, y)
    for tree in grouped.booster_model.trees_to_dataframe().groupby("Tree"):
        used = set(tree[1]["Feature"]) - {"Leaf"}
        assert used <= {"f0", "f1"} or not used & {"f0", "f1"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sketch_eps": "0.1", "tree_method": "approx"}, "sketch_eps is now max_bin; max_bin=10"),
        ({"sketch_eps": "0.1"}, "sketch_eps has effect only with approx, not auto"),
        ({"predictor": "cpu_predictor"}, "predictor: cpu_predictor no longer exists"),
        ({"single_precision_histogram": "true"}, "single_precision_histogram no longer exists"),
        ({"deterministic_histogram": "false"}, "deterministic_histogram no longer exists"),
        ({"prob_buffer_row": "2"}, "prob_buffer_row no longer exists"),
        ({"dsplit": "row"}, "dsplit: row is no longer an option"),
        ({"updater": "grow_skmaker,prune"}, "grow_skmaker no longer exists; training with grow_histmaker"),
        ({"updater": "distcol"}, "distcol no longer exists; training with grow_colmaker"),
        ({"objective": "reg:linear"}, "reg:linear is now called reg:squarederror"),
        ({"num_class": "2"}, "num_class has no effect"),
    ],
)
def test_dropped_hyperparameters_are_announced(given, line, job, diabetes) -> None:  # type: ignore[no-untyped-def]
    XGBoost.from_strings({"num_round": "2", **given}).fit(*diabetes, run=job)
    assert any(line in said for said in job.lines), job.lines


def test_sketch_eps_becomes_bins(diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    by_eps = XGBoost(num_round=3, tree_method="approx", sketch_eps=0.1).fit(X, y).predict(X)
    by_bins = XGBoost(num_round=3, tree_method="approx", max_bin=10).fit(X, y).predict(X)
    assert np.array_equal(by_eps, by_bins)
    assert not np.array_equal(by_eps, XGBoost(num_round=3, tree_method="approx").fit(X, y).predict(X))


@pytest.mark.parametrize(
    "given", [{"tree_method": "gpu_hist"}, {"predictor": "gpu_predictor"}, {"use_dask_gpu_training": True}]
)
def test_gpu_settings_are_refused_without_a_gpu(given, diabetes, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(rules, "usable_gpus", lambda run: 0)
    with pytest.raises(HyperparameterError, match="GPU"):
        XGBoost(num_round=2, **given).fit(*diabetes)


def test_all_reasons_against_dask_are_given_at_once() -> None:
    model = XGBoost(num_round=2, use_dask_gpu_training=True, kfold=3, csv_weights=1)
    model.validate()
    with pytest.raises(HyperparameterError) as caught:
        rules.check_gpu(model.settings, gpus=0)
    assert str(caught.value).count("; ") == 4
    assert rules.translate(XGBoost(num_round=1, tree_method="gpu_hist").settings, {}, 1)["device"] == "cuda"


def test_update_needs_a_model(diabetes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HyperparameterError, match="needs a model to update"):
        XGBoost(num_round=2, process_type="update", updater="refresh").fit(*diabetes)
