"""PCA's example reaches what it claims, and the page's code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_few_components_keep_most_of_the_letters(tmp_path: Path) -> None:
    said = run("examples/pca_letters.py", "--picture", str(tmp_path / "letters.png"))
    found = {
        int(n): (float(kept), float(right))
        for n, kept, right in re.findall(r"(\d+) components keep (\S+) of the variance; (\S+) told right", said)
    }
    assert found[8][0] > 0.85
    assert found[12][1] > found[16][1] - 0.03
    assert found[2][0] < found[4][0] < found[8][0] < found[12][0]
    assert found[16][0] == pytest.approx(1)
    assert (tmp_path / "letters.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_pages_example_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "algorithms" / "pca.md").read_text("utf-8")
    program = tmp_path / "page.py"
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    assert re.findall(r"[\d.]+", run(str(program)))[:1] == ["10"]
