"""synchronized: batch normalisation whose statistics are those of the pictures of all GPUs of a host (`syncbn`).

Every GPU has a copy of the network and a thread that drives it (replicas.py). At each layer the threads meet, forwards
with sums and squares, backwards with the two sums that the gradient needs: Ioffe and Szegedy, 2015, with the means
taken over all copies.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = 600.0  # seconds that copies wait for one of them before a step is given up


class Meeting:
    """Where the copies of one layer add up what each has. All copies share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.parties = 1
        self._given: list[Tensor] = []
        self._barrier = threading.Barrier(1)

    def expect(self, parties: int) -> None:
        """How many copies take part from now on."""
        self.parties, self._given = parties, []
        self._barrier = threading.Barrier(parties)

    def total(self, own: Tensor) -> Tensor:
        """The sum of every copy's tensor, on the device of this one; blocks until all have come."""
        if self.parties == 1:
            return own
        with self._lock:
            self._given.append(own)
        self._barrier.wait(PATIENCE)
        parts = sorted(self._given, key=lambda part: part.device.index or 0)  # the same sum whoever came first
        found = torch.stack([part.to(own.device) for part in parts]).sum(dim=0)
        if self._barrier.wait(PATIENCE) == 0:
            self._given = []
        self._barrier.wait(PATIENCE)
        return found

    def give_up(self) -> None:
        """Wakes those who wait, with an error: one of the copies failed."""
        self._barrier.abort()

    def __deepcopy__(self, memo: Any) -> Meeting:
        return self


class Normalized(torch.autograd.Function):
    """(x - mean) / deviation over the positions of all copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, meeting: Meeting) -> Any:
        """Also gives the count, mean and variance, for the running statistics."""
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = meeting.total(torch.cat([x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3)), count]))
        total, squares, count = sums[: x.shape[1]], sums[x.shape[1] : -1], sums[-1]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_(min=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.meeting = meeting
        ctx.mark_non_differentiable(mean, variance, count)
        factor = scale * weight
        return x * _wide(factor) + _wide(bias - mean * factor), mean, variance, count

    @staticmethod
    def backward(ctx: Any, given: Any, *others: Any) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        centred = (x - _wide(mean)) * _wide(scale)
        own = torch.stack([given.sum(dim=(0, 2, 3)), (given * centred).sum(dim=(0, 2, 3))])
        means = ctx.meeting.total(own) / count
        gradient = (given - _wide(means[0]) - centred * _wide(means[1])) * _wide(scale * weight)
        return gradient, own[1], own[0], None, None


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


class SynchronizedNorm(nn.BatchNorm2d):
    """In place of a BatchNorm2d, with its weights."""

    def __init__(self, replaced: nn.BatchNorm2d, meeting: Meeting) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum)
        self.load_state_dict(replaced.state_dict())
        self.meeting = meeting

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        apply: Any = Normalized.apply
        found, mean, variance, count = apply(x, self.weight, self.bias, self.eps, self.meeting)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        return found  # type: ignore[no-any-return]


def synchronize(network: nn.Module) -> Meeting:
    """Replaces every BatchNorm2d of a network; their copies must come to the meeting in the same order of layers."""
    meeting = Meeting()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SynchronizedNorm(child, meeting))
    return meeting
