"""Rows of tables on a GPU, in plain PyTorch: many steps at once, of which none leads a row too far; ragged lists.

The loops for processors take one step after the other. A GPU takes those of a whole chunk of text at once, and a row
that occurs often in it would go as far as hundreds of steps lead it that do not know of each other. So a row goes no
farther than its loss is curved: each step brings a bound of the second derivative, and where their sum times the rate
exceeds LIMIT, the whole is scaled down to that.

Imports torch at once: import this module inside the functions that train.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LIMIT = 16.0  # found by word similarity; p (1 - p) is 1/4 at most, so that it is 4 in terms of the curvature


class Table:
    """Rows on a device.

    Args:
        values: (n, width) float32, copied.
    """

    def __init__(self, values: np.ndarray, device: torch.device) -> None:
        self.values = sent(values, device)
        self._bends = torch.zeros(len(values), device=device)

    def learn(self, rows: Tensor, moves: Tensor, bends: Tensor, rate: float) -> None:
        """Adds rate times the sums of what rows learn, shortened where the curvature asks for it.

        Args:
            rows: (n,) of the table, in any order, any number of times.
            moves: (n, width).
            bends: (n,) what each adds to the bound of its row's curvature.
        """
        self._bends.index_add_(0, rows, bends)
        scale = rate / (self._bends[rows] * (rate / LIMIT)).clamp(min=1)
        self._bends.index_fill_(0, rows, 0)
        self.values.index_add_(0, rows, moves * scale[:, None])

    def give_back(self, values: np.ndarray) -> bool:
        """Writes the rows into the first columns of an array; whether they are numbers, as they are not if diverged."""
        found = self.values.cpu().numpy()
        values[:, : found.shape[1]] = found
        return bool(np.isfinite(found).all())


def sent(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy of an array on a device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, copy=True)


def ragged(starts: Tensor, sizes: Tensor, total: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Lists of unlike length that lie in one: which list each entry belongs to, its place, and where each list begins.

    Args:
        starts, sizes: (n,) where each list lies.
        total: the sum of the sizes, if known: the device need not be asked then.
    """
    owners = torch.repeat_interleave(sizes, output_size=total)
    begins = sizes.cumsum(0) - sizes
    return owners, torch.arange(len(owners), device=sizes.device) + (starts - begins)[owners], begins
