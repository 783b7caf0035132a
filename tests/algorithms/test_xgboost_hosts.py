"""Several hosts training one model, each a process with its own rows."""

from __future__ import annotations

import multiprocessing
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer

from sagesmith.algorithms import XGBoost
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun

SETTINGS: dict[str, Any] = {"objective": "binary:logistic", "num_round": 6, "tree_method": "hist", "max_bin": 16}


class HostRun(RecordingRun):
    """One of several hosts; `gather` goes through pipes to the test."""

    def __init__(self, host: str, hosts: list[str], pipe: Connection, checkpoints: Path | None) -> None:
        super().__init__()
        self.host, self.hosts, self.pipe, self.checkpoints = host, hosts, pipe, checkpoints

    def gather(self, state: bytes) -> list[bytes]:
        self.pipe.send(("state", state))
        return list(self.pipe.recv())


def train_host(host: str, hosts: list[str], folder: Path, checkpoints: Path | None, pipe: Connection) -> None:
    run = HostRun(host, hosts, pipe, checkpoints)
    try:
        channels = {}
        for name in ("train", "validation"):
            channels[name] = Channel.from_folder(name, folder / name / host, "text/csv")
        model = XGBoost(**SETTINGS)
        model.validate()
        model.train(channels, run)
        if run.is_master:
            model.save(folder / "model")
        pipe.send(("done", run.lines))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


def gang(folder: Path, hosts: list[str], checkpoints: Path | None = None) -> dict[str, list[str]]:
    """Runs every host to its end and returns the logs."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    processes = []
    for host in hosts:
        ours, theirs = context.Pipe()
        own = checkpoints if host == hosts[0] else None
        process = context.Process(target=train_host, args=(host, hosts, folder, own, theirs))
        process.start()
        pipes[host] = ours
        processes.append(process)
    logs: dict[str, list[str]] = {}
    try:
        for _ in range(2):  # what a host has, and where the tracker is
            states = [_receive(pipes[host], "state") for host in hosts]
            for host in hosts:
                pipes[host].send(states)
        logs = {host: _receive(pipes[host], "done") for host in hosts}
    finally:
        for process in processes:
            process.join(20)
            if process.is_alive():
                process.kill()
    return logs


def _receive(pipe: Connection, kind: str) -> Any:
    assert pipe.poll(120), "a host fell silent"
    found, value = pipe.recv()
    assert found == kind, value
    return value


@pytest.fixture
def shards(tmp_path: Path) -> Any:
    """Writes the rows of a channel to hosts by share; a share of None writes nothing."""
    X, y = load_breast_cancer(return_X_y=True)
    table = np.column_stack([y, X.round(1)])[np.random.default_rng(0).permutation(len(y))]

    def write(**shares: slice | None) -> np.ndarray:
        for name in ("train", "validation"):
            for host, share in shares.items():
                folder = tmp_path / name / host.replace("_", "-")
                folder.mkdir(parents=True, exist_ok=True)
                rows = table[:400][share] if name == "train" and share else table[400:][share] if share else []
                if len(rows):
                    np.savetxt(folder / "part.csv", rows, delimiter=",", fmt="%.6g")
        return table

    return write


@pytest.mark.slow
def test_two_hosts_train_one_model(shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table = shards(algo_1=slice(0, None, 2), algo_2=slice(1, None, 2))
    logs = gang(tmp_path, ["algo-1", "algo-2"])
    assert "Distributed node training with 2 hosts: ['algo-1', 'algo-2']" in logs["algo-1"]
    assert len([line for line in logs["algo-1"] if line.startswith("[")]) == 6
    assert not [line for line in logs["algo-2"] if line.startswith("[")]
    model = XGBoost.load(tmp_path / "model")
    X, y = table[400:, 1:], table[400:, 0]
    assert model.score(X, y) > 0.9
    last = next(line for line in logs["algo-1"] if line.startswith("[5]"))
    logged = float(last.rpartition("validation-logloss:")[2])
    positive = np.clip(model.predict_proba(X)[:, 1], 1e-7, 1 - 1e-7)
    assert logged == pytest.approx(-np.mean(np.where(y == 1, np.log(positive), np.log(1 - positive))), abs=1e-4)
    alone = xgboost.train(
        {"objective": "binary:logistic", "tree_method": "hist", "max_bin": 16},
        xgboost.DMatrix(table[:400, 1:], table[:400, 0]), 6,
    ).predict(xgboost.DMatrix(X))  # fmt: skip
    assert np.corrcoef(alone, positive)[0, 1] > 0.98


@pytest.mark.slow
def test_hosts_without_data_leave_and_the_first_one_saves_all_the_same(shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table = shards(algo_1=None, algo_2=slice(0, 200), algo_3=None, algo_4=slice(200, 400))
    logs = gang(tmp_path, ["algo-1", "algo-2", "algo-3", "algo-4"], tmp_path / "checkpoints")
    assert "Host algo-3 has no data and leaves the training" in logs["algo-3"]
    assert "Distributed node training with 3 hosts: ['algo-1', 'algo-2', 'algo-4']" in logs["algo-2"]
    whole = XGBoost.load(tmp_path / "model")
    assert whole.score(table[400:, 1:], table[400:, 0]) > 0.9
    (tmp_path / "checkpoints" / "xgboost-checkpoint.5").unlink()
    logs = gang(tmp_path, ["algo-1", "algo-2", "algo-3", "algo-4"], tmp_path / "checkpoints")
    rounds = [line.split("\t")[0] for line in logs["algo-1"] if line.startswith("[")]
    assert rounds == ["[5]"]
    again = XGBoost.load(tmp_path / "model")
    assert again.booster_model.num_boosted_rounds() == 6
    assert np.allclose(again.predict_proba(table[:, 1:]), whole.predict_proba(table[:, 1:]), atol=1e-6)
