"""The example and the page of k-NN reach what they claim."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_k_nn_finds_letters_exactly_and_nearly() -> None:
    output = run("examples/knn_letters.py")
    figures = {name: float(value) for name, value in re.findall(r"^(\w+): accuracy (\S+),", output, re.MULTILINE)}
    assert figures["exact"] >= 0.94
    assert figures["lists"] >= 0.94
    assert figures["codes"] >= 0.93
    assert figures["projected"] >= 0.86


def test_the_pages_example_runs(wine: Any) -> None:
    X, y = wine
    names: dict[str, Any] = {"X": X[:120], "y": y[:120], "X_held": X[120:]}
    for code in blocks(DOCS / "algorithms" / "knn.md", "python"):
        exec(code, names)
    assert np.mean(names["model"].predict(X[120:]) == y[120:]) > 0.6
    assert names["distances"].shape == (58, 5)
