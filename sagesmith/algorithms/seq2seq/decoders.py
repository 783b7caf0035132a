"""decoders: what the target's next token hangs on, from the tokens before it and the encoder's states.

rnn: Luong et al. (2015) with input feeding: the first layer reads the embedding of the previous token and the
attentional state of the previous step, tanh(W [context; state]). Upper layers may read the context too (Wu et al.,
Google's Neural Machine Translation System, 2016). cnn: see convolution.py.

A decoder's state is a list of tensors (b·k, ·): k hypotheses of each of b sentences, a sentence's side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine, tanh
from sagesmith.algorithms.seq2seq.attention import Attention, AttentionLoop, Memory
from sagesmith.algorithms.seq2seq.cells import STEPS, GRULoop, GRUStep, LSTMLoop, LSTMStep
from sagesmith.algorithms.seq2seq.encoders import Encoded
from sagesmith.algorithms.seq2seq.products import Held


class RecurrentDecoder(nn.Module):
    """
    Args:
        source: size of the encoder's states.
        width: size of the target embeddings.
    """

    def __init__(self, settings: Mapping[str, Any], source: int, width: int) -> None:
        super().__init__()
        self.size = size = settings["rnn_num_hidden"]
        layers = settings["num_layers_decoder"]
        step = STEPS[settings["rnn_cell_type"]]
        self._upper_attention = settings["rnn_attention_in_upper_layers"] and layers > 1
        upper = size + source if self._upper_attention else size
        first: LSTMStep | GRUStep = step(width, size, size)
        self.layers = nn.ModuleList([first, *(step(0, upper, size) for _ in range(layers - 1))])
        self._residual_from = settings["rnn_first_residual_layer"] if settings["rnn_residual_connections"] else None
        self._init = settings["rnn_decoder_state_init"]
        states = step.states * layers
        given = 0 if self._init == "zero" else states
        self.initial = nn.ModuleList(Affine(source, size) for _ in range(given))
        hidden = settings["rnn_attention_num_hidden"] or size
        self.attention = Attention(settings["rnn_attention_type"], size, source, hidden)
        self.combined = Affine(source + size, size)
        self.dropout = nn.Dropout(settings["rnn_decoder_hidden_dropout"])
        self._states = states

    def memory(self, encoded: Encoded) -> Memory:
        return self.attention.memory(encoded.states, encoded.mask)

    def start(self, encoded: Encoded) -> list[Tensor]:
        """The attentional state, then each layer's states: (b, h) each."""
        nothing = encoded.states.new_zeros(len(encoded.states), self.size)
        if self._init == "zero":
            return [nothing] * (1 + self._states)
        seen = encoded.last() if self._init == "last" else encoded.mean()
        return [nothing, *(tanh(layer(seen)) for layer in self.initial)]

    def forward(self, embedded: Tensor, encoded: Encoded) -> Tensor:
        """Target embeddings (b, t, e), shifted by one -> (b, t, h), under teacher forcing."""
        memory, state, loop = self.memory(encoded), self.start(encoded), self.held()
        outputs = []
        for gates in loop.projected(embedded.transpose(0, 1).contiguous()).unbind(0):
            output, state, _ = loop.step(gates, state, memory)
            outputs.append(output)
        dropped: Tensor = self.dropout(torch.stack(outputs, 1))
        return dropped

    def held(self) -> RecurrentLoop:
        return RecurrentLoop(self, self._upper_attention, self._residual_from)


class RecurrentLoop:
    """The decoder for the length of a loop over target positions."""

    def __init__(self, decoder: RecurrentDecoder, upper_attention: bool, residual_from: int | None) -> None:
        layers: Any = decoder.layers
        self._embedded: nn.Linear = layers[0].embedded
        self._layers: list[LSTMLoop | GRULoop] = [layer.held() for layer in layers]
        self._attention: AttentionLoop = decoder.attention.held()
        self._combined = Held(decoder.combined)
        self._upper_attention, self._residual_from = upper_attention, residual_from
        self._per_layer = layers[0].states

    def projected(self, embedded: Tensor) -> Tensor:
        """What the embedded tokens (…, e) add to the first layer's gates."""
        projected: Tensor = self._embedded(embedded)
        return projected

    def step(self, gates: Tensor, state: list[Tensor], memory: Memory) -> tuple[Tensor, list[Tensor], Tensor]:
        """The output (b·k, h), the following state, and the attention (b, k, s)."""
        per = self._per_layer
        fed, *rest = state
        first = self._layers[0].step(gates, fed, rest[:per])
        following, output = list(first), first[0]
        context = weights = None
        if self._upper_attention:
            context, weights = self._attention(output, memory)
        for number, layer in enumerate(self._layers[1:], 1):
            given = output if context is None else torch.cat((output, context), 1)
            made = layer.step(None, given, rest[per * number : per * (number + 1)])
            following += made
            residual = self._residual_from is not None and number + 1 >= self._residual_from
            output = made[0] + output if residual else made[0]
        if context is None or weights is None:
            context, weights = self._attention(output, memory)
        attentional = tanh(self._combined(torch.cat((context, output), 1)))
        return attentional, [attentional, *following], weights
