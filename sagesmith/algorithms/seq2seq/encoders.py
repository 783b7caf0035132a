"""encoders: source tokens to states, one per token.

rnn: Bahdanau, Cho and Bengio, Neural Machine Translation by Jointly Learning to Align and Translate (2015): the first
layer reads in both directions, half of the units each; further layers read forwards. cnn: see convolution.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class Encoded:
    """Of b sentences of at most s tokens: `states` (b, s, c), `mask` (b, s), True for tokens, and the `embedded`
    tokens (b, s, e) that an attention over convolutions adds to its values."""

    states: Tensor
    mask: Tensor
    embedded: Tensor

    def last(self) -> Tensor:
        """The state of each sentence's last token, (b, c)."""
        rows = torch.arange(len(self.states), device=self.states.device)
        return self.states[rows, self.mask.sum(1) - 1]

    def mean(self) -> Tensor:
        """The mean state of each sentence's tokens, (b, c)."""
        weights = self.mask.to(self.states.dtype) / self.mask.sum(1, keepdim=True)
        return (weights[:, None] @ self.states)[:, 0]


class RecurrentEncoder(nn.Module):
    def __init__(self, settings: Mapping[str, Any], words: int) -> None:
        super().__init__()
        width, size = settings["num_embed_source"], settings["rnn_num_hidden"]
        cell = CELLS[settings["rnn_cell_type"]]
        self.size = size
        self.embedding = nn.Embedding(words, width)
        self.dropout = nn.Dropout(settings["embed_dropout_source"])
        self.forwards = cell(width, size // 2)
        self.backwards = cell(width, size // 2)
        self.upper = nn.ModuleList(cell(size, size) for _ in range(settings["num_layers_encoder"] - 1))
        self._residual_from = settings["rnn_first_residual_layer"] if settings["rnn_residual_connections"] else None

    def forward(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        """Token ids (b, s), padded behind; lengths (b,)."""
        embedded = self.dropout(self.embedding(tokens.t()))  # (s, b, e)
        places = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
        mask = places < lengths
        # Backwards from each sentence's own end; what stands behind the end is only ever read by itself.
        turned = torch.where(mask, lengths - 1 - places, places)[:, :, None]
        back = self.backwards(embedded.gather(0, turned.expand(-1, -1, embedded.shape[2])))[0]
        back = back.gather(0, turned.expand(-1, -1, back.shape[2]))
        states = torch.cat((self.forwards(embedded)[0], back), 2)
        for number, layer in enumerate(self.upper, 2):
            following = layer(states)[0]
            states = following + states if self._residual_from and number >= self._residual_from else following
        return Encoded(states.transpose(0, 1).contiguous(), mask.t(), embedded.transpose(0, 1))
