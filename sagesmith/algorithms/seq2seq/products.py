"""products: an affine map inside a loop over time, whose weights get their gradient in one product for all steps.

Plain autograd makes a gradient as large as the weights at every step and adds them up: memory traffic that costs more
than the arithmetic. Here a step only notes its input and the gradient of its output (backpropagation through time is
then a loop over activations), and the weights' gradient is one product over the steps' rows laid end to end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import affine

_Notes = list[tuple[Tensor, Tensor]]


class _Held(torch.autograd.Function):
    """The weight and bias for the length of a loop; their gradient comes from the notes, when all steps are done."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, notes: _Notes) -> tuple[Tensor, Tensor]:
        ctx.notes = notes
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.notes:
            return None, None, None
        inputs, gradients = (torch.cat(parts) for parts in zip(*ctx.notes, strict=True))
        ctx.notes.clear()
        return affine(gradients.t(), inputs.t()), gradients.sum(0), None


class _Applied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, notes: _Notes) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.notes = notes
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.notes.append((x, gradient))
        return affine(gradient, weight.t()) if ctx.needs_input_grad[0] else None, None, None, None


class Held:
    """A layer's weights held for one loop: call it on (n, in) at every step."""

    def __init__(self, layer: nn.Linear) -> None:
        self._notes: _Notes = []
        self._learning = torch.is_grad_enabled()
        if self._learning:
            self._weight, self._bias = _Held.apply(layer.weight, layer.bias, self._notes)  # type: ignore[no-untyped-call]
        else:
            self._weight, self._bias = layer.weight, layer.bias

    def __call__(self, x: Tensor) -> Tensor:
        if not self._learning:
            return affine(x, self._weight, self._bias)
        return _Applied.apply(x, self._weight, self._bias, self._notes)  # type: ignore[no-untyped-call,no-any-return]
