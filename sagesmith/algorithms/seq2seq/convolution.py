"""convolution: encoder and decoder without recurrence.

Gehring et al., Convolutional Sequence to Sequence Learning (2017): blocks of a convolution and a gated linear unit,
each with a residual connection, over embeddings of tokens and positions; attention in every block of the decoder.
Sums of two are scaled by sqrt(1/2), which keeps their variance. Other activations than `glu` are MXNet's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine
from sagesmith.algorithms.seq2seq.attention import Memory, cover_of
from sagesmith.algorithms.seq2seq.encoders import Encoded

HALF = 0.5**0.5
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "glu": F.glu,
    "relu": F.relu,
    "softrelu": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class Convolution(nn.Module):
    """A convolution over time and its activation: a window of `width` states (…, c) makes one state."""

    def __init__(self, width: int, size: int, activation: str) -> None:
        super().__init__()
        self.width, self._activation = width, ACTIVATIONS[activation]
        self.kernel = Affine(width * size, 2 * size if activation == "glu" else size)

    def forward(self, padded: Tensor) -> Tensor:
        """(b, t + width - 1, c) -> (b, t, c)."""
        windows = padded.unfold(1, self.width, 1).transpose(2, 3).flatten(2)
        return self._activation(self.kernel(windows))


class Positions(nn.Module):
    """An embedding for each place of a sequence; beyond the last place, the last one's."""

    def __init__(self, most: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(most, width)

    def forward(self, places: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(places.clamp(max=self.embedding.num_embeddings - 1))
        return embedded


class ConvolutionalEncoder(nn.Module):
    def __init__(self, settings: Mapping[str, Any], words: int) -> None:
        super().__init__()
        width = settings["num_embed_source"]
        self.size = size = settings["cnn_num_hidden"]
        self.embedding = nn.Embedding(words, width)
        self.positions = Positions(settings["max_seq_len_source"], width)
        self.dropout = nn.Dropout(settings["embed_dropout_source"])
        self.widened = Affine(width, size)
        self._kernel = kernel = settings["cnn_kernel_width_encoder"]
        activation = settings["cnn_activation_type"]
        self.blocks = nn.ModuleList(
            Convolution(kernel, size, activation) for _ in range(settings["num_layers_encoder"])
        )
        self.hidden_dropout = nn.Dropout(settings["cnn_hidden_dropout"])

    def forward(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        """Token ids (b, s), padded behind; lengths (b,)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        mask = places < lengths[:, None]
        embedded = self.dropout(self.embedding(tokens) + self.positions(places))
        states = self.widened(embedded)
        before = (self._kernel - 1) // 2
        for block in self.blocks:
            given = self.hidden_dropout(states) * mask[:, :, None]
            made = block(F.pad(given, (0, 0, before, self._kernel - 1 - before)))
            states = (states + made) * HALF
        return Encoded(states, mask, embedded)


class ConvolutionalDecoder(nn.Module):
    """
    Args:
        source: size of the encoder's states.
        width: size of the target embeddings.
    """

    def __init__(self, settings: Mapping[str, Any], source: int, width: int) -> None:
        super().__init__()
        self.size = width
        size, layers = settings["cnn_num_hidden"], settings["num_layers_decoder"]
        kernel, activation = settings["cnn_kernel_width_decoder"], settings["cnn_activation_type"]
        self.positions = Positions(settings["max_seq_len_target"] + 1, width)
        self.key = Affine(source, width)
        self.widened = Affine(width, size)
        self.blocks = nn.ModuleList(Convolution(kernel, size, activation) for _ in range(layers))
        self.queries = nn.ModuleList(Affine(size, width) for _ in range(layers))
        self.contexts = nn.ModuleList(Affine(width, size) for _ in range(layers))
        self.narrowed = Affine(size, width)
        self.hidden_dropout = nn.Dropout(settings["cnn_hidden_dropout"])
        self._hidden, self._window = size, kernel - 1

    def memory(self, encoded: Encoded) -> Memory:
        """Values are the keys plus the embedded source tokens, where these are as wide as the target's."""
        keys = self.key(encoded.states)
        same = encoded.embedded.shape[2] == keys.shape[2]
        return Memory(keys, (keys + encoded.embedded) * HALF if same else keys, cover_of(encoded.mask, keys))

    def start(self, encoded: Encoded) -> list[Tensor]:
        """The place (b, 1), then for every block the inputs of its last window but one, (b, window - 1, c)."""
        batch = len(encoded.states)
        window = encoded.states.new_zeros(batch, self._window, self._hidden)
        return [torch.zeros(batch, 1, dtype=torch.int64, device=window.device), *[window] * len(self.blocks)]

    def forward(self, embedded: Tensor, encoded: Encoded) -> Tensor:
        """Target embeddings (b, t, e), shifted by one -> (b, t, e), under teacher forcing."""
        return self._through(embedded, self.start(encoded), self.memory(encoded))[0]

    def held(self) -> Self:
        return self

    def projected(self, embedded: Tensor) -> Tensor:
        """What `step` takes of embedded tokens."""
        return embedded

    def step(self, embedded: Tensor, state: list[Tensor], memory: Memory) -> tuple[Tensor, list[Tensor], Tensor]:
        """Embedded tokens (b·k, e) -> output (b·k, e), the following state, and the attention (b, k, s)."""
        output, following, weights = self._through(embedded[:, None], state, memory)
        return output[:, 0], following, weights

    def _through(self, embedded: Tensor, state: list[Tensor], memory: Memory) -> tuple[Tensor, list[Tensor], Tensor]:
        """(b·k, t, e) through all blocks. Attention is the mean of the blocks', (b, k·t, s)."""
        batch, steps = len(memory.keys), embedded.shape[1]
        place, *windows = state
        places = place + torch.arange(steps, device=place.device)
        given = embedded + self.positions(places)
        states = self.widened(given)
        # With uniform attention over m tokens the context's variance falls to 1/m: sqrt(m) restores it (paper, 3.5)
        scale = (memory.cover == 0).sum(2, keepdim=True).to(states.dtype).sqrt()
        following, seen = [place + steps], []
        for block, window, query, context in zip(self.blocks, windows, self.queries, self.contexts, strict=True):
            padded = torch.cat((window, self.hidden_dropout(states)), 1)
            following.append(padded[:, steps:])
            made = block(padded)
            asked = ((query(made) + given) * HALF).reshape(batch, -1, given.shape[2])
            weights = torch.softmax(asked @ memory.keys.transpose(1, 2) + memory.cover, 2)
            found = context((weights @ memory.values) * scale).view(made.shape)
            states = (states + (made + found) * HALF) * HALF
            seen.append(weights)
        return self.narrowed(states), following, torch.stack(seen).mean(0)
