"""The reservoir, its merging over hosts, and what each hyperparameter changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.randomcutforest import RandomCutForest, three_sigma
from sagesmith.algorithms.randomcutforest.reservoir import Reservoir
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun


def rows(count: int, columns: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32)


def numbered(first: int, last: int) -> np.ndarray:
    return np.arange(first, last, dtype=np.float32)[:, None]


def sampled(parts: list[int], capacity: int, seed: int = 0) -> np.ndarray:
    reservoir, first = Reservoir(capacity, seed), 0
    for size in parts:
        reservoir.add(numbered(first, first + size))
        first += size
    return reservoir.rows[:, 0]


def test_rows_that_fit_stay_in_their_order() -> None:
    assert sampled([3, 4, 2], 9).tolist() == list(range(9))
    assert sampled([3, 4, 2], 20).tolist() == list(range(9))


def test_batches_of_any_size_give_one_sample() -> None:
    whole = sampled([1000], 64)
    assert len(set(whole.tolist())) == 64
    for parts in ([1] * 1000, [64, 936], [63, 2, 935], [500, 0, 500]):
        assert np.array_equal(sampled(parts, 64), whole)


def test_every_row_has_the_same_chance() -> None:
    counts = np.zeros(100)
    for seed in range(3000):
        counts[sampled([100], 10, seed).astype(int)] += 1
    assert counts / 3000 == pytest.approx(np.full(100, 0.1), abs=0.03)


def merged(sizes: list[int], capacity: int, seed: int = 0) -> Reservoir:
    states, first = [], 0
    for host, size in enumerate(sizes):
        reservoir = Reservoir(capacity, 1000 * seed + host)
        if size:
            reservoir.add(numbered(first, first + size))
        states.append(reservoir.to_bytes())
        first += size
    return Reservoir.merged(states, capacity, seed)


def test_hosts_merge_in_order_and_one_may_have_nothing() -> None:
    found = merged([3, 0, 4], 10)
    assert found.rows[:, 0].tolist() == list(range(7))
    assert found.seen == 7
    assert len(merged([0, 0], 10).rows) == 0


def test_every_row_of_every_host_has_the_same_chance() -> None:
    counts = np.zeros(100)
    for seed in range(2000):
        counts[merged([70, 5, 25], 10, seed).rows[:, 0].astype(int)] += 1
    assert counts / 2000 == pytest.approx(np.full(100, 0.1), abs=0.03)


def test_hosts_with_rows_of_other_widths_are_refused() -> None:
    narrow, wide = Reservoir(5, 0), Reservoir(5, 1)
    narrow.add(rows(2, 2))
    wide.add(rows(2, 3))
    with pytest.raises(ValueError, match="2 and of 3 columns"):
        Reservoir.merged([narrow.to_bytes(), wide.to_bytes()], 5, 0)


class Gang(RecordingRun):
    """One of several hosts, each in a thread of its own."""

    def __init__(self, rank: int, hosts: int, states: list[bytes], barrier: Barrier) -> None:
        super().__init__()
        self.hosts = [f"algo-{number + 1}" for number in range(hosts)]
        self.host = self.hosts[rank]
        self._states, self._barrier = states, barrier

    def gather(self, state: bytes) -> list[bytes]:
        self._states[self.rank] = state
        self._barrier.wait(20)
        return list(self._states)


def on_hosts(shards: list[np.ndarray], **settings: Any) -> tuple[list[RandomCutForest], list[Gang]]:
    states, barrier = [b""] * len(shards), Barrier(len(shards))
    models = [RandomCutForest(**settings) for _ in shards]
    runs = [Gang(rank, len(shards), states, barrier) for rank in range(len(shards))]

    def train(rank: int) -> None:
        models[rank].train({"train": channel_of(shards[rank])}, runs[rank])

    threads = [Thread(target=train, args=(rank,)) for rank in range(len(shards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return models, runs


def channel_of(shard: np.ndarray) -> Channel:
    return Channel.of("train", shard) if len(shard) else Channel.from_files("train", [], "text/csv", label_size=0)


def test_the_master_builds_one_forest_from_the_shards_of_all() -> None:
    X = rows(900)
    settings: dict[str, Any] = {"num_trees": 50, "num_samples_per_tree": 100}
    models, runs = on_hosts([X[:300], X[:0], X[300:]], **settings)
    alone = RandomCutForest(**settings).fit(X)
    assert models[0].forest_.trees.mass.shape == (50, 18), "900 rows for 50 trees"
    assert np.array_equal(models[0].forest_.trees.point, alone.forest_.trees.point), "in the order of hosts"
    assert not hasattr(models[1], "forest_")
    assert "900 samples gathered" in runs[0].lines
    assert not any("gathered" in line for line in runs[1].lines)


# -- hyperparameters ----------------------------------------------------------------------------------------------
def test_num_trees_and_num_samples_per_tree_shape_the_forest() -> None:
    X = rows(20_000)
    model = RandomCutForest(num_trees=60, num_samples_per_tree=40).fit(X)
    assert model.forest_.trees.mass.shape == (60, 40)
    assert (model.forest_.trees.total == 40).all()


def test_few_rows_are_shared_out_rounded_down() -> None:
    model = RandomCutForest(num_trees=50, num_samples_per_tree=512).fit(rows(249))
    assert model.forest_.trees.mass.shape == (50, 4)


def test_fewer_rows_than_trees_are_given_to_each_of_them() -> None:
    run = RecordingRun()
    X = rows(20)
    model = RandomCutForest(num_trees=50, num_samples_per_tree=15).fit(X, run=run)
    assert model.forest_.trees.mass.shape == (50, 15)
    assert "Fewer rows than trees: each of the 50 trees is given 15 of all 20 rows" in run.lines
    assert model.score_samples(np.full((1, 3), 50.0))[0] < model.score_samples(X).min()


def test_one_row_gives_scores() -> None:
    model = RandomCutForest(num_trees=50).fit(rows(1))
    assert model.score_samples(rows(1))[0] == -0.5  # (1 - 1/2) / (0 + log2 2) * log2 2
    assert model.score_samples(rows(1) + 1)[0] == -1.0


def test_the_seed_decides() -> None:
    X = rows(30_000)
    first, second, third = (RandomCutForest(num_trees=50, seed=seed).fit(X).score_samples(X[:50]) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_mini_batch_size_is_what_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    add = Reservoir.add
    monkeypatch.setattr(Reservoir, "add", lambda self, part: (sizes.append(len(part)), add(self, part)))
    RandomCutForest(num_trees=50, mini_batch_size=70).fit(rows(200))
    assert sizes == [70, 70, 60]


def test_feature_dim_is_checked_against_the_data() -> None:
    with pytest.raises(DataError, match="3 columns, but feature_dim is 4"):
        RandomCutForest(feature_dim=4).fit(rows(60))


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (["accuracy"], ["accuracy"]),
        (["precision_recall_fscore"], ["precision", "recall", "f1"]),
        ('["accuracy", "precision_recall_fscore"]', ["accuracy", "precision", "recall", "f1"]),
    ],
)
def test_eval_metrics_choose_the_test_scores(wanted: Any, lines: list[str]) -> None:
    from sklearn import metrics as reference

    X = rows(4000)
    test = np.concatenate([rows(300, seed=1), rows(6, seed=2) * 0.1 + 8])
    label = np.r_[np.zeros(298), 1, 1, np.ones(6)].astype(np.float32)  # two that do not stand out
    run = RecordingRun()
    model = RandomCutForest(num_trees=50, eval_metrics=wanted).fit(X, run=run, test=(test, label))
    scores = -model.score_samples(test)
    called = scores > three_sigma(scores)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(label, called, average="binary")
    expected = {"accuracy": np.mean(called == label), "precision": precision, "recall": recall, "f1": f1}
    found = [line for line in run.lines if line.startswith(("#test_score", "#quality_metric"))]
    names = [f"#test_score (algo-1) : ({name!r}, " for name in lines]
    names += [f"#quality_metric: host=algo-1, test {name} <score>=" for name in lines]
    assert len(found) == len(names)
    for line, name in zip(found, names, strict=True):
        assert line.startswith(name)
        value = float(line.removeprefix(name).rstrip(")"))
        assert value == pytest.approx(expected[next(each for each in lines if each in name)])


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(
        HyperparameterError, match=r"eval_metrics: 'f1' is not in \[accuracy, precision_recall_fscore\]"
    ):
        RandomCutForest(eval_metrics=["f1"]).validate()


def test_a_port_for_ftp_is_taken_and_named_as_without_effect() -> None:
    run = RecordingRun()
    RandomCutForest.from_strings({"feature_dim": "3", "_ftp_port": "9000"}).fit(rows(60), run=run)
    assert "Hyperparameter _ftp_port is taken for compatibility and has no effect" in run.lines


def test_a_sample_beyond_memory_is_refused_before_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from sagesmith.algorithms.randomcutforest import reporting

    monkeypatch.setattr(reporting, "available_memory", lambda: 10**6)
    missing = Channel.from_folder("train", Path("/nowhere"), "text/csv")
    with pytest.raises(ValueError, match=r"25600 rows of 9 columns need \d+ bytes, but 1000000 are available: lower"):
        RandomCutForest(feature_dim=9).fit(missing)


def test_a_stop_builds_from_what_was_sampled_until_then() -> None:
    class Stopped(RecordingRun):
        stopping = True  # type: ignore[assignment]

    run = Stopped()
    model = RandomCutForest(num_trees=50, mini_batch_size=100).fit(rows(1000), run=run)
    assert "100 samples gathered" in run.lines
    assert model.forest_.trees.mass.shape == (50, 2)


def test_sparse_rows_are_the_rows_they_stand_for(tmp_path: Path) -> None:
    X = rows(600) * (rows(600, seed=1) > 0)
    dense, thin = (RandomCutForest(num_trees=50).fit(form) for form in (X, sparse.csr_matrix(X)))
    assert np.array_equal(dense.score_samples(X), thin.score_samples(sparse.csr_matrix(X)))
    dense.save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    assert (facts["scale"], facts["threshold"]) == (1.0, dense.threshold_)


def test_a_pipe_a_file_and_arrays_give_one_forest(tmp_path: Path) -> None:
    X = rows(5000)
    content = write_records(Batch(X))
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "rows.pbr").write_bytes(content)
    os.mkfifo(tmp_path / "train_0")
    writer = Thread(target=(tmp_path / "train_0").write_bytes, args=(content,))
    writer.start()
    kind = "application/x-recordio-protobuf"
    channels = (
        Channel.from_pipe("train", tmp_path / "train", kind),
        Channel.from_folder("train", tmp_path / "file", kind),
    )
    forests = [RandomCutForest(num_trees=50, num_samples_per_tree=20).fit(form).forest_ for form in (*channels, X)]
    writer.join(20)
    assert np.array_equal(forests[0].trees.point, forests[1].trees.point)
    assert np.array_equal(forests[1].trees.point, forests[2].trees.point)
