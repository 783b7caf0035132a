"""The arithmetic: scores by the definition, gradients against finite differences, Adam against a NumPy version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms import FactorizationMachines
from sagesmith.algorithms.factorization_machines import descent
from sagesmith.algorithms.factorization_machines import descent_compiled as machine
from sagesmith.algorithms.factorization_machines.reading import rows_of
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from tests.algorithms import fm_reference as reference

TASKS = pytest.mark.parametrize("task", ["regressor", "binary_classifier"])


def target(X: Any, task: str, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    y = 3 * X.toarray()[:, 0] - X.toarray()[:, 1] * X.toarray()[:, 2] + random.normal(size=X.shape[0])
    return ((y > 0) if task == "binary_classifier" else y).astype(np.float32)


def parameters(width: int, k: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    draw = [random.normal(size=shape).astype(np.float32) for shape in ((1,), (width,), (width, k))]
    return draw[0], draw[1], 0.5 * draw[2]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 19), st.floats(0, 1), st.integers(0, 99))
def test_scores_are_those_of_the_definition(rows: int, width: int, k: int, density: float, seed: int) -> None:
    X, (w0, w, v) = reference.sparse_rows(rows, width, density, seed), parameters(width, k, seed)
    found = descent.predictions(rows_of(Batch(X)), descent.widened(w0, w, v), threads=1)
    np.testing.assert_allclose(found, reference.scores(X.toarray(), float(w0[0]), w, v), rtol=1e-4, atol=1e-4)


def gradients(X: Any, y: np.ndarray, start: Any, binary: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """Of the summed loss for w0, w, v, as the compiled code gathers them."""
    model, rows = descent.widened(*start), rows_of(Batch(X), y)
    width, k8 = model.v.shape
    sums, score, slope = np.empty((len(y), k8), np.float32), np.empty(len(y), np.float32), np.empty(len(y), np.float32)
    slots, room = np.full(width, -1, np.int32), descent.empty_gradient(width, k8)
    machine.forward(rows, 0, len(y), 0, model, sums, score)
    bias = machine.slopes(rows, 0, len(y), binary, score, slope, np.zeros(machine.TALLY))
    count = machine.backward(rows, 0, len(y), slope, sums, slots, room, 0, 1)
    to_w, to_v = np.zeros(width), np.zeros((width, k8))
    for slot in range(count):
        feature = room.feature[slot]
        to_w[feature] = room.sums[slot, 0]
        to_v[feature] = room.factors[slot] - room.sums[slot, 1] * model.v[feature]
    return bias, to_w, to_v[:, : start[2].shape[1]]


@TASKS
@pytest.mark.parametrize("k", [1, 8, 11])
def test_gradients_are_finite_differences(task: str, k: int) -> None:
    X, binary = reference.sparse_rows(12, 7), task == "binary_classifier"
    y, start = target(X, task), parameters(7, k)
    dense, exact = X.toarray().astype(float), [part.astype(float) for part in start]

    def loss() -> float:
        return float(reference.losses(reference.scores(dense, exact[0][0], exact[1], exact[2]), y, binary).sum())

    for found, part in zip(gradients(X, y, start, binary), exact, strict=True):
        flat, step = part.reshape(-1), 1e-5
        for index, value in enumerate(np.reshape(found, -1)):
            kept = flat[index]
            flat[index] = kept + step
            above = loss()
            flat[index] = kept - step
            below = loss()
            flat[index] = kept
            assert value == pytest.approx((above - below) / (2 * step), rel=2e-4, abs=2e-4)


@TASKS
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"linear_lr": 0.05, "factors_lr": 0.02, "linear_wd": 0.2, "factors_wd": 0.1, "bias_wd": 0.3},
        {"clip_gradient": 0.05, "factors_lr": 0.02, "linear_lr": 0.02},
        {"rescale_grad": 0.7, "eps": 0.01, "factors_lr": 0.02, "linear_lr": 0.02},
    ],
    ids=["defaults", "rates", "clip", "rescale-eps"],
)
def test_adam_takes_the_steps_of_a_numpy_version(task: str, given: dict[str, float]) -> None:
    X = reference.sparse_rows(50, 9)
    y, k = target(X, task), 5
    asked = {"num_factors": k, "predictor_type": task, "mini_batch_size": 8, "factors_init_sigma": 0.3, **given}
    start = descent.initial(FactorizationMachines(**asked).settings, 9)
    w0, w, v = reference.trained(
        X.toarray().astype(float), y, (start.w0, start.w, start.v[:, :k]), 8, 4, task == "binary_classifier", **given
    )
    model = FactorizationMachines(**asked, epochs=4).fit(X, y)
    assert model.w0_ == pytest.approx(w0[0], rel=1e-3, abs=1e-4)
    np.testing.assert_allclose(model.w_, w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.v_, v, rtol=1e-3, atol=1e-4)


def test_features_that_do_not_occur_neither_move_nor_decay() -> None:
    X = reference.sparse_rows(40, 6).tolil()
    X[:, 4] = 0
    X = X.tocsr()
    asked = {"num_factors": 3, "predictor_type": "regressor", "linear_wd": 5.0, "factors_wd": 5.0}
    start = descent.initial(FactorizationMachines(**asked).settings, 6)
    model = FactorizationMachines(**asked, epochs=5).fit(X, target(X, "regressor"))
    assert model.w_[4] == start.w[4]
    assert (model.v_[4] == start.v[4, :3]).all()
    assert (model.w_[[0, 1, 2, 3, 5]] != start.w[[0, 1, 2, 3, 5]]).all()


@TASKS
def test_the_number_of_threads_does_not_matter(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X = reference.sparse_rows(90, 70)
    y = target(X, task)
    asked = {"num_factors": 9, "predictor_type": task, "mini_batch_size": 25, "epochs": 3, "factors_init_sigma": 0.1}
    alone = FactorizationMachines(**asked).fit(X, y, run=Run(1))
    monkeypatch.setattr(descent, "THREADS_FROM", 0)
    for threads in (2, 3):
        shared = FactorizationMachines(**asked).fit(X, y, run=Run(threads))
        assert (shared.w0_, shared.w_.tolist(), shared.v_.tolist()) == (alone.w0_, alone.w_.tolist(), alone.v_.tolist())
        np.testing.assert_array_equal(shared.predict(X), alone.predict(X))


def test_looks_at_the_stop_between_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X = reference.sparse_rows(60, 8)
    y = target(X, "regressor")
    asked = {"num_factors": 2, "predictor_type": "regressor", "mini_batch_size": 7, "epochs": 2}
    whole = FactorizationMachines(**asked).fit(X, y)
    monkeypatch.setattr(descent, "AT_ONCE", 1)
    np.testing.assert_array_equal(FactorizationMachines(**asked).fit(X, y).v_, whole.v_)


def test_weights_scale_a_rows_gradient() -> None:
    X = reference.sparse_rows(30, 5)
    y, weight = target(X, "regressor"), np.repeat([1.0, 0.0], 15)
    asked = {"num_factors": 2, "predictor_type": "regressor", "mini_batch_size": 15, "linear_lr": 0.1}
    model = FactorizationMachines(**asked, bias_wd=0, linear_wd=0, factors_wd=0).fit(X, y, sample_weight=weight)
    other = y.copy()
    other[15:] += 1000  # rows of weight 0: their labels are of no account
    twin = FactorizationMachines(**asked, bias_wd=0, linear_wd=0, factors_wd=0).fit(X, other, sample_weight=weight)
    np.testing.assert_array_equal(model.v_, twin.v_)
    unweighted = FactorizationMachines(**asked, bias_wd=0, linear_wd=0, factors_wd=0).fit(X, other)
    assert (model.w_ != unweighted.w_).any()
