"""numpy's products are kept to one thread, and get theirs back."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sagesmith.algorithms import blas
from sagesmith.algorithms.blas import single_threaded


def threads() -> int:
    controls = blas._controls()
    if controls is None:
        pytest.skip("NumPy is not built with OpenBLAS here")
    return controls[0]()


def test_blas_has_its_threads_back_whatever_happens() -> None:
    before = threads()
    with pytest.raises(KeyError), single_threaded() as controlled:
        assert controlled
        assert threads() == 1
        raise KeyError
    assert threads() == before


def test_the_last_to_leave_gives_the_threads_back() -> None:
    before = threads()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with single_threaded():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with single_threaded():
        pass
    assert threads() == 1, "somebody else still multiplies"
    leave.set()
    thread.join()
    assert threads() == before


def test_products_are_the_same() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 50)).astype(np.float32)
    with single_threaded():
        assert np.allclose(rows.T @ rows, rows.astype(float).T @ rows.astype(float), rtol=1e-4, atol=1e-3)
