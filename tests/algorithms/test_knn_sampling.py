"""k-NN: the sample is uniform, the same however it is read, and can be merged over hosts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.knn import sampling
from sagesmith.algorithms.knn.sampling import Reservoir, gathered
from sagesmith.formats.batch import Batch, rechunk
from sagesmith.testing.check_algorithm import RecordingRun


def numbered(start: int, stop: int, thin: bool = False) -> Batch:
    rows: Any = np.arange(start, stop, dtype=np.float32)[:, None] + np.float32([0, 0.5])
    return Batch(sparse.csr_matrix(rows) if thin else rows, np.arange(start, stop, dtype=np.float32))


def sample(batches: Sequence[Batch], size: int | None, seed: int = 0) -> Batch:
    reservoir = Reservoir(size, seed)
    for batch in batches:
        reservoir.add(batch)
    found = reservoir.rows()
    assert found is not None
    return found


class Host(RecordingRun):
    """One of several hosts in threads, which gather through a barrier."""

    def __init__(self, host: str, hosts: Sequence[str], states: dict[str, bytes], barrier: threading.Barrier) -> None:
        super().__init__()
        self.host, self.hosts = host, hosts
        self._states, self._barrier = states, barrier

    def gather(self, state: bytes) -> list[bytes]:
        self._states[self.host] = state
        self._barrier.wait(30)
        found = [self._states[name] for name in self.hosts]
        self._barrier.wait(30)
        return found


def over_hosts(shards: Sequence[Sequence[Batch]], size: int | None) -> list[Batch | None]:
    """Every host's sample over all."""
    hosts = [f"algo-{number + 1}" for number in range(len(shards))]
    found: list[Batch | None] = [None] * len(hosts)
    states: dict[str, bytes] = {}
    barrier = threading.Barrier(len(hosts))

    def run(rank: int) -> None:
        reservoir = Reservoir(size, 0, rank, digest=True)
        for batch in shards[rank]:
            reservoir.add(batch)
        found[rank] = gathered(reservoir, Host(hosts[rank], hosts, states, barrier))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(hosts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 400])
def test_the_sample_does_not_depend_on_batches(thin: bool, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SLACK", 10)
    whole = sample([numbered(0, 1000, thin)], 50)
    parts = sample(list(rechunk([numbered(0, 1000, thin)], rows)), 50)
    assert whole.label is not None
    assert parts.label is not None
    assert np.array_equal(whole.label, parts.label)
    assert np.all(np.diff(whole.label) > 0), "the order of the data"
    features: Any = parts.features
    assert np.array_equal((features.toarray() if thin else features)[:, 1], whole.label + np.float32(0.5))
    assert parts.is_sparse == thin


def test_every_row_is_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SLACK", 1)
    hits = np.zeros(60)
    for seed in range(3000):
        label = sample([numbered(0, 30), numbered(30, 35), numbered(35, 60)], 12, seed).label
        assert label is not None
        assert len(label) == 12
        hits[label.astype(int)] += 1
    expected = 3000 * 12 / 60
    chi = float(((hits - expected) ** 2 / expected).sum() / (1 - 12 / 60))
    assert 25 < chi < 110, "59 degrees of freedom: mean 59, far outside by chance once in 10,000"


def test_all_rows_are_kept_where_there_are_no_more() -> None:
    for size in (None, 1000, 5000):
        label = sample(list(rechunk([numbered(0, 1000)], 30)), size).label
        assert label is not None
        assert np.array_equal(label, np.arange(1000))


def test_memory_stays_near_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SLACK", 20)
    reservoir = Reservoir(100, 0)
    for start in range(0, 20_000, 50):
        reservoir.add(numbered(start, start + 50))
        assert reservoir._held <= 170
    assert len(reservoir.keys()) == 100


@pytest.mark.parametrize("thin", [False, True])
def test_hosts_have_one_sample_in_which_large_shards_weigh_more(thin: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PIECE_BYTES", 1000)
    found = over_hosts([[numbered(0, 9000, thin)], [numbered(9000, 10_000, thin)], []], 500)
    labels = [batch.label for batch in found if batch is not None and batch.label is not None]
    assert len(labels) == 3
    assert all(np.array_equal(label, labels[0]) for label in labels)
    assert len(labels[0]) == 500
    assert 25 < int((labels[0] >= 9000).sum()) < 80, "a tenth of the rows, not a third"
    assert np.all(np.diff(labels[0]) > 0)


def test_hosts_that_read_the_same_rows_count_as_one() -> None:
    found = over_hosts([list(rechunk([numbered(0, 300)], 50))] * 2, None)
    assert [len(batch) for batch in found if batch is not None] == [300, 300]
    for size in (40, 299):
        labels = [batch.label for batch in over_hosts([[numbered(0, 300)]] * 2, size) if batch is not None]
        assert labels[0] is not None
        assert len(np.unique(labels[0])) == len(labels[0]) == size


def test_no_rows_anywhere_give_no_sample() -> None:
    assert over_hosts([[], []], 10) == [None, None]
    assert Reservoir(10, 0).rows() is None
