"""cross_entropy: the output layer and its loss over the target tokens alone, in pieces that stay in the cache.

The scores over the vocabulary are by far the largest array of a step. A piece of them is computed, turned in place into
its own gradient, multiplied into the gradients of states and weights, and forgotten: nothing of the size (tokens,
vocabulary) is ever kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PIECE = 1 << 21  # scores of a piece: 8 MiB


@dataclass
class Counted:
    """Sums over target tokens."""

    loss: float = 0.0
    right: int = 0
    tokens: int = 0

    def __iadd__(self, other: Counted) -> Counted:
        self.loss, self.right, self.tokens = (
            self.loss + other.loss,
            self.right + other.right,
            self.tokens + other.tokens,
        )
        return self


def _pieces(count: int, words: int) -> list[slice]:
    size = max(256, PIECE // words)
    return [slice(at, at + size) for at in range(0, count, size)]


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of (n, h) states; also the sum of losses and of right guesses (0 where not `counting`)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, counting: bool) -> Any:
        learning = any(ctx.needs_input_grad)
        total, right = states.new_zeros((), dtype=torch.float64), labels.new_zeros(())
        gradients = [torch.empty_like(states), torch.zeros_like(weight), torch.zeros_like(bias)] if learning else []
        for part in _pieces(len(states), len(weight)):
            scores = torch.addmm(bias, states[part], weight.t())
            wanted = labels[part, None]
            if counting:
                right += (scores.argmax(1, keepdim=True) == wanted).sum()
            largest = scores.amax(1, keepdim=True)
            own = scores.gather(1, wanted) - largest
            scores.sub_(largest).exp_()
            sums = scores.sum(1, keepdim=True)
            total += (sums.log() - own).sum()
            if learning:
                scores.div_(sums * len(states))
                scores.scatter_add_(1, wanted, scores.new_full(wanted.shape, -1 / len(states)))
                torch.mm(scores, weight, out=gradients[0][part])
                gradients[1].addmm_(scores.t(), states[part])
                gradients[2].add_(scores.sum(0))
        ctx.save_for_backward(*gradients)
        mean = (total / len(states)).to(states.dtype)
        ctx.mark_non_differentiable(total, right)
        return mean, total, right

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias = ctx.saved_tensors
        return gradient * states, gradient * weight, gradient * bias, None, None


def cross_entropy(output: nn.Linear, states: Tensor, labels: Tensor, counting: bool) -> tuple[Tensor, Counted]:
    """The mean loss over n tokens, to learn from, and what was counted.

    Args:
        states: (n, h).
        labels: (n,), the tokens that should follow.
        counting: whether right guesses are counted, which takes a pass over the scores.
    """
    applied: Any = _CrossEntropy.apply(states, output.weight, output.bias, labels, counting)  # type: ignore[no-untyped-call]
    mean, total, right = applied
    return mean, Counted(float(total), int(right), len(labels))
