"""The page's code runs as it stands; the example learns to tell textures apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_the_example_learns_textures(tmp_path: Path) -> None:
    picture = tmp_path / "textures.png"
    said = run(
        "examples/semantic_segmentation_textures.py", "--picture", str(picture), "--scenes", "96", "--epochs", "4"
    )
    found = re.search(r"mIOU (\S+), always the ground (\S+)", said)
    assert found is not None
    assert float(found[1]) > float(found[2]) + 0.05
    assert picture.stat().st_size > 10_000


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(DOCS / "algorithms" / "semantic-segmentation.md", "python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "semantic-segmentation.md", "exec"), names)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["hyperparams.json", "model_best.params"]
