"""Semantic Segmentation as a job in a folder, with the ResNet-50 of real jobs on few small pictures; killed; served."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sagesmith.algorithms import SemanticSegmentation
from sagesmith.contract import JobFolder
from sagesmith.formats.frames import frames
from sagesmith.formats.images import jpeg, mask_of
from sagesmith.formats.protobuf import decode
from tests.algorithms.semantic_segmentation_scenes import drawn, tiny, written
from tests.container.jobs import Job, serving

__all__ = ["tiny"]

SETTINGS = {
    "num_classes": "3", "num_training_samples": "6", "use_pretrained_model": "False", "base_size": "40",
    "crop_size": "24", "mini_batch_size": "3", "epochs": "2", "learning_rate": "0.01",
}  # fmt: skip
CHANNELS = ("train", "train_annotation", "validation", "validation_annotation")
HELD = drawn(3, (32, 40), seed=1)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "semantic-segmentation")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    for name in CHANNELS:
        made.channel(name, None)
    data = made.folder.channel("train").parent
    written(data, *drawn(6, (32, 40)))
    written(data, *HELD, name="validation")
    return made


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in SemanticSegmentation.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    for line in (
        "label maps not provided, using defaults.",
        "LRScheduler setup: iters per epoch: 2, num_epochs 2",
        "#progress_metric: host=algo-1, completed 50 % of epochs",
        '"Algorithm": "AWS/Semantic Segmentation", "Host": "algo-1", "Operation": "training", "epoch": 1',
        '"Metrics": {"epochs": {"sum": 2, "count": 1, "min": 2, "max": 2}}',
        f"Serializing model to {job.folder.model}/model_best.params",
    ):
        assert line in ended.log, line
    assert re.search(r"#quality_metric\. host: algo-1, epoch: 1, validation mIOU: \S+ \.\n", ended.log)
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["hyperparams.json", "model_best.params"]
    model = SemanticSegmentation.load(job.folder.model)
    best = max(float(found) for found in re.findall(r"validation mIOU: (\S+) \.", ended.log))
    assert model.score(*written(job.folder.base, *HELD, name="again")) == pytest.approx(best, abs=1e-2)
    with serving(job) as server:
        body = jpeg(HELD[0][0])
        mask = mask_of(server.invoke(body, "image/jpeg", Accept="image/png").body, "answer")
        assert mask.shape == (32, 40)
        reply = server.invoke(body, "image/jpeg", Accept="application/x-protobuf")
        assert reply.headers["content-type"] == "application/x-protobuf"
        (payload,) = frames(io.BytesIO(reply.body))
        features = decode(payload).features
        probabilities = features["target"].values.reshape(features["shape"].values.tolist())[0]
        assert (probabilities.argmax(axis=0) == mask).mean() > 0.99
        refused = server.invoke(body, "image/jpeg", Accept="application/json")
        assert (refused.status, b"is not in [image/png, application/x-protobuf" in refused.body) == (406, True)
        refused = server.invoke(body[:200], "image/jpeg", Accept="image/png")
        assert (refused.status, b"cannot be decoded" in refused.body) == (400, True)


def checkpoints(job: Job) -> list[int]:
    return [
        int(path.name.split(".")[1]) for path in job.folder.checkpoints.glob("semantic-segmentation-checkpoint.*.npz")
    ]


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.usefixtures("tiny")
def test_a_killed_job_goes_on_and_a_stopped_one_leaves_its_best_model(job: Job) -> None:
    job.configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    job.configure("hyperparameters", SETTINGS | {"epochs": "1000"})
    process = start_tiny(job)
    wait_for(lambda: checkpoints(job))
    process.kill()
    process.communicate()
    reached = max(checkpoints(job))
    process = start_tiny(job)
    wait_for(lambda: max(checkpoints(job)) > reached)
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process, 120)
    assert ended.status == 0, ended.log
    assert f"Training goes on after epoch {reached - 1}" in ended.log
    assert re.search(r"Epoch \d+ was the best: mIOU 0\.\d+", ended.log)
    assert SemanticSegmentation.load(job.folder.model).predict(HELD[0]).shape == (3, 32, 40)


def start_tiny(job: Job) -> subprocess.Popen[str]:
    """The job's container, in whose process the small network has the name of the large one."""
    program = (
        "import sys, runpy\n"
        "from tests.algorithms.semantic_segmentation_scenes import tiny_of\n"
        "from sagesmith.algorithms.semantic_segmentation.network import Segmenter\n"
        "Segmenter.of = tiny_of\n"
        "runpy.run_module('sagesmith.container', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", program, "train", job.algorithm, "--base", str(job.folder.base)]
    return subprocess.Popen(command, env=job.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    ("settings", "channel", "reason"),
    [
        ({"num_classes": "1"}, {}, "num_classes: 1 is not in [2, 254]"),
        ({"num_training_samples": None}, {}, "Missing required hyperparameter: num_training_samples"),
        ({"use_pretrained_model": "True"}, {}, "no published weights of resnet50"),
        ({}, {"train": {"ContentType": "text/csv"}}, "allowed: application/x-image"),
        ({}, {"train_annotation": {"TrainingInputMode": "Pipe"}}, "TrainingInputMode 'Pipe'; allowed: File, FastFile"),
        ({}, {"train_annotation": None}, "Missing required channel: train_annotation"),
        ({}, {"validation": None, "validation_annotation": None}, "Missing required channel: validation"),
        ({}, {"train": {"S3DistributionType": "ShardedByS3Key"}}, "allowed: FullyReplicated"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_told(
    job: Job, settings: dict[str, str | None], channel: dict[str, Any], reason: str
) -> None:
    given = {name: value for name, value in (SETTINGS | settings).items() if value is not None}
    job.configure("hyperparameters", given)
    for name, configuration in channel.items():
        if configuration is None:
            del job.channels[name]
        else:
            job.channel(name, None, **configuration)
    job.configure("channels", job.channels)
    ended = job.run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def test_several_hosts_are_refused(job: Job) -> None:
    job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    assert "semantic-segmentation trains on one host; this job has 2" in job.run().failure


@pytest.mark.usefixtures("tiny")
def test_the_command_line_trains_and_predicts(job: Job, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from sagesmith.cli import main

    data, out = job.folder.channel("train").parent, tmp_path / "out"
    arguments = [item for name in CHANNELS for item in (f"--{name}", str(data / name))]
    arguments += [item for name, value in SETTINGS.items() if name != "num_training_samples"
                  for item in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    done = CliRunner().invoke(main, ["train", "semantic-segmentation", *arguments, "--model-dir", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    asked = CliRunner().invoke(main, ["predict", str(out), str(data / "validation" / "scene0.jpg")])
    assert asked.exit_code == 0, asked.output
    assert mask_of(asked.stdout_bytes, "answer").shape == (32, 40)
    assert asked.stdout_bytes.endswith(b"IEND\xaeB`\x82")  # not a byte more
