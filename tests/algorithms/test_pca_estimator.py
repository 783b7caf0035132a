"""PCA in scikit-learn's hands, its hyperparameters, and data that it cannot or can just about use."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms import PCA
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun

X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
def test_scikit_learns_own_checks_hold(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(PCA(num_components=1, algorithm_mode=mode), on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) == {name for name in PCA.exceptions if "estimator" in name}, failed
    assert sum(result["status"] == "passed" for result in results) > 40


def test_it_stands_in_a_pipeline() -> None:
    both = make_pipeline(PCA(num_components=4), PCA(num_components=2))
    assert both.fit_transform(X).shape == (60, 2)
    assert both.fit(X).score(X) == pytest.approx(
        1
        - PCA(num_components=4).fit(X).explained_variance_[:2].sum()
        / (PCA(num_components=4).fit(X).explained_variance_.sum()),
        abs=1e-5,
    )


def test_weights_are_refused_not_ignored() -> None:
    with pytest.raises(TypeError, match="sample_weight"):
        PCA(num_components=1).fit(X, sample_weight=np.ones(60))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_components": "0"}, "num_components: 0 is not in"),
        ({"num_components": "6", "feature_dim": "5"}, r"num_components: 6 is not in \[1, 5\]; feature_dim is 5"),
        (
            {"num_components": "1", "algorithm_mode": "exact"},
            r"algorithm_mode: exact is not in \[regular, randomized\]",
        ),
        ({"num_components": "1", "extra_components": "-2"}, "extra_components: -2 is not in"),
        ({"num_components": "1", "subtract_mean": "perhaps"}, "subtract_mean: could not parse value perhaps"),
        ({"num_components": "1", "mini_batch_siz": "1"}, "'mini_batch_siz' was unexpected"),
    ],
)
def test_bad_hyperparameters_are_named(values: dict[str, str], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        PCA.from_strings(values)


def test_more_components_than_columns_are_refused_when_the_data_tell() -> None:
    with pytest.raises(ValueError, match="num_components is 6, but the rows have 5 columns"):
        PCA(num_components=6).fit(X)


def test_extra_components_without_effect_are_announced() -> None:
    run = RecordingRun()
    PCA(num_components=1, extra_components=3).fit(X, run=run)
    assert "Hyperparameter extra_components has no effect with algorithm_mode regular" in run.lines


def test_a_scatter_matrix_beyond_the_memory_is_refused_by_name() -> None:
    rows = sparse.csr_matrix(([1.0], ([0], [3])), shape=(2, 10_000_000), dtype=np.float32)
    with pytest.raises(ValueError, match="use algorithm_mode randomized"):
        PCA(num_components=1).fit(rows)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(mode: str, value: float, tmp_path: Path) -> None:
    bad = X.copy()
    bad[17, 3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity|is -?(nan|inf)"):
        PCA(num_components=1, algorithm_mode=mode).fit(bad)
    with pytest.raises(ValueError, match="channel 'test': row 17, column 3"):
        PCA(num_components=1, algorithm_mode=mode).fit(X, test=bad)
    np.savetxt(tmp_path / "rows.csv", bad, delimiter=",")
    channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
    with pytest.raises(DataError, match="row 17, column 3"):
        PCA(num_components=1, algorithm_mode=mode).fit(channel)
    with pytest.raises(ValueError, match=r"NaN|infinity|is -?(nan|inf)"):
        PCA(num_components=1, algorithm_mode=mode).fit(X).transform(bad)


def test_rows_of_another_width_than_feature_dim_are_refused() -> None:
    with pytest.raises(DataError, match="rows of 5 columns, but feature_dim is 4"):
        PCA(num_components=1, feature_dim=4).fit(X)


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(ValueError, match="channel 'train' holds no rows"):
        PCA(num_components=1).fit(Channel.from_folder("train", tmp_path, "text/csv", label_size=0))


@pytest.mark.parametrize("mode", ["regular", "randomized"])
@pytest.mark.parametrize(
    "rows",
    [X[:1], np.ones((40, 5), np.float32), np.zeros((3, 5), np.float32), sparse.csr_matrix((7, 5), dtype=np.float32)],
    ids=["one row", "constant columns", "zeros", "sparse zeros"],
)
def test_rows_without_any_spread_give_components_of_no_variance(mode: str, rows: Any) -> None:
    model = PCA(num_components=3, algorithm_mode=mode, extra_components=1).fit(rows)
    np.testing.assert_allclose(model.s_, 0, atol=1e-6)
    np.testing.assert_allclose(model.v_.T @ model.v_, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(model.transform(rows), 0, atol=1e-6)
    assert np.isfinite(model.explained_variance_ratio_).all()


def test_one_constant_column_takes_no_part() -> None:
    rows = np.column_stack([X, np.full(60, 7e5, np.float32)])
    model = PCA(num_components=5).fit(rows)
    np.testing.assert_allclose(model.v_[5], 0, atol=1e-6)
    np.testing.assert_allclose(model.s_, PCA(num_components=5).fit(X).s_, rtol=1e-5)


numbers = st.floats(-(2.0**99), 2.0**99, width=32)
tables = st.tuples(st.integers(1, 30), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=numbers)
)


@settings(max_examples=60, deadline=None)
@given(rows=tables, mode=st.sampled_from(["regular", "randomized"]), centred=st.booleans(), data=st.data())
def test_any_finite_rows_give_orthonormal_components(rows: Any, mode: str, centred: bool, data: Any) -> None:
    components = data.draw(st.integers(1, rows.shape[1]))
    extra = data.draw(st.integers(-1, 3))
    model = PCA(num_components=components, algorithm_mode=mode, subtract_mean=centred, extra_components=extra).fit(rows)
    np.testing.assert_allclose(model.v_.T @ model.v_, np.eye(components), atol=1e-5)
    assert (np.diff(model.s_) >= 0).all()
    assert np.isfinite(model.s_).all()
    if mode == "regular":
        doubles = rows.astype(np.float64)
        exact = np.linalg.svd(doubles - centred * doubles.mean(axis=0), compute_uv=False)
        exact = np.concatenate([np.zeros(components), exact[::-1]])[-components:]
        np.testing.assert_allclose(model.s_, exact, rtol=1e-4, atol=1e-3 * exact.max() + 1e-12)


@settings(max_examples=40, deadline=None)
@given(cells=arrays(np.float32, (4, 3), elements=st.floats(width=32)))
def test_a_value_that_is_not_finite_never_becomes_a_model(cells: Any) -> None:
    if np.isfinite(cells).all():
        assert np.isfinite(PCA(num_components=2).fit(cells).s_).all()
    else:
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            PCA(num_components=2).fit(cells)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 2000))
def test_a_torn_model_is_refused(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    folder = tmp_path_factory.mktemp("model")
    PCA(num_components=2).fit(X).save(folder)
    path = folder / "model_algo-1"
    content = path.read_bytes()
    path.write_bytes(content[: at % len(content)])
    with pytest.raises(ValueError, match="model_algo-1 is no pca model"):
        PCA.load(folder)


@pytest.mark.parametrize("changed", ["mean", "v", "s"])
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, changed: str) -> None:
    model = PCA(num_components=2).fit(X)
    model.save(tmp_path)
    arrays_ = {name: array[..., :1] if name == changed else array for name, array in model.arrays().items()}
    with (tmp_path / "model_algo-1").open("wb") as file:
        np.savez(file, **arrays_)
    with pytest.raises(ValueError, match="do not belong together"):
        PCA.load(tmp_path)
