"""The example of BlazingText runs and reaches what it claims; the page's code runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sagesmith.algorithms import BlazingText
from tests.algorithms.blazingtext_texts import drawn
from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_devices_are_told_apart_without_their_names(tmp_path: Path) -> None:
    picture = tmp_path / "words.png"
    said = run("examples/blazingtext_devices.py", "--picture", str(picture))
    near = dict(re.findall(r"near '(\w+)'(?: \(never seen\))?: (.*)", said))
    assert "printers" in near["printer"]
    assert "charging" in near["rechargeable"]
    assert "'rechargeable' (never seen)" in said
    shares = [float(share) for share in re.findall(r"(\d+\.\d)%", said)]
    assert shares[0] > 75
    assert shares[1] < 25
    assert "of a sentence of one's own: audio" in said
    assert picture.stat().st_size > 5000


def test_the_page_s_example_runs(tmp_path: Path) -> None:
    (code,) = blocks(DOCS / "algorithms" / "blazingtext.md", "python")
    texts, labels = drawn(300)
    other_texts, other_labels = drawn(50, seed=1)
    names: dict[str, object] = {
        "texts": texts, "labels": labels, "other_texts": other_texts, "other_labels": other_labels,
    }  # fmt: skip
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(compile(code, "blazingtext.md", "exec"), names)
    finally:
        os.chdir(here)
    assert isinstance(names["classifier"], BlazingText)
    assert (tmp_path / "model" / "model.bin").exists()
