"""Several hosts: their models are equal to the last bit, and those of one host with as many rows in a mini-batch."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import FactorizationMachines
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.fm_reference import sparse_rows
from tests.container.test_distributed import TwoHosts

RECORDIO = "application/x-recordio-protobuf"
X = sparse_rows(90, 12)
y = (X @ np.linspace(-1, 2, 12)).astype(np.float32)
SETTINGS: dict[str, Any] = {"num_factors": 3, "predictor_type": "regressor", "mini_batch_size": 20, "epochs": 2}


class Gang:
    """Runs for threads that meet as hosts do."""

    def __init__(self, count: int, stop_at: int | None = None) -> None:
        self.hosts = [f"algo-{number + 1}" for number in range(count)]
        self.meeting = threading.Barrier(count, timeout=30)
        self.states: dict[str, bytes] = {}
        self.rounds = 0
        self.stop_at = stop_at

    def run(self, host: str) -> RecordingRun:
        gang = self

        class Member(RecordingRun):
            @property
            def stopping(self) -> bool:
                return gang.stop_at is not None and host == gang.hosts[-1] and gang.rounds >= gang.stop_at

            def gather(self, state: bytes) -> list[bytes]:
                gang.states[host] = state
                gang.meeting.wait()
                found = [gang.states[name] for name in gang.hosts]
                gang.meeting.wait()
                if host == gang.hosts[0]:
                    gang.rounds += 1
                gang.meeting.wait()
                return found

        run = Member()
        run.host, run.hosts = host, gang.hosts
        return run

    def fit(self, shares: list[Any], **given: Any) -> list[tuple[FactorizationMachines, RecordingRun]]:
        def one(number: int) -> tuple[FactorizationMachines, RecordingRun]:
            run = self.run(self.hosts[number])
            rows = shares[number]
            channel = Channel.of("train", X[rows], y[rows]) if len(rows) else nothing()
            model = FactorizationMachines(**{**SETTINGS, "feature_dim": 12, **given})
            return model.fit(channel, run=run, test=Channel.of("test", X, y)), run

        with ThreadPoolExecutor(len(shares)) as pool:
            return list(pool.map(one, range(len(shares))))


def nothing() -> Channel:
    return Channel.from_files("train", [], RECORDIO)


def same(models: list[tuple[FactorizationMachines, RecordingRun]]) -> None:
    for model, _ in models[1:]:
        assert (model.w0_, model.v_.tolist()) == (models[0][0].w0_, models[0][0].v_.tolist()), "to the last bit"


def test_two_hosts_take_the_steps_of_one_with_twice_the_rows() -> None:
    # Batches of 20 from two hosts side by side are the batches of 40 of one host, if the rows lie so.
    shares = [
        np.concatenate([np.arange(0, 20), np.arange(40, 60)]),
        np.concatenate([np.arange(20, 40), np.arange(60, 80)]),
    ]
    both = Gang(2).fit(shares)
    same(both)
    alone = FactorizationMachines(**{**SETTINGS, "mini_batch_size": 40}).fit(X[:80], y[:80])
    np.testing.assert_allclose(both[0][0].v_, alone.v_, rtol=1e-4, atol=1e-7)
    assert both[0][0].w0_ == pytest.approx(alone.w0_, rel=1e-5)
    metric = [[line.split("=")[-1] for line in run.lines if "train rmse" in line] for _, run in both]
    assert metric[0] == metric[1], "over the rows of both"


@pytest.mark.parametrize("sizes", [(90, 0), (0, 90), (70, 20, 0)])
def test_shares_of_unlike_size_and_empty_ones(sizes: tuple[int, ...]) -> None:
    edges = np.cumsum((0, *sizes))
    trained = Gang(len(sizes)).fit([np.arange(a, b) for a, b in itertools.pairwise(edges)])
    same(trained)
    if 90 in sizes:
        np.testing.assert_allclose(trained[0][0].v_, FactorizationMachines(**SETTINGS).fit(X, y).v_, rtol=1e-5)


def test_no_rows_on_any_host() -> None:
    with pytest.raises(ValueError, match="holds no rows"):
        Gang(2).fit([np.arange(0), np.arange(0)])


def test_all_hosts_stop_at_the_same_step() -> None:
    trained = Gang(2, stop_at=3).fit([np.arange(60), np.arange(60, 90)], epochs=1000)
    same(trained)
    assert trained[0][0].v_.any()


@pytest.mark.slow
def test_two_hosts_as_two_agents_would_start_them(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    hosts = TwoHosts(tmp_path, kept | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"})
    for number, one in enumerate(hosts.jobs):
        one.algorithm = "factorization-machines"
        one.configure("hyperparameters", {name: str(value) for name, value in (SETTINGS | {"feature_dim": 12}).items()})
        part = slice(50 * number, 50 * number + 50)
        one.channel(
            "train", write_records(Batch(X[part], y[part])), ContentType=RECORDIO, S3DistributionType="ShardedByS3Key"
        )
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    model = FactorizationMachines.load(hosts.jobs[0].folder.model)
    expected = Gang(2).fit([np.arange(50), np.arange(50, 90)])[0][0]
    np.testing.assert_array_equal(model.v_, expected.v_)
