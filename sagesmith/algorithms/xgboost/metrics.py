"""The metrics of the XGBoost container: which exist, which way is better, and those that xgboost does not compute.

The container's own ones are computed here on class decisions with the right threshold (0.5 on a probability). The
original compares transformed predictions with 0, which calls every row positive; that defect is not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import Metric

if TYPE_CHECKING:
    import xgboost

MAXIMIZE = (
    "accuracy", "auc", "aucpr", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "map", "ndcg", "precision",
    "precision_macro", "precision_micro", "r2", "recall", "recall_macro", "recall_micro",
)  # fmt: skip
MINIMIZE = (
    "aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik", "interval-regression-accuracy", "logloss",
    "mae", "mape", "merror", "mlogloss", "mphe", "mse", "poisson-nloglik", "rmse", "rmsle", "tweedie-nloglik",
)  # fmt: skip
WITH_SUFFIX = ("error", "ndcg", "map")  # error@0.7, ndcg@5
NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"

_CLASSIFICATION = (
    "accuracy", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "precision", "precision_macro", "precision_micro",
    "recall", "recall_macro", "recall_micro",
)  # fmt: skip
_REGRESSION = ("mse", "r2")  # rmse and mae are xgboost's own, which heed weights
_TWO_CLASSES = ("f1_binary", "precision", "recall")
CUSTOM = (*_CLASSIFICATION, *_REGRESSION)


def definitions() -> tuple[Metric, ...]:
    """MetricDefinitions for `validation:*` and `train:*`; a TAB reaches CloudWatch as `#011`, so both are matched."""
    found = []
    for data in ("validation", "train"):
        for name in sorted(MAXIMIZE + MINIMIZE):
            regex = rf".*\[[0-9]+\].*(?:#011|\t){data}-{name}:{NUMBER}.*"
            direction = "Maximize" if name in MAXIMIZE else "Minimize"
            found.append(Metric(f"{data}:{name}", regex, direction if data == "validation" else ""))  # type: ignore[arg-type]
    return tuple(found)


def base_name(metric: str) -> str:
    """`error` of `error@0.7`."""
    return metric.partition("@")[0]


def is_maximized(metric: str) -> bool:
    return base_name(metric) in MAXIMIZE


def problem(metric: str, objective: str) -> str | None:
    """Why `metric` cannot be computed for `objective`, or None."""
    name, at, suffix = metric.partition("@")
    if name not in MAXIMIZE + MINIMIZE or (at and not (name in WITH_SUFFIX and _is_number(suffix))):
        return f"Hyperparameter eval_metric: {metric} is not in [{', '.join(MAXIMIZE + MINIMIZE)}]"
    classification = objective.startswith(("binary:", "multi:")) or objective == "reg:logistic"
    if name == "auc" and not objective.startswith(("binary:", "rank:")):
        return f"Metric 'auc' can only be applied for binary classification and ranking problems, not for {objective}"
    if name == "aft-nloglik" and objective != "survival:aft":
        return f"Metric 'aft-nloglik' can only be applied for 'survival:aft' objective, not for {objective}"
    if name in _CLASSIFICATION and not classification:
        return f"Metric '{name}' can only be applied for classification problems, not for {objective}"
    if name in _TWO_CLASSES and objective.startswith("multi:"):
        return f"Metric '{name}' can only be applied for two classes; use {name.removesuffix('_binary')}_macro"
    if name in _REGRESSION and objective.startswith("multi:"):
        return f"Metric '{name}' can only be applied for regression and binary problems, not for {objective}"
    return None


def split(metrics: Sequence[str], tuning_objective: str | None) -> tuple[list[str], list[str]]:
    """The metrics for xgboost and those for `custom`; with a custom or tuned one, the sorted union of all."""
    wanted = list(dict.fromkeys(metrics))
    if tuning_objective is not None and tuning_objective not in wanted:
        wanted = sorted({*wanted, tuning_objective})
    elif any(metric in CUSTOM for metric in wanted):
        wanted = sorted(wanted)
    return [m for m in wanted if m not in CUSTOM], [m for m in wanted if m in CUSTOM]


def labels_of(predictions: np.ndarray, objective: str) -> np.ndarray:
    """The class of each row, from what xgboost predicts for `objective`: (n,) int64."""
    if predictions.ndim == 2:
        return np.asarray(predictions.argmax(axis=1))
    if objective in ("binary:logistic", "reg:logistic"):
        return (predictions > 0.5).astype(np.int64)
    if objective == "binary:logitraw":
        return (predictions > 0).astype(np.int64)
    return predictions.astype(np.int64)


def custom(names: Sequence[str], objective: str, classes: int) -> Callable[[np.ndarray, xgboost.DMatrix], list[Any]]:
    """A `custom_metric` for xgboost.train that computes `names` over the rows of all hosts, by their weights."""

    def evaluate(predictions: np.ndarray, data: xgboost.DMatrix) -> list[tuple[str, float]]:
        truth, weight = data.get_label(), weights_of(data)
        found: dict[str, float] = {}
        if any(name in _CLASSIFICATION for name in names):
            table = over_hosts(confusion(truth.astype(np.int64), labels_of(predictions, objective), classes, weight))
            found |= {name: classification(name, table) for name in names if name in _CLASSIFICATION}
        if any(name in _REGRESSION for name in names):
            found |= regression(truth, predictions, weight, over_hosts)
        return [(name, found[name]) for name in names]

    return evaluate


def over_hosts(values: np.ndarray) -> np.ndarray:
    """The sum over the hosts that train together, the same on each; `values` themselves on one host."""
    from xgboost import collective

    if not collective.is_distributed():
        return values
    return np.asarray(collective.allreduce(values, collective.Op.SUM)).reshape(values.shape)


def weights_of(data: xgboost.DMatrix) -> np.ndarray | None:
    """(n,) weights of the rows, or None; those of a ranking, which are per query, count for each row of it."""
    weight = data.get_weight()
    if not len(weight):
        return None
    return np.asarray(weight if len(weight) == data.num_row() else np.repeat(weight, data.get_group()))


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int, weight: np.ndarray | None = None) -> np.ndarray:
    """(classes, classes) sums of weights, float64; rows are true classes, columns predicted ones."""
    sums = np.bincount(truth * classes + predicted, weight, classes * classes)
    return sums.astype(np.float64).reshape(classes, classes)


def classification(name: str, table: np.ndarray) -> float:
    """A metric from a confusion matrix; ratios with nothing below the line are 0, as in scikit-learn."""
    hits, predicted, actual = np.diag(table).astype(float), table.sum(axis=0), table.sum(axis=1)
    precision, recall = _ratio(hits, predicted), _ratio(hits, actual)
    f1 = _ratio(2 * hits, predicted + actual)
    present = (predicted + actual) > 0  # a macro average is over the classes that occur at all
    if name in ("accuracy", "precision_micro", "recall_micro"):
        return float(hits.sum() / table.sum())
    if name == "balanced_accuracy":
        return float(recall[actual > 0].mean())
    if name in _TWO_CLASSES:
        return float({"f1_binary": f1, "precision": precision, "recall": recall}[name][1])
    return float({"f": f1, "p": precision, "r": recall}[name[0]][present].mean())


def regression(
    truth: np.ndarray, predictions: np.ndarray, weight: np.ndarray | None, total: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """`mse` and `r2` over what `total` sums up; r2 of labels that are all alike is 1 for a perfect fit, else 0."""
    truth, predictions = truth.astype(np.float64), predictions.astype(np.float64)
    weight = np.ones(len(truth)) if weight is None else weight.astype(np.float64)
    rows, labels, errors = total(np.array([weight.sum(), weight @ truth, weight @ (truth - predictions) ** 2]))
    spread = float(total(np.array([weight @ (truth - labels / rows) ** 2]))[0])  # around the mean: no cancellation
    if spread == 0:
        return {"mse": float(errors / rows), "r2": 1.0 if errors == 0 else 0.0}
    return {"mse": float(errors / rows), "r2": float(1 - errors / spread)}


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.zeros(len(above)), where=below > 0))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
