"""LDA's example tells its topics and reaches what it claims, and the page's code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from benchmarks import topics
from tests.algorithms.test_examples import run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_topics_tell_docstrings_better_than_one_topic(tmp_path: Path) -> None:
    said = run("examples/lda_standard_library.py", "--picture", str(tmp_path / "topics.png"))
    found = re.search(r"set aside (\d+), with one topic (\d+)", said)
    assert found is not None
    assert int(found[1]) < 0.6 * int(found[2])
    assert (tmp_path / "topics.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_pages_example_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "algorithms" / "lda.md").read_text("utf-8")
    program = tmp_path / "page.py"
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    assert "is the log-likelihood per word" in run(str(program))


def test_the_benchmarks_measures_are_what_they_are_called() -> None:
    reference = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]], np.float32))
    together = np.log(0.5 / 0.75 / 0.5) / -np.log(0.5)
    alone = np.log(0.25 / 0.75 / 0.5) / -np.log(0.25)
    assert topics.npmi(np.array([[0.6, 0.4, 0.0]]), reference) == pytest.approx((together + alone - 1) / 3)
    assert topics.diversity(np.array([[3, 2, 1], [3, 2, 0]]), 2) == 0.5
    mixtures = topics.folded_in(np.ones(2), np.array([[1.0, 0, 0], [0, 0.5, 0.5]]), reference)
    np.testing.assert_allclose(mixtures[0], [0.5, 0.5])
    assert topics.perplexity(np.array([[1.0]]), np.array([[0.25, 0.75]]), sparse.csr_matrix([[1.0, 0]])) == 4
