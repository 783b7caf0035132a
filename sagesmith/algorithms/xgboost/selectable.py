"""Selectable inference: SAGEMAKER_INFERENCE_OUTPUT="predicted_label,probability" chooses what is answered for a row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sagesmith.algorithms.base import RequestError
from sagesmith.algorithms.xgboost.metrics import labels_of

KEYS = ("predicted_label", "labels", "probability", "probabilities", "raw_score", "raw_scores", "predicted_score")
_WITHOUT_PROBABILITY = ("predicted_label", "labels", "raw_score", "raw_scores")
VALID = {
    **dict.fromkeys(
        ("reg:squarederror", "reg:logistic", "reg:gamma", "reg:absoluteerror", "reg:tweedie"), ("predicted_score",)
    ),
    **dict.fromkeys(("binary:logistic", "multi:softprob"), KEYS[:6]),
    **dict.fromkeys(("binary:logitraw", "binary:hinge", "multi:softmax"), _WITHOUT_PROBABILITY),
}


def keys_of(text: str) -> list[str]:
    """The keys of SAGEMAKER_INFERENCE_OUTPUT, lower-cased, without spaces."""
    return [key for key in text.replace(" ", "").lower().split(",") if key]


def rows(scores: np.ndarray, objective: str, classes: int, keys: list[str]) -> Iterator[dict[str, Any]]:
    """A dict per row with `keys` in their order; NaN for a key that the objective does not have.

    Raises:
        RequestError: 500, the objective has no selectable output.
    """
    if objective not in VALID:
        raise RequestError(f"Objective `{objective}` unsupported for selectable inference predictions.", 500)
    labels = labels_of(scores, objective)
    for score, label in zip(scores, labels, strict=True):
        known = _row(score, int(label), objective, classes)
        yield {key: known.get(key, math.nan) for key in keys}


def invalid(objective: str, keys: list[str]) -> list[str]:
    """Keys that the objective does not have, for a warning."""
    return [key for key in keys if key not in VALID.get(objective, ())]


def _row(score: Any, label: int, objective: str, classes: int) -> dict[str, Any]:
    if VALID[objective] == ("predicted_score",):
        return {"predicted_score": float(score)}
    if isinstance(score, np.ndarray):  # multi:softprob
        vector = [float(value) for value in score]
        return {
            "predicted_label": label,
            "labels": list(range(classes)),
            "probability": max(vector),
            "probabilities": vector,
            "raw_score": max(vector),
            "raw_scores": vector,
        }
    value = float(score)
    known: dict[str, Any] = {"predicted_label": label, "labels": list(range(classes)), "raw_score": value}
    known["raw_scores"] = [float(label == each) for each in range(classes)] if classes > 2 else [1 - value, value]
    if objective == "binary:logistic":
        known |= {"probability": value, "probabilities": [1 - value, value]}
    return known
