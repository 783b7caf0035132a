"""The example and the page's code run and reach what they claim."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_the_example_finds_what_happened_in_new_york(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "scores.png"
    said = run("examples/randomcutforest_taxi.py", "--picture", str(picture))
    flagged = re.search(r"^flagged: (.*)$", said, re.MULTILINE)
    streamed = re.search(r"^as a stream: (.*)$", said, re.MULTILINE)
    assert flagged is not None
    assert streamed is not None
    assert all(f"({name})" in flagged[1] for name in ("marathon", "New Year", "snowstorm"))
    assert all(
        f"({name})" in streamed[1] for name in ("marathon", "Thanksgiving", "Christmas", "New Year", "snowstorm")
    )
    assert streamed[1].count("20") < 25
    assert flagged[1].count("20") < 25
    too_few = re.search(r"(\S+) for too few", said)
    assert too_few is not None
    assert float(too_few[1]) > 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_pages_code_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    for code in blocks(DOCS / "algorithms" / "randomcutforest.md", "python"):
        exec(compile(code, "randomcutforest.md", "exec"), {})
        claimed = [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(claimed)
        for line, claim in zip(printed, claimed, strict=True):
            assert claim == line or claim.startswith(f"{line}:"), f"{line!r}, the page says {claim!r}"
