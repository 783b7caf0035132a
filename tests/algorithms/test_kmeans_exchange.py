"""Exchanges: centers that were drawn badly find their places; good ones stay."""

from __future__ import annotations

import numpy as np
import pytest

from sagesmith.algorithms.kmeans.exchange_compiled import exchange


def clouds(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Five clouds of 40 rows, far from each other and from zero, and their means."""
    random = np.random.default_rng(3)
    means = 1000 + 20 * random.normal(size=(5, width))
    return (np.repeat(means, 40, axis=0) + random.normal(size=(200, width))).astype(np.float32), means


def missed(points: np.ndarray, means: np.ndarray) -> int:
    """How many of the means have no point near them."""
    return int((((means[:, None] - points[None]) ** 2).sum(axis=2).min(axis=1) > 4 * means.shape[1]).sum())


@pytest.mark.parametrize("width", [2, 16, 37])
def test_centers_in_one_cloud_spread_over_all(width: int) -> None:
    rows, means = clouds(width)
    points = rows[:5].copy()
    assert missed(points, means) == 4
    assert exchange(points, rows, np.ones(200), np.random.default_rng(0).uniform(size=10)) >= 4
    assert missed(points, means) == 0


def test_settled_centers_stay() -> None:
    rows, _ = clouds(4)
    points = rows.reshape(5, 40, 4).mean(axis=1)
    before = points.copy()
    assert exchange(points, rows, np.ones(200), np.random.default_rng(0).uniform(size=20)) == 0
    assert np.array_equal(points, before)


def test_rows_without_weight_draw_no_center() -> None:
    rows, means = clouds(3)
    weights = np.repeat([1.0, 1.0, 1.0, 1.0, 0.0], 40)
    points = rows[[0, 1, 40, 80]].copy()
    exchange(points, rows, weights, np.random.default_rng(0).uniform(size=20))
    assert missed(points, means) == 1
    assert missed(points, means[:4]) == 0


def test_fewer_places_than_centers_and_one_center_are_no_trouble() -> None:
    rows = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), 5, axis=0)
    points = rows[[0, 5, 5]].copy()
    assert exchange(points, rows, np.ones(10), np.array([0.5])) == 0
    alone = rows[:1].copy()
    assert exchange(alone, rows, np.ones(10), np.array([0.5])) in (0, 1)
    assert np.isfinite(alone).all()
