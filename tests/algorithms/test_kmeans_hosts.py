"""Several hosts: the centers of all shards are united, the result is as good as one host's and the same on all."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import KMeans
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.test_kmeans_quality import letters, ssd
from tests.container.test_distributed import TwoHosts


class Gang:
    """The meeting point of runs in threads of one process."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.parts: list[bytes] = [b""] * size


class GangRun(RecordingRun):
    """One host's run."""

    def __init__(self, gang: Gang, rank: int, stop: bool = False) -> None:
        super().__init__()
        self.hosts = [f"algo-{number + 1}" for number in range(len(gang.parts))]
        self.host = self.hosts[rank]
        self._gang, self._stop = gang, stop

    @property
    def stopping(self) -> bool:
        return self._stop

    def gather(self, state: bytes) -> list[bytes]:
        self._gang.parts[self.rank] = state
        self._gang.barrier.wait()
        parts = list(self._gang.parts)
        self._gang.barrier.wait()
        return parts


def trained(
    shards: list[Any], stop: int = -1, tests: list[Any] | None = None, **settings: Any
) -> tuple[list[KMeans], list[GangRun]]:
    """A model on each host; a shard without rows is None."""
    gang = Gang(len(shards))
    runs = [GangRun(gang, rank, stop == rank) for rank in range(len(shards))]

    def one(rank: int) -> KMeans:
        from sagesmith.formats.batch import Batch
        from sagesmith.formats.channel import Channel

        shard = shards[rank]
        channel = Channel.of("train", shard) if shard is not None else Channel.from_files("train", [], "text/csv")
        assert shard is None or isinstance(channel.read(), Batch)
        return KMeans(**settings).fit(channel, run=runs[rank], test=tests[rank] if tests else None)

    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(one, range(len(shards)))), runs


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return letters()[:4000]


@pytest.mark.parametrize("order", ["mixed", "sorted"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_two_hosts_are_as_good_as_one(rows: np.ndarray, order: str, epochs: int) -> None:
    X = rows if order == "mixed" else rows[np.argsort(rows[:, 0], kind="stable")]
    alone = KMeans(k=10, epochs=epochs, mini_batch_size=500).fit(rows)
    models, runs = trained([X[:1500], X[1500:]], k=10, epochs=epochs, mini_batch_size=500)
    assert np.array_equal(models[0].cluster_centers_, models[1].cluster_centers_)
    assert ssd(models[0], rows) <= 1.02 * ssd(alone, rows)
    assert "shrinking 200 centers into 10" in "\n".join(runs[0].lines)
    assert f"epoch={epochs - 1}, train msd <loss>=" in "\n".join(runs[0].lines)
    assert not [line for line in runs[1].lines if "train msd" in line], "only the master tells of the whole"


def test_without_extra_centers_those_of_the_hosts_are_shrunk(rows: np.ndarray) -> None:
    models, runs = trained([rows[::2], rows[1::2]], k=10, extra_center_factor=1, mini_batch_size=500)
    assert "shrinking 20 centers into 10" in "\n".join(runs[0].lines)
    alone = KMeans(k=10, extra_center_factor=1, mini_batch_size=500).fit(rows)
    assert ssd(models[0], rows) <= 1.1 * ssd(alone, rows)


def test_a_host_without_rows_takes_part(rows: np.ndarray) -> None:
    models, _ = trained([None, rows[:900], None], k=5)
    assert all(np.array_equal(model.cluster_centers_, models[1].cluster_centers_) for model in models)
    assert ssd(models[0], rows[:900]) <= 1.05 * ssd(KMeans(k=5).fit(rows[:900]), rows[:900])


def test_no_rows_on_any_host_is_an_error() -> None:
    with pytest.raises(DataError, match="the train channel holds no rows on any host"):
        trained([None, None], k=5)


def test_few_rows_on_each_host_are_enough_together() -> None:
    models, _ = trained([np.eye(3)[:1], np.eye(3)[1:2], np.eye(3)[2:]], k=3)
    assert sorted(models[0].cluster_centers_.tolist()) == sorted(np.eye(3).tolist())
    with pytest.raises(DataError, match="n_samples=2 should be >= k=3"):
        trained([np.eye(3)[:1], np.eye(3)[1:2]], k=3)


def test_hosts_with_rows_of_different_widths_are_told_apart() -> None:
    with pytest.raises(DataError, match="hosts have rows of 2 and of 3 columns"):
        trained([np.zeros((9, 2)), np.zeros((9, 3))], k=3)


def test_sparse_shards_are_united(rows: np.ndarray) -> None:
    models, _ = trained([sparse.csr_matrix(rows[:2000]), sparse.csr_matrix(rows[2000:])], k=10)
    assert ssd(models[0], rows) <= 1.03 * ssd(KMeans(k=10).fit(rows), rows)


def test_one_host_that_is_asked_to_stop_stops_all_with_a_model(rows: np.ndarray) -> None:
    models, runs = trained([rows[:2000], rows[2000:]], stop=1, k=10, epochs=50, mini_batch_size=500)
    assert np.array_equal(models[0].cluster_centers_, models[1].cluster_centers_)
    assert not [line for line in runs[0].lines if "epoch=1," in line]


@pytest.mark.parametrize("replicated", [True, False])
def test_a_test_channel_is_scored_whole_whether_sharded_or_replicated(rows: np.ndarray, replicated: bool) -> None:
    held = rows[:400]
    tests = [held, held] if replicated else [held[:300], held[300:]]
    settings = {"k": 5, "eval_metrics": ["msd", "ssd"]}
    models, runs = trained([rows[400:2000], rows[2000:]], tests=tests, **settings)
    found = [float(line.split("=")[-1]) for line in runs[0].lines if "test ssd" in line]
    assert found == [pytest.approx(ssd(models[0], held), rel=1e-5)]
    assert not [line for line in runs[1].lines if "test ssd" in line]


@pytest.mark.slow
def test_two_processes_leave_one_model(rows: np.ndarray, tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    hosts = TwoHosts(tmp_path, kept | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"})
    for number, job in enumerate(hosts.jobs):
        job.algorithm = "kmeans"
        job.configure("hyperparameters", {"k": "10", "feature_dim": "16"})
        text = "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows[number::2])
        job.channel("train", text, ContentType="text/csv;label_size=0", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert [len(list(job.folder.model.iterdir())) for job in hosts.jobs] == [2, 0]
    model = KMeans.load(hosts.jobs[0].folder.model)
    assert ssd(model, rows) <= 1.03 * ssd(KMeans(k=10).fit(rows), rows)
