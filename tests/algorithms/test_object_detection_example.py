"""The example and the page of Object Detection run, and the command line takes its files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sagesmith.cli.predict import command as predict
from sagesmith.cli.train import command as train
from tests.algorithms.detection_scenes import drawn, write_folders
from tests.algorithms.test_examples import run
from tests.docs.blocks import DOCS, blocks

FILES = ["hyperparams.json", "model_algo_1-0000.params", "model_algo_1-symbol.json"]


@pytest.mark.slow
def test_the_example_runs_on_a_few_scenes(tmp_path: Path) -> None:
    """Its full size takes minutes; what it reaches then is on the page."""
    picture = tmp_path / "scenes.png"
    size = ("--pictures", "2", "--epochs", "1", "--held", "6")
    said = run("examples/object_detection_shapes.py", *size, "--picture", str(picture))
    assert re.search(r"epoch 0: train cross_entropy \d+\.\d+\nepoch 0: validation mAP \d\.\d+\n", said)
    assert re.search(r"mAP in 6 unseen scenes: \d\.\d+", said)
    assert picture.stat().st_size > 50_000


@pytest.mark.slow
def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCS / "algorithms" / "object-detection.md", "python")
    exec(code, {})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == FILES


@pytest.mark.slow
def test_the_command_line_trains_and_predicts(tmp_path: Path) -> None:
    pictures, annotations = write_folders(tmp_path, "train", *drawn(2))
    model = tmp_path / "model"
    settings = ["--num-classes", "2", "--num-training-samples", "2", "--base-network", "resnet-50", "--epochs", "1"]
    settings += ["--use-pretrained-model", "0", "--model-dir", str(model), "--json"]
    channels = ["--train", str(pictures), "--train_annotation", str(annotations)]
    done = CliRunner().invoke(train, ["object-detection", *settings, *channels])
    assert done.exit_code == 0, done.output
    assert [path.name for path in sorted(model.iterdir()) if not path.name.startswith(".")] == FILES
    asked = CliRunner().invoke(predict, [str(model), str(pictures / "000.jpg"), "--content-type", "image/jpeg"])
    assert asked.exit_code == 0, asked.output
    assert list(json.loads(asked.output)) == ["prediction"]
