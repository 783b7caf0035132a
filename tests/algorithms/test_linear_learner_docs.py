"""The example reaches what it claims, and the code on the page runs."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_the_example_keeps_its_targets(tmp_path: Path) -> None:
    said = run("examples/linear_learner_thresholds.py", "--picture", str(tmp_path / "picture.png"))
    found = {
        line.split()[0]: [float(value) for value in re.findall(r"(?:accuracy|precision|recall) (\d\.\d+)", line)][:3]
        for line in said.splitlines()
    }
    assert found["accuracy"][0] > 0.82
    assert found["precision_at_target_recall"][2] == pytest.approx(0.9, abs=0.02)
    assert found["recall_at_target_precision"][1] == pytest.approx(0.8, abs=0.03)
    assert found["accuracy"][0] == max(values[0] for values in found.values())
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_the_code_on_the_page_runs() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(blocks(DOCS / "algorithms" / "linear-learner.md", "python")[0], {})
    assert float(said.getvalue().split()[-1]) > 0.9
