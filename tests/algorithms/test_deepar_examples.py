"""The example of DeepAR runs and beats seasonal naive; the page's example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagesmith.algorithms import DeepAR
from tests.algorithms.deepar_series import drawn
from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_the_next_day_is_forecast_better_than_by_yesterday(tmp_path: Path) -> None:
    picture = tmp_path / "fan.png"
    said = run("examples/deepar_transformers.py", "--picture", str(picture))
    ours, naive = (float(re.search(rf"{name} +(\S+)", said)[1]) for name in ("quantile loss", "ago\\)"))  # type: ignore[index]
    assert ours < 0.6 * naive
    assert picture.stat().st_size > 5000


def test_the_page_s_example_runs() -> None:
    (code,) = blocks(DOCS / "algorithms" / "deepar.md", "python")
    names: dict[str, object] = {"series": drawn(4)}
    exec(compile(code, "deepar.md", "exec"), names)
    assert isinstance(names["model"], DeepAR)
