"""What factorization machines learn, scikit-learn's checks, wide data, and input that is none."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms import FactorizationMachines
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.fm_reference import sparse_rows

QUICK: dict[str, Any] = {"linear_lr": 0.02, "factors_lr": 0.02, "factors_init_sigma": 0.1, "factors_wd": 1e-4}


def pairs(rows: int = 6000, users: int = 40, items: int = 30, seed: int = 0) -> tuple[Any, np.ndarray]:
    """One-hot users and items whose affinity has rank 2."""
    random = np.random.default_rng(seed)
    left, right = random.normal(size=(users, 2)), random.normal(size=(items, 2))
    u, i = random.integers(0, users, rows), random.integers(0, items, rows)
    keys = np.stack([u, users + i], 1).ravel()
    X = sparse.csr_matrix((np.ones(2 * rows, np.float32), keys, np.arange(0, 2 * rows + 1, 2)), (rows, users + items))
    return X, (2 + (left[u] * right[i]).sum(1)).astype(np.float32)


def test_interactions_that_no_linear_model_sees_are_learnt() -> None:
    X, y = pairs()
    model = FactorizationMachines(num_factors=4, predictor_type="regressor", epochs=60, mini_batch_size=100, **QUICK)
    model.fit(X[:5000], y[:5000])
    assert model.score(X[5000:], y[5000:]) > 0.98
    linear = FactorizationMachines(**{**model.get_params(), "factors_init_method": "constant"}).fit(X[:5000], y[:5000])
    assert not linear.v_.any(), "factors of zero have no gradient"
    assert linear.score(X[5000:], y[5000:]) < 0.4


def test_a_classifier_gives_probabilities_and_labels_of_its_own() -> None:
    X, y = pairs()
    label = np.where(y > 2, "likes", "does not")
    model = FactorizationMachines(num_factors=4, predictor_type="binary_classifier", epochs=40, **QUICK)
    model.set_params(mini_batch_size=100).fit(X[:5000], label[:5000])
    assert model.classes_.tolist() == ["does not", "likes"]
    assert model.score(X[5000:], label[5000:]) > 0.95
    assert LogisticRegression(max_iter=500).fit(X[:5000], label[:5000]).score(X[5000:], label[5000:]) < 0.8
    probabilities = model.predict_proba(X[5000:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(X[5000:]) == "likes", probabilities[:, 1] >= 0.5)


def test_metrics_in_the_log_are_scikit_learns() -> None:
    X, y = pairs(800)
    label = (y > 2.5).astype(int)
    run = RecordingRun()
    model = FactorizationMachines(num_factors=2, predictor_type="binary_classifier", epochs=5, mini_batch_size=50)
    model.set_params(linear_lr=0.1).fit(X, label, run=run, test=(X, label))
    said = dict(
        line.split("test ")[1].split(">=")
        for line in run.lines
        if line.startswith("#quality_metric") and "test " in line
    )
    probability, hits = model.predict_proba(X)[:, 1].astype(float), model.predict(X) == label
    assert float(said["binary_classification_accuracy <score"]) == pytest.approx(hits.mean())
    assert float(said["binary_classification_cross_entropy <loss"]) == pytest.approx(
        log_loss(label, probability), rel=1e-5
    )
    assert float(said["binary_f_1.000 <score"]) == pytest.approx(f1_score(label, model.predict(X)))


@pytest.mark.parametrize("task", ["regressor", "binary_classifier"])
def test_scikit_learns_own_checks_hold(task: str) -> None:
    estimator = FactorizationMachines(
        num_factors=2, predictor_type=task, epochs=60, mini_batch_size=8, linear_lr=0.05, factors_lr=0.005
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= set(FactorizationMachines.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 50


def test_a_million_features_cost_what_their_non_zeros_cost() -> None:
    random = np.random.default_rng(0)
    rows, width = 2000, 1_000_000
    X = sparse.random(rows, width, 10 / width, "csr", np.float32, random)
    y = np.asarray(X.sum(axis=1)).ravel()
    model = FactorizationMachines(num_factors=8, predictor_type="regressor", linear_lr=0.05, epochs=2)
    tracemalloc.start()
    model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parameters = 4 * width * (1 + 8)
    assert peak < 4.2 * parameters, "the model, Adam's two moments, a little besides; dense rows would be 8 GB"
    assert model.v_.shape == (width, 8)


def test_dense_and_sparse_rows_give_one_model_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from sagesmith.algorithms.factorization_machines import reading

    X = sparse_rows(70, 9)
    y = np.asarray(X.sum(axis=1)).ravel()
    model = FactorizationMachines(num_factors=3, predictor_type="regressor", mini_batch_size=4, epochs=2)
    expected = model.fit(X, y).v_
    explicit = X.copy()
    explicit.data[::3] = 0  # zeros that stand in the matrix are absent as well
    np.testing.assert_array_equal(model.fit(explicit, y).v_, model.fit(explicit.toarray(), y).v_)
    monkeypatch.setattr(reading, "DENSE_CELLS", 100)
    np.testing.assert_array_equal(model.fit(X.toarray(), y).v_, expected)


def chunked(batches: list[Batch]) -> Channel:
    """A channel that hands out batches as a file would."""

    class Chunked(Channel):
        def batches(self, rows: int | None = None) -> Any:
            return iter(batches)

    channel = Chunked.of("train", batches[0])
    channel._batch = None
    return channel


@pytest.mark.parametrize("keep", [1 << 30, 3000, 0])
def test_blocks_of_any_length_make_the_same_mini_batches(keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sagesmith.algorithms.factorization_machines import reading

    monkeypatch.setattr(reading, "KEEP_BYTES", keep)
    X = sparse_rows(50, 5)
    y = np.asarray(X.sum(axis=1)).ravel()
    model = FactorizationMachines(num_factors=2, predictor_type="regressor", mini_batch_size=8, epochs=3)
    expected = model.fit(X, y).v_
    cuts = [0, 3, 4, 30, 31, 49, 50]
    parts = [Batch(X[a:b], y[a:b]) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(model.fit(chunked(parts)).v_, expected)


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_rows_give_a_finite_model_or_a_clear_error(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    cells = data.draw(st.lists(FLOATS, min_size=rows * width, max_size=rows * width))
    label = data.draw(st.lists(st.one_of(FLOATS, st.sampled_from([0.0, 1.0])), min_size=rows, max_size=rows))
    task = data.draw(st.sampled_from(["regressor", "binary_classifier"]))
    told = data.draw(st.sampled_from([None, width, width + 1]))
    X = np.array(cells, np.float32).reshape(rows, width)
    features = sparse.csr_matrix(X) if data.draw(st.booleans()) else X
    channel = chunked([Batch(features, np.array(label, np.float32))])
    model = FactorizationMachines(num_factors=2, predictor_type=task, feature_dim=told, epochs=2)
    good = np.isfinite(X).all() and np.isfinite(label).all() and told in (None, width)
    good = good and (task == "regressor" or set(label) <= {0.0, 1.0})
    said = ""
    try:
        model.fit(channel)
    except ValueError as error:
        said = str(error)
    large = good and max(abs(X).max(), np.abs(label).max()) > 1e9  # whose squares float32 does not hold
    if said:
        assert any(word in said for word in ("row", "feature_dim", "diverged")), said
        assert not good or ("diverged" in said and large), said
    else:
        assert good
        assert np.isfinite([model.w0_, *model.w_, *model.v_.ravel()]).all()


def test_one_row_constant_columns_and_empty_rows_are_fine() -> None:
    one = FactorizationMachines(num_factors=2, predictor_type="regressor").fit([[1.0, 2.0]], [3.0])
    assert np.isfinite(one.predict([[1.0, 2.0]])).all()
    empty = sparse.csr_matrix((4, 3), dtype=np.float32)
    model = FactorizationMachines(num_factors=2, predictor_type="regressor", epochs=50).fit(empty, [1, 1, 1, 1])
    np.testing.assert_array_equal(model.predict(empty), np.full(4, np.float32(model.w0_)))
    constant = FactorizationMachines(num_factors=2, predictor_type="regressor").fit(np.ones((9, 2)), np.arange(9))
    assert np.isfinite(constant.v_).all()


def test_a_training_that_diverges_says_so() -> None:
    model = FactorizationMachines(num_factors=2, predictor_type="regressor", epochs=30, factors_lr=1e15, linear_lr=1e15)
    with pytest.raises(ValueError, match=r"training diverged in epoch [0-9]+: .* smaller learning rates"):
        model.fit(sparse_rows(50, 5), np.arange(50))


def test_a_broken_sparse_matrix_does_not_reach_machine_code() -> None:
    X = sparse_rows(6, 4, 0.9)
    model = FactorizationMachines(num_factors=2, predictor_type="regressor").fit(X, np.arange(6))
    X.indices[0] = 10**6
    with pytest.raises(ValueError, match="broken: columns"):
        model.infer(Batch(X))
    X.indices[0], X.indptr[1] = 0, 10**6
    with pytest.raises(ValueError, match="broken: its indptr"):
        model.infer(Batch(X))


def test_labels_of_a_channel_must_be_zero_or_one() -> None:
    channel = Channel.of("train", np.ones((3, 2)), [0.0, 1.0, 2.0])
    with pytest.raises(DataError, match="the label of row 2 is 2, it must be one of 0, 1"):
        FactorizationMachines(num_factors=2, predictor_type="binary_classifier").fit(channel)


def test_columns_that_never_occur_change_nothing() -> None:
    # The wide model does not fit in the caches and is asked for ahead of its turn; the narrow one is not.
    narrow = sparse_rows(300, 40)
    y = np.asarray(narrow.sum(axis=1)).ravel()
    places = np.sort(np.random.default_rng(1).choice(200_000, 40, replace=False)).astype(np.int32)
    wide = sparse.csr_matrix((narrow.data, places[narrow.indices], narrow.indptr), shape=(300, 200_000))
    model = FactorizationMachines(num_factors=8, predictor_type="regressor", mini_batch_size=50, epochs=3)
    model.set_params(factors_init_method="constant", factors_init_value=0.1, linear_init_method="constant")
    model.set_params(bias_init_method="constant")
    expected = model.fit(narrow, y)
    w0, w, v = expected.w0_, expected.w_, expected.v_
    found = model.fit(wide, y)
    assert found.w0_ == w0
    np.testing.assert_array_equal(found.w_[places], w)
    np.testing.assert_array_equal(found.v_[places], v)
