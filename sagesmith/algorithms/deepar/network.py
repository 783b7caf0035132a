"""Network: DeepAR's, as its paper has it: an autoregressive LSTM whose outputs are the parameters of a likelihood.

h_t = LSTM(h_{t-1}, lagged z & x_t), θ_t = W h_t + b, loss = -Σ log p(z_t | θ_t) over context and horizon (Salinas,
Flunkert, Gasthaus, Januschowski, DeepAR, arXiv 1704.04110). A layer from the second on adds its input to its output.
To the location is added a linear function of the lagged values (Lai et al., LSTNet, SIGIR 2018, section 3.6) and of the
series' own features, which begins as the fit of least absolute errors: the LSTM learns what a linear forecast misses.

Imports torch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sagesmith.algorithms.deepar import cells_compiled as code
from sagesmith.algorithms.deepar.likelihoods import Likelihood
from sagesmith.algorithms.deepar.slopes_compiled import backward
from sagesmith.algorithms.deepar.threads import COLUMNS, Workers
from sagesmith.algorithms.deepar.windows import STATIC


class Network(nn.Module):
    """The network over windows laid out (time, inputs, columns).

    Args:
        width: inputs of a step; the linear part sees the first `straight` of them.
        cards: categories of each `cat`.
        rate: probability that zoneout keeps a state as it was.
    """

    def __init__(
        self, width: int, straight: int, cards: Sequence[int], embedding: int, cells: int, layers: int,
        likelihood: Likelihood, rate: float, workers: Workers,
    ) -> None:  # fmt: skip
        super().__init__()
        self.straight, self.likelihood = straight, likelihood
        self.embeddings = nn.ModuleList(nn.Embedding(count, embedding) for count in cards)
        fixed = embedding * len(cards) + STATIC
        self.fixed = nn.Linear(fixed, 4 * cells, bias=False)
        self.layers = nn.ModuleList(
            Lstm(width if layer == 0 else cells, cells, rate, workers) for layer in range(layers)
        )
        self.head = nn.Linear(cells, likelihood.parameters)
        self.linear = nn.Parameter(torch.zeros(straight), requires_grad=likelihood.linear)

    def seeds(self) -> list[int]:
        """What a pass draws zoneout from, a number for each layer: drawn apart, as copies run in threads."""
        return [int(torch.randint(0, 1 << 31, (1,))) for _ in self.layers]

    def forward(self, inputs: Tensor, static: Tensor, cats: Tensor, seeds: Sequence[int]) -> Tensor:
        """θ, (T, parameters, B), from inputs (T, D, B), static (B, 3) and cats (B, C)."""
        embedded = [table(cats[:, index]) for index, table in enumerate(self.embeddings)]
        fixed = self.fixed(torch.cat([*embedded, static], 1)).t()
        hidden = self.layers[0](inputs, fixed, seeds[0])
        for layer, seed in zip(self.layers[1:], seeds[1:], strict=True):
            hidden = hidden + layer(hidden, None, seed)
        theta = product(self.head.weight, hidden) + self.head.bias[:, None]
        if not self.likelihood.linear:
            return theta
        straight = torch.einsum("l,tlb->tb", self.linear, inputs[:, : self.straight])
        return torch.cat([theta[:, :1] + straight[:, None], theta[:, 1:]], 1)


def product(weights: Tensor, sequence: Tensor) -> Tensor:
    """(J, K) times every (K, B) of (T, K, B)."""
    return torch.bmm(weights.expand(len(sequence), *weights.shape), sequence)


class Lstm(nn.Module):
    """One layer with zoneout: (T, D, B) to (T, H, B). `fixed` (4H, B) is added to the gates of every step."""

    def __init__(self, width: int, cells: int, rate: float, workers: Workers) -> None:
        super().__init__()
        bound = cells**-0.5
        self.input = nn.Parameter(torch.empty(width, 4 * cells).uniform_(-bound, bound))
        self.recurrent = nn.Parameter(torch.empty(cells, 4 * cells).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * cells))
        with torch.no_grad():
            self.bias[cells : 2 * cells] = 1.0  # remember at first: Jozefowicz et al., 2015
        self.rate, self.workers = rate, workers

    def forward(self, sequence: Tensor, fixed: Tensor | None, seed: int) -> Tensor:
        bias = self.bias[:, None]
        begun = bias.expand(-1, sequence.shape[2]) if fixed is None else fixed + bias
        given = (sequence, begun, self.input, self.recurrent, self.rate, seed)
        if sequence.device.type == "cpu":
            return _Unrolled.apply(*given, self.workers)  # type: ignore[no-any-return,no-untyped-call]
        return unrolled(*given)


class _Unrolled(torch.autograd.Function):
    """A layer in compiled code, forwards and back."""

    @staticmethod
    def forward(
        ctx: Any, sequence: Tensor, fixed: Tensor, weights: Tensor, recurrent: Tensor, rate: float, seed: int,
        workers: Workers,
    ) -> Tensor:  # fmt: skip
        (steps, _, columns), units = sequence.shape, len(recurrent)
        room = [torch.empty(steps * code.KEPT * units * columns), torch.empty(steps, units, columns)]
        given = [tensor.detach().contiguous() for tensor in (sequence, fixed, weights, recurrent)]
        table = torch.cat([given[3], given[2]]).view(-1, 4, units).permute(2, 0, 1).contiguous().view(units, -1)
        arrays = [x.numpy() for x in (*given[:2], table, *room)]
        workers.columns(code.forward, columns, *arrays, rate, np.uint32(seed))
        ctx.kept = given, room, rate, seed, workers
        return room[1][:]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (sequence, fixed, weights, recurrent), room, rate, seed, workers = ctx.kept
        ctx.kept = None
        wanted = ctx.needs_input_grad[0]
        of_sequence = torch.empty_like(sequence) if wanted else torch.empty(0, *sequence.shape[1:])
        of_fixed = torch.zeros_like(fixed)
        partial: dict[int, Tensor] = {}
        rows = torch.cat([recurrent, weights]) if wanted else recurrent
        given = [sequence, _in_fours(rows), *room, slopes[0].contiguous()]
        arrays = [tensor.numpy() for tensor in given]
        units, width = len(recurrent), -(-(len(recurrent) + len(weights)) // COLUMNS) * COLUMNS

        def part(begin: int, end: int) -> None:
            partial[begin] = torch.zeros(4 * units, width)
            results = [tensor.numpy() for tensor in (of_sequence, of_fixed, partial[begin])]
            arguments: list[Any] = [*arrays, rate, np.uint32(seed), *results]
            backward(begin, end, *arguments)

        workers.columns(part, sequence.shape[2])
        whole = torch.stack([partial[begin] for begin in sorted(partial)]).sum(0).t()
        of_recurrent, of_weights = whole[:units], whole[units : units + len(weights)]
        return (of_sequence if wanted else None), of_fixed, of_weights, of_recurrent, None, None, None


def _in_fours(rows: Tensor) -> Tensor:
    """Rows (R, 4H) as slopes_compiled.py's table (U, 16H) of four rows a line, R rounded up to 4U."""
    count, terms = rows.shape
    lines = -(-count // 4)
    filled = torch.cat([rows, rows.new_zeros(4 * lines - count, terms)])
    return filled.view(4, lines, terms).permute(1, 2, 0).contiguous().view(lines, -1)


def unrolled(
    sequence: Tensor, fixed: Tensor, weights: Tensor, recurrent: Tensor, rate: float, seed: int
) -> Tensor:  # fmt: skip
    """The same step by step in torch, for GPUs; zoneout draws other numbers than the compiled code."""
    random = torch.Generator(sequence.device).manual_seed(seed)
    units = len(recurrent)
    cell = output = torch.zeros(units, sequence.shape[2], device=sequence.device)
    turned, outputs = recurrent.t(), []
    for gate in product(weights.t(), sequence) + fixed:
        i, f, g, o = (gate + turned @ output).split(units)
        fresh = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        shown = o.sigmoid() * fresh.tanh()
        kept = torch.rand(2, *cell.shape, device=cell.device, generator=random) < rate
        cell, output = torch.where(kept[0], cell, fresh), torch.where(kept[1], output, shown)
        outputs.append(output)
    return torch.stack(outputs)
