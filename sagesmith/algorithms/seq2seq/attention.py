"""attention: which source positions a decoder looks at. Queries come as (batch, beam, ·): a sentence's hypotheses share
its memory.

dot, bilinear ("general") and mlp ("concat"): Luong, Pham and Manning, Effective Approaches to Attention-based Neural
Machine Translation (2015). fixed: the last encoder state, whatever the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine, tanh_
from sagesmith.algorithms.seq2seq.products import Held

HIDDEN = float("-inf")


@dataclass(frozen=True)
class Memory:
    """What of the source a decoder looks at: `keys` (b, s, k), `values` (b, s, v), and `cover` (b, 1, s): 0, or -inf
    over padding."""

    keys: Tensor
    values: Tensor
    cover: Tensor

    def rows(self, index: Tensor) -> Memory:
        """The memory of some sentences of the batch."""
        return Memory(self.keys[index], self.values[index], self.cover[index])


def cover_of(mask: Tensor, states: Tensor) -> Tensor:
    """(b, 1, s), of the kind of `states`, from a mask (b, s) that is True where there is a token."""
    return states.new_zeros(mask.shape).masked_fill_(~mask, HIDDEN)[:, None]


class _Energies(torch.autograd.Function):
    """v · tanh(query + key) for every query and key, without keeping more than the tanh."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
        squashed = tanh_(query[:, :, None] + keys[:, None])  # (b, k, s, a)
        ctx.save_for_backward(squashed, vector)
        return squashed @ vector

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        squashed, vector = ctx.saved_tensors
        along = squashed.flatten(0, 2).t() @ gradient.flatten()
        inner = torch.ops.aten.tanh_backward(gradient[..., None] * vector, squashed)
        return inner.sum(2), inner[:, 0] if inner.shape[1] == 1 else inner.sum(1), along


class Attention(nn.Module):
    """Weights over source positions from a query.

    Args:
        kind: dot, bilinear, mlp or fixed.
        query, key: their sizes.
        hidden: size of the hidden layer of mlp.

    Raises:
        ValueError: dot with query and key of different sizes.
    """

    def __init__(self, kind: str, query: int, key: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "dot" and query != key:
            raise ValueError(f"dot attention between states of {query} and {key} numbers")
        self.query = Affine(query, {"mlp": hidden, "bilinear": key}[kind]) if kind in ("mlp", "bilinear") else None
        self.key = Affine(key, hidden, bias=False) if kind == "mlp" else None
        self.vector = nn.Parameter(torch.empty(hidden)) if kind == "mlp" else None

    def memory(self, states: Tensor, mask: Tensor) -> Memory:
        """The memory of encoder states (b, s, key), mask (b, s): the keys are projected once for all steps."""
        cover = cover_of(mask, states)
        if self.kind == "fixed":
            last = mask.sum(1, keepdim=True) - 1
            alone = torch.arange(mask.shape[1], device=mask.device)[None] == last
            cover = cover_of(alone, states)
        return Memory(states if self.key is None else self.key(states), states, cover)

    def held(self) -> AttentionLoop:
        return AttentionLoop(self.kind, Held(self.query) if self.query is not None else None, self.vector)


class AttentionLoop:
    """Attention for the length of a loop over target positions."""

    def __init__(self, kind: str, query: Held | None, vector: Tensor | None) -> None:
        self._kind, self._query, self._vector = kind, query, vector

    def __call__(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Queries (b·k, q) -> contexts (b·k, v) and weights (b, k, s)."""
        batch = memory.values.shape[0]
        if self._kind == "fixed":
            weights = memory.cover.exp().expand(-1, query.shape[0] // batch, -1)
        else:
            asked = query if self._query is None else self._query(query)
            asked = asked.view(batch, -1, asked.shape[1])
            if self._vector is not None:
                energies = _Energies.apply(asked, memory.keys, self._vector)  # type: ignore[no-untyped-call]
            else:
                energies = asked @ memory.keys.transpose(1, 2)
            weights = torch.softmax(energies + memory.cover, 2)
        contexts = weights @ memory.values
        return contexts.view(-1, contexts.shape[2]), weights
