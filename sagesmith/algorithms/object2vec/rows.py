"""rows: optimisers that move only the rows of a table that a batch used (`row_sparse`).

The rules of sgd, adagrad and adam with the constants of nets.optimizer. Moments of other rows do not decay meanwhile,
as in MXNet's lazy_update; steps are counted for the table as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms.object2vec.network import Table

BETA_1, BETA_2, ADAM_EPSILON, ADAGRAD_EPSILON = 0.9, 0.999, 1e-8, 1e-7
MOMENTS = {"sgd": 0, "adagrad": 1, "adam": 2}


class LazyRows:
    """One optimiser for all lazy tables of a network."""

    def __init__(self, name: str, tables: Sequence[Table], learning_rate: float, weight_decay: float) -> None:
        self._name, self._rate, self._decay = name, learning_rate, weight_decay
        self._tables = [table for table in tables if table.lazy]
        self._moments = [[torch.zeros_like(table.weight) for _ in range(MOMENTS[name])] for table in self._tables]
        self._steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Moves the rows of the last batch by their gradients."""
        self._steps += 1
        for table, moments in zip(self._tables, self._moments, strict=True):
            rows, vectors = table.rows, table.vectors
            if rows is None or vectors is None or vectors.grad is None:
                continue
            gradient = vectors.grad
            if self._decay:
                gradient = gradient.add_(vectors, alpha=self._decay)
            table.weight.index_copy_(0, rows, vectors.sub_(self._change(rows, gradient, moments)))
            table.rows = table.vectors = None

    def _change(self, rows: Tensor, gradient: Tensor, moments: list[Tensor]) -> Tensor:
        if self._name == "sgd":
            return gradient.mul_(self._rate)
        if self._name == "adagrad":
            total = moments[0].index_select(0, rows).addcmul_(gradient, gradient)
            moments[0].index_copy_(0, rows, total)
            return gradient.div_(total.sqrt_().add_(ADAGRAD_EPSILON)).mul_(self._rate)
        first = moments[0].index_select(0, rows).lerp_(gradient, 1 - BETA_1)
        second = moments[1].index_select(0, rows).mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        moments[0].index_copy_(0, rows, first)
        moments[1].index_copy_(0, rows, second)
        root = second.sqrt_().div_((1 - BETA_2**self._steps) ** 0.5).add_(ADAM_EPSILON)
        return first.div_(root).mul_(self._rate / (1 - BETA_1**self._steps))

    def state(self) -> dict[str, np.ndarray]:
        """The moments as arrays, for a checkpoint."""
        arrays = {"steps": np.array(self._steps)}
        for number, moments in enumerate(self._moments):
            arrays |= {f"{number}/{k}": moment.cpu().numpy() for k, moment in enumerate(moments)}
        return arrays

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` gave."""
        self._steps = int(arrays["steps"])
        for number, moments in enumerate(self._moments):
            for k, moment in enumerate(moments):
                moment.copy_(torch.from_numpy(np.array(arrays[f"{number}/{k}"])))
