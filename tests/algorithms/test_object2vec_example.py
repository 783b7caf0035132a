"""The example and the page of Object2Vec run, and reach what they claim."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_halves_find_each_other(tmp_path: Path) -> None:
    picture = tmp_path / "halves.png"
    said = run("examples/object2vec_halves.py", "--picture", str(picture))
    above = re.search(r"wrong one in (\S+)%", said)
    rank = re.search(r"first in (\S+)%, median rank (\S+)", said)
    assert above is not None
    assert rank is not None
    assert float(above[1]) > 90
    assert float(rank[1]) > 30
    assert float(rank[2]) <= 4
    assert picture.stat().st_size > 5000


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCS / "algorithms" / "object2vec.md", "python")
    exec(code, {})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model_algo-1"]
