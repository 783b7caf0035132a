"""affine: x Wᵀ + b on the CPU through oneDNN, and a tanh to match.

torch multiplies float32 matrices with MKL, which leaves half of an AMD processor unused: on an EPYC with AVX-512 it
reached 105 GFLOP/s a core where oneDNN reached 210 to 245. oneDNN is reached by the operator that torch's own compiler
emits for linear layers. Where it cannot serve (another device or kind of number, a torch without it, no rows) torch's
own product does.

Likewise `tanh`: torch has a vectorised sigmoid that is ten times as fast as its tanh.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch._C._has_mkldnn else None


def _served(*parts: Tensor | None) -> bool:
    return _linear is not None and all(
        part is None or (part.device.type == "cpu" and part.dtype == torch.float32 and part.numel() > 0)
        for part in parts
    )


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (…, in), weight (out, in), bias (out,) -> (…, out). Not differentiable: see Affine.

    The weight may be the transpose of an array: x @ w is `affine(x, w.t())`.
    """
    if _served(x, weight, bias):
        made: Tensor = _linear(x, weight, bias, "none", [], "")
        return made
    return F.linear(x, weight, bias)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            affine(gradient, weight.t()) if ctx.needs_input_grad[0] else None,
            affine(rows.t(), x.reshape(-1, x.shape[-1]).t()) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class Affine(nn.Linear):
    """torch's Linear, its products by `affine`."""

    def forward(self, input: Tensor) -> Tensor:
        if not _served(input, self.weight, self.bias):
            return super().forward(input)
        made: Tensor = _Affine.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


def tanh_(x: Tensor) -> Tensor:
    """tanh in place, within 2e-7 for float32; not differentiable."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        squashed = tanh_(x.clone())
        ctx.save_for_backward(squashed)
        return squashed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        made: Tensor = torch.ops.aten.tanh_backward(gradient, *ctx.saved_tensors)
        return made


def tanh(x: Tensor) -> Tensor:
    """tanh, within 2e-7 for float32."""
    made: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]
    return made
