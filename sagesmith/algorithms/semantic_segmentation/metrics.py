"""metrics: mIOU and pixel accuracy from a confusion matrix, which is all that is kept of any number of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.images.scenes import IGNORED


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many pixels of each class (rows) were taken for each class (columns), (classes, classes) int64.

    Args:
        label: classes of the pixels, any shape; 255 is left out.
        predicted: classes below `classes`, of the same shape.
    """
    known = label != IGNORED
    cell = label[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def confusion_on_device(label: Any, predicted: Any, classes: int) -> Any:
    """The same of torch's tensors, where they are, without waiting for the device."""
    import torch

    cell = torch.where(label == IGNORED, classes**2, label.long() * classes + predicted)
    return torch.bincount(cell.flatten(), minlength=classes**2 + 1)[:-1].view(classes, classes)


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """Of each class: pixels that are it and were taken for it, over those that are it or were taken for it.

    A class that occurs in neither has 0, as in GluonCV, which SageMaker's image is built on.
    """
    hits = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hits
    return np.asarray(hits / np.maximum(union, 1))


def mean_iou(counts: np.ndarray) -> float:
    """mIOU: the mean over all classes."""
    return float(intersection_over_union(counts).mean())


def pixel_accuracy(counts: np.ndarray) -> float:
    """The share of labelled pixels whose class was found; 0 without any."""
    return float(np.trace(counts) / max(1, int(counts.sum())))
