"""DeepAR's draws and the curves they need: against numpy and the published numbers of the generators."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from sagesmith.algorithms.deepar import curves_compiled as curves
from sagesmith.algorithms.deepar import draws_compiled as draws
from sagesmith.algorithms.deepar.likelihoods import STUDENT_T
from sagesmith.algorithms.lanes_compiled import load16, store


@numba.njit
def drawn_curves(x: Any, found: Any) -> None:
    """Rows of found (4, n): each curve of row of x (4, n)."""
    for b in range(0, x.shape[1], 16):
        store(found, 0, b, curves.power_less_1(load16(x, 0, b)))
        store(found, 1, b, curves.logarithm(load16(x, 1, b)))
        store(found, 2, b, curves.softplus16(load16(x, 2, b)))
        store(found, 3, b, curves.sine_of_turns(load16(x, 3, b)))


def test_curves_are_numpy_s() -> None:
    count = 1 << 14
    random = np.random.default_rng(0)
    small = 10.0 ** random.uniform(-9, 0, count)
    powers = np.where(np.arange(count) % 2, random.uniform(-40, 40, count), small)
    logs = np.where(np.arange(count) % 2, 1 - small / 2, 10.0 ** random.uniform(-30, 30, count))
    x = np.array([powers, logs, random.uniform(-30, 100, count), random.uniform(-0.25, 0.25, count)], np.float32)
    found = np.empty_like(x)
    drawn_curves(x, found)
    exact = x.astype(np.float64)
    assert found[0] == pytest.approx(np.expm1(exact[0] * np.log(2)), rel=1e-6)
    assert found[1] == pytest.approx(np.log(exact[1]), rel=1e-6)
    assert found[2] == pytest.approx(np.logaddexp(0, exact[2]), rel=1e-6, abs=2e-7)
    assert found[3] == pytest.approx(np.sin(2 * np.pi * exact[3]), rel=1e-6)


def test_generators_are_the_published_ones() -> None:
    seeds, states = np.array([1234567], np.uint64), np.zeros((4, 16), np.uint32)
    draws.begin_draws(STUDENT_T, seeds, 16, 0, states)
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    words = states.astype(np.uint64)
    assert (words[0] + (words[1] << np.uint64(32)))[:2].tolist() == known[::2]
    assert (words[2] + (words[3] << np.uint64(32)))[:2].tolist() == known[1::2]
    states = np.repeat(np.array([[1], [2], [3], [4]], np.uint32), 16, axis=1)
    found = np.empty(16, np.float32)
    for number in (641, 1573767, 3222811527, 3517856514, 836907274):
        draws.uniform(states, found)
        assert found == pytest.approx((number // 256 + 0.5) / 2**24, rel=1e-6)
