"""The scaler: mean and standard deviation of features and label, and their folding back into weights for raw input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch

LANES = 16  # floats in a vector of compiled code
CONSTANT = 1e-7  # a column whose deviation is below this part of its size has none in float32


@dataclass
class Moments:
    """Mergeable count, mean and sum of squared deviations of every column, the label last; float64."""

    count: float
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, batch: Batch) -> Self:
        features: Any = batch.features
        assert batch.label is not None
        label = batch.label.astype(np.float64)
        if batch.is_sparse:
            mean = np.asarray(features.mean(axis=0, dtype=np.float64)).ravel()
            centred = features.astype(np.float64)
            entries = np.diff(features.tocsc().indptr)
            centred.data -= mean[centred.indices]
            squares = np.asarray(centred.power(2).sum(axis=0)).ravel() + (len(batch) - entries) * mean**2
        else:
            rows = features.astype(np.float64)
            mean = rows.mean(axis=0)
            squares = ((rows - mean) ** 2).sum(axis=0)
        spread = ((label - label.mean()) ** 2).sum()
        return cls(float(len(batch)), np.append(mean, label.mean()), np.append(squares, spread))

    def joined(self, other: Moments) -> Moments:
        """Chan, Golub and LeVeque's rule (1979)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        squares = self.squares + other.squares + gap**2 * (self.count * other.count / count)
        return Moments(count, self.mean + gap * (other.count / count), squares)


@dataclass
class Scaler:
    """x is learnt as (x - shift) * factor, y as (y - label_shift) / label_scale."""

    shift: np.ndarray  # (d,) float32
    factor: np.ndarray  # (d,) float32
    label_shift: float = 0.0
    label_scale: float = 1.0

    @classmethod
    def fitted(cls, moments: Moments, settings: Mapping[str, Any], centred: bool) -> Self:
        """`centred`: whether features are shifted to mean 0 (unbias_data)."""
        deviation = np.sqrt(moments.squares / max(1.0, moments.count))
        constant = deviation <= CONSTANT * np.abs(moments.mean)
        deviation[constant] = np.maximum(1.0, np.abs(moments.mean[constant]))
        width = len(deviation) - 1
        regression = settings["predictor_type"] == "regressor"
        scale = np.ones(width) if settings["normalize_data"] is False else deviation[:-1]
        shift = moments.mean[:-1] if centred else np.zeros(width)
        result = cls(shift.astype(np.float32), (1 / scale).astype(np.float32))
        if regression and settings["normalize_label"] is not False:
            result.label_scale = float(deviation[-1])
        if regression and settings["unbias_label"] is not False and settings["use_bias"]:
            result.label_shift = float(moments.mean[-1])
        return result

    @cached_property
    def frame(self) -> np.ndarray:
        """(3, columns) float32: shift, factor and what is added, for rows in vectors of LANES with a one and zeros."""
        width = len(self.shift)
        found = np.zeros((3, -(-(width + 1) // LANES) * LANES), np.float32)
        found[0, :width], found[1, :width], found[2, width] = self.shift, self.factor, 1
        return found

    def labels(self, label: np.ndarray) -> np.ndarray:
        """Labels as they are learnt, float32."""
        if (self.label_shift, self.label_scale) == (0.0, 1.0):
            return label
        return ((label.astype(np.float64) - self.label_shift) / self.label_scale).astype(np.float32)

    def folded(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (d + 1, outputs) for scaled input as weight (d, outputs) and bias (outputs,) for raw input.

        In float64: where a mean is large beside the deviation, bias and weights nearly cancel.
        """
        weight = weights[:-1].astype(np.float64) * self.factor.astype(np.float64)[:, None]
        bias = weights[-1].astype(np.float64) - self.shift.astype(np.float64) @ weight
        return weight * self.label_scale, bias * self.label_scale + self.label_shift


def moments_of_all(batch: Batch | None, run: Run) -> Moments | None:
    """The moments of every host's rows together; None where no host has any."""
    own = Moments.of(batch) if batch is not None and len(batch) else None
    if len(run.hosts) == 1:
        return own
    total: Moments | None = None
    for part in run.gather(b"" if own is None else _packed(own)):
        if part:
            other = _unpacked(part)
            total = other if total is None else total.joined(other)
    return total


def _packed(moments: Moments) -> bytes:
    values = [moments.count, moments.mean.tolist(), moments.squares.tolist()]
    return json.dumps(values).encode()


def _unpacked(part: bytes) -> Moments:
    count, mean, squares = json.loads(part)
    return Moments(count, np.array(mean), np.array(squares))


def log_scaler(scaler: Scaler, run: Run) -> None:
    """What SageMaker's log shows of the scaler."""
    run.log(
        "Scaler: features %s, stdev_label %g, mean_label %g",
        "scaled" if (scaler.factor != 1).any() else "as they are",
        scaler.label_scale,
        scaler.label_shift,
    )
