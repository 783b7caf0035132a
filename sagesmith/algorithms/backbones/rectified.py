"""rectified: batch normalisation, a sum and ReLU in one, as residual networks have them after every convolution.

On a CPU torch takes a pass over the numbers for each of these, three for the statistics, and goes pixel by pixel where
there are few channels. Here training takes two passes forwards and two back, in compiled code. Where that cannot serve
(another device or layout, mixed precision, evaluation) torch's own operations do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagesmith.algorithms.parallel import divided, each

LANES = 64  # numbers that compiled code takes at a time: those of several pixels where there are fewer channels
WORTH_SHARING = 1 << 18  # numbers above which a second thread is woken


def rectified(norm: nn.Module, x: Tensor, added: Tensor | None = None) -> Tensor:
    """ReLU of `norm(x) + added`: (B, C, H, W) each.

    Where a batch's own statistics are taken, `num_batches_tracked` stays what it was: nothing reads it where there is a
    momentum, and counting takes a GPU as many starts of kernels as the layers themselves.
    """
    if not _of_batch(norm):
        y = norm(x)
    elif _served(norm, x, added):
        made: Tensor = _Rectified.apply(x, norm.weight, norm.bias, added, norm)  # type: ignore[no-untyped-call]
        return made
    else:
        statistics = norm.running_mean, norm.running_var
        y = F.batch_norm(x, *statistics, norm.weight, norm.bias, True, norm.momentum or 0.0, norm.eps)
    if added is not None:
        y += added
    return F.relu(y, inplace=True)


def _of_batch(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a layer is torch's own and normalises by the statistics of each batch, which its running ones follow."""
    usual = type(norm) is nn.BatchNorm2d and norm.track_running_stats and norm.momentum is not None
    return usual and norm.training


def _served(norm: nn.BatchNorm2d, x: Tensor, added: Tensor | None) -> bool:
    channels = x.shape[1]
    fits = (channels % LANES == 0 or (LANES % channels == 0 and x.numel() % LANES == 0)) and x.numel() > channels
    learning = norm.affine and torch.is_grad_enabled() and (added is None or added.shape == x.shape)
    return fits and learning and all(_laid_out(one) for one in (x, added, norm.weight) if one is not None)


def _laid_out(x: Tensor) -> bool:
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous(memory_format=layout)


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, norm: nn.BatchNorm2d
    ) -> Tensor:
        from sagesmith.algorithms.backbones import rectified_compiled as steps

        made = torch.empty_like(x)
        table, y = _table(x), _table(made)
        other = table if added is None else _table(added)
        found = _normal(table, x.numel() // x.shape[1], weight, bias, norm)
        bits = np.empty((len(table), table.shape[1] // LANES), np.uint64)
        _shared(table, lambda a, b: steps.rectify(table, other, added is not None, found, a, b, y, bits))
        ctx.save_for_backward(x)
        ctx.found, ctx.bits, ctx.plus = found, bits, added is not None
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from sagesmith.algorithms.backbones import rectified_compiled as steps

        (saved,) = ctx.saved_tensors
        found, bits, plus, channels = ctx.found, ctx.bits, ctx.plus, saved.shape[1]
        dy, x = _table(gradient.contiguous(memory_format=torch.channels_last)), _table(saved)
        sums = _summed(x, lambda a, b, into: steps.add_slopes(dy, x, bits, found, a, b, into))
        d_weight, d_bias = torch.empty(channels), torch.empty(channels)
        slopes = np.empty((2, x.shape[1]), np.float32)
        steps.settle_back(sums, saved.numel() // channels, found, d_weight.numpy(), d_bias.numpy(), slopes)
        d_saved, d_added = torch.empty_like(saved), torch.empty_like(saved) if plus else None
        dx = _table(d_saved)
        dz = dx if d_added is None else _table(d_added)
        _shared(x, lambda a, b: steps.rectify_back(dy, x, bits, found, slopes, a, b, dx, dz, plus))
        return d_saved, d_weight, d_bias, d_added, None


def _normal(table: np.ndarray, count: int, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> np.ndarray:
    """What normalises a batch, (4, width): see `settle`. The layer's running statistics take it up."""
    from sagesmith.algorithms.backbones import rectified_compiled as steps

    running: Any = (norm.running_mean, norm.running_var)
    mean, variance = (one.numpy() for one in running)
    channels = weight.detach().numpy(), bias.detach().numpy(), mean, variance
    found = np.empty((4, table.shape[1]), np.float32)
    shift = np.tile(mean, table.shape[1] // len(mean))[None]
    constants = norm.momentum or 0.0, norm.eps
    if not steps.settle(_moments(table, shift), count, shift, *channels, *constants, False, found):
        shift = found[:1].copy()
        steps.settle(_moments(table, shift), count, shift, *channels, *constants, True, found)
    return found


def _moments(table: np.ndarray, shift: np.ndarray) -> np.ndarray:
    from sagesmith.algorithms.backbones import rectified_compiled as steps

    return _summed(table, lambda a, b, into: steps.add_moments(table, shift, a, b, into))


def _table(x: Tensor) -> np.ndarray:
    """(rows, width) over the numbers of a tensor that is channels last."""
    return x.detach().permute(0, 2, 3, 1).reshape(-1, max(LANES, x.shape[1])).numpy()


def _threads(table: np.ndarray) -> int:
    return torch.get_num_threads() if table.size >= WORTH_SHARING else 1


def _shared(table: np.ndarray, work: Callable[[int, int], None]) -> None:
    """work(first, last) for all rows, by several threads where that is worth it."""
    divided(work, len(table), _threads(table))


def _summed(table: np.ndarray, work: Callable[[int, int, np.ndarray], None]) -> np.ndarray:
    """As _shared; each part adds to sums of its own: (parts, 2, width) float64."""
    threads = min(_threads(table), len(table))
    sums = np.zeros((threads, 2, table.shape[1]))
    edges = [len(table) * number // threads for number in range(threads + 1)]
    each(lambda number: work(edges[number], edges[number + 1], sums[number]), range(threads), threads)
    return sums
