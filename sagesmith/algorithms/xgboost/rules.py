"""Rules between XGBoost's hyperparameters, and their translation to what xgboost 3.2 understands.

Hyperparameters that SageMaker documents and newer xgboost no longer has are mapped to their successor, or named in the
log with what became of them; none is dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import metrics

TREE_BUILDERS = ("grow_colmaker", "distcol", "grow_histmaker", "grow_skmaker", "grow_quantile_histmaker")
LINEAR_UPDATERS = ("shotgun", "coord_descent")
UPDATE_UPDATERS = ("refresh", "prune")
UPDATERS = (*TREE_BUILDERS, "sync", *UPDATE_UPDATERS, *LINEAR_UPDATERS)

# Ours, not xgboost's: they steer the training around it.
_STEERING = {
    "num_round", "csv_weights", "early_stopping_rounds", "eval_metric", "save_model_on_termination", "kfold",
    "num_cv_round", "tuning_objective_metric", "use_dask_gpu_training", "num_class", "objective",
}  # fmt: skip
_GONE = (
    "sketch_eps",
    "predictor",
    "single_precision_histogram",
    "deterministic_histogram",
    "dsplit",
    "prob_buffer_row",
)
_DEFAULT_OBJECTIVE = "reg:squarederror"


def objective(settings: Mapping[str, Any]) -> str:
    """The objective, xgboost's default when none was given."""
    given = settings["objective"] or _DEFAULT_OBJECTIVE
    return _DEFAULT_OBJECTIVE if given == "reg:linear" else given


def check(settings: Mapping[str, Any], classes_known: bool) -> None:
    """What takes several hyperparameters to judge.

    Raises:
        HyperparameterError: naming them.
    """
    goal = objective(settings)
    if goal.startswith("multi:") and settings["num_class"] is None and not classes_known:
        raise HyperparameterError(f"Require input for parameter 'num_class' for multi-classification: objective {goal}")
    for metric in _all_metrics(settings):
        trouble = metrics.problem(metric, goal)
        if trouble:
            raise HyperparameterError(trouble)
    _check_updaters(settings)
    _check_constraints(settings)
    if settings["max_bin"] < 2:
        raise HyperparameterError(f"Hyperparameter max_bin: {settings['max_bin']} is not in [2, inf) of xgboost")


def _all_metrics(settings: Mapping[str, Any]) -> list[str]:
    tuned = tuning_objective(settings)
    return [*(settings["eval_metric"] or ()), *([tuned] if tuned else [])]


def tuning_objective(settings: Mapping[str, Any]) -> str | None:
    """The metric that a tuning job looks at, without its `validation:`.

    Raises:
        HyperparameterError: it is not of the form `validation:x`.
    """
    name = settings["tuning_objective_metric"]
    if name is None:
        return None
    data, colon, metric = name.partition(":")
    if data not in ("validation", "train") or not colon:
        raise HyperparameterError(f"Hyperparameter _tuning_objective_metric: {name} is not of the form validation:x")
    return str(metric)


def _check_updaters(settings: Mapping[str, Any]) -> None:
    chosen = settings["updater"] or []
    if not chosen:
        return
    if settings["booster"] == "gblinear":
        if len(chosen) != 1 or chosen[0] not in LINEAR_UPDATERS:
            raise HyperparameterError("Hyperparameter updater: gblinear takes exactly one of shotgun, coord_descent")
        return
    if settings["process_type"] == "update":
        if not set(chosen) <= set(UPDATE_UPDATERS):
            raise HyperparameterError("Hyperparameter updater: process_type 'update' takes only refresh, prune")
        return
    if set(chosen) & set(LINEAR_UPDATERS):
        raise HyperparameterError("Hyperparameter updater: shotgun and coord_descent need booster gblinear")
    builders = [updater for updater in chosen if updater in TREE_BUILDERS]
    if len(builders) != 1:
        raise HyperparameterError(
            f"Hyperparameter updater: {','.join(chosen)} needs exactly one tree builder: {', '.join(TREE_BUILDERS)}"
        )


def _check_constraints(settings: Mapping[str, Any]) -> None:
    for name, methods in (
        ("monotone_constraints", ("exact", "hist")),
        ("interaction_constraints", ("exact", "hist", "approx")),
    ):
        if settings[name] is not None and settings["tree_method"] not in (*methods, "gpu_hist"):
            raise HyperparameterError(
                f"Hyperparameter {name}: tree_method must be one of {', '.join(methods)}, is {settings['tree_method']}"
            )


def check_gpu(settings: Mapping[str, Any], gpus: int) -> None:
    """Refuses what needs a GPU on a host without one.

    Raises:
        HyperparameterError: all reasons joined.
    """
    reasons = []
    for name, value in (("tree_method", "gpu_hist"), ("predictor", "gpu_predictor")):
        if settings[name] == value and not gpus:
            reasons.append(
                f"Hyperparameter {name}: {value} needs a GPU and an xgboost built for it; this host has none"
            )
    if settings["use_dask_gpu_training"]:
        if not gpus:
            reasons.append("Dask GPU training (use_dask_gpu_training) needs at least one GPU; this host has none")
        if settings["tree_method"] not in ("gpu_hist", "hist"):
            reasons.append(f"Dask GPU training needs tree_method gpu_hist or hist, it is {settings['tree_method']}")
        if settings["kfold"] is not None:
            reasons.append("Dask GPU training does not support k-fold cross validation (_kfold)")
        if settings["csv_weights"]:
            reasons.append("Dask GPU training does not support csv_weights")
    if reasons:
        raise HyperparameterError("; ".join(reasons))


def usable_gpus(run: Run) -> int:
    """GPUs of this host that the installed xgboost can use: none with the CPU build."""
    if not run.gpus:
        return 0
    import xgboost

    return run.gpus if xgboost.build_info().get("USE_CUDA") else 0


def translate(settings: Mapping[str, Any], defaults: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """xgboost's parameters; only those that differ from xgboost's own defaults, so that it warns of unused ones."""
    parameters: dict[str, Any] = {"objective": objective(settings), "verbosity": settings["verbosity"]}
    parameters["nthread"] = settings["nthread"] or threads
    for attribute, value in settings.items():
        if attribute in _STEERING or attribute in _GONE or attribute in parameters or value == defaults.get(attribute):
            continue
        parameters[{"reg_lambda": "lambda", "reg_alpha": "alpha"}.get(attribute, attribute)] = value
    if parameters["objective"].startswith("multi:"):
        parameters["num_class"] = settings["num_class"]
    if settings["monotone_constraints"] is not None:
        parameters["monotone_constraints"] = f"({','.join(map(str, settings['monotone_constraints']))})"
    if settings["interaction_constraints"] is not None:
        parameters["interaction_constraints"] = str(settings["interaction_constraints"])
    if settings["updater"]:
        parameters["updater"] = ",".join(_successor(updater) for updater in settings["updater"])
    if settings["tree_method"] == "gpu_hist" or settings["use_dask_gpu_training"]:
        parameters |= {"tree_method": "hist", "device": "cuda"}
    if settings["sketch_eps"] is not None and settings["tree_method"] == "approx" and "max_bin" not in parameters:
        parameters["max_bin"] = _bins(settings["sketch_eps"])
    return parameters


def _bins(sketch_eps: float) -> int:
    return max(2, math.ceil(1 / sketch_eps))


def _successor(updater: str) -> str:
    return {"distcol": "grow_colmaker", "grow_skmaker": "grow_histmaker"}.get(updater, updater)


def announcements(settings: Mapping[str, Any], hosts: int) -> Iterator[str]:
    """Log lines that say what became of hyperparameters which xgboost no longer has.

    Raises:
        HyperparameterError: one that cannot be honoured with several hosts.
    """
    if settings["objective"] == "reg:linear":
        yield "Hyperparameter objective: reg:linear is now called reg:squarederror; training with that"
    if settings["tree_method"] == "gpu_hist":
        yield "Hyperparameter tree_method: gpu_hist is now called hist with device cuda; training with that"
    if settings["use_dask_gpu_training"]:
        yield "Dask is not used: each host trains on one GPU, and hosts join through xgboost's own collective"
        if hosts > 1:
            yield "Each host trains on the rows that it was given: use ShardedByS3Key, or rows count several times"
    if settings["sketch_eps"] is not None:
        if settings["tree_method"] == "approx":
            yield f"Hyperparameter sketch_eps is now max_bin; max_bin={_bins(settings['sketch_eps'])} unless set"
        else:
            yield f"Hyperparameter sketch_eps has effect only with approx, not {settings['tree_method']}"
    if settings["predictor"] != "auto":
        yield f"Hyperparameter predictor: {settings['predictor']} no longer exists; the processor predicts"
    if settings["single_precision_histogram"]:
        yield "Hyperparameter single_precision_histogram no longer exists; histograms are in xgboost's own precision"
    if not settings["deterministic_histogram"]:
        yield "Hyperparameter deterministic_histogram no longer exists; histograms are always deterministic"
    if settings["prob_buffer_row"] is not None:
        yield "Hyperparameter prob_buffer_row no longer exists in xgboost; it has no effect"
    if settings["num_class"] is not None and not objective(settings).startswith("multi:"):
        yield f"Hyperparameter num_class has no effect with objective {objective(settings)}"
    for updater in settings["updater"] or ():
        if _successor(updater) != updater:
            yield f"Hyperparameter updater: {updater} no longer exists; training with {_successor(updater)}"
    yield from _splitting(settings, hosts)


def _splitting(settings: Mapping[str, Any], hosts: int) -> Iterator[str]:
    by_column = settings["dsplit"] == "col" or "distcol" in (settings["updater"] or ())
    if by_column and hosts > 1:
        raise HyperparameterError("Hyperparameter dsplit: col (updater distcol) is not supported; hosts split by row")
    if settings["dsplit"] is not None:
        yield f"Hyperparameter dsplit: {settings['dsplit']} is no longer an option; several hosts split data by row"
