"""The example and the page of Image Classification run, and reach what they claim; so does the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sagesmith.cli import main
from tests.algorithms.classification_pictures import folders
from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks


@pytest.mark.slow
def test_digits_are_read_better_than_by_a_linear_model(tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    said = run("examples/image_classification_digits.py", "--picture", str(picture))
    linear = re.search(r"pixels: accuracy (\S+)", said)
    network = re.search(r"ResNet-20: accuracy (\S+),", said)
    assert linear is not None
    assert network is not None
    assert float(network[1]) > max(0.975, float(linear[1]))
    assert picture.stat().st_size > 5000


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCS / "algorithms" / "image-classification.md", "python")
    exec(code, {})
    assert len(list((tmp_path / "model").iterdir())) == 3


def test_the_command_line_trains_from_folders_and_predicts(tmp_path: Path) -> None:
    folder, model = folders(tmp_path / "train", 24), str(tmp_path / "model")
    options = ["--train", str(folder), "--image-shape", "3,16,16", "--num-layers", "20", "--epochs", "1"]
    done = CliRunner().invoke(main, ["train", "image-classification", *options, "--model-dir", model])
    assert done.exit_code == 0, done.output
    picture = next(iter(sorted((folder / "lie").iterdir())))
    asked = CliRunner().invoke(main, ["predict", model, str(picture)])
    assert asked.exit_code == 0, asked.output
    assert sum(json.loads(asked.stdout)) == pytest.approx(1, abs=1e-5)
