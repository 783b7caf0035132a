"""Finding algorithms: by class, name and image, without their libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sagesmith.algorithms
from sagesmith.algorithms import XGBoost, by_image, by_name, registry
from sagesmith.algorithms.base import Algorithm


def test_names_and_images_find_the_class() -> None:
    assert by_name("xgboost") is XGBoost
    assert by_image("sagemaker-xgboost") is by_image("xgboost") is XGBoost


def test_what_does_not_exist_is_answered_with_what_does() -> None:
    with pytest.raises(LookupError, match=r"no algorithm 'xgbost'; there are: .*xgboost"):
        by_name("xgbost")
    with pytest.raises(LookupError, match="sagemaker-xgboost"):
        by_image("nginx")
    with pytest.raises(AttributeError, match="NoSuch"):
        sagesmith.algorithms.NoSuch  # noqa: B018
    assert "XGBoost" in dir(sagesmith.algorithms)


def test_the_listing_is_json_and_imports_no_heavy_library() -> None:
    program = (
        "import sys, runpy; runpy.run_module('sagesmith.algorithms', run_name='__main__');"
        "print(sorted({'xgboost', 'torch', 'numba', 'pyarrow', 'scipy', 'sklearn', 'faiss'} & set(sys.modules)),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert done.stderr.strip() == "[]"
    assert set(listed) == set(registry())
    rounds = listed["xgboost"]["hyperparameters"][0]
    assert (rounds["name"], rounds["required"], rounds["tunable"]["high"]) == ("num_round", True, 4000)


def test_an_algorithm_whose_module_is_imported_first_is_found_too() -> None:
    program = (
        "import sagesmith.algorithms.{0}; from sagesmith.algorithms import by_image; print(by_image('{0}').__name__)"
    )
    for name, expected in (("ntm", "NTM"), ("lda", "LDA"), ("seq2seq", "Seq2Seq")):
        done = subprocess.run([sys.executable, "-c", program.format(name)], capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == (expected, 0), done.stderr


def test_an_installed_entry_point_joins_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin(Algorithm):
        """From elsewhere."""

        name = "plugin"
        images = ("plugin",)

    class Entry:
        def load(self) -> type[Algorithm]:
            return Plugin

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()])
    registry.cache_clear()
    try:
        assert by_image("plugin") is Plugin
    finally:
        registry.cache_clear()
