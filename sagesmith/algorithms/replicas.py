"""replicas: copies of a network on the devices of one host, and the precision that they calculate in.

One process drives all devices, each from a thread of its own: a batch is cut into parts, every copy makes the gradient
of its part, and the first device's optimiser moves the weights, which are then copied to the others. Two copies on the
CPU are as good as one and differ from it in BatchNorm alone, whose statistics are those of each part.

Imports torch at once; used through nets.py.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.run import Run

PRECISIONS = ("float32", "float16")


class Precision:
    """In what numbers a network calculates: float32; or float16, with float32 for the weights and where it matters.

    float16 is Micikevicius et al., Mixed Precision Training, 2018: the loss is scaled up before the gradient is taken,
    and steps whose gradient overflows are left out. Processors have no such arithmetic; there bfloat16, whose range is
    that of float32, takes its place, and the log says so.
    """

    def __init__(self, name: str, device: torch.device, run: Run) -> None:
        self._device = device
        self._dtype = None if name == "float32" else torch.float16 if device.type == "cuda" else torch.bfloat16
        self._scaler = torch.amp.GradScaler(device.type) if self._dtype is torch.float16 else None
        if self._dtype is torch.bfloat16:
            run.log("%s is for GPUs: on this CPU the network calculates in bfloat16", name)

    def __call__(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which a loss is computed."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradient is taken."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def unscale(self, chosen: torch.optim.Optimizer) -> None:
        """Makes the gradients those of the loss itself."""
        if self._scaler is not None:
            self._scaler.scale(torch.zeros((), device=self._device))  # where no loss was scaled yet
            self._scaler.unscale_(chosen)

    def step(self, chosen: torch.optim.Optimizer) -> None:
        """The optimiser's step, left out if a gradient is infinite."""
        if self._scaler is None:
            chosen.step()
            return
        self._scaler.step(chosen)
        self._scaler.update()

    @property
    def scale(self) -> float | None:
        """By how much losses are scaled up, for a checkpoint; None: they are not."""
        return None if self._scaler is None else float(self._scaler.get_scale())

    def take_scale(self, scale: float | None) -> None:
        """Goes on with the scale of an earlier run."""
        if self._scaler is not None and scale is not None:
            self._scaler.load_state_dict(self._scaler.state_dict() | {"scale": scale})


def gradients_of(weights: Sequence[nn.Parameter]) -> Tensor:
    """All gradients as one vector, each in the order of its weight's memory; zeros where there is none."""
    return torch.cat(
        [
            torch.zeros(weight.numel(), device=weight.device)
            if weight.grad is None
            else weight.grad.permute(_order(weight)).flatten()
            for weight in weights
        ]
    )


def take_gradients(weights: Sequence[nn.Parameter], message: Tensor) -> None:
    """Gives weights the gradients that `gradients_of` made a vector of, laid out as the weights are: fused optimisers
    go through both by their memory."""
    for weight, part in zip(weights, torch.split(message, [weight.numel() for weight in weights]), strict=True):
        order = _order(weight)
        laid_out = part.view([weight.shape[at] for at in order])
        weight.grad = laid_out.permute([order.index(at) for at in range(weight.dim())])


def _order(weight: Tensor) -> list[int]:
    """The dimensions from the slowest in memory to the fastest."""
    return sorted(range(weight.dim()), key=weight.stride, reverse=True)


class Replicas:
    """A network and its copies on further devices. They follow its mode, training or not.

    Args:
        network: on the first of the devices.

    Attributes:
        networks: the network and its copies, one for each device.
    """

    def __init__(self, network: nn.Module, devices: Sequence[torch.device]) -> None:
        self.networks = [network, *(copy.deepcopy(network).to(device) for device in devices[1:])]
        self._devices = devices
        self._pool = ThreadPoolExecutor(len(devices), "replica") if len(devices) > 1 else None
        self._learning = 0  # copies that have had a part since `average`

    def backward(
        self, loss_of: Callable[[Any, Any], tuple[Tensor, int]], parts: Sequence[Any], precision: Precision
    ) -> int:
        """Leaves the gradient of the mean loss over all parts' rows in the network; returns how many rows there were.

        Arguments as those of Stepper.learn; the network's own gradients must be None.
        """

        def one(number: int) -> int:
            on_gpu = self._devices[number].type == "cuda"
            with torch.cuda.device(self._devices[number]) if on_gpu else contextlib.nullcontext():
                if number:
                    self.networks[number].zero_grad(set_to_none=True)
                with precision():
                    loss, rows = loss_of(self.networks[number], parts[number])
                precision.scaled(loss).backward()  # type: ignore[no-untyped-call]
                return rows

        self._learning = max(self._learning, len(parts))
        if len(parts) == 1:
            return one(0)
        if not parts:
            return 0
        assert self._pool is not None, "more parts than devices"
        for first, *copies in zip(*(network.modules() for network in self.networks), strict=True):
            for module in copies:
                module.training = first.training
        rows = list(self._pool.map(one, range(len(parts))))
        self._gather(rows)
        return sum(rows)

    def _gather(self, rows: Sequence[int]) -> None:
        """The network's gradients become the mean over the rows of all parts: one message from each device."""
        total = max(1, sum(rows))  # 0: pictures without anything to learn
        weights = [[w for w in network.parameters() if w.requires_grad] for network in self.networks[: len(rows)]]
        mean = gradients_of(weights[0]) * (rows[0] / total)
        for own, count in zip(weights[1:], rows[1:], strict=True):
            mean += gradients_of(own).to(mean.device) * (count / total)
        take_gradients(weights[0], mean)

    @torch.no_grad()
    def refresh(self, statistics: bool = False) -> None:
        """Gives the copies the weights that a step moved; with `statistics` all weights, and BatchNorm's statistics."""
        for network in self.networks[1:]:
            for own, first in zip(network.parameters(), self.networks[0].parameters(), strict=True):
                if statistics or first.requires_grad:
                    own.copy_(first)
            if statistics:
                for own_buffer, first_buffer in zip(network.buffers(), self.networks[0].buffers(), strict=True):
                    own_buffer.copy_(first_buffer)

    @torch.no_grad()
    def average(self) -> int:
        """The network's BatchNorm statistics become the mean over the copies that have learnt since the last call;
        how many these were."""
        count, self._learning = self._learning, 0
        for buffers in zip(*(network.buffers() for network in self.networks[:count]), strict=True):
            if count > 1 and buffers[0].is_floating_point():
                buffers[0].copy_(torch.stack([buffer.to(buffers[0].device) for buffer in buffers]).mean(0))
        return count
