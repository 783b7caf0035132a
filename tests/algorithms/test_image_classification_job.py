"""Image Classification as a job in a folder: every way of input, two hosts, killed and begun again, served."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import ImageClassification
from sagesmith.contract import JobFolder
from sagesmith.formats.frames import HEADER, MAGIC
from sagesmith.formats.images import jpeg, png
from tests.algorithms.classification_pictures import SMALL, drawn, folders, listed, recorded
from tests.container.jobs import Ended, Job, serving

RECORDS, FILES = "application/x-recordio", "application/x-image"
SETTINGS = {name: str(value) for name, value in SMALL.items()} | {"num_classes": "3", "num_training_samples": "96"}
SETTINGS |= {"epochs": "2"}
HELD = drawn(48, seed=1)


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "image-classification")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})
    return made.configure("hyperparameters", SETTINGS)


def with_records(job: Job) -> Job:
    for name, count, seed in (("train", 96, 0), ("validation", 48, 1)):
        recorded(job.folder.channel(name) / f"{name}.rec", count, seed)
        job.channel(name, None, ContentType=RECORDS)
    return job


def ended_well(ended: Ended) -> str:
    assert ended.status == 0, ended.log
    return ended.log


def test_records_are_learnt_judged_and_served(job: Job) -> None:
    log = ended_well(with_records(job).run())
    for metric in ImageClassification.metrics:
        assert re.search(metric.regex, log), metric.name
    stamp = r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d INFO \d+\] "
    saved = re.search(stamp + r'Saved checkpoint to "(\S+)"', log)
    assert saved is not None
    assert re.search(stamp + r"Epoch\[0\] Validation-accuracy=0\.\d{6}\n", log)
    assert Path(saved[1]).parent == job.folder.model
    names = sorted(path.name for path in job.folder.model.iterdir())
    assert len(names) == 3
    model = ImageClassification.load(job.folder.model)
    expected = model.predict_proba(HELD[0][:1])[0]
    with serving(job) as server:
        for kind, body in (("image/png", png(HELD[0][0])), ("application/x-image", png(HELD[0][0]))):
            np.testing.assert_allclose(json.loads(server.invoke(body, kind).body), expected, rtol=1e-5)
        line = server.invoke(png(HELD[0][0]), "image/png", Accept="application/jsonlines").body
        np.testing.assert_allclose(json.loads(line)["prediction"], expected, rtol=1e-5)
        refused = server.invoke(jpeg(HELD[0][0])[:300], "image/jpeg")
        assert (refused.status, b"Unable to evaluate payload provided" in refused.body) == (400, True)


def test_files_with_lists_and_folders_of_classes(job: Job) -> None:
    for name, count, seed in (("train", 96, 0), ("validation", 48, 1)):
        listed(job.folder.channel(name), job.folder.channel(f"{name}_lst"), count, seed)
        job.channel(name, None, ContentType=FILES).channel(f"{name}_lst", None, ContentType=FILES)
    job.configure("hyperparameters", SETTINGS | {"resize": "16", "epochs": "1"})
    assert "Validation-accuracy" in ended_well(job.run())


def test_pipes_give_records_and_manifests(job: Job) -> None:
    rec = recorded(job.folder.base / "train.rec", 96).read_bytes()
    piped(job, "train", [rec] * 2, ContentType=RECORDS)
    frames = b"".join(
        HEADER.pack(MAGIC, len(part)) + part + bytes(-len(part) % 4)
        for image, label in zip(*HELD, strict=True)
        for part in (png(image), str(label).encode())
    )
    piped(job, "validation", [frames] * 2, ContentType=RECORDS, RecordWrapperType="RecordIO")
    assert len(re.findall("Validation-accuracy", ended_well(job.run()))) == 2


def test_several_classes_by_their_numbers(job: Job) -> None:
    lines = []
    for number, (image, label) in enumerate(zip(*drawn(96), strict=True)):
        path = job.folder.channel("train") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
        lines.append(json.dumps({"source-ref": path.name, "class": f"[0, {label}]", "class-metadata": {}}))
    (job.folder.channel("train") / "train.manifest").write_text("\n".join(lines))
    job.channel("train", None, ContentType=f"{RECORDS}; label-format=class-id")
    job.configure("hyperparameters", SETTINGS | {"multi_label": "1", "use_weighted_loss": "1"})
    ended_well(job.run())
    assert ImageClassification.load(job.folder.model).predict_proba(HELD[0])[:, 0].mean() > 0.6


def piped(job: Job, name: str, passes: list[bytes], **configuration: str) -> None:
    """A Pipe channel whose passes are written as they are opened."""
    folder = job.folder.channel(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in range(len(passes)):
        os.mkfifo(f"{folder}_{number}")

    def write() -> None:
        for number, content in enumerate(passes):
            Path(f"{folder}_{number}").write_bytes(content)

    threading.Thread(target=write, daemon=True).start()
    job.channel(name, None, TrainingInputMode="Pipe", **configuration)


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_job_goes_on_and_a_stopped_one_leaves_its_best_model(job: Job) -> None:
    with_records(job).configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    job.configure("hyperparameters", SETTINGS | {"epochs": "200"})

    def reached() -> list[int]:
        pattern = "image-classification-checkpoint.*.npz"
        return [int(path.name.split(".")[1]) for path in job.folder.checkpoints.glob(pattern)]

    process = job.start()
    wait_for(lambda: reached())
    process.kill()
    process.communicate()
    begun = max(reached())
    process = job.start()
    wait_for(lambda: max(reached()) > begun)
    process.send_signal(signal.SIGTERM)
    log = ended_well(job.wait(process))
    assert re.search(r"Training goes on after epoch \d+", log)
    assert ImageClassification.load(job.folder.model).predict_proba(HELD[0]).shape == (48, 3)


def test_training_goes_on_from_a_model_of_the_same_shape(job: Job, tmp_path: Path) -> None:
    model = ImageClassification(**SMALL | {"epochs": 1}).fit(*drawn(48))
    model.save(job.folder.channel("model"))
    with_records(job).channel("model", None, ContentType="application/x-sagemaker-model")
    assert "Training goes on from image-classification-0001.params" in ended_well(job.run())
    job.configure("hyperparameters", SETTINGS | {"num_layers": "32"})
    assert "num_layers is 20 there and 32 here" in job.run().failure


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"num_classes": "2"}, "ClientError: "),
        ({"use_pretrained_model": "1", "image_shape": "3,224,224", "num_layers": "18"}, "no published weights of"),
        ({"mini_batch_siz": "3"}, "Additional properties are not allowed ('mini_batch_siz' was unexpected)"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_told(job: Job, settings: dict[str, str], reason: str) -> None:
    ended = with_records(job).configure("hyperparameters", SETTINGS | settings).run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def test_what_a_job_must_give(job: Job) -> None:
    with_records(job)
    job.configure("hyperparameters", {key: value for key, value in SETTINGS.items() if key != "num_classes"})
    assert "Missing required hyperparameter: num_classes" in job.run().failure
    folders(job.folder.channel("train") / "x", 3)
    job.channel("train", None, ContentType="text/csv").configure("hyperparameters", SETTINGS)
    assert "allowed: application/x-recordio, application/x-image" in job.run().failure
