"""space: how a row becomes the vector that is indexed or searched for: projected, padded, of length 1 for COSINE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.knn.reduction import Reduction, dense_blocks
from sagesmith.formats.errors import DataError

NUMBERS = "sagesmith"  # whose random numbers a projection was made of; SageMaker's artifacts do not say


@dataclass(frozen=True)
class Space:
    """Rows of `width` columns as vectors of `depth`."""

    width: int
    depth: int
    reduction: Reduction | None = None
    normalize: bool = False

    def vectors(self, features: Any) -> np.ndarray:
        """(n, width), dense or CSR, to (n, depth) float32, C-contiguous."""
        if self.reduction is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                features = self.reduction.apply(features)
            if not np.isfinite(features).all():
                raise DataError(f"values too large for float32 after dimension_reduction_type {self.reduction.kind}")
        if features.shape[1] == self.depth and isinstance(features, np.ndarray):
            vectors = np.ascontiguousarray(features, np.float32)
        else:
            vectors = np.zeros((features.shape[0], self.depth), np.float32)
            for rows, block in dense_blocks(features):
                vectors[rows, : features.shape[1]] = block
        return normalized(vectors) if self.normalize else vectors

    def metadata(self) -> dict[str, Any]:
        """The members of model_algo-1.json that describe it."""
        found = self.reduction
        reduction: dict[str, Any] = {}
        if found is not None:
            reduction = {"type": found.kind, "seed": found.seed, "target_dim": found.target_dim}
            reduction |= {"input_dim": found.input_dim, "numbers": NUMBERS}
        return {"dimension_reduction": reduction, "normalize": self.normalize, "feature_dim": self.width}

    @classmethod
    def of(cls, metadata: dict[str, Any], depth: int) -> Space:
        """The space of a saved model whose index has `depth` dimensions.

        Raises:
            ValueError: metadata and index do not fit.
        """
        described = metadata["dimension_reduction"]
        if not described:
            width = metadata.get("feature_dim", depth)
            if width > depth:
                raise ValueError(f"feature_dim is {width}, but the index has {depth} dimensions")
            return cls(width, depth, None, metadata["normalize"])
        if described.get("numbers") != NUMBERS:
            raise ValueError(
                "its rows were projected with random numbers that are not ours (SageMaker does not publish its own): "
                "train the model again, or without dimension_reduction_type"
            )
        if described["target_dim"] != depth:
            raise ValueError(f"target_dim is {described['target_dim']}, but the index has {depth} dimensions")
        width = described["input_dim"]
        if metadata.get("feature_dim", width) != width:
            raise ValueError(f"feature_dim is {metadata['feature_dim']}, but input_dim {width}")
        reduction = Reduction(described["type"], described["seed"], depth, width)
        return cls(width, depth, reduction, metadata["normalize"])


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0] = 1.0
    return np.asarray(vectors / lengths[:, None], np.float32)
