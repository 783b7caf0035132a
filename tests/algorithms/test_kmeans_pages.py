"""The example and the page's code do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import DOCS, ROOT, blocks


def run(*arguments: str, folder: Path) -> str:
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_finds_the_digits_and_draws_them(tmp_path: Path) -> None:
    said = run(str(ROOT / "examples" / "kmeans_digits.py"), "--picture", "centers.png", folder=tmp_path)
    ratio = re.search(r"([\d.]+) times scikit-learn's best", said)
    right = re.search(r": ([\d.]+) of the pictures right", said)
    assert ratio
    assert right
    assert float(ratio[1]) <= 1.02
    assert float(right[1]) >= 0.7
    assert (tmp_path / "centers.png").stat().st_size > 2000


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    [code] = blocks(DOCS / "algorithms" / "kmeans.md", "python")
    said = run("-c", code, folder=tmp_path).splitlines()
    assert said[0] == "(3, 2)"
    assert len(set(said[1].strip("[]").split())) == 1, "rows of one cloud are in one cluster"
    assert float(said[2]) < 2.0
