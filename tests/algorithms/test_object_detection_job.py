"""Object Detection as a job in a folder, on the real base networks: trained, served, killed and begun again."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.object_detection.network import detector
from sagesmith.contract import JobFolder
from tests.algorithms.detection_scenes import drawn, write_folders, write_records
from tests.container.jobs import Job, serving

SETTINGS = {
    "num_classes": "2", "num_training_samples": "4", "base_network": "resnet-50", "use_pretrained_model": "0",
    "epochs": "1", "mini_batch_size": "2", "_kvstore": "device", "_num_kv_servers": "auto",
}  # fmt: skip
IMAGES, OBJECTS = drawn(4)
HELD = drawn(2, seed=1)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "object-detection")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    data = made.folder.channel("train").parent
    write_folders(data, "train", IMAGES, OBJECTS)
    write_folders(data, "validation", *HELD)
    for name in ("train", "validation"):
        made.channel(name, None, ContentType="image/jpeg")
        made.channel(f"{name}_annotation", None, ContentType="image/jpeg")
    return made


def test_a_job_trains_on_pictures_and_annotations_and_is_served(job: Job) -> None:
    ended = job.wait(job.start(), timeout=280)
    assert ended.status == 0, ended.log
    for metric in ObjectDetection.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    assert "#progress_metric: host=algo-1, completed 100 % of epochs" in ended.log
    assert '"Algorithm": "AWS/Object Detection"' in ended.log
    assert re.search(r'\[.* INFO \d+\] Saved checkpoint to ".*/model/model_algo_1-0000.params"', ended.log)
    assert sorted(path.name for path in job.folder.model.iterdir()) == [
        "hyperparams.json", "model_algo_1-0000.params", "model_algo_1-symbol.json",
    ]  # fmt: skip
    model = ObjectDetection.load(job.folder.model)
    score = float(re.findall(r"validation mAP <score>=\((\S+)\)", ended.log)[0])
    assert score == pytest.approx(model.score(*(job.folder.channel(f"validation{end}") for end in ("", "_annotation"))))
    picture = (job.folder.channel("validation") / "000.jpg").read_bytes()
    expected = model.predict([job.folder.channel("validation") / "000.jpg"])[0]
    with serving(job) as server:
        reply = server.invoke(picture, "image/jpeg")
        assert np.allclose(json.loads(reply.body)["prediction"], expected, atol=1e-3)
        named = server.invoke(picture, "application/x-image", Accept="application/json;annotation=1")
        assert json.loads(named.body)["image_size"] == [{"width": 96, "height": 96, "depth": 3}]
        assert server.invoke(picture[:300], "image/jpeg").status == 400


def test_vgg_learns_a_step_at_300_pixels_from_records(job: Job) -> None:
    """The default network; a .rec file in a channel whose content type is left out."""
    for name in ("validation", "train_annotation", "validation_annotation"):
        del job.channels[name]
    for path in job.folder.channel("train").iterdir():
        path.unlink()
    write_records(job.folder.channel("train") / "train.rec", IMAGES[:1], OBJECTS[:1])
    changed = {"base_network": "vgg-16", "num_training_samples": "1", "freeze_layer_pattern": "^(conv1_|conv2_).*"}
    job.configure("hyperparameters", SETTINGS | changed)
    del job.channels["train"]["ContentType"]
    ended = job.channel("train", None).wait(job.start(), timeout=280)
    assert ended.status == 0, ended.log
    assert "Layers that are not learnt: conv1_1, conv1_2, conv2_1, conv2_2" in ended.log
    assert "Without a channel 'validation' there is no mAP" in ended.log
    model = ObjectDetection.load(job.folder.model)
    torch.manual_seed(0)
    begun = detector("vgg-16", 2, 300).state_dict()
    learnt = model.network_.state_dict()
    moved = {name for name in begun if not torch.equal(begun[name], learnt[name])}
    assert "trunk.base.conv2_2.weight" not in moved
    assert {"trunk.base.conv3_1.weight", "trunk.base.fc7.bias", "trunk.norm", "heads.0.weight"} <= moved


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_job_goes_on_and_a_stopped_one_leaves_its_best_model(job: Job) -> None:
    job.configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    job.configure("hyperparameters", SETTINGS | {"epochs": "1000"})

    def reached() -> list[int]:
        found = job.folder.checkpoints.glob("object-detection-checkpoint.*.npz")
        return [int(path.name.split(".")[1]) for path in found]

    process = job.start()
    wait_for(lambda: reached())
    process.kill()
    process.communicate()
    begun = max(reached())
    process = job.start()
    wait_for(lambda: max(reached()) > begun)
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process, timeout=120)
    assert ended.status == 0, ended.log
    assert re.search(r"Training goes on after \d+ epochs", ended.log)
    assert re.search(r"Epoch \d+ was the best: validation-mAP=", ended.log)
    assert len(ObjectDetection.load(job.folder.model).predict(HELD[0])) == 2


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_pretrained_model": "1"}, "ClientError: use_pretrained_model=1, but there are no published weights"),
        ({"num_classes": "1"}, "is not one of 0 to 0 (num_classes=1)"),
        ({"label_width": "6"}, "but label_width is 6; set it to"),
        ({"image_shape": "299"}, "image_shape: 299 is not in [300"),
        ({"freeze_layer_pattern": "^conv9"}, "ClientError: freeze_layer_pattern '^conv9' matches no layer"),
    ],
)
def test_a_users_mistake_is_told(job: Job, settings: dict[str, str], reason: str) -> None:
    ended = job.configure("hyperparameters", SETTINGS | settings).wait(job.start(), timeout=120)
    assert ended.status == 1, ended.log
    assert reason in ended.failure
