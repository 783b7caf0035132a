"""NTM's example reaches what it claims, and the page's code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_topics_tell_paragraphs_better_than_frequencies(tmp_path: Path) -> None:
    said = run("examples/ntm_driver_docs.py", "--picture", str(tmp_path / "topics.png"))
    found = re.search(r"by the other half: (\d+)\nby the words' frequencies: (\d+)", said)
    assert found is not None
    assert int(found[1]) < 0.7 * int(found[2])
    assert (tmp_path / "topics.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_pages_example_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "algorithms" / "ntm.md").read_text("utf-8")
    program = tmp_path / "page.py"
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    assert run(str(program)).strip().endswith("1.0")
