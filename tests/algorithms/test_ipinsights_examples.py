"""The examples of IP Insights run, and reach what they claim."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sagesmith.algorithms import IPInsights
from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_stolen_accounts_stand_out(tmp_path: Path) -> None:
    picture = tmp_path / "stolen.png"
    said = run("examples/ipinsights_stolen_accounts.py", "--picture", str(picture))
    found = re.search(r"AUC (\S+) for addresses of chance, (\S+) for another user's", said)
    assert found is not None
    assert float(found[1]) > 0.98
    assert float(found[2]) > 0.96
    shares = [float(share) for share in re.findall(r"(\S+)%", said)]
    assert shares[0] < 15
    assert min(shares[1:]) > 90
    assert "[ True False]" in said
    assert picture.stat().st_size > 5000


@pytest.mark.slow
def test_a_real_log_tells_known_networks_from_others() -> None:
    said = run("examples/ipinsights_access_log.py")
    found = re.search(r"AUC (\S+), (\S+) without", said)
    assert found is not None
    assert float(found[1]) > 0.72
    assert float(found[2]) > 0.95
    home, elsewhere = re.findall(r": (-?\d+\.\d)", said)
    assert float(home) > float(elsewhere) + 3


def test_drawn_logins_are_what_they_claim(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("access.log", "train.csv", "test.csv")]
    options = [f"--{name}={file}" for name, file in zip(("log", "train", "test"), files, strict=True)]
    said = run("examples/ipinsights_logins.py", "--users", "200", "--per-user-and-day", "5", *options)
    assert said.startswith("10000 logins of 200 users from ")
    log, train, test = (file.read_text().splitlines() for file in files)
    assert len(log) == len(train) + len(test) == 10_000
    assert 0.6 < len(train) / len(log) < 0.8
    line = re.fullmatch(r'(\S+) - (\S+) \[01/Nov/2018:00:\d\d:\d\d \+0000\] "GET /login HTTP/1.1" 200 1024', log[0])
    assert line is not None
    assert f"{line[2]},{line[1]}" in train


def test_the_page_s_example_runs(tmp_path: Path) -> None:
    (code,) = blocks(DOCS / "algorithms" / "ipinsights.md", "python")
    logins = [(f"user_{number % 9}", f"203.0.{number % 9}.{number % 50 + 1}") for number in range(900)]
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        names: dict[str, object] = {"logins": logins[:700], "later": logins[700:]}
        exec(compile(code, "ipinsights.md", "exec"), names)
    finally:
        os.chdir(here)
    assert isinstance(names["model"], IPInsights)
