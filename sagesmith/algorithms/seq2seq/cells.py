"""cells: LSTM and GRU for a decoder that must go step by step, each step's arithmetic between products in one piece.

LSTM: Hochreiter and Schmidhuber (1997), with forget gates. GRU: Cho et al. (2014), the reset gate applied after the
product, as in MXNet and cuDNN. `embedded` is what the input that is known for all steps adds to the gates: it comes
from one product before the loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine, tanh_
from sagesmith.algorithms.seq2seq.products import Held

_tanh_backward = torch.ops.aten.tanh_backward
_sigmoid_backward = torch.ops.aten.sigmoid_backward


def _parts(gates: Tensor, size: int) -> tuple[Tensor, ...]:
    return torch.split(gates, size, 1)


class _LSTMGates(torch.autograd.Function):
    """(gates a, gates b, cell) -> (output, cell); a + b are (n, 4h) in the order in, forget, out, new."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, cell: Tensor) -> tuple[Tensor, Tensor]:
        size = cell.shape[1]
        gates = a.clone() if b is None else a + b
        into, forget, out, new = _parts(gates, size)
        new.mul_(2)  # tanh(x) = 2 sigmoid(2 x) - 1
        gates.sigmoid_()
        new.mul_(2).sub_(1)
        following = torch.addcmul(forget * cell, into, new)
        squashed = tanh_(following.clone())
        ctx.save_for_backward(gates, cell, squashed)
        return out * squashed, following

    @staticmethod
    def backward(ctx: Any, output: Tensor, following: Tensor) -> tuple[Tensor | None, ...]:
        gates, cell, squashed = ctx.saved_tensors
        size = cell.shape[1]
        into, forget, out, new = _parts(gates, size)
        change = _tanh_backward(output * out, squashed).add_(following)
        gradient = torch.empty_like(gates)
        torch.mul(change, new, out=gradient[:, :size])
        torch.mul(change, cell, out=gradient[:, size : 2 * size])
        torch.mul(output, squashed, out=gradient[:, 2 * size : 3 * size])
        gradient[:, : 3 * size] = _sigmoid_backward(gradient[:, : 3 * size], gates[:, : 3 * size])
        gradient[:, 3 * size :] = _tanh_backward(change * into, new)
        return gradient, gradient if ctx.needs_input_grad[1] else None, change * forget


class _GRUGates(torch.autograd.Function):
    """(input gates a, input gates b, recurrent gates, output) -> output; gates are (n, 3h): reset, update, new."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, recurrent: Tensor, output: Tensor) -> Tensor:
        size = output.shape[1]
        gates = a.clone() if b is None else a + b
        gates[:, : 2 * size].add_(recurrent[:, : 2 * size]).sigmoid_()
        reset, update, new = _parts(gates, size)
        remembered = recurrent[:, 2 * size :]
        tanh_(new.addcmul_(reset, remembered))
        ctx.save_for_backward(gates, remembered, output)
        return torch.lerp(new, output, update)

    @staticmethod
    def backward(ctx: Any, following: Tensor) -> tuple[Tensor | None, ...]:
        gates, remembered, output = ctx.saved_tensors
        size = output.shape[1]
        reset, update, new = _parts(gates, size)
        kept = following * update
        gradient = torch.empty_like(gates)
        change = _tanh_backward(following - kept, new)
        torch.mul(change, remembered, out=gradient[:, :size])
        torch.mul(following, output - new, out=gradient[:, size : 2 * size])
        gradient[:, : 2 * size] = _sigmoid_backward(gradient[:, : 2 * size], gates[:, : 2 * size])
        gradient[:, 2 * size :] = change
        recurrent = gradient.clone()
        recurrent[:, 2 * size :].mul_(reset)
        return gradient, gradient if ctx.needs_input_grad[1] else None, recurrent, kept


class LSTMStep(nn.Module):
    """One layer of LSTM over steps: `embedded` inputs are projected before the loop (0: there are none), `fed`
    ones come step by step."""

    states = 2  # output and cell

    def __init__(self, embedded: int, fed: int, size: int) -> None:
        super().__init__()
        self.embedded = Affine(embedded, 4 * size) if embedded else None
        self.recurrent = Affine(fed + size, 4 * size)
        self._size = size

    def held(self) -> LSTMLoop:
        return LSTMLoop(Held(self.recurrent))

    def recurrent_blocks(self) -> list[Tensor]:
        """The square matrices between states, for their initialisation."""
        weight = self.recurrent.weight
        return list(torch.split(weight[:, weight.shape[1] - self._size :], self._size))


class LSTMLoop:
    def __init__(self, recurrent: Held) -> None:
        self._recurrent = recurrent

    def step(self, embedded: Tensor | None, fed: Tensor, state: list[Tensor]) -> list[Tensor]:
        """`embedded` (n, 4h), `fed` (n, d), state: output and cell, (n, h) each -> the same."""
        output, cell = state
        gates = self._recurrent(torch.cat((fed, output), 1))
        return list(_LSTMGates.apply(gates, embedded, cell))  # type: ignore[no-untyped-call]


class GRUStep(nn.Module):
    """One layer of GRU over steps; see LSTMStep."""

    states = 1

    def __init__(self, embedded: int, fed: int, size: int) -> None:
        super().__init__()
        self.embedded = Affine(embedded, 3 * size) if embedded else None
        self.fed = Affine(fed, 3 * size)
        self.recurrent = Affine(size, 3 * size)
        self._size = size

    def held(self) -> GRULoop:
        return GRULoop(Held(self.fed), Held(self.recurrent))

    def recurrent_blocks(self) -> list[Tensor]:
        return list(torch.split(self.recurrent.weight, self._size))


class GRULoop:
    def __init__(self, fed: Held, recurrent: Held) -> None:
        self._fed, self._recurrent = fed, recurrent

    def step(self, embedded: Tensor | None, fed: Tensor, state: list[Tensor]) -> list[Tensor]:
        """`embedded` (n, 3h), `fed` (n, d), state: the output (n, h) -> the same."""
        gates, recurrent = self._fed(fed), self._recurrent(state[0])
        return [_GRUGates.apply(gates, embedded, recurrent, state[0])]  # type: ignore[no-untyped-call]


STEPS: dict[str, type[LSTMStep] | type[GRUStep]] = {"lstm": LSTMStep, "gru": GRUStep}
