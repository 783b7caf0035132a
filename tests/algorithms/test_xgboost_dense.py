"""Dense prediction without xgboost's Python side: xgboost's own numbers, whatever was predicted before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xgboost

from sagesmith.algorithms.xgboost import dense

ALL_ROUNDS = dense.configuration((0, 0))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def booster(rows: np.ndarray) -> xgboost.Booster:
    settings = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    return xgboost.train(settings, xgboost.DMatrix(rows, rows[:, 0] > rows[:, 1]), 5)


def test_one_prediction_does_not_change_the_next(booster: xgboost.Booster, rows: np.ndarray) -> None:
    for count in (1, 300, 2, 1):
        part = rows[:count].copy()
        assert np.array_equal(dense.predict(booster, part, ALL_ROUNDS), booster.inplace_predict(part))
    with pytest.raises(xgboost.core.XGBoostError):
        dense.predict(booster, rows[:3, :4].copy(), ALL_ROUNDS)
    assert np.array_equal(dense.predict(booster, rows, ALL_ROUNDS), booster.inplace_predict(rows))


def test_boosters_take_turns_in_one_thread(booster: xgboost.Booster, rows: np.ndarray) -> None:
    other = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(rows[:, :2], rows[:, 0]), 3)
    for _ in range(2):
        assert dense.predict(booster, rows[:2].copy(), ALL_ROUNDS).shape == (2, 3)
        one = rows[:1, :2].copy()
        assert np.array_equal(dense.predict(other, one, ALL_ROUNDS), other.inplace_predict(one))


def test_threads_do_not_disturb_each_other(booster: xgboost.Booster, rows: np.ndarray) -> None:
    expected = booster.inplace_predict(rows)

    def matches(start: int) -> bool:
        part = slice(start, start + 1 + start % 5)
        return np.array_equal(dense.predict(booster, rows[part].copy(), ALL_ROUNDS), expected[part])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(matches, range(390)))
