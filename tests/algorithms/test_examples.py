"""The examples run, and reach what they claim."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str, folder: Path = EXAMPLES.parent) -> str:
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait stand still where tests share processors
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pattern", "least"),
    [
        ("binary", r"AUC (\S+)", 0.925),
        ("multiclass", r"held-out accuracy (\S+)", 0.94),
        ("ranking", r"ranked (\S+),", 0.78),
        ("weights", r"10 times: recall (\S+),", 0.9),
    ],
)
def test_example_reaches_its_figure(name: str, pattern: str, least: float) -> None:
    assert float(re.search(pattern, run(f"examples/xgboost_{name}.py"))[1]) >= least  # type: ignore[index]


@pytest.mark.slow
def test_regression_example_beats_the_mean() -> None:
    found = re.search(r"RMSE (\S+), always guessing the mean (\S+)", run("examples/xgboost_regression.py"))
    assert found is not None
    assert float(found[1]) < 0.8 * float(found[2])


@pytest.mark.slow
def test_the_notebook_runs_through(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "xgboost.ipynb").read_text())["cells"]
    program = tmp_path / "notebook.py"
    program.write_text("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    said = run(str(program))
    assert "predicted_label" in said
    assert "['xgboost-model']" in said
