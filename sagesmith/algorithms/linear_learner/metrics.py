"""The metrics: their names and patterns, and mergeable tallies from which they come, one small vector per channel.

The order of the scores is that of SageMaker's log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.base import Metric
from sagesmith.algorithms.first_party import JOB_METRICS
from sagesmith.algorithms.linear_learner.calibration import f_beta
from sagesmith.algorithms.linear_learner.losses import BINARY, MULTICLASS, Loss

Score = tuple[str, float, str]  # name in the log, value, "loss" or "score"

_LOSSES = ("absolute_loss", "mse")
_HELD_LOSSES = ("rmse",)
_BINARY = {
    "binary_classification_accuracy": "binary_classification_accuracy",
    "binary_f_beta": r"binary_f_\S+",
    "precision": "precision",
    "recall": "recall",
}
_HELD = {
    "roc_auc_score": "roc_auc_score",
    "binary_balanced_accuracy": "binary_balanced_accuracy",
    "multiclass_accuracy": "multiclass_accuracy",
    "multiclass_top_k_accuracy": r"multiclass_top_k_accuracy_\S+",
    "dcg": "dcg",
    "macro_recall": "macro_recall",
    "macro_precision": "macro_precision",
    "macro_f_beta": r"macro_f_\S+",
    "multiclass_balanced_accuracy": "multiclass_balanced_accuracy",
    "r2": "r2",
}
_LOG_LOSSES = ("binary_log_loss", "multiclass_log_loss")  # printed as a score, yet the less the better


def definitions() -> tuple[Metric, ...]:
    """Every metric by AWS's name."""
    found = list(JOB_METRICS)
    line = r"#quality_metric: host=\S+, "
    for prefix in ("train", "validation", "test"):
        final = "objective_loss" if prefix == "test" else "objective_loss:final"
        if prefix != "test":
            epoch = rf"{line}epoch=\S+, {prefix} \S+_objective <loss>=(\S+)"
            found.append(Metric(f"{prefix}:objective_loss", epoch, "Minimize"))
        found.append(Metric(f"{prefix}:{final}", rf"{line}{prefix} \S+_objective <loss>=(\S+)", "Minimize"))
        held = prefix != "train"
        for name in _LOSSES + (_HELD_LOSSES if held else ()):
            found.append(Metric(f"{prefix}:{name}", rf"{line}{prefix} {name} <loss>=(\S+)", "Minimize"))
        for name, token in (_BINARY | (_HELD if held else {})).items():
            found.append(Metric(f"{prefix}:{name}", rf"{line}{prefix} {token} <score>=(\S+)", "Maximize"))
        for name in _LOG_LOSSES if held else ():
            found.append(Metric(f"{prefix}:{name}", rf"{line}{prefix} {name} <score>=(\S+)", "Minimize"))
    return tuple(found)


class Tally:
    """Sums over rows. `scored` gives the metrics of a channel; hosts add their `sums`."""

    def __init__(self, loss: Loss, settings: Mapping[str, Any], classes: int) -> None:
        self._loss, self._settings, self._classes = loss, settings, classes
        size = {BINARY: 4, MULTICLASS: 3 * classes + 3}.get(loss.predictor, 4)
        self.sums = np.zeros(2 + size)  # weight, loss, and the predictor's own
        self._own = self.sums[2:]

    def add(self, score: np.ndarray, label: np.ndarray, weight: np.ndarray, threshold: float) -> None:
        """`score`: (n, outputs) margins, logits or predictions in the label's unit; `threshold` on margins."""
        self.sums[0] += weight.sum(dtype=np.float64)
        if self._loss.predictor == BINARY:
            cell = 2 * (label > 0).astype(np.int64) + (score[:, 0] > threshold)
            self._own += np.bincount(cell, weight, 4)  # tn, fp, fn, tp
        elif self._loss.predictor == MULTICLASS:
            self._add_classes(score, label.astype(np.int64), weight)
        else:
            gap = score[:, 0].astype(np.float64) - label
            values = (np.abs(gap), gap**2, label.astype(np.float64), label.astype(np.float64) ** 2)
            self._own += [(value * weight).sum() for value in values]

    def _add_classes(self, score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> None:
        n = self._classes
        called = np.argmax(score, axis=1)
        self._own[:n] += np.bincount(label, weight * (called == label), n)
        self._own[n : 2 * n] += np.bincount(label, weight, n)
        self._own[2 * n : 3 * n] += np.bincount(called, weight, n)
        own = score[np.arange(len(score)), label][:, None]
        earlier = (score > own) | ((score == own) & (np.arange(n) < label[:, None]))
        rank = earlier.sum(axis=1)
        self._own[-3] += (weight * (rank < self._settings["accuracy_top_k"])).sum()
        self._own[-2] += (weight / np.log2(rank + 2.0)).sum()

    def scored(self, objective: float, log_loss: float | None, auc: float | None) -> list[Score]:
        """The block of metrics; `auc` None: of the train channel, which SageMaker reports less of."""
        first: list[Score] = [(self._loss.objective, objective, "loss")]
        if self._loss.predictor == BINARY:
            return first + self._binary(log_loss, auc)
        if self._loss.predictor == MULTICLASS:
            return first + self._multiclass(log_loss)
        total = max(self.sums[0], 1e-300)
        absolute, squared, mean, second = self._own / total
        spread = second - mean**2
        r2 = 1 - squared / spread if spread > 0 else 0.0
        values: list[Score] = [("absolute_loss", float(absolute), "loss"), ("mse", float(squared), "loss")]
        return first + values + [("rmse", float(np.sqrt(squared)), "loss"), ("r2", float(r2), "score")]

    def _binary(self, log_loss: float | None, auc: float | None) -> list[Score]:
        tn, fp, fn, tp = self._own
        beta = float(self._settings["f_beta"])
        recall, specificity = _share(tp, tp + fn), _share(tn, tn + fp)
        values: list[Score] = [
            ("binary_classification_accuracy", _share(tp + tn, self.sums[0]), "score"),
            (f"binary_f_{beta:.3f}", float(f_beta(tp, fp, tp + fn, beta)), "score"),
            ("precision", _share(tp, tp + fp), "score"),
            ("recall", recall, "score"),
        ]
        if auc is None:
            return values
        values += [("roc_auc_score", auc, "score"), ("binary_balanced_accuracy", (recall + specificity) / 2, "score")]
        return values if log_loss is None else [*values, ("binary_log_loss", log_loss, "score")]

    def _multiclass(self, log_loss: float | None) -> list[Score]:
        n, total = self._classes, max(self.sums[0], 1e-300)
        right, actual, called = self._own[:n], self._own[n : 2 * n], self._own[2 * n : 3 * n]
        occurring = actual > 0
        recall = _shares(right, actual)[occurring]
        precision = _shares(right, called)[occurring]
        beta = float(self._settings["f_beta"])
        f = f_beta(right, called - right, actual, beta)[occurring]
        values: list[Score] = [
            ("multiclass_accuracy", float(right.sum() / total), "score"),
            (f"multiclass_top_k_accuracy_{self._settings['accuracy_top_k']}", float(self._own[-3] / total), "score"),
            ("dcg", float(self._own[-2] / total), "score"),
            ("macro_recall", _mean(recall), "score"),
            ("macro_precision", _mean(precision), "score"),
            (f"macro_f_{beta:.3f}", _mean(f), "score"),
            ("multiclass_balanced_accuracy", _mean(recall), "score"),
        ]
        return values if log_loss is None else [*values, ("multiclass_log_loss", log_loss, "score")]


def roc_auc(margin: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive row lies above a negative one, ties counting half; 0.5 where a class is missing."""
    high, low = np.sort(margin[positive]), np.sort(margin[~positive])
    if not len(high) or not len(low):
        return 0.5
    below = np.searchsorted(low, high, "left").sum(dtype=np.float64)
    at_most = np.searchsorted(low, high, "right").sum(dtype=np.float64)
    return float((below + at_most) / 2 / (len(high) * len(low)))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole > 0, whole, 1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
