"""DeepAR's network: compiled layers against torch's, likelihoods against scipy's, forecasts against the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sagesmith.algorithms.deepar import cells_compiled as code
from sagesmith.algorithms.deepar.forecasts import Forecaster, Weights, quantiles
from sagesmith.algorithms.deepar.likelihoods import LIKELIHOODS
from sagesmith.algorithms.deepar.network import Lstm, Network, unrolled
from sagesmith.algorithms.deepar.series import Packed
from sagesmith.algorithms.deepar.threads import Workers
from sagesmith.algorithms.deepar.windows import Cutter, View
from sagesmith.algorithms.nets import weights_of

STEPS, WIDTH, COLUMNS, CELLS = 6, 5, 112, 7


def layer(rate: float, threads: int = 2) -> tuple[Lstm, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    made = Lstm(WIDTH, CELLS, rate, Workers(threads))
    sequence = torch.randn(STEPS, WIDTH, COLUMNS, requires_grad=True)
    fixed = torch.randn(4 * CELLS, COLUMNS, requires_grad=True)
    return made, sequence, fixed


def slopes_of(outputs: torch.Tensor, *wanted: torch.Tensor) -> list[np.ndarray]:
    slope = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    return [part.numpy() for part in torch.autograd.grad((outputs * slope).sum(), wanted)]


def test_the_compiled_layer_is_torch_s_own_lstm() -> None:
    made, sequence, fixed = layer(0.0)
    theirs = torch.nn.LSTM(WIDTH, CELLS)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(made.input.t())
        theirs.weight_hh_l0.copy_(made.recurrent.t())
        theirs.bias_ih_l0.copy_(made.bias)
        theirs.bias_hh_l0.zero_()
    outputs = made(sequence, None, 1)
    expected = theirs(sequence.transpose(1, 2))[0].transpose(1, 2)
    assert torch.allclose(outputs, expected, atol=1e-5)
    mine = slopes_of(outputs, sequence, made.input, made.recurrent, made.bias)
    his = slopes_of(expected, sequence, theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0)
    for one, other in zip(mine, (his[0], his[1].T, his[2].T, his[3]), strict=True):
        assert np.allclose(one, other, atol=1e-4)
    plain = unrolled(sequence, fixed + made.bias[:, None], made.input, made.recurrent, 0.0, 1)
    assert torch.allclose(made(sequence, fixed, 1), plain, atol=1e-5)


def bits_of(line: int, column: int) -> int:
    """What compiled code draws for a place: MurmurHash3's finish."""
    x = (line + column * 0xC2B2AE35) & 0xFFFFFFFF
    x = ((x ^ x >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ x >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ x >> 16


def masked(made: Lstm, sequence: torch.Tensor, fixed: torch.Tensor, seed: int) -> torch.Tensor:
    """The layer with the masks that the compiled code draws, in torch."""
    bar = int(made.rate * 65536)
    bits = np.array(
        [
            [[bits_of(int(line), b) for b in range(COLUMNS)] for line in lines]
            for lines in (
                [code.line_of.py_func(np.uint32(seed), np.uint32(t), np.uint32(u), np.uint32(0)) for u in range(CELLS)]
                for t in range(STEPS)
            )
        ]
    )
    keeps = torch.from_numpy(np.stack([(bits & 0xFFFF) < bar, (bits >> 16) < bar]))
    cell = output = torch.zeros(CELLS, COLUMNS)
    outputs = []
    for t in range(STEPS):
        gates = made.input.t() @ sequence[t] + made.recurrent.t() @ output + fixed + made.bias[:, None]
        i, f, g, o = gates.split(CELLS)
        fresh = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        shown = o.sigmoid() * fresh.tanh()
        cell, output = torch.where(keeps[0, t], cell, fresh), torch.where(keeps[1, t], output, shown)
        outputs.append(output)
    return torch.stack(outputs)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_zoneout_keeps_states_forwards_and_back() -> None:
    made, sequence, fixed = layer(0.3, threads=1)
    outputs, expected = made(sequence, fixed, 77), masked(made, sequence, fixed, 77)
    assert torch.allclose(outputs, expected, atol=1e-5)
    wanted = (sequence, fixed, made.input, made.recurrent)
    for one, other in zip(slopes_of(outputs, *wanted), slopes_of(expected, *wanted), strict=True):
        assert np.allclose(one, other, atol=1e-4)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_zoneout_keeps_as_many_states_as_it_should() -> None:
    made, sequence, fixed = layer(0.25)
    with torch.no_grad():
        kept = made(sequence, fixed, 1)
        share = (kept[1:] == kept[:-1]).float().mean()
    assert float(share) == pytest.approx(0.25, abs=0.04)
    many = np.array([bits_of(5, b) for b in range(4000)], np.uint64)
    assert stats.kstest(many / 2**32, "uniform").pvalue > 0.001


THETA = np.array([0.7, -0.4, 1.1])
SCALE = 5.0


def softplus(x: float) -> float:
    return float(np.log1p(np.exp(x)))


def law(name: str) -> Any:
    """scipy's distribution of an observed value."""
    first, second = softplus(THETA[0]), softplus(THETA[1])
    if name == "gaussian":
        return stats.norm(SCALE * THETA[0], SCALE * second)
    if name == "student-t":
        return stats.t(2 + softplus(THETA[2]), SCALE * THETA[0], SCALE * second)
    if name == "beta":
        return stats.beta(first, second)
    size = np.sqrt(SCALE) / second
    return stats.nbinom(size, size / (size + SCALE * first))


@pytest.mark.parametrize("name", ["gaussian", "student-t", "negative-binomial", "beta"])
def test_losses_are_minus_scipy_s_log_density(name: str) -> None:
    likelihood, known = LIKELIHOODS[name], law(name)
    values = {"negative-binomial": [0.0, 1, 7], "beta": [0.1, 0.5, 0.9]}.get(name, [-3.0, 0.0, 12.0])
    theta = torch.tensor(THETA[: likelihood.parameters], dtype=torch.float64).view(1, -1, 1).expand(1, -1, 3)
    scale = torch.full((3,), 1.0 if name == "beta" else SCALE, dtype=torch.float64)
    found = likelihood.loss(theta, torch.tensor([values], dtype=torch.float64), scale)[0]
    density = known.logpmf if name == "negative-binomial" else known.logpdf
    assert found.numpy() == pytest.approx(-density(values), rel=1e-3)


def test_the_point_forecast_s_loss_is_the_absolute_error() -> None:
    theta = torch.full((1, 1, 1), 2.0)
    found = LIKELIHOODS["deterministic-l1"].loss(theta, torch.tensor([[20.0]]), torch.tensor([5.0]))
    assert float(found) == pytest.approx(2.0)


# -- forecasts -------------------------------------------------------------------------------------------------
GIVEN = {
    "time_freq": "D", "context_length": 10, "prediction_length": 9, "embedding_dimension": 4, "num_cells": 6,
    "num_layers": 3, "likelihood": "gaussian",
}  # fmt: skip


def packed(lengths: list[int]) -> Packed:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = random.uniform(1, 3, offsets[-1]).astype(np.float32)
    values[3] = np.nan
    places = np.concatenate([[0], np.cumsum([length + 9 for length in lengths])])
    features = random.normal(size=(places[-1], 1)).astype(np.float32)
    return Packed(values, offsets, np.arange(len(lengths)) * 50, np.arange(len(lengths))[:, None] % 2, features, places)


def forecaster(name: str, theta: np.ndarray | None = None) -> tuple[Forecaster, Network, View]:
    given = {**GIVEN, "likelihood": name}
    view = View.of(given, {"feature_centre": np.zeros(1), "feature_spread": np.ones(1), "scale": np.ones(1)})
    torch.manual_seed(0)
    workers = Workers(2)
    network = Network(view.width, view.straight, [2], 4, 6, 3, LIKELIHOODS[name], 0.0, workers)
    with torch.no_grad():
        network.linear.normal_(std=0.05)
        if theta is not None:
            network.linear.zero_()
            network.head.weight.zero_()
            network.head.bias.copy_(torch.from_numpy(theta[: LIKELIHOODS[name].parameters]))
    weights = Weights.of(weights_of(network), view, given, [2])
    return Forecaster(weights, view, LIKELIHOODS[name], 0.0, workers), network, view


def test_a_forecast_is_the_network_fed_with_what_it_forecast() -> None:
    ahead, network, view = forecaster("deterministic-l1")
    series = packed([40, 5, 25])
    (paths,) = ahead.paths(series, 3, seed=0)
    assert np.ptp(paths, axis=2).max() == 0, "a point forecast has no spread"
    whole = []
    for one in range(3):  # the same, a step at a time: what was forecast is appended to the series
        values = series.values[series.offsets[one] : series.offsets[one + 1]]
        start = np.array([len(values) - 10])
        for step in range(9):
            part = series.some(np.array([one]))
            grown = Packed(values, np.array([0, len(values)]), part.ordinals, part.cats, part.features, part.places)
            cutter = Cutter(view, grown, Workers(1))
            windows = cutter.cut(np.array([0]), start, 10 + 9, view.scale)
            given = [torch.from_numpy(x) for x in (windows.inputs, windows.static, windows.cats)]
            theta = network(*given, network.seeds()).detach().numpy()
            ahead_of = windows.centres[0] + theta[10 + step, 0, 0] * windows.units[0]
            values = np.append(values, ahead_of).astype(np.float32)
        whole.append(values[-9:])
    assert np.allclose(paths[:, :, 0], whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gaussian", "student-t", "negative-binomial", "beta"])
def test_samples_have_the_likelihood_s_distribution(name: str) -> None:
    ahead, _, view = forecaster(name, THETA.astype(np.float32))
    values = np.full(20, SCALE if name != "beta" else 0.5, np.float32)
    centre = 0.0
    if name in ("gaussian", "student-t"):
        centre, values = 20.0, np.tile(np.float32([20 - SCALE, 20 + SCALE]), 10)  # the unit is the standard deviation
    one = Packed(
        values, np.array([0, 20]), np.zeros(1, np.int64),
        np.zeros((1, 1), np.int64), np.zeros((29, 1), np.float32), np.array([0, 29]),
    )  # fmt: skip
    (paths,) = ahead.paths(one, 2000, seed=5)
    known, drawn = law(name), paths[0].ravel() - centre
    if name == "negative-binomial":
        assert (drawn == np.round(drawn)).all()
        assert np.abs(drawn.mean() - known.mean()) < 5 * known.std() / np.sqrt(drawn.size)
        assert drawn.std() == pytest.approx(known.std(), rel=0.05)
        share = (drawn == 0).mean()
        assert share == pytest.approx(known.pmf(0), abs=0.01)
    else:
        assert stats.kstest(drawn[::2], known.cdf).pvalue > 1e-4
    assert view.horizon == paths.shape[1]


def test_forecasts_do_not_hang_on_threads_nor_on_neighbours() -> None:
    ahead, _, _ = forecaster("student-t")
    series = packed([40, 5, 25, 12])
    (many,) = ahead.paths(series, 400, seed=1)
    ahead.workers = Workers(1)
    (again,) = ahead.paths(series, 400, seed=1)
    assert np.array_equal(many, again)
    (alone,) = ahead.paths(series.some(np.array([0])), 400, seed=1)
    assert np.allclose(alone[0], many[0], rtol=1e-5)
    (fewer,) = ahead.paths(series, 5, seed=1)
    assert np.allclose(fewer, many[:, :, :5], rtol=1e-5), "a path is the same however many are drawn"


def test_quantiles_are_numpy_s() -> None:
    paths = np.random.default_rng(0).normal(size=(2, 3, 37)).astype(np.float32)
    found = quantiles(paths, [0.1, 0.5, 0.93])
    assert np.allclose(found, np.quantile(paths, [0.1, 0.5, 0.93], axis=2), atol=1e-6)
