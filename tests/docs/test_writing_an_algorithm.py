"""The algorithm of docs/writing-an-algorithm.md is what the page says: it keeps the contract, trains and serves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms.base import Request
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import Check, Sample, applicable
from tests.docs.blocks import DOCS, ROOT, blocks

PAGE = DOCS / "writing-an-algorithm.md"
FILE, STREAMING, TRYING = blocks(PAGE, "python")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page's package is installed, entry point and all."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text("")
    (folder / "my_package" / "ridge.py").write_text(f"{FILE}\n\n{STREAMING}")
    (folder / "my_package-1.0.dist-info").mkdir()
    (folder / "my_package-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-package\nVersion: 1\n"
    )
    [toml] = blocks(PAGE, "toml")
    assert toml.startswith('[project.entry-points."sagesmith.algorithms"]')
    points = toml.split("\n", 1)[1].replace('"', "")
    (folder / "my_package-1.0.dist-info" / "entry_points.txt").write_text(f"[sagesmith.algorithms]\n{points}")
    return folder


@pytest.fixture(scope="module")
def ridge(package: Path) -> Any:
    """The page's module."""
    specification = importlib.util.spec_from_file_location("page_ridge", package / "my_package" / "ridge.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["page_ridge"] = module  # where `hp` looks for the annotations' names
    specification.loader.exec_module(module)
    return module


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{package}"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["Ridge", "SharedRidge"])
def test_it_keeps_the_contract(ridge: Any, name: str) -> None:
    algorithm = getattr(ridge, name)
    assert not algorithm.exceptions
    checks: list[Check] = applicable(algorithm)
    for check in checks:
        check(algorithm, Sample.of(algorithm))


def test_the_pages_own_test_holds(ridge: Any) -> None:
    space: dict[str, Any] = {"Ridge": ridge.Ridge}
    exec(compile(TRYING, str(PAGE), "exec"), space)
    test: Callable[[Check], None] = space["test_ridge_keeps_the_contract"]
    test(applicable(ridge.Ridge)[0])


@pytest.mark.parametrize("intercept", [True, False])
def test_both_learn_what_ridge_regression_is(ridge: Any, intercept: bool) -> None:
    from sklearn.linear_model import Ridge as Theirs

    random = np.random.default_rng(1)
    X = random.normal(size=(200, 4)).astype(np.float32)
    y = (X @ [1, -2, 3, 0.5] + 4 + random.normal(size=200)).astype(np.float32)
    expected = Theirs(alpha=3.0, fit_intercept=intercept).fit(X.astype(float), y.astype(float)).predict(X)
    for algorithm in (ridge.Ridge, ridge.SharedRidge):
        np.testing.assert_allclose(algorithm(l2=3.0, intercept=intercept).fit(X, y).predict(X), expected, atol=1e-4)


def test_states_of_several_hosts_merge_to_the_model_of_all_rows(ridge: Any) -> None:
    sample = Sample.of(ridge.SharedRidge)
    whole = ridge.SharedRidge(l2=0.5).fit(sample.X, sample.y)
    shares = []
    for rows in (slice(0, 50), slice(50, None), slice(0, 0)):
        share = ridge.SharedRidge(l2=0.5)
        share.begin(None)
        if rows.stop != 0:
            share.update(Channel.of("train", sample.X[rows], sample.y[rows]).read())
        shares.append(share.state())
    merged = ridge.SharedRidge(l2=0.5)
    merged.merge(shares)
    merged.finish(None)
    np.testing.assert_allclose(merged.weights_, whole.weights_)


def test_an_entry_point_makes_it_known_to_the_server_and_the_container(package: Path, tmp_path: Path) -> None:
    listed = {entry["name"]: entry for entry in json.loads(run(package, "sagesmith.algorithms").stdout)}
    assert listed["ridge"]["images"] == ["ridge"]
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text('{"l2": "0.000001"}')
    (tmp_path / "input" / "config" / "inputdataconfig.json").write_text('{"train": {"ContentType": "text/csv"}}')
    (tmp_path / "input" / "data" / "train").mkdir(parents=True)
    (tmp_path / "input" / "data" / "train" / "data.csv").write_text("3,1\n5,2\n7,3\n9,4\n")
    done = run(package, "sagesmith.container", "train", "ridge", "--base", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "#quality_metric: host=algo-1, train mse <loss>=" in done.stdout
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.json"]


def test_a_saved_model_answers_requests(ridge: Any, tmp_path: Path) -> None:
    X = np.array([[1.0], [2.0], [3.0]], dtype=np.float32)
    ridge.Ridge(l2=0.0).fit(X, 2 * X[:, 0] + 1).save(tmp_path)
    answer = ridge.Ridge.load(tmp_path).respond(Request(b"10\n", "text/csv"))
    assert json.loads(answer.body)["predictions"][0]["score"] == pytest.approx(21, abs=1e-4)
