"""Linear Learner's checkpoints: an interrupted job ends with the model of an uninterrupted one."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import LinearLearner
from sagesmith.contract import JobFolder
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.test_linear_learner_job import InGang, csv, together
from tests.container.jobs import Job

SETTINGS: dict[str, Any] = {
    "predictor_type": "binary_classifier", "epochs": 6, "mini_batch_size": 50, "num_models": 20,
    "early_stopping_patience": 10,
}  # fmt: skip


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def trained(data: Any, folder: Path | None, **changed: Any) -> tuple[LinearLearner, RecordingRun]:
    run = RecordingRun()
    run.checkpoints = folder
    return LinearLearner(**SETTINGS | changed).fit(*data, run=run), run


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_job_ends_with_the_model_of_an_uninterrupted_one(optimizer: str, cancer: Any, tmp_path: Path) -> None:
    whole, _ = trained(cancer, None, optimizer=optimizer)
    trained(cancer, tmp_path, optimizer=optimizer, epochs=3)
    assert kept(tmp_path) == ["linear-learner-checkpoint.1.npz", "linear-learner-checkpoint.2.npz"]
    resumed, run = trained(cancer, tmp_path, optimizer=optimizer)
    assert "Resuming from checkpoint 2: 3 epochs remain" in run.lines
    assert sum("#early_stopping_criteria_metric" in line for line in run.lines) == 3
    assert np.array_equal(resumed.weight_, whole.weight_)
    assert resumed.threshold == whole.threshold


def test_torn_and_foreign_checkpoints_are_left_aside(cancer: Any, tmp_path: Path) -> None:
    trained(cancer, tmp_path, epochs=3)
    whole = (tmp_path / "linear-learner-checkpoint.2.npz").read_bytes()
    (tmp_path / "linear-learner-checkpoint.2.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "linear-learner-checkpoint.9.npz.sagemaker-ignore").write_bytes(b"half")
    _, run = trained(cancer, tmp_path, epochs=3)
    assert any(line.startswith("Checkpoint left aside: ") and "checkpoint.2" in line for line in run.lines)
    assert "Resuming from checkpoint 1: 1 epochs remain" in run.lines
    _, run = trained(cancer, tmp_path, epochs=3, learning_rate=0.1)
    assert any("it is of a job with other learning_rate" in line for line in run.lines)
    assert not any("Resuming" in line for line in run.lines)


def test_early_stopping_goes_on_where_it_was(cancer: Any, tmp_path: Path) -> None:
    stops = {"early_stopping_patience": 2, "early_stopping_tolerance": 10.0, "epochs": 9}
    _, first = trained(cancer, tmp_path, **stops)
    assert sum("#early_stopping_criteria_metric" in line for line in first.lines) == 3
    _, again = trained(cancer, tmp_path, **stops)
    assert "Early stop condition met. Stopping training." in again.lines
    assert not any("#early_stopping_criteria_metric" in line for line in again.lines)


def test_a_checkpoint_being_uploaded_stays(cancer: Any, tmp_path: Path) -> None:
    tmp_path.joinpath("linear-learner-checkpoint.0.npz.sagemaker-uploading").touch()
    tmp_path.joinpath("linear-learner-checkpoint.1.npz.sagemaker-uploaded").touch()
    trained(cancer, tmp_path, epochs=4)
    assert [name for name in kept(tmp_path) if "sagemaker" not in name] == [
        f"linear-learner-checkpoint.{epoch}.npz" for epoch in (0, 2, 3)
    ]
    assert not (tmp_path / "linear-learner-checkpoint.1.npz.sagemaker-uploaded").exists()


def test_hosts_go_on_from_the_first_ones_checkpoint(cancer: Any, tmp_path: Path) -> None:
    X, y = cancer

    def one(run: InGang, folder: Path | None, epochs: int) -> LinearLearner:
        run.checkpoints = folder if run.is_master else None
        channel = Channel.of("train", X[run.rank :: 2], y[run.rank :: 2])
        return LinearLearner(**SETTINGS | {"epochs": epochs, "num_models": 3}).fit(channel, run=run)

    whole = together(2, lambda run: one(run, None, 4))
    together(2, lambda run: one(run, tmp_path, 2))
    resumed = together(2, lambda run: one(run, tmp_path, 4))
    assert np.array_equal(resumed[0].weight_, whole[0].weight_)
    assert np.array_equal(resumed[1].weight_, whole[1].weight_)


@pytest.mark.slow
def test_a_killed_job_goes_on_from_its_checkpoint(cancer: Any, tmp_path: Path, environment: dict[str, str]) -> None:
    X, y = cancer
    jobs = []
    for name in ("whole", "killed"):
        job = Job(JobFolder(tmp_path / name).create(), environment, "linear-learner")
        strings = SETTINGS | {"epochs": 300, "early_stopping_patience": 1000}
        job.configure("hyperparameters", {key: str(value) for key, value in strings.items()})
        job.configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
        jobs.append(job.channel("train", csv(X, y), ContentType="text/csv"))
    process = jobs[1].start()
    folder = jobs[1].folder.base / "checkpoints"
    with process:
        while not (folder.is_dir() and len(kept(folder)) >= 2):
            assert process.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.kill()
        process.communicate()
    assert not list(jobs[1].folder.model.iterdir())
    ended = [job.run() for job in jobs]
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert "Resuming from checkpoint" in ended[1].log
    assert "completed 0 % of epochs" in ended[0].log
    assert "completed 100 % of epochs" in ended[1].log
    models = [LinearLearner.load(job.folder.model) for job in jobs]
    assert np.array_equal(models[0].weight_, models[1].weight_)
