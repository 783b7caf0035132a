"""The image's two commands on a folder, and a Dockerfile that copies only what there is. No Docker engine needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The image's: its ENV lines, its commands on PATH, `python` being this one."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in re.search(r"^COPY (docker/.*) /usr/local/bin/$", DOCKERFILE, re.M)[1].split():  # type: ignore[index]
        shutil.copy(ROOT / name, commands)
    (commands / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (commands / "python").chmod(0o755)
    settings = dict(re.findall(r"(\w+)=(\w+)", DOCKERFILE.split("\nENV ")[1].split("\n\n")[0]))
    assert settings["PYTHONUNBUFFERED"] == "1"
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    base = {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), "PATH": path, "PYTHONPATH": str(ROOT)}
    return settings | base | {"SAGESMITH_ALGORITHM": "sagemaker-xgboost"}


def test_train_then_serve_as_sagemaker_starts_them(tmp_path: Path, environment: dict[str, str]) -> None:
    config = tmp_path / "ml" / "input" / "config"
    data = tmp_path / "ml" / "input" / "data" / "train"
    config.mkdir(parents=True)
    data.mkdir(parents=True)
    (config / "hyperparameters.json").write_text('{"num_round": "3", "base_score": "0.5"}')
    (config / "inputdataconfig.json").write_text('{"train": {"ContentType": "text/csv", "TrainingInputMode": "File"}}')
    (data / "rows.csv").write_text("".join(f"{i % 2},{i % 2},{i}\n" for i in range(50)))
    trained = subprocess.run(["train"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert (tmp_path / "ml" / "model" / "xgboost-model").stat().st_size > 0

    port_file = tmp_path / "port"
    command = ["serve", "--host", "127.0.0.1", "--port", "0", "--port-file", str(port_file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            while not port_file.exists():
                assert process.poll() is None
                time.sleep(0.02)
            url = f"http://127.0.0.1:{port_file.read_text().strip()}/invocations"
            headers = {"Content-Type": "text/csv", "Accept": "application/json"}
            request = urllib.request.Request(url, b"1,7\n0,8\n", headers)
            with urllib.request.urlopen(request, timeout=30) as response:
                scores = [each["score"] for each in json.load(response)["predictions"]]
        finally:
            process.terminate()
    assert scores[0] > 0.6 > 0.4 > scores[1]
    assert process.returncode == 0


def test_whatever_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    sources = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert {"pyproject.toml", "sagesmith", "docker/train", "docker/serve"} <= set(sources)
    for name in sources:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in kept


def test_extras_are_asked_of_pip_by_names_that_exist() -> None:
    asked = re.search(r'constraints.txt ("[^"]+")$', DOCKERFILE, re.M)[1]  # type: ignore[index]
    for extras, expected in (("", "."), ("neural,vision", ".[neural,vision]")):
        said = subprocess.run(["sh", "-c", f"echo {asked}"], env={"EXTRAS": extras}, capture_output=True, check=True)
        assert said.stdout.decode().strip() == expected
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"EXTRAS=(\w+)", DOCKERFILE)) == {"neural", "vision"} <= set(offered)


@pytest.mark.parametrize("name", ["train", "serve"])
def test_the_commands_become_python_itself(name: str) -> None:
    """Without `exec` the shell would be process 1, and SIGTERM would never reach Python."""
    path = ROOT / "docker" / name
    assert os.access(path, os.X_OK)
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    assert re.search(rf'^exec python -m sagesmith\.container {name} .*"\$@"$', path.read_text(), re.M)
