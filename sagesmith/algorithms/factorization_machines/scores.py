"""Scores: the trio of each task from sums over rows that hosts and batches can add up, and how the log names them."""

from __future__ import annotations

import math

import numpy as np

from sagesmith.algorithms.base import Metric

REGRESSION = (("rmse", "loss"), ("mse", "loss"), ("absolute_loss", "loss"))
CLASSIFICATION = (
    ("binary_classification_accuracy", "score"),
    ("binary_classification_cross_entropy", "loss"),
    ("binary_f_1.000", "score"),
)
# What AWS offers to tune for; it calls F1 binary_f_beta.
_TUNED = {
    "test:rmse": "Minimize",
    "test:binary_classification_accuracy": "Maximize",
    "test:binary_classification_cross_entropy": "Minimize",
    "test:binary_f_beta": "Maximize",
}


def definitions() -> tuple[Metric, ...]:
    """The metrics of both tasks, on the training data per epoch and on the test data."""
    found = []
    for channel, where in (("train", r"epoch=\S+, "), ("test", "")):
        for name, kind in (*REGRESSION, *CLASSIFICATION):
            title = f"{channel}:{name.replace('f_1.000', 'f_beta')}"
            regex = rf"#quality_metric: host=\S+, {where}{channel} {name.replace('.', '[.]')} <{kind}>=(\S+)"
            found.append(Metric(title, regex, _TUNED.get(title, "")))  # type: ignore[arg-type]
    return tuple(found)


def trio(tally: np.ndarray, binary: bool) -> list[tuple[str, float, str]]:
    """(name, value, "loss" or "score") of a tally: descent_compiled.TALLY says what stands in it."""
    rows, loss, second, positives, false_positives, false_negatives = tally.tolist()
    rows = max(1.0, rows)
    if binary:
        wrong = false_positives + false_negatives
        f1 = 2 * positives / (2 * positives + wrong) if positives + wrong else 0.0
        values = (second / rows, loss / rows, f1)
        named = CLASSIFICATION
    else:
        values = (math.sqrt(loss / rows), loss / rows, second / rows)
        named = REGRESSION
    return [(name, value, kind) for (name, kind), value in zip(named, values, strict=True)]
