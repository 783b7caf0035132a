"""Scores: how far forecasts are from what was hidden of the test series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sagesmith.algorithms.deepar.forecasts import quantiles


@dataclass
class Scores:
    """Sums over all series and steps so far; what is missing among the truths counts nowhere."""

    levels: Sequence[float]
    squares: float = 0.0
    count: int = 0
    sizes: float = 0.0  # of |y|
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def take(self, paths: np.ndarray, truths: np.ndarray) -> None:
        """Sample paths (S, P, samples) of series whose truths are (S, P)."""
        seen = np.isfinite(truths)
        y = truths[seen].astype(np.float64)
        off = y - quantiles(paths, self.levels)[:, seen]
        levels = np.asarray(self.levels)[:, None]
        losses = 2 * np.maximum(levels * off, (levels - 1) * off).sum(axis=1)
        self.losses = losses if not len(self.losses) else self.losses + losses
        self.squares += float(((paths.mean(axis=2, dtype=np.float64)[seen] - y) ** 2).sum())
        self.count += len(y)
        self.sizes += float(np.abs(y).sum())

    def values(self) -> dict[str, float]:
        """By SageMaker's names, in its order; NaN where there is nothing to divide by."""
        rmse = float(np.sqrt(self.squares / self.count)) if self.count else float("nan")
        weighted = self.losses / self.sizes if self.sizes else np.full(len(self.levels), np.nan)
        named = {"RMSE": rmse, "mean_absolute_QuantileLoss": float(self.losses.mean())}
        named["mean_wQuantileLoss"] = float(weighted.mean())
        return named | {f"wQuantileLoss[{level}]": float(w) for level, w in zip(self.levels, weighted, strict=True)}
