"""rows: optimisers that move only the rows of a table that a batch used (`row_sparse`).

The rules of sgd, adagrad and adam with the constants of nets.optimizer. Moments of other rows do not decay meanwhile,
as in MXNet's lazy_update; steps are counted for the table as a whole. Where several devices share a batch, only rows
that it used travel between them, and moments are kept by the first alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms.object2vec.network import Table

BETA_1, BETA_2, ADAM_EPSILON, ADAGRAD_EPSILON = 0.9, 0.999, 1e-8, 1e-7
MOMENTS = {"sgd": 0, "adagrad": 1, "adam": 2}


class LazyRows:
    """One optimiser for all lazy tables of a network.

    Args:
        networks: the tables of the network, and those of its copies on other devices in the same order.
    """

    def __init__(
        self, name: str, networks: Sequence[Iterable[Table]], learning_rate: float, weight_decay: float
    ) -> None:
        self._name, self._rate, self._decay = name, learning_rate, weight_decay
        lazy = [[table for table in tables if table.lazy] for tables in networks]
        self._tables = list(zip(*lazy, strict=True))  # each with its copies
        self._moments = [[torch.zeros_like(first.weight) for _ in range(MOMENTS[name])] for first, *_ in self._tables]
        self._steps = 0

    @torch.no_grad()
    def step(self, pairs: Sequence[int]) -> None:
        """Moves the rows of the last batch by their gradients, the mean over all its pairs, on every device.

        Args:
            pairs: how many the network learnt from, and each copy that learnt from any.
        """
        self._steps += 1
        for copies, moments in zip(self._tables, self._moments, strict=True):
            rows, vectors, gradient = _met(copies[: len(pairs)], pairs)
            if self._decay:
                gradient = gradient.add_(vectors, alpha=self._decay)
            moved = vectors.sub_(self._change(rows, gradient, moments))
            for table in copies:
                table.weight.index_copy_(0, rows.to(table.weight.device), moved.to(table.weight.device))

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


def _met(copies: Sequence[Table], pairs: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The rows that any copy used, each once, their vectors, and the mean of their gradients, on the first device."""
    parts = [table.given_back() for table in copies]
    if len(parts) == 1:
        return parts[0]
    first = copies[0].weight
    used = [rows.to(first.device) for rows, _, _ in parts]
    rows, places = torch.unique(torch.cat(used), return_inverse=True)
    gradient = first.new_zeros(len(rows), first.shape[1])
    shares = [count / sum(pairs) for count in pairs]
    for at, (_, _, own), share in zip(torch.split(places, [len(one) for one in used]), parts, shares, strict=True):
        gradient.index_add_(0, at, own.to(first.device), alpha=share)  # a part has each row once: in order, so exact
    return rows, first.index_select(0, rows), gradient
