"""Every hyperparameter of factorization machines has its effect, or is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import FactorizationMachines
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.fm_reference import sparse_rows

X = sparse_rows(60, 6)
y = (X.toarray() @ np.arange(6) + 1).astype(np.float32)
BASE: dict[str, Any] = {"num_factors": 3, "predictor_type": "regressor", "mini_batch_size": 10}


def fitted(**given: Any) -> FactorizationMachines:
    return FactorizationMachines(**{**BASE, **given}).fit(X, y)


def numbers(model: FactorizationMachines, part: str) -> np.ndarray:
    return np.atleast_1d({"bias": model.w0_, "linear": model.w_, "factors": model.v_}[part])


def still(**given: Any) -> FactorizationMachines:
    """A model that has not moved: its parameters are the initial ones."""
    return fitted(bias_lr=0, linear_lr=0, factors_lr=0, **given)


@pytest.mark.parametrize("part", ["bias", "linear", "factors"])
@pytest.mark.parametrize("setting", ["lr", "wd"])
def test_rates_and_decays_move_their_part_alone_in_the_first_step(part: str, setting: str) -> None:
    base, changed = fitted(mini_batch_size=60), fitted(mini_batch_size=60, **{f"{part}_{setting}": 0.5}, eps=1e-8)
    if setting == "wd":  # Adam's first step has the size of the rate: decay only shows in the second
        base, changed = fitted(mini_batch_size=30), fitted(mini_batch_size=30, **{f"{part}_wd": 50.0})
    assert (numbers(base, part) != numbers(changed, part)).any()
    if setting == "lr":
        for other in {"bias", "linear", "factors"} - {part}:
            np.testing.assert_array_equal(numbers(base, other), numbers(changed, other))


@pytest.mark.parametrize("part", ["bias", "linear", "factors"])
def test_initial_values(part: str) -> None:
    method, sigma = f"{part}_init_method", f"{part}_init_sigma"
    constant = numbers(still(**{method: "constant", f"{part}_init_value": 0.25}), part)
    assert (constant == 0.25).all()
    assert (numbers(still(**{method: "constant"}), part) == 0).all()
    narrow, wide = (numbers(still(**{sigma: value}), part) for value in (0.01, 0.02))
    np.testing.assert_allclose(wide, 2 * narrow, rtol=1e-6)
    assert (numbers(still(**{sigma: 0}), part) == 0).all()
    uniform, twice = (numbers(still(**{method: "uniform", f"{part}_init_scale": s}), part) for s in (0.5, 1.0))
    np.testing.assert_allclose(twice, 2 * uniform, rtol=1e-6)
    assert 0 < abs(uniform).max() <= 0.5
    assert 0 < abs(numbers(still(**{method: "uniform"}), part)).max() <= 0.07, "MXNet's scale, where none is given"


def test_the_normal_draw_has_its_deviation() -> None:
    wide = FactorizationMachines(num_factors=20, predictor_type="regressor", feature_dim=5000, factors_init_sigma=0.3)
    from sagesmith.algorithms.factorization_machines.descent import initial

    v = initial(wide.settings, 5000).v[:, :20]
    assert v.std() == pytest.approx(0.3, rel=0.02)
    assert abs(v.mean()) < 0.005
    other = FactorizationMachines(**{**wide.get_params(), "factors_init_method": "uniform", "factors_init_scale": 0.3})
    v = initial(other.settings, 5000).v[:, :20]
    assert v.min() == pytest.approx(-0.3, abs=1e-3)
    assert v.max() == pytest.approx(0.3, abs=1e-3)


def test_epochs_and_mini_batches_make_steps() -> None:
    # From zero, with every rate alike and a huge label, each of Adam's steps moves w0 by about the rate.
    far = FactorizationMachines(num_factors=1, predictor_type="regressor", bias_lr=0.5, bias_init_sigma=0)
    for epochs, size in ((1, 60), (3, 60), (2, 20)):
        model = far.set_params(epochs=epochs, mini_batch_size=size).fit(X, np.full(60, 1e6))
        assert model.w0_ == pytest.approx(0.5 * epochs * 60 / size, rel=0.02)


def test_gradients_are_rescaled_and_clipped() -> None:
    scaled, plain = fitted(rescale_grad=1e-9, eps=1e-3), fitted(eps=1e-3)
    assert abs(scaled.w0_) < abs(plain.w0_), "a small gradient is lost beside eps"
    np.testing.assert_allclose(fitted(rescale_grad=0.1).v_, fitted().v_, rtol=1e-4)
    assert (fitted(clip_gradient=1e-3).v_ != fitted().v_).any()
    np.testing.assert_array_equal(fitted(clip_gradient=1e9).v_, fitted().v_)
    for off in (0, -1):
        np.testing.assert_array_equal(fitted(clip_gradient=off).v_, fitted().v_)


def test_eps_damps() -> None:
    start = still().w_
    assert abs(fitted(eps=100.0).w_ - start).max() < 0.1 * abs(fitted().w_ - start).max()


def test_hidden_keys_that_mean_something_have_it() -> None:
    assert fitted(use_bias=False).w0_ == 0
    assert not fitted(use_linear=False).w_.any()
    assert fitted(use_linear=False).v_.any()
    np.testing.assert_array_equal(
        fitted(learning_rate=3.0).v_, fitted(bias_lr=0.3, linear_lr=0.003, factors_lr=0.0003).v_
    )
    np.testing.assert_allclose(
        fitted(wd=100.0, epochs=3).w_, fitted(bias_wd=1.0, linear_wd=0.1, factors_wd=0.001, epochs=3).w_, rtol=1e-6
    )


def lines(**given: Any) -> list[str]:
    run = RecordingRun()
    FactorizationMachines(**{**BASE, **given}).fit(X, y, run=run)
    return [line for line in run.lines if "batch=" in line]


def test_lines_of_mini_batches_come_at_their_interval() -> None:
    found = lines(mini_batch_size=6, epochs=2, batch_metrics_publish_interval=4)
    assert [line.split("<loss>")[0] for line in found if "rmse" in line] == [
        f"#quality_metric: host=algo-1, epoch={epoch}, batch={batch} train rmse "
        for epoch in (0, 1)
        for batch in (0, 4, 8)
    ]
    assert len(found) == 18, "three metrics each"
    assert len(lines(mini_batch_size=6)) == 3, "every 500 by default, the first included"


def strings(**given: str) -> dict[str, str]:
    return {"feature_dim": "6", "num_factors": "3", "predictor_type": "regressor", **given}


def test_sagemakers_spelling_of_hidden_keys() -> None:
    given = strings(_learning_rate="0.5", _wd="2", _optimizer="adam", use_bias="False", _use_full_symbolic="true")
    settings = FactorizationMachines.from_strings(given).settings
    assert (settings["learning_rate"], settings["wd"], settings["use_bias"]) == (0.5, 2.0, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_optimizer", "sgd"), ("predictor_type", "multiclass_classifier"), ("factors_init_method", "xavier"),
        ("num_factors", "0"), ("epochs", "0"), ("mini_batch_size", "0"), ("feature_dim", "0"), ("bias_lr", "-1"),
        ("factors_wd", "-0.1"), ("linear_init_sigma", "-1"), ("eps", "0"), ("clip_gradient", "x"),
        ("batch_metrics_publish_interval", "0"), ("use_bias", "perhaps"), ("epoch", "3"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(HyperparameterError, match=key):
        FactorizationMachines.from_strings(strings(**{key: value}))


def test_a_model_too_large_for_memory_is_refused_with_its_size() -> None:
    huge = FactorizationMachines(num_factors=10**12, predictor_type="regressor")
    with pytest.raises(
        ValueError, match=r"feature_dim 6 times num_factors 1000000000000: the factors take 22351\.7 GiB"
    ):
        huge.fit(X, y)
