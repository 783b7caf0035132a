"""The compiled scatter matrix against numpy's in double precision: widths, threads, means that move, odd numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sagesmith.algorithms.pca import gram, gram_compiled
from sagesmith.algorithms.pca.gram import Gram
from sagesmith.algorithms.pca.moments import Moments
from sagesmith.formats.errors import DataError


def rows_of(n: int, d: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(d).normal(mean, 2, (n, d)).astype(np.float32)


def scatter(X: np.ndarray) -> np.ndarray:
    moved = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    return np.asarray(moved.T @ moved)


def agrees(found: Gram, X: np.ndarray) -> None:
    mean, spread, products = found.moments()
    expected = scatter(X)
    assert found.count == len(X)
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-6 * np.abs(X).max())
    np.testing.assert_allclose(products, expected, atol=3e-6 * expected.max())
    np.testing.assert_array_equal(products, products.T)
    np.testing.assert_array_equal(spread, products.diagonal())


@pytest.mark.parametrize("d", [1, 7, 8, 16, 17, 47, 48, 49, 63, 64, 65, 130, 300])
@pytest.mark.parametrize("shared", [True, False])
def test_every_width_has_its_whole_matrix(d: int, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "ALONE", 0 if shared else 1000)
    X = rows_of(gram_compiled.CHUNK * 2 + 5, d, mean=3)
    for threads in (1, 3):
        found = Gram(X)
        assert not found.add(X[:700], threads)
        assert not found.add(X[700:], threads)
        agrees(found, X)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_do_not_change_a_bit(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "ALONE", 0 if shared else 1000)
    monkeypatch.setattr(gram, "SEGMENT", 1000)
    X = rows_of(5_500, 40)
    results = []
    for threads in (1, 2, 5):
        found = Gram(X)
        found.add(X, threads)
        results.append(found.moments()[2])
    assert all((result == results[0]).all() for result in results)


def test_a_mean_that_moves_is_followed() -> None:
    """Pairs of columns drift and jump together, by a thousand and by 50,000 times what tells them apart."""
    X = rows_of(8_000, 20)
    X[:, 3] += np.linspace(0, 1e3, len(X), dtype=np.float32)
    X[:, 5] = X[:, 3] + X[:, 5] / 4
    X[3_000:, 7:9] += 1e5
    found = Gram(X)
    found.add(X, 2)
    products, expected = found.moments()[2], scatter(X)
    for one, other in ((3, 5), (7, 8)):
        turn = np.zeros(20)
        turn[[one, other]] = 1, -1  # along it they hardly differ
        assert turn @ products @ turn == pytest.approx(turn @ expected @ turn, rel=0.1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_chunks_that_single_precision_cannot_hold_are_handed_back(scale: float) -> None:
    X = rows_of(4 * gram_compiled.CHUNK, 12)
    first = gram_compiled.CHUNK if scale > 1 else 0  # small ones are lost only where all are small
    X[first:] *= np.float32(scale)
    (left,) = Gram(X).add(X, 2)
    np.testing.assert_array_equal(left, X[first:])


def test_moments_take_them_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagesmith.algorithms.pca.moments.DOUBLE", 0)
    X = rows_of(3_000, 12)
    X[700:1_300] *= np.float32(1e20)
    state = Moments(12)
    state.add(X, 2)
    state.settle()
    assert state.count == len(X)
    np.testing.assert_allclose(state.products, scatter(X), rtol=1e-5, atol=1e-5 * scatter(X).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 600, 2_999])
def test_what_is_no_number_is_refused(value: float, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagesmith.algorithms.pca.moments.DOUBLE", 0)
    X = rows_of(3_000, 12)
    X[row, 4] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        Moments(12).add(X, 2)


def test_constant_rows_have_no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagesmith.algorithms.pca.moments.DOUBLE", 0)
    state = Moments(9)
    state.add(np.full((2_000, 9), 0.1, np.float32))
    state.settle()
    assert state.count == 2_000
    assert not state.products.any()
    assert (state.mean == np.float32(0.1)).all()
