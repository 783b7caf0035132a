"""encoders: the three networks that make a vector of a list of token vectors.

Lists come packed (token vectors side by side, and lengths), and a list's vector does not depend on its neighbours.

- pooled_embedding: the mean of the token vectors; needs only the table and ids.
- hcnn: convolutions one upon the other; the maxima over time of every layer, side by side (Conneau et al., Supervised
  Learning of Universal Sentence Representations, 2017, figure 4). The lists lie in one long sequence with zeros between
  them, so that a layer is one matrix product over all tokens of a batch, without padding.
- bilstm: LSTMs in both directions, the maximum over time (same paper, figure 2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine
from sagesmith.algorithms.object2vec.configuration import Encoder


def encoder_of(settings: Encoder) -> nn.Module:
    """The network of an encoder: a module of (table of vectors, ids (N,), lengths (n,)) giving (n, enc_dim)."""
    return {"pooled_embedding": Pooled, "hcnn": Convolutions, "bilstm": Recurrent}[settings.network](settings)


class Pooled(nn.Module):
    """The mean of a list's token vectors."""

    def __init__(self, settings: Encoder) -> None:
        super().__init__()

    def forward(self, table: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        if len(ids) == len(lengths):  # lists of one token each
            return nn.functional.embedding(ids, table)
        starts = torch.cumsum(lengths, 0) - lengths
        return nn.functional.embedding_bag(ids, table, starts, mode="mean")


class Convolutions(nn.Module):
    """Layers of convolution and ReLU; enc_dim is parted among the maxima of all layers, as equally as it goes."""

    def __init__(self, settings: Encoder) -> None:
        super().__init__()
        self.width = settings.cnn_filter_width
        layers = settings.layers
        sizes = [settings.enc_dim * (k + 1) // layers - settings.enc_dim * k // layers for k in range(layers)]
        inputs = [settings.token_embedding_dim, *sizes]
        self.layers = nn.ModuleList(
            Affine(self.width * before, after) for before, after in zip(inputs, sizes, strict=False)
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, table: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        vectors = nn.functional.embedding(ids, table)
        left, right = (self.width - 1) // 2, self.width // 2
        spread = lengths + right  # each list with the zeros behind it; those before the first come below
        lists = torch.arange(len(lengths), device=ids.device)
        places = torch.arange(len(ids), device=ids.device) + right * torch.repeat_interleave(
            lists, lengths, output_size=len(ids)
        )
        count = len(ids) + right * len(lengths)
        owners = torch.repeat_interleave(lists, spread, output_size=count)
        state = vectors.new_zeros(count, vectors.shape[1]).index_copy(0, places, vectors)
        real = vectors.new_zeros(count, 1)
        real[places] = 1.0
        maxima = []
        for number, layer in enumerate(self.layers):
            wide = nn.functional.pad(state, (0, 0, left, right))
            window = torch.cat([wide[k : k + count] for k in range(self.width)], dim=1)
            # ReLU leaves nothing below zero, so the zeros between the lists do not disturb the maxima.
            state = nn.functional.relu(layer(window)) * real
            maxima.append(_Maxima.apply(state, spread, owners))  # type: ignore[no-untyped-call]
            if number + 1 < len(self.layers):
                state = self.dropout(state)
        return torch.cat(maxima, dim=1)


class _Maxima(torch.autograd.Function):
    """Maxima over time, (n, d), of a state (N, d) in which lists of these lengths follow each other.

    Rows that share a maximum, as of repeated tokens, share its gradient evenly. torch's own backward pass divides only
    gradients above zero and gives each such row all of one below: here it divides ones.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, lengths: Tensor, owners: Tensor) -> Tensor:
        maxima = torch.segment_reduce(state, "max", lengths=lengths, axis=0, unsafe=True)
        ctx.save_for_backward(state, maxima, lengths, owners)
        return maxima

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        state, maxima, lengths, owners = ctx.saved_tensors
        ones = torch.ones_like(maxima)
        share: Tensor = torch.ops.aten._segment_reduce_backward(ones, maxima, state, "max", lengths=lengths, axis=0)
        return share.mul_(gradient.index_select(0, owners)), None, None


class Recurrent(nn.Module):
    """Bidirectional LSTMs; of an odd enc_dim the forward direction gets the greater half.

    The directions are two networks, the second over lists turned around within their length: padding follows what is
    real in both and disturbs neither.
    """

    def __init__(self, settings: Encoder) -> None:
        super().__init__()
        halves = settings.enc_dim - settings.enc_dim // 2, settings.enc_dim // 2
        sizes = [settings.token_embedding_dim] + [settings.enc_dim] * (settings.layers - 1)
        self.onward = nn.ModuleList(nn.LSTM(size, halves[0], batch_first=True) for size in sizes)
        self.backward_ = nn.ModuleList(nn.LSTM(size, halves[1], batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, table: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        time = torch.arange(int(lengths.max()), device=ids.device)
        real = time[None] < lengths[:, None]  # (n, T)
        turned = torch.where(real, lengths[:, None] - 1 - time[None], time[None])[:, :, None]
        padded = ids.new_zeros(real.shape)
        padded[real] = ids
        state = nn.functional.embedding(padded, table)
        for number, (onward, backward) in enumerate(zip(self.onward, self.backward_, strict=True)):
            if number:
                state = self.dropout(state)
            ahead = onward(state)[0]
            back = backward(state.gather(1, turned.expand_as(state)))[0]
            state = torch.cat([ahead, back.gather(1, turned.expand_as(back))], dim=2)
        return state.masked_fill(~real[:, :, None], float("-inf")).amax(dim=1)
