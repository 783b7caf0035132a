"""voting: the neighbours' labels, a vote of theirs or their mean; and how good that was on a test channel."""

from __future__ import annotations

import numpy as np

_CELLS = 1 << 22  # of a table of votes at a time


def votes(codes: np.ndarray, classes: int) -> np.ndarray:
    """How many of each row's neighbours are of each class: (n, k) codes to (n, classes) int64."""
    rows = np.arange(len(codes))[:, None] * classes
    return np.bincount((rows + codes).ravel(), minlength=len(codes) * classes).reshape(len(codes), classes)


def winners(codes: np.ndarray, classes: int) -> np.ndarray:
    """The class with most votes; of several the smallest, (n,)."""
    step = max(1, _CELLS // max(1, classes))
    parts = [votes(codes[start : start + step], classes).argmax(axis=1) for start in range(0, len(codes), step)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(pairs, 3): true label, predicted label, how often."""
    pairs, counts = np.unique(np.column_stack([truth, predicted]).astype(np.float64), axis=0, return_counts=True)
    return np.column_stack([pairs, counts])


def classifier_scores(table: np.ndarray) -> list[tuple[str, float, str]]:
    """accuracy, and the mean over labels, true or predicted, of F1; from tables of confusion below each other."""
    truth, predicted, counts = table.T
    right = truth == predicted
    labels = np.unique(np.concatenate([truth, predicted]))
    hits = [counts[right & (truth == label)].sum() for label in labels]
    sizes = [counts[truth == label].sum() + counts[predicted == label].sum() for label in labels]
    macro = float(np.mean(2 * np.array(hits) / np.array(sizes)))
    return [("accuracy", float(counts[right].sum() / counts.sum()), "score"), ("macro_f_1.000", macro, "score")]
