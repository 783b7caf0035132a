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

from sagesmith.algorithms.affine import affine

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
        for_states, for_weight, for_bias = torch.empty_like(states), None, None
        for part in _pieces(len(states), len(weight)):
            scores = affine(states[part], weight, bias)
            wanted = labels[part, None]
            if counting:
                right += (scores.argmax(1, keepdim=True) == wanted).sum()
            largest = scores.amax(1, keepdim=True)
            own = scores.gather(1, wanted) - largest
            shares = torch.softmax(scores, 1)
            # The largest share is exp(largest - log of the sum): it never vanishes, as the wanted one may.
            total -= (own + shares.amax(1, keepdim=True).log()).sum()
            if learning:
                shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1))
                for_states[part] = affine(shares, weight.t())
                more = affine(shares.t(), states[part].t())
                for_weight = more if for_weight is None else for_weight.add_(more)
                more = shares.sum(0)
                for_bias = more if for_bias is None else for_bias.add_(more)
        ctx.gradients = (for_states, for_weight, for_bias) if learning else None
        mean = (total / len(states)).to(states.dtype)
        ctx.mark_non_differentiable(total, right)
        return mean, total, right

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        made, ctx.gradients = ctx.gradients, None  # scaled in place: they serve once
        torch._foreach_mul_(made, gradient / len(made[0]))
        return *made, None, None


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
