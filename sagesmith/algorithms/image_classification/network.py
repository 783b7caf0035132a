"""network: the residual network of a model, its loss, and what is counted of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sagesmith.algorithms.backbones.pixels import standardized
from sagesmith.algorithms.backbones.resnet import ResNet
from sagesmith.algorithms.image_classification.settings import is_small, shape_of

COUNTED = 2  # right answers, and answers whose first top_k hold the class


def network_of(settings: Mapping[str, Any], classes: int) -> ResNet:
    """The network for pictures of image_shape, channels last in memory, which convolutions are fastest with."""
    shape = shape_of(settings["image_shape"])
    network = ResNet(settings["num_layers"], small=is_small(shape), classes=classes, channels=shape[0])
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class OneClass:
    """A picture is of one class: softmax and cross-entropy."""

    def __init__(self, top_k: int | None = None) -> None:
        self._top_k = top_k

    def targets(self, labels: list[Any]) -> Tensor:
        """(n,) int64."""
        return torch.tensor(labels, dtype=torch.int64)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets)

    def counted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sums over the rows: of right answers, and with top_k of those too: (1,) or (2,)."""
        right = (logits.argmax(1) == targets).sum()
        if self._top_k is None:
            return right[None]
        among = (logits.topk(self._top_k, 1).indices == targets[:, None]).sum()
        return torch.stack([right, among])

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        return logits.float().softmax(1)


class SeveralClasses:
    """A picture is of any number of classes: a sigmoid and binary cross-entropy for each, their mean.

    Args:
        weights: (2, classes): of what a class's absence and its presence count; None: alike.
    """

    def __init__(self, weights: Tensor | None = None) -> None:
        self._weights = weights

    def targets(self, labels: list[Any]) -> Tensor:
        """(n, classes) float32."""
        return torch.from_numpy(np.stack(labels))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = None
        if self._weights is not None:
            absent, present = self._weights.to(targets.device)
            weights = absent + targets * (present - absent)
        return functional.binary_cross_entropy_with_logits(logits.float(), targets, weights)

    def counted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Accuracy is the mean over the classes: the sum of it over the rows, (1,)."""
        return ((logits > 0) == (targets > 0.5)).float().mean(1).sum()[None]

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        return logits.float().sigmoid()


Task = OneClass | SeveralClasses


def balancing(present: np.ndarray, pictures: int) -> Tensor:
    """Weights by which presence and absence of every class weigh half each: (2, classes).

    A class that is always or never there keeps weights of 1.

    Args:
        present: pictures of each class.
    """
    counts = np.stack([pictures - present, present]).astype(np.float64)
    weights = np.where(counts.min(0) > 0, pictures / (2 * np.maximum(counts, 1)), 1.0)
    return torch.from_numpy(weights.astype(np.float32))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; a GPU goes on working meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def answers(network: Any, pixels: np.ndarray, device: torch.device) -> Tensor:
    """The logits of pictures (n, H, W, C) uint8: (n, classes)."""
    logits: Tensor = network(standardized(moved(torch.from_numpy(pixels), device)))
    return logits
