"""Seq2Seq's network against independent arithmetic: finite differences, torch's own cells, plain cross-entropy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sagesmith.algorithms import Seq2Seq
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.seq2seq.attention import Attention
from sagesmith.algorithms.seq2seq.buckets import Padded
from sagesmith.algorithms.seq2seq.cells import GRUStep, LSTMStep
from sagesmith.algorithms.seq2seq.convolution import ConvolutionalDecoder
from sagesmith.algorithms.seq2seq.cross_entropy import cross_entropy
from sagesmith.algorithms.seq2seq.encoders import RecurrentEncoder
from sagesmith.algorithms.seq2seq.network import Network, initialise
from sagesmith.algorithms.seq2seq.products import Held
from tests.algorithms.seq2seq_sentences import drawn_pairs

SOURCE_WORDS, TARGET_WORDS = 20, 15
PAIRS = drawn_pairs([(5, 4), (3, 6), (7, 2)], TARGET_WORDS)
DEEP = {"num_layers_encoder": 3, "num_layers_decoder": 3}
RECURRENT = [
    {"rnn_attention_type": attention, "rnn_cell_type": cell, **shape}
    for attention, cell, shape in product(
        ("dot", "fixed", "mlp", "bilinear"),
        ("lstm", "gru"),
        (
            {},
            {**DEEP, "rnn_residual_connections": True, "rnn_decoder_state_init": "avg"},
            {**DEEP, "rnn_attention_in_upper_layers": False, "rnn_decoder_state_init": "zero"},
        ),
    )
]
MIXED = [{"encoder_type": "cnn"}, {"decoder_type": "cnn", "num_embed_source": 4}]
CONVOLUTIONAL = [
    {"encoder_type": "cnn", "decoder_type": "cnn", "num_layers_decoder": 2, "cnn_activation_type": activation}
    for activation in ("glu", "relu", "softrelu", "sigmoid", "tanh")
]
SHAPES: list[dict[str, Any]] = [
    *RECURRENT,
    *MIXED,
    *CONVOLUTIONAL,
    {"encoder_type": "cnn", "cnn_kernel_width_encoder": 4},
]


def network(settings: dict[str, Any]) -> Network:
    small = {"num_embed_source": 6, "num_embed_target": 6, "rnn_num_hidden": 8, "cnn_num_hidden": 8}
    model = Seq2Seq(**(small | settings))
    model.validate()
    torch.manual_seed(0)
    made = Network(model.settings, SOURCE_WORDS, TARGET_WORDS)
    initialise(made, model.settings)
    return made.double()


@pytest.mark.parametrize("settings", SHAPES, ids=lambda settings: "-".join(map(str, settings.values())) or "default")
def test_gradients_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    made, batch = network(settings), Padded.of(PAIRS, np.arange(3))
    loss, counted = made(batch, False)
    loss.backward()
    for name, weight in made.named_parameters():
        assert weight.grad is not None, name
        at = int(weight.grad.abs().argmax())
        flat, sums = weight.data.view(-1), []
        for step in (1e-6, -2e-6):
            flat[at] += step
            sums.append(made(batch, False)[1].loss)
        flat[at] += 1e-6
        expected = (sums[0] - sums[1]) / 2e-6 / counted.tokens
        assert float(weight.grad.view(-1)[at]) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("settings", SHAPES, ids=lambda settings: "-".join(map(str, settings.values())) or "default")
def test_padding_changes_nothing_and_steps_are_the_whole(settings: dict[str, Any]) -> None:
    """A batch costs what its sentences cost alone, and the decoder going step by step says what it says at once."""
    made = network(settings)
    alone = [made(Padded.of(PAIRS, np.array([k])), True)[1] for k in range(3)]
    together = made(Padded.of(PAIRS, np.arange(3)), True)[1]
    assert together.loss == pytest.approx(sum(one.loss for one in alone), rel=1e-9)
    assert (together.right, together.tokens) == (sum(one.right for one in alone), 4 + 6 + 2 + 3)
    with torch.no_grad():
        encoded = made.encode(*PAIRS.source.padded(np.arange(3)))
        embedded = made.embedding(torch.from_numpy(PAIRS.target.padded(np.arange(3))[0]))
        whole = made.decoder(embedded, encoded)
        loop, state, memory = made.decoder.held(), made.decoder.start(encoded), made.decoder.memory(encoded)
        for place in range(embedded.shape[1]):
            output, state, weights = loop.step(loop.projected(embedded[:, place]), state, memory)
            torch.testing.assert_close(output, whole[:, place])
            torch.testing.assert_close(weights.sum(2), torch.ones(3, 1, dtype=weights.dtype))


def test_steps_of_lstm_are_torchs() -> None:
    torch.manual_seed(0)
    ours, cell = LSTMStep(3, 2, 4), nn.LSTMCell(5, 4)
    order = torch.cat([torch.arange(4) + 4 * gate for gate in (0, 1, 3, 2)])  # torch's: in, forget, new, out
    assert ours.embedded is not None
    with torch.no_grad():
        ours.embedded.weight.copy_(cell.weight_ih[order, :3])
        ours.embedded.bias.copy_(cell.bias_ih[order])
        ours.recurrent.weight.copy_(torch.cat((cell.weight_ih[order, 3:], cell.weight_hh[order]), 1))
        ours.recurrent.bias.copy_(cell.bias_hh[order])
    embedded, fed, state = torch.randn(6, 3), torch.randn(6, 2), [torch.randn(6, 4), torch.randn(6, 4)]
    expected = cell(torch.cat((embedded, fed), 1), tuple(state))
    torch.testing.assert_close(ours.held().step(ours.embedded(embedded), fed, state), list(expected))


def test_steps_of_gru_are_torchs() -> None:
    torch.manual_seed(0)
    ours, cell = GRUStep(3, 2, 4), nn.GRUCell(5, 4)
    assert ours.embedded is not None
    with torch.no_grad():
        ours.embedded.weight.copy_(cell.weight_ih[:, :3])
        ours.embedded.bias.copy_(cell.bias_ih)
        ours.fed.weight.copy_(cell.weight_ih[:, 3:])
        ours.fed.bias.zero_()
        ours.recurrent.weight.copy_(cell.weight_hh)
        ours.recurrent.bias.copy_(cell.bias_hh)
    embedded, fed, state = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 4)
    expected = cell(torch.cat((embedded, fed), 1), state)
    torch.testing.assert_close(ours.held().step(ours.embedded(embedded), fed, [state]), [expected])


def test_the_first_layer_reads_in_both_directions() -> None:
    """Against torch's own bidirectional LSTM over packed sentences."""
    model = Seq2Seq(num_embed_source=5, rnn_num_hidden=8)
    model.validate()
    encoder = RecurrentEncoder(model.settings, SOURCE_WORDS)
    both = nn.LSTM(5, 4, bidirectional=True)
    with torch.no_grad():
        for name, weight in encoder.forwards.named_parameters():
            getattr(both, name).copy_(weight)
        for name, weight in encoder.backwards.named_parameters():
            getattr(both, f"{name}_reverse").copy_(weight)
    tokens, lengths = (torch.from_numpy(array) for array in PAIRS.source.padded(np.arange(3)))
    packed = nn.utils.rnn.pack_padded_sequence(encoder.embedding(tokens.t()), lengths, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)[0]
    encoded = encoder(tokens, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(encoded.states[row, :length], expected[row, :length])
        torch.testing.assert_close(encoded.last()[row], expected[row, length - 1])
        torch.testing.assert_close(encoded.mean()[row], expected[row, :length].mean(0))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dot", "bilinear", "mlp", "fixed"])
def test_attention_scores_are_those_of_the_papers(kind: str) -> None:
    torch.manual_seed(0)
    attention = Attention(kind, 4, 4, 3)
    if attention.vector is not None:
        nn.init.normal_(attention.vector)
    states, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, True], [True, True, False]])
    query = torch.randn(2, 4)
    context, weights = attention.held()(query, attention.memory(states, mask))
    for row, length in enumerate((3, 2)):
        if kind == "fixed":
            expected = F.one_hot(torch.tensor(length - 1), 3).float()[:length]
        else:
            scores = [float(score(attention, query[row], states[row, place])) for place in range(length)]
            expected = torch.softmax(torch.tensor(scores), 0)
        torch.testing.assert_close(weights[row, 0, :length], expected)
        assert float(weights[row, 0, length:].sum()) == 0.0
        torch.testing.assert_close(context[row], (expected[:, None] * states[row, :length]).sum(0))


def score(attention: Attention, query: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    if attention.kind == "dot":
        return query @ state
    assert attention.query is not None
    if attention.kind == "bilinear":
        return attention.query(query) @ state
    assert attention.key is not None
    assert attention.vector is not None
    return attention.vector @ torch.tanh(attention.query(query) + attention.key(state))


def test_cross_entropy_in_pieces_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagesmith.algorithms.seq2seq.cross_entropy.PIECE", 1)
    torch.manual_seed(0)
    layer, states, labels = nn.Linear(5, 7).double(), torch.randn(600, 5).double(), torch.randint(0, 7, (600,))
    states.requires_grad_()
    plain = F.cross_entropy(layer(states), labels)
    expected = torch.autograd.grad(3 * plain, [states, layer.weight, layer.bias])
    mean, counted = cross_entropy(layer, states, labels, True)
    found = torch.autograd.grad(3 * mean, [states, layer.weight, layer.bias])
    torch.testing.assert_close(mean, plain)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert counted.loss == pytest.approx(600 * float(plain.detach()))
    assert counted.right == int((layer(states).argmax(1) == labels).sum())


def test_weights_held_in_a_loop_get_the_plain_gradient() -> None:
    torch.manual_seed(0)
    layer, start = nn.Linear(4, 4), torch.randn(3, 4)

    def unrolled(step: Any) -> torch.Tensor:
        state = start
        for _ in range(5):
            state = torch.tanh(step(state))
        return state.square().sum()

    expected = torch.autograd.grad(unrolled(layer), [layer.weight, layer.bias])
    found = torch.autograd.grad(unrolled(Held(layer)), [layer.weight, layer.bias])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_convolution_never_looks_ahead() -> None:
    made = network({"encoder_type": "cnn", "decoder_type": "cnn", "num_layers_decoder": 2})
    assert isinstance(made.decoder, ConvolutionalDecoder)
    encoded = made.encode(*PAIRS.source.padded(np.arange(3)))
    embedded = torch.randn(3, 6, 6, dtype=torch.float64)
    other = embedded.clone()
    other[:, 3:] += 1.0
    before, after = made.decoder(embedded, encoded), made.decoder(other, encoded)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({}, (2.34 / 512) ** 0.5),
        ({"xavier_factor_type": "out"}, (2.34 / 15) ** 0.5),
        ({"xavier_factor_type": "avg", "weight_init_scale": 3.0}, (3.0 / ((512 + 15) / 2)) ** 0.5),
        ({"weight_init_type": "uniform", "weight_init_scale": -0.25}, 0.25),
    ],
)
def test_first_weights_are_drawn_as_mxnet_draws_them(settings: dict[str, Any], bound: float) -> None:
    made = network({"num_embed_target": 512, "rnn_num_hidden": 8} | settings).requires_grad_(False)
    largest = float(made.embedding.weight.abs().max())
    assert 0.99 * bound < largest <= bound
    assert float(made.output.bias.abs().max()) == 0.0
    layer: Any = made.decoder.layers[0]  # type: ignore[union-attr,index]
    for block in layer.recurrent_blocks():
        torch.testing.assert_close(block @ block.t(), torch.eye(8, dtype=block.dtype), atol=1e-6, rtol=0.0)


def test_dot_attention_needs_states_of_one_size() -> None:
    with pytest.raises(HyperparameterError, match="cnn_num_hidden is 512 and rnn_num_hidden 1024"):
        Seq2Seq(encoder_type="cnn", rnn_attention_type="dot").validate()
