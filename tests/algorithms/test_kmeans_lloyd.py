"""Lloyd's algorithm and its starts: wide points, parts of rows, centers without points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.kmeans.lloyd import Limits, lloyd, refined, trials

LIMITS = Limits(300, 1e-4, threads=2)


def clouds(number: int, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of clouds far from each other and from zero, one cloud after the other in turn, and their centers."""
    random = np.random.default_rng(number)
    means = 100 + 5 * random.normal(size=(number, width))
    return (np.tile(means, (rows, 1)) + random.normal(size=(number * rows, width))).astype(np.float32), means


@pytest.mark.parametrize("method", ["random", "kmeans++"])
@pytest.mark.parametrize("width", [59, 60, 700])
def test_points_of_many_columns_settle_as_others_do(width: int, method: str) -> None:
    """30 points of 60 columns and more are clustered by their coordinates in the space that they span."""
    points, means = clouds(3, 10, width)
    weights = np.random.default_rng(0).uniform(0.5, 2, size=30)
    distances, best = trials(points, weights, 3, method, 10, LIMITS)
    assert len(distances) == 10
    expected = [np.average(points[j::3], axis=0, weights=weights[j::3]) for j in range(3)]
    order = [int(((means - center) ** 2).sum(axis=1).argmin()) for center in best[0]]
    assert best[0] == pytest.approx(np.array(expected)[order], rel=1e-5)
    apart = ((points.astype(np.float64)[:, None] - best[0]) ** 2).sum(axis=2).min(axis=1)
    assert min(distances) == pytest.approx(np.average(apart, weights=weights), rel=1e-4)


def test_wide_points_that_lie_on_each_other_are_no_trouble() -> None:
    points = np.repeat(np.eye(2, 40, dtype=np.float32), 8, axis=0)
    distances, best = trials(points, np.ones(16), 3, "kmeans++", 2, LIMITS)
    assert distances == pytest.approx([0, 0], abs=1e-6)
    assert np.unique(best[0].round(4), axis=0)[::-1] == pytest.approx(np.eye(2, 40), abs=1e-6)


def test_rows_are_refined_alike_dense_and_sparse_in_one_part_and_in_all() -> None:
    rows, means = clouds(2, 1500, 7)  # 3,000 rows: every twelfth in the first part
    weights = np.ones(len(rows))
    starts = [means + 1, means - 1]
    dense, msd = refined(starts, rows, weights, LIMITS)
    csr, other = refined(starts, sparse.csr_matrix(rows), weights, LIMITS)
    assert dense == pytest.approx(np.stack([rows[j::2].mean(axis=0) for j in range(2)]), rel=1e-5)
    assert csr == pytest.approx(dense, rel=1e-6)
    assert msd == pytest.approx(other, rel=1e-4)


def test_columns_beyond_the_centers_are_not_looked_at() -> None:
    rows, means = clouds(3, 50, 5)
    beside = np.concatenate([rows, np.full((150, 6), np.nan, np.float32)], axis=1)
    for one, other in zip(
        lloyd(means, rows, np.ones(150), LIMITS), lloyd(means, beside, np.ones(150), LIMITS), strict=True
    ):
        assert np.array_equal(one, other)
