"""network: embedding, encoder, decoder with attention, softmax over the target vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sagesmith.algorithms.affine import Affine
from sagesmith.algorithms.seq2seq.buckets import Padded
from sagesmith.algorithms.seq2seq.cells import GRUStep, LSTMStep
from sagesmith.algorithms.seq2seq.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from sagesmith.algorithms.seq2seq.cross_entropy import Counted, cross_entropy
from sagesmith.algorithms.seq2seq.decoders import RecurrentDecoder
from sagesmith.algorithms.seq2seq.encoders import Encoded, RecurrentEncoder
from sagesmith.algorithms.seq2seq.vocabulary import BEGIN, PAD


class Network(nn.Module):
    """The whole model; its shape follows from the hyperparameters and the sizes of both vocabularies."""

    def __init__(self, settings: Mapping[str, Any], source_words: int, target_words: int) -> None:
        super().__init__()
        recurrent = settings["encoder_type"] == "rnn"
        self.encoder = (RecurrentEncoder if recurrent else ConvolutionalEncoder)(settings, source_words)
        width = settings["num_embed_target"]
        self.embedding = nn.Embedding(target_words, width)
        self.dropout = nn.Dropout(settings["embed_dropout_target"])
        recurrent = settings["decoder_type"] == "rnn"
        kind = RecurrentDecoder if recurrent else ConvolutionalDecoder
        self.decoder = kind(settings, self.encoder.size, width)
        self.output = Affine(self.decoder.size, target_words)

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    def encode(self, source: np.ndarray, lengths: np.ndarray) -> Encoded:
        """Token ids (b, s), padded behind, and lengths (b,)."""
        encoded: Encoded = self.encoder(self._tensor(source), self._tensor(lengths))
        return encoded

    def forward(self, batch: Padded, counting: bool) -> tuple[Tensor, Counted]:
        """The mean loss over a batch's target tokens under teacher forcing, and what was counted."""
        encoded = self.encode(batch.source, batch.source_lengths)
        labels = self._tensor(batch.labels())
        given = torch.cat((labels.new_full((len(labels), 1), BEGIN), labels[:, :-1]), 1)
        states = self.decoder(self.dropout(self.embedding(given)), encoded)
        judged = labels != PAD
        return cross_entropy(self.output, states[judged], labels[judged], counting)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def initialise(network: Network, settings: Mapping[str, Any]) -> None:
    """Draws the weights as MXNet does: Xavier or uniform, recurrent matrices orthogonal, biases zero.

    Xavier is uniform within sqrt(scale / factor), the factor being a weight's number of inputs, outputs or their mean.
    """
    scale = settings["weight_init_scale"]

    def draw(weight: Tensor) -> None:
        if settings["weight_init_type"] == "uniform":
            nn.init.uniform_(weight, -abs(scale), abs(scale))
            return
        inputs, outputs = weight.shape[-1], weight.shape[0]
        factor = {"in": inputs, "out": outputs, "avg": (inputs + outputs) / 2}[settings["xavier_factor_type"]]
        bound = (abs(scale) / factor) ** 0.5
        nn.init.uniform_(weight, -bound, bound)

    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1 or name.endswith("vector"):
                draw(weight)
            else:
                weight.zero_()
        for block in _recurrent_blocks(network):
            nn.init.orthogonal_(block)


def _recurrent_blocks(network: Network) -> list[Tensor]:
    """The square matrices from a layer's state to one of its own gates."""
    blocks: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.LSTM | nn.GRU):
            blocks += list(torch.split(module.get_parameter("weight_hh_l0"), module.hidden_size))
        elif isinstance(module, LSTMStep | GRUStep):
            blocks += module.recurrent_blocks()
    return blocks
