"""Calibration: the threshold that serves a selection criterion best, from the margins of labelled rows.

A row is called positive when its margin is above the threshold. The best thresholds of all criteria lie just below the
margin of a positive row: raising the threshold over negative rows only takes false positives away. The threshold is put
halfway to the next lower margin, where it says the same about these rows and serves new ones best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

CRITERIA = (
    "accuracy", "f_beta", "precision_at_target_recall", "recall_at_target_precision", "loss_function", "f1",
    "cross_entropy_loss",
)  # fmt: skip
BY_LOSS = ("loss_function", "cross_entropy_loss")  # the threshold is where either class is as likely


@dataclass(frozen=True)
class Calibrated:
    """A threshold on margins and what the criterion is there; the more, the better."""

    value: float
    threshold: float


def calibrated(margin: np.ndarray, positive: np.ndarray, settings: Mapping[str, Any]) -> Calibrated:
    """The best threshold for the criterion of `settings` that is not BY_LOSS.

    Args:
        margin: (n,) float32.
        positive: (n,) bool.

    Where no threshold reaches target_precision (or, without a positive row, target_recall), the one that comes nearest.
    """
    high, low = np.sort(margin[positive])[::-1], np.sort(margin[~positive])
    # Candidate i calls the i + 1 highest positive rows positive; of equal margins only the last can be had.
    tp = np.arange(1, len(high) + 1, dtype=np.float64)
    fp = (len(low) - np.searchsorted(low, high, "left")).astype(np.float64)
    last = np.append(high[1:] != high[:-1], True) if len(high) else np.zeros(0, bool)
    score = _score(tp, fp, len(high), len(low), settings)
    score[~last] = -np.inf
    none = float(_score(np.zeros(1), np.zeros(1), len(high), len(low), settings)[0])
    best = int(np.argmax(score)) if len(score) else -1
    if best < 0 or none > score[best]:
        return Calibrated(_value(0.0, 0.0, len(high), len(low), settings), _above(margin))
    value = _value(tp[best], fp[best], len(high), len(low), settings)
    return Calibrated(value, _below(float(high[best]), high[best + 1 :], low))


def _score(tp: np.ndarray, fp: np.ndarray, positives: int, negatives: int, settings: Mapping[str, Any]) -> np.ndarray:
    """What is maximised: constraints that are not kept come after all that are, the nearest first."""
    criterion = settings["binary_classifier_model_selection_criteria"]
    if criterion == "accuracy":
        return np.asarray(tp + negatives - fp)
    recall, precision = tp / max(1, positives), tp / np.maximum(1, tp + fp)
    if criterion == "precision_at_target_recall":
        return np.where(recall >= settings["target_recall"], precision, recall - 2)
    if criterion == "recall_at_target_precision":
        return np.where(precision >= settings["target_precision"], recall, precision - 2)
    return np.asarray(f_beta(tp, fp, positives, beta_of(settings)))


def _value(tp: float, fp: float, positives: int, negatives: int, settings: Mapping[str, Any]) -> float:
    """The criterion itself at a threshold, for comparing models and the log."""
    score = float(_score(np.array([tp]), np.array([fp]), positives, negatives, settings)[0])
    accuracy = settings["binary_classifier_model_selection_criteria"] == "accuracy"
    return score / max(1, positives + negatives) if accuracy else score


def f_beta(tp: Any, fp: Any, positives: Any, beta: float) -> Any:
    """(1 + b^2) tp / ((1 + b^2) tp + b^2 fn + fp); 0 without a true positive."""
    square = beta * beta
    denominator = square * positives + tp + fp
    return (1 + square) * tp / np.where(denominator > 0, denominator, 1)


def beta_of(settings: Mapping[str, Any]) -> float:
    """The beta that the criterion works with."""
    return 1.0 if settings["binary_classifier_model_selection_criteria"] == "f1" else float(settings["f_beta"])


def _below(margin: float, highs: np.ndarray, lows: np.ndarray) -> float:
    """Halfway from a margin to the next lower one (`highs` fall and `lows` rise); below all of them: minus infinity."""
    at = int(np.searchsorted(lows, margin, "left"))
    under = [float(found) for found in (*highs[:1], *lows[max(0, at - 1) : at])]
    if not under:
        return -np.inf
    next_lower = max(under)
    middle = next_lower + (margin - next_lower) / 2
    return middle if middle < margin else next_lower


def _above(margin: np.ndarray) -> float:
    return float(np.inf) if len(margin) else 0.0
