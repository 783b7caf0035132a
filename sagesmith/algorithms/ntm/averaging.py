"""Averaging: the mean of the weights that training has lately passed through, which is what is judged and kept.

A step is a mini-batch's, and the last one is not the best one: weights wander about where they should be. Their mean
lies nearer to it and changes less, so that patience is not tried by chance (Polyak and Juditsky, Acceleration of
Stochastic Approximation by Averaging, SIAM J. Control and Optimization 30, 1992).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from sagesmith.algorithms.ntm.network import Network

KEPT = 0.98  # of the mean at each step: the last fifty steps count
BEGIN = 10  # the first ones count less, as they start from afar


class Averaged:
    """`network` has the mean of the weights of `moving`, and its buffers.

    Attributes:
        steps: how many were noted.
    """

    def __init__(self, moving: Network) -> None:
        self.moving, self.network, self.steps = moving, copy.deepcopy(moving), 0
        self._means: list[Tensor] = list(self.network.parameters())
        self._weights: list[Tensor] = list(moving.parameters())

    def note(self) -> None:
        """Call it after every step."""
        self.steps += 1
        kept = min(KEPT, self.steps / (BEGIN + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._weights, 1 - kept)

    def take_buffers(self) -> None:
        """Call it after every epoch."""
        for mine, theirs in zip(self.network.buffers(), self.moving.buffers(), strict=True):
            mine.copy_(theirs)
