"""The search for the nearest center: equal to brute force in double precision, dense and sparse, by any threads."""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sagesmith.algorithms.kmeans.centers import Centers, add_rows


def brute(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """All squared distances, (n, k)."""
    return ((rows.astype(np.float64)[:, None, :] - points[None]) ** 2).sum(axis=2)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 40),
    k=st.integers(1, 90),
    shift=st.sampled_from([0.0, 10.0, -1e4]),
    seed=st.integers(0, 1000),
)
def test_the_nearest_is_that_of_brute_force(rows: int, width: int, k: int, shift: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    X = (random.normal(size=(rows, width)) + shift).astype(np.float32)
    points = random.normal(size=(k, width)) + shift
    expected = brute(X, points)
    for features in (X, sparse.csr_matrix(X)):
        labels, squares = Centers(points).nearest(features, threads=2)
        chosen = expected[np.arange(rows), labels]
        # A center that is as near, but for what float32 rows of this size can tell apart, is as good.
        assert np.all(chosen <= expected.min(axis=1) * (1 + 1e-4) + 1e-5 * (1 + abs(shift)))
        assert squares == pytest.approx(chosen, rel=1e-6, abs=1e-5 * shift**2 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), width=st.integers(1, 90), filled=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_columns_of_zeros_change_nothing(rows: int, width: int, filled: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(100, width))  # so many that columns of zeros are looked for
    X = random.normal(size=(rows, width)).astype(np.float32)
    X[:, random.uniform(size=width) > filled] = 0
    X[random.integers(rows)] *= random.uniform(size=width) > 0.5
    labels, squares = Centers(points).nearest(X, threads=2)
    chosen = brute(X, points)[np.arange(rows), labels]
    assert np.all(chosen <= brute(X, points).min(axis=1) * (1 + 1e-4) + 1e-5)
    assert squares == pytest.approx(chosen, rel=1e-6, abs=1e-9)


def test_equal_centers_give_the_first_also_past_a_vector_and_a_panel() -> None:
    points = np.ones((75, 5))
    points[:3] = 7
    labels, squares = Centers(points).nearest(np.ones((13, 5), np.float32))
    assert labels.tolist() == [3] * 13
    assert squares.tolist() == [0.0] * 13


def test_a_mean_far_from_zero_costs_no_accuracy() -> None:
    random = np.random.default_rng(0)
    points = np.round(random.normal(size=(40, 8)) * 4) + 10_000
    X = np.repeat(points, 5, axis=0).astype(np.float32)
    labels, squares = Centers(points).nearest(X)
    assert np.array_equal(points[labels], X)
    assert squares.max() == 0.0


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_threads_change_nothing(form: object) -> None:
    random = np.random.default_rng(1)
    X = random.normal(size=(6001, 60)).astype(np.float32)
    X[X < 0.5] = 0
    weights = random.uniform(size=len(X))
    results = []
    for threads in (1, 2, 3):
        centers = Centers(X[:50])
        labels, squares = centers.nearest(form(X), threads)  # type: ignore[operator]
        sums = np.zeros((50, 60))
        add_rows(form(X), weights, labels, sums, threads)  # type: ignore[operator]
        results.append((labels, squares, sums))
    for other in results[1:]:
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(results[0], other, strict=True))
    expected = np.zeros((50, 60))
    np.add.at(expected, results[0][0], weights[:, None] * X)
    assert results[0][2] == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    X = np.random.default_rng(4).normal(size=(5000, 20)).astype(np.float32)
    centers = Centers(X[:50])
    expected = int(centers.nearest(X, threads=2)[0].sum())
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(int(centers.nearest(X, threads=2)[0].sum())))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answers.get() == expected


def test_a_small_request_without_numba_is_answered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(9, 4)).astype(np.float32)
    centers = Centers(random.normal(size=(5, 4)))
    compiled = [centers.nearest(form) for form in (X, sparse.csr_matrix(X))]
    monkeypatch.delitem(sys.modules, "numba")
    for form, (labels, squares) in zip((X, sparse.csr_matrix(X)), compiled, strict=True):
        plain, distance = centers.nearest_for_a_request(form, 1)
        assert plain.tolist() == labels.tolist()
        assert distance == pytest.approx(squares)


def test_distances_to_all_are_euclidean() -> None:
    random = np.random.default_rng(3)
    X = (random.normal(size=(30, 4)) + 1000).astype(np.float32)
    points = random.normal(size=(5, 4)) + 1000
    for form in (X, sparse.csr_matrix(X)):
        assert Centers(points).distances(form) == pytest.approx(np.sqrt(brute(X, points)), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_of_wide_rows_are_those_of_their_centers(weighted: bool, threads: int) -> None:
    random = np.random.default_rng(3)
    X, labels = random.normal(size=(9001, 260)).astype(np.float32), random.integers(0, 7, 9001).astype(np.int32)
    labels[labels == 4] = 0  # a center without rows
    weights = random.uniform(size=len(X)) if weighted else None
    sums = np.ones((9, 260))
    add_rows(X, weights, labels, sums, threads)
    member = (labels[None] == np.arange(9)[:, None]) * (1.0 if weights is None else weights)
    assert sums == pytest.approx(1 + member @ X.astype(np.float64), rel=1e-9, abs=1e-9)
