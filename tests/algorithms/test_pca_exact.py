"""PCA against a singular value decomposition in double precision: components, variances, projections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as Theirs

from sagesmith.algorithms import PCA
from sagesmith.algorithms.pca import moments
from sagesmith.algorithms.pca.moments import Moments
from sagesmith.algorithms.pca.spectrum import leading, probes
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun

DIGITS = load_digits().data.astype(np.float32)


def drawn(rows: int, columns: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    """Rows whose spreads along `columns` directions are 1, 2, 3, ..."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(columns, columns)))[0]
    return (random.normal(size=(rows, columns)) * np.arange(1, columns + 1) @ turn + mean).astype(np.float32)


@pytest.fixture(params=["double", "single"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Few rows are squared in double precision, many in single: as if all were few, or none."""
    monkeypatch.setattr(moments, "DOUBLE", 1 << 60 if request.param == "double" else 0)
    return str(request.param)


def svd(X: np.ndarray, centred: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Singular values, ascending, and right singular vectors in the same order, as columns."""
    rows = X.astype(np.float64)
    _, s, vt = np.linalg.svd(rows - rows.mean(axis=0) if centred else rows, full_matrices=False)
    return s[::-1], vt[::-1].T


def angle(v: np.ndarray, expected: np.ndarray) -> float:
    """The largest angle between two subspaces given by orthonormal columns."""
    v = v.astype(np.float64)
    return float(np.arcsin(min(1.0, np.linalg.norm(expected - v @ (v.T @ expected), 2))))


def agrees(model: PCA, X: np.ndarray, centred: bool = True) -> None:
    s, v = svd(X, centred)
    k = len(model.s_)
    np.testing.assert_allclose(model.s_**2, s[-k:] ** 2, rtol=1e-5)
    assert angle(model.v_, v[:, -k:]) < 1e-4


# From 1e5 on the mean is far beyond what float32 squares can tell from the spread.
@pytest.mark.parametrize("mean", [0, 5, -300, 1e5])
@pytest.mark.parametrize(("rows", "columns", "components"), [(30_000, 30, 7), (2_000, 300, 5)])
def test_regular_is_the_svd(precision: str, rows: int, columns: int, components: int, mean: float) -> None:
    X = drawn(rows, columns, mean)
    agrees(PCA(num_components=components).fit(X), X)


@pytest.mark.parametrize(("rows", "columns", "components"), [(50, 40, 40), (20, 60, 9)])
def test_few_rows_give_the_svd_to_the_last_component(rows: int, columns: int, components: int) -> None:
    agrees(PCA(num_components=components).fit(drawn(rows, columns, 1e4)), drawn(rows, columns, 1e4))


def test_a_mean_that_wanders_is_followed(precision: str) -> None:
    X = drawn(40_000, 10)
    X[:, 3] += np.linspace(0, 3e5, len(X), dtype=np.float32)
    X[:, 4] += np.repeat([0, 1e5], len(X) // 2).astype(np.float32)
    agrees(PCA(num_components=6).fit(X), X)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
def test_numbers_whose_squares_leave_single_precision(precision: str, scale: float) -> None:
    X = (drawn(500, 40).astype(np.float64) * scale).astype(np.float32)
    agrees(PCA(num_components=3).fit(X), X)


@pytest.mark.parametrize("mean", [0, 20])
def test_without_subtract_mean_it_is_the_svd_of_the_rows_themselves(mean: float) -> None:
    X = drawn(2_000, 12, mean)
    model = PCA(num_components=4, subtract_mean=False).fit(X)
    agrees(model, X, centred=False)
    np.testing.assert_allclose(model.transform(X), X @ model.v_, rtol=1e-3, atol=1e-3)


def test_order_signs_and_attributes_are_scikit_learns_turned_round() -> None:
    ours, theirs = PCA(num_components=8).fit(DIGITS), Theirs(8, svd_solver="full").fit(DIGITS.astype(np.float64))
    assert (np.diff(ours.s_) >= 0).all()
    turn = np.sign((ours.components_[::-1] * theirs.components_).sum(axis=1))[:, None]
    np.testing.assert_allclose(ours.components_[::-1], turn * theirs.components_, atol=1e-5)
    np.testing.assert_allclose(ours.explained_variance_[::-1], theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(ours.explained_variance_ratio_[::-1], theirs.explained_variance_ratio_, rtol=1e-5)
    np.testing.assert_allclose(ours.singular_values_[::-1], theirs.singular_values_, rtol=1e-5)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        ours.transform(DIGITS)[:, ::-1], theirs.transform(DIGITS.astype(np.float64)) * turn.T, atol=2e-3
    )
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(DIGITS)), theirs.inverse_transform(theirs.transform(DIGITS)), atol=2e-3
    )
    largest = np.abs(ours.v_).argmax(axis=0)
    assert (ours.v_[largest, np.arange(8)] > 0).all()


def test_turning_the_data_round_changes_no_sign() -> None:
    first, second = PCA(num_components=5).fit(DIGITS), PCA(num_components=5).fit(DIGITS[::-1].copy())
    np.testing.assert_allclose(first.v_, second.v_, atol=1e-5)


def test_projections_are_exact_where_the_mean_is_great() -> None:
    X = drawn(1_000, 8, mean=1e6)
    model = PCA(num_components=3).fit(X)
    rows = X.astype(np.float64)
    expected = (rows - rows.mean(axis=0)) @ model.v_
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
@pytest.mark.parametrize("density", [0.01, 0.2])
@pytest.mark.parametrize("centred", [True, False])
def test_sparse_rows_give_what_dense_ones_give(mode: str, density: float, centred: bool) -> None:
    rows = sparse.random(600, 150, density=density, format="csr", dtype=np.float32, random_state=3)
    rows.data += 1
    settings: dict[str, Any] = {"num_components": 10, "algorithm_mode": mode, "subtract_mean": centred}
    thin, full = PCA(**settings).fit(rows), PCA(**settings).fit(rows.toarray())
    np.testing.assert_allclose(thin.s_, full.s_, rtol=1e-5)
    assert angle(thin.v_, full.v_.astype(np.float64)) < 1e-3
    np.testing.assert_allclose(thin.mean_, full.mean_, atol=1e-6)
    np.testing.assert_allclose(thin.transform(rows), full.transform(rows.toarray()), atol=1e-3)
    assert thin.score(rows) == pytest.approx(full.score(rows.toarray()), abs=1e-5)


def test_the_sketch_keeps_nearly_all_that_can_be_kept() -> None:
    for components in (2, 5, 10, 20):
        kept = PCA(num_components=components, algorithm_mode="randomized", extra_components=40 - components)
        best = PCA(num_components=components).fit(DIGITS).score(DIGITS)
        assert kept.fit(DIGITS).score(DIGITS) > 0.97 * best
        np.testing.assert_allclose(kept.s_[-2:], svd(DIGITS)[0][-2:], rtol=0.05)  # comparable with `regular`


def test_more_extra_components_find_more() -> None:
    def score(extra: int) -> float:
        model = PCA(num_components=5, algorithm_mode="randomized", extra_components=extra)
        return model.fit(DIGITS).score(DIGITS)

    assert score(0) < score(5) < score(40)
    assert score(59) == pytest.approx(PCA(num_components=5).fit(DIGITS).score(DIGITS), abs=1e-7)


def test_the_sketch_is_exact_for_rows_of_a_low_rank() -> None:
    X = (drawn(2_000, 6) @ np.linalg.qr(np.random.default_rng(1).normal(size=(200, 6)))[0].T).astype(np.float32) + 9
    model = PCA(num_components=6, algorithm_mode="randomized", extra_components=4).fit(X)
    s, v = svd(X)
    np.testing.assert_allclose(model.s_, s[-6:], rtol=1e-4)
    assert angle(model.v_, v[:, -6:]) < 1e-3


def test_the_sketchs_state_is_no_larger_than_it_says() -> None:
    run = RecordingRun()
    model = PCA(num_components=20, algorithm_mode="randomized", extra_components=30)
    model.fit(drawn(200, 400), run=run)
    assert "algorithm_mode randomized keeps a sketch of 50 rows" in run.lines
    assert Moments(400, probes(400, 50)).products.shape == (50, 400)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
def test_batches_do_not_change_the_result(mode: str, tmp_path: Path) -> None:
    X = drawn(3_000, 70, mean=4)
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", fmt="%.9g")
    whole = PCA(num_components=6, algorithm_mode=mode).fit(X)
    for size in (1, 7, 500, 100_000):
        channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
        model = PCA(num_components=6, algorithm_mode=mode, mini_batch_size=size, feature_dim=70).fit(channel)
        np.testing.assert_allclose(model.s_, whole.s_, rtol=1e-5)
        np.testing.assert_allclose(model.v_, whole.v_, atol=1e-3)


@pytest.mark.parametrize("equal", [1, 4, 30])
def test_leading_eigenvectors_of_wide_matrices_miss_none_of_equal_ones(equal: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(300, 300)))[0]
    values = np.sort(np.concatenate([np.full(equal, 9.0), np.linspace(0, 8, 300 - equal)]))
    matrix = (turn * values) @ turn.T
    for number in (1, equal, 20):
        found, vectors = leading((matrix + matrix.T) / 2, number)
        np.testing.assert_allclose(found, values[-number:], rtol=1e-9)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(number), atol=1e-9)
        np.testing.assert_allclose(matrix @ vectors, vectors * found, atol=1e-8)


def test_states_join_exactly() -> None:
    X = drawn(9_000, 15, mean=1e4)
    whole, parts = Moments(15), Moments(15)
    whole.add(X)
    for rows in np.split(X, [1, 700, 8_000]):
        part = Moments(15)
        part.add(rows)
        parts.join(Moments.of_bytes(part.to_bytes(), None))
    whole.settle()
    assert parts.count == whole.count
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-5, atol=whole.products.max() * 1e-7)


def test_components_kept_are_all_unless_said() -> None:
    assert len(PCA().fit(drawn(30, 5)).s_) == 5
    assert len(PCA().fit(drawn(4, 9)).s_) == 4
    assert PCA(num_components=3).fit(drawn(30, 5)).transform(drawn(2, 5)).shape == (2, 3)


def test_infer_gives_what_the_endpoint_answers() -> None:
    model = PCA(num_components=3).fit(DIGITS)
    fields = model.infer(Batch(DIGITS[:4]))
    assert list(fields) == ["projection"]
    assert fields["projection"].dtype == np.float32
    assert model.get_feature_names_out().tolist() == ["pca0", "pca1", "pca2"]
