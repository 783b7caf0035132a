"""The example of factorization machines runs, reaches its figures and draws; so does the page's own example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.algorithms.test_examples import run

PAGE = Path(__file__).parents[2] / "docs" / "algorithms" / "factorization-machines.md"


def test_pairs_tell_vowels_that_single_values_do_not(tmp_path: Path) -> None:
    said = run("examples/factorization_machines_letters.py", "--picture", str(tmp_path / "pairs.png"))
    single, pairs = (float(found) for found in re.findall(r"held-out accuracy (\S+)", said))
    assert single < 0.89
    assert pairs > 0.945
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")


def test_the_pages_example_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["model"].v_.shape == (2000, 8)
    assert np.isfinite(names["near"]).all()
    assert names["error"] < 0.5 * names["ratings"].std()
