"""network: two encoders, comparators, dense layers, and the output.

Tables of token vectors are dense (the optimiser moves every row), lazy (row_sparse: only the rows of a batch are read
and moved, see rows.py), or frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine
from sagesmith.algorithms.object2vec.configuration import Encoder, comparators_of, encoders_of, is_lazy
from sagesmith.algorithms.object2vec.encoders import encoder_of
from sagesmith.algorithms.object2vec.pairs import Tokens

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}
START = 0.1  # bound of token vectors at the start


class Table(nn.Module):
    """Token vectors, (vocab_size, d)."""

    def __init__(self, rows: int, width: int, lazy: bool, frozen: bool) -> None:
        super().__init__()
        self.lazy = lazy and not frozen
        weight = torch.empty(rows, width).uniform_(-START, START)
        self.weight = nn.Parameter(weight, requires_grad=not (lazy or frozen))
        self._rows: Tensor | None = None  # of the last training batch of a lazy table,
        self._vectors: Tensor | None = None  # and their vectors

    def taken(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """A table and ids into it: the whole one, or while learning lazily the rows that occur."""
        if not (self.lazy and self.training):
            return self.weight, ids
        self._rows, local = torch.unique(ids, return_inverse=True)
        self._vectors = self.weight.detach().index_select(0, self._rows).requires_grad_()
        return self._vectors, local

    def given_back(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that `taken` took last, each once, their vectors, and the gradient of these, which are forgotten."""
        rows, vectors = self._rows, self._vectors
        assert rows is not None
        assert vectors is not None
        assert vectors.grad is not None
        self._rows = self._vectors = None
        return rows, vectors.detach(), vectors.grad


class Network(nn.Module):
    """The whole network.

    Args:
        settings: the hyperparameters.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        encoders = encoders_of(settings)
        lazy = is_lazy(settings)
        self.tied: bool = settings["tied_token_embedding_weight"]
        tables = encoders[:1] if self.tied else encoders
        self.tables = nn.ModuleList(_table(encoder, lazy) for encoder in tables)
        self.encoders = nn.ModuleList(encoder_of(encoder) for encoder in encoders)
        self.comparators = comparators_of(settings["comparator_list"])
        size = settings["enc_dim"] * sum(2 if name == "concat" else 1 for name in self.comparators)
        layers: list[nn.Module] = []
        for _ in range(settings["mlp_layers"]):
            layers += [_linear(size, settings["mlp_dim"]), ACTIVATIONS[settings["mlp_activation"]]()]
            layers += [nn.Dropout(settings["dropout"])] if settings["dropout"] else []
            size = settings["mlp_dim"]
        outputs = settings["num_classes"] if settings["output_layer"] == "softmax" else 1
        self.mlp = nn.Sequential(*layers, _linear(size, outputs))
        self.dropout = nn.Dropout(settings["dropout"])

    def table(self, side: int) -> Table:
        found = self.tables[0 if self.tied else side]
        assert isinstance(found, Table)
        return found

    @property
    def device(self) -> torch.device:
        return self.table(0).weight.device

    def encode(self, side: int, tokens: Tokens) -> Tensor:
        """The vectors of lists of tokens, (n, enc_dim), by the encoder of in0 (0) or in1 (1)."""
        ids, lengths = self._tensors(tokens)
        vectors: Tensor = self.encoders[side](*self.table(side).taken(ids), lengths)
        return vectors

    def encode_both(self, in0: Tokens, in1: Tokens) -> tuple[Tensor, Tensor]:
        """The vectors of both sides."""
        if not self.tied:
            return self.encode(0, in0), self.encode(1, in1)
        (ids0, lengths0), (ids1, lengths1) = self._tensors(in0), self._tensors(in1)
        table, ids = self.table(0).taken(torch.cat([ids0, ids1]))
        first: Tensor = self.encoders[0](table, ids[: len(ids0)], lengths0)
        second: Tensor = self.encoders[1](table, ids[len(ids0) :], lengths1)
        return first, second

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits (n, num_classes), or predictions (n, 1), of pairs of vectors."""
        first, second = self.dropout(first), self.dropout(second)
        parts = {
            "hadamard": lambda: first * second,
            "concat": lambda: torch.cat([first, second], dim=1),
            "abs_diff": lambda: (first - second).abs(),
        }
        features = torch.cat([parts[name]() for name in self.comparators], dim=1)
        answer: Tensor = self.mlp(features.to(next(self.mlp.parameters()).device))
        return answer

    def forward(self, in0: Tokens, in1: Tokens) -> Tensor:
        return self.compare(*self.encode_both(in0, in1))

    def _tensors(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        ids = torch.from_numpy(tokens.ids.astype(np.int64)).to(self.device)
        return ids, torch.from_numpy(tokens.lengths).to(self.device)


def _table(encoder: Encoder, lazy: bool) -> Table:
    frozen = encoder.pretrained and encoder.freeze_pretrained_embedding
    return Table(encoder.vocab_size, encoder.token_embedding_dim, lazy, frozen)


def _linear(inputs: int, outputs: int) -> Affine:
    layer = Affine(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
