"""Likelihoods: what the network's outputs are the parameters of, and minus the logarithm of the density.

Imports torch in the methods that need it: forecasts are drawn by compiled code (forecasts_compiled.py), which has the
same parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

GAUSSIAN, STUDENT_T, NEGATIVE_BINOMIAL, BETA, L1 = range(5)
SMALLEST = 1e-4  # beta: how near to 0 and 1 a value may come; also the least scale of a density
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Likelihood:
    """One noise model.

    Attributes:
        code: what compiled code calls it.
        parameters: outputs of the network at each step.
        linear: whether the first output is a location in the units of the scaled values.
        loss: of θ (T, parameters, B), z (T, B) as observed and scales (B,): minus log density, (T, B).
    """

    name: str
    code: int
    parameters: int
    linear: bool
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]


def _gaussian(theta: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    from torch.nn.functional import softplus

    spread = softplus(theta[:, 1]) + SMALLEST
    return 0.5 * ((z / scale - theta[:, 0]) / spread) ** 2 + spread.log() + HALF_LOG_2PI + scale.log()


def _student_t(theta: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    """Degrees of freedom above 2, so that there is a variance."""
    import torch
    from torch.nn.functional import softplus

    spread, freedom = softplus(theta[:, 1]) + SMALLEST, 2.0 + softplus(theta[:, 2])
    half = 0.5 * (freedom + 1.0)
    off = (z / scale - theta[:, 0]) / spread
    norm = torch.lgamma(half) - torch.lgamma(0.5 * freedom) - 0.5 * (np.pi * freedom).log()
    return half * torch.log1p(off * off / freedom) - norm + spread.log() + scale.log()


def _negative_binomial(theta: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    """Mean μ = scale * softplus(o), variance μ + a μ² with a = softplus(o) / sqrt(scale), as in the paper."""
    import torch
    from torch.nn.functional import softplus

    mean = scale * softplus(theta[:, 0]) + 1e-6
    size = scale.sqrt() / (softplus(theta[:, 1]) + SMALLEST)
    return (
        torch.lgamma(size) + torch.lgamma(z + 1.0) - torch.lgamma(z + size)
        + size * torch.log1p(mean / size) - z * (mean.log() - (mean + size).log())
    )  # fmt: skip


def _beta(theta: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    import torch
    from torch.nn.functional import softplus

    a, b = softplus(theta[:, 0]) + SMALLEST, softplus(theta[:, 1]) + SMALLEST
    z = z.clamp(SMALLEST, 1.0 - SMALLEST)
    norm = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    return -((a - 1.0) * z.log() + (b - 1.0) * torch.log1p(-z) + norm)


def _l1(theta: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    return (z / scale - theta[:, 0]).abs()


LIKELIHOODS = {
    known.name.lower(): known
    for known in (
        Likelihood("gaussian", GAUSSIAN, 2, True, _gaussian),
        Likelihood("student-T", STUDENT_T, 3, True, _student_t),
        Likelihood("negative-binomial", NEGATIVE_BINOMIAL, 2, False, _negative_binomial),
        Likelihood("beta", BETA, 2, False, _beta),
        Likelihood("deterministic-L1", L1, 1, True, _l1),
    )
}
