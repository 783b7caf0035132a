"""What a GPU would do, done by the same code on the processor: its steps against plain NumPy, and whole trainings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith import algorithms
from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.blazingtext import chance_compiled as chance
from sagesmith.algorithms.blazingtext import devices_torch, gpu, hosts, rows_torch, slices
from sagesmith.algorithms.blazingtext.word2vec_compiled import Plan
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.blazingtext_texts import COMMON, TOPICS, drawn
from tests.algorithms.test_blazingtext_vectors import DIM, WORDS, closeness, plan_of

RATE, NEGATIVES, NOISY = 0.02, 3, WORDS - 1
HERE = torch.device("cpu")


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings take the GPU's way, on the processor."""
    monkeypatch.setattr(gpu, "devices_of", lambda run, mode: (HERE,))


@pytest.fixture(params=[1, 2, 3])
def on_devices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Trainings of word vectors take the way of several GPUs, on the processor; how many."""
    monkeypatch.setattr(gpu, "devices_of", lambda run, mode: (HERE,) * request.param)
    return int(request.param)


class Stopped(RecordingRun):
    """A run that is asked to stop once it was asked so often whether it should."""

    asked, after = 0, 10**9

    @property
    def stopping(self) -> bool:
        self.asked += 1
        return self.asked > self.after


# -- one chunk -------------------------------------------------------------------------------------------------------
def pairs(lines: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    """Each word with its window of one word to either side."""
    for line in lines:
        for k, word in enumerate(line):
            if around := line[max(0, k - 1) : k] + line[k + 1 : k + 2]:
                yield word, around


class Reference:
    """All steps of a text from the same tables, in double precision; noise is always the same word."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tables = plan.inputs[:, :DIM].astype(float), plan.outputs[:, :DIM].astype(float)
        self.moves = np.zeros_like(self.tables[0]), np.zeros_like(self.tables[1])

    def rows(self, words: list[int]) -> np.ndarray:
        return np.concatenate([self.plan.rows[self.plan.starts[w] : self.plan.starts[w + 1]] for w in words])

    def step(self, words: list[int], target: int) -> None:
        rows, outputs = self.rows(words), self.tables[1]
        h = self.tables[0][rows].mean(axis=0)
        for output, label in [(target, 1)] + [(NOISY, 0)] * NEGATIVES * (target != NOISY):
            error = RATE * (label - 1 / (1 + np.exp(-h @ outputs[output])))
            np.add.at(self.moves[0], rows, error * outputs[output])
            self.moves[1][output] += error * h

    def learnt(self) -> Iterator[np.ndarray]:
        yield from (table + move for table, move in zip(self.tables, self.moves, strict=True))


@pytest.mark.parametrize("grams", [False, True])
@pytest.mark.parametrize("mode", ["skipgram", "cbow"])
def test_a_chunk_is_the_sum_of_the_steps_that_the_paper_says(mode: str, grams: bool) -> None:
    counts = np.zeros(WORDS)
    counts[NOISY] = 1  # what else is drawn is then no longer by chance
    plan = plan_of(1, NEGATIVES, 4, grams)._replace(
        keep=np.full(WORDS, 1 << 32, np.uint64), noise=chance.noise_of(counts, 0.75)
    )
    random = np.random.default_rng(2)
    lines = [random.permutation(WORDS)[:size].tolist() for size in (1, 2, 9, 30, 17)]
    reference = Reference(plan)
    for centre, around in pairs(lines):
        if mode == "cbow":
            reference.step(around, centre)
        for other in around if mode == "skipgram" else ():
            source, target = (centre, other) if grams else (other, centre)
            reference.step([source], target)
    words = np.concatenate([[*line, -1] for line in lines]).astype(np.int32)
    learner = devices_torch.Devices(plan, mode, DIM, 0, [HERE])
    progress = slices.Progress(RecordingRun(), RATE, 10**9, "%s %s %s")  # a rate that stays
    learner.epoch(words, 0, progress)
    assert learner.give_back()
    assert progress.done == len(words)
    for found, expected in zip((plan.inputs, plan.outputs), reference.learnt(), strict=True):
        assert np.abs(found[:, :DIM] - expected).max() < 1e-5
        assert not found[:, DIM:].any()


def test_frequent_rows_go_no_farther_than_their_loss_is_curved() -> None:
    often, once = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    for values, times in ((often, 10_000), (once, 1)):
        table = rows_torch.Table(values, HERE)
        for _ in range(2):  # what is counted for a step is forgotten after it
            table.learn(torch.zeros(times, dtype=torch.long), torch.ones(times, 4), torch.full((times,), 2.0), 0.5)
        table.give_back(values)
    assert np.allclose(once[0], 1.0), "one step is as long as the rate says"
    assert np.allclose(often[0], 2 * 10_000 * rows_torch.LIMIT / (2.0 * 10_000), rtol=1e-3)
    assert not often[1].any()


# -- whole trainings -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("mode", ["skipgram", "cbow"])
def test_words_of_a_topic_come_close(mode: str, subwords: bool, on_devices: int) -> None:
    run, (texts, _) = RecordingRun(), drawn(2000)
    settings: dict[str, Any] = {"vector_dim": 20, "buckets": 5000, "sampling_threshold": 0.01, "evaluation": False}
    model = BlazingText(mode=mode, subwords=subwords, epochs=6, **settings).fit(texts, run=run)
    within, between = closeness(model.predict)
    assert within > between + 0.4, (within, between)
    assert f"Running single machine GPU BlazingText training using {mode} mode." in run.lines
    assert any(line.startswith("Alpha: 0.0000  Progress: 100.00%") for line in run.lines)


# -- several devices -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_moves_at_right_angles_are_added_up_and_like_ones_averaged(kind: Any) -> None:
    right, up, none = [3.0, 0.0], [0.0, 2.0], [0.0, 0.0]

    def joined(*moves: list[float]) -> list[float]:
        found = hosts.joined([kind([move, [1.0, 1.0]]) for move in moves])
        assert np.allclose(found[1], [1.0, 1.0], rtol=1e-6), "the same move of all"
        return [float(number) for number in found[0]]

    assert joined(right) == right
    assert joined(right, up) == [3.0, 2.0]
    assert joined(right, none) == joined(none, right) == right, "seen by one learner alone"
    assert joined(right, right) == pytest.approx(right)
    assert joined(right, right, right, right, right) == pytest.approx(right)
    assert joined([3.0, 0.0], [1.0, 0.0]) == pytest.approx([2.0, 0.0]), "the mean"
    assert joined(right, up, none, none) == [3.0, 2.0]
    assert joined(none, none, none) == none


def test_copies_are_the_same_after_a_meeting() -> None:
    start = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    moves = np.random.default_rng(1).normal(size=(3, 7, 4)).astype(np.float32)
    tables = [rows_torch.Table(start, HERE) for _ in moves]
    copies = devices_torch.Copies(tables)
    for meeting in (1, 2):
        for table, move in zip(tables, moves, strict=True):
            table.values += torch.from_numpy(move)
        for act in (copies.join, copies.take):
            for number in range(3):
                act(number)
        for table in tables:
            assert np.allclose(table.values, start + meeting * hosts.joined(list(moves)), atol=1e-5)
            assert torch.equal(table.values, tables[0].values)


class Hosts:
    """A run of two hosts, of which the other sends always the same."""

    hosts, stopping, other = ("a", "b"), False, b""

    def gather(self, message: bytes) -> list[bytes]:
        self.sent = message
        return [message, self.other or message]


def test_hosts_join_their_moves() -> None:
    count = 2 * hosts.ROWS + 3
    start = np.random.default_rng(0).integers(0, 9, (count, 4)).astype(np.float32)
    moves = [np.zeros_like(start), np.zeros_like(start)]
    moves[0][[0, 5, hosts.ROWS, count - 1]] = moves[1][[0, 7, hosts.ROWS, count - 2]] = [1, 2, 0, 0]
    moves[1][0] = [0, 0, 4, 0]
    found = []
    run = Hosts()
    for move in moves:
        table = start.copy()
        together = hosts.Together(run, table)  # type: ignore[arg-type]
        table += move
        assert not together.meet()
        run.other, found = run.sent, [*found, table]
    assert np.array_equal(found[0], start + moves[0]), "the other host moved by the same"
    assert np.allclose(found[1], start + hosts.joined(moves))
    assert found[1][0].tolist() == (start[0] + [1, 2, 4, 0]).tolist()
    run.stopping = True
    assert together.meet()


@pytest.mark.parametrize("mode", ["skipgram", "cbow"])
def test_several_devices_learn_as_much_as_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = drawn(3000)
    gaps = {}
    for count in (1, 2, 4):
        monkeypatch.setattr(gpu, "devices_of", lambda run, mode, count=count: (HERE,) * count)
        model = BlazingText(mode=mode, vector_dim=20, epochs=3, sampling_threshold=0.01, evaluation=False)
        within, between = closeness(model.fit(texts).predict)
        gaps[count] = within - between
    assert min(gaps[2], gaps[4]) > 0.9 * gaps[1]


def test_a_seed_says_what_several_devices_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = drawn(2000)
    monkeypatch.setattr(gpu, "devices_of", lambda run, mode: (HERE, HERE, HERE))
    first, second, other = (
        BlazingText(mode="skipgram", vector_dim=8, epochs=2, seed=seed, evaluation=False).fit(texts).predict(COMMON)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


class Failing(slices.Progress):
    """Its rate cannot be told once it was asked so often."""

    asked, after = 0, 5

    def rate_at(self, words: int) -> float:
        self.asked += 1
        if self.asked == self.after:
            raise ArithmeticError("a device fell over")
        return super().rate_at(words)


def test_an_error_on_one_device_ends_the_others() -> None:
    learner = devices_torch.Devices(plan_of(2, 2, 4, False), "cbow", DIM, 0, [HERE] * 3)
    words = np.random.default_rng(0).integers(5, WORDS, 300_000).astype(np.int32)
    progress = Failing(RecordingRun(), RATE, len(words), "%s %s %s")
    with pytest.raises(ArithmeticError, match="a device fell over"):
        learner.epoch(words, 0, progress)
    assert progress.done < len(words) / 4


def test_progress_counts_the_words_of_all_devices() -> None:
    learner = devices_torch.Devices(plan_of(2, 2, 4, False), "cbow", DIM, 0, [HERE] * 3)
    words = np.random.default_rng(0).integers(5, WORDS, 20_001).astype(np.int32)
    run = RecordingRun()
    progress = slices.Progress(run, RATE, len(words), "%.4f %.2f %.2f")
    learner.epoch(words, 0, progress)
    assert progress.done == len(words)
    assert progress.rate_at(progress.done) == 0


def test_a_classifier_learns_as_on_the_processor(on_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (texts, topics), (held, truth) = drawn(1500), drawn(300, seed=1)
    settings: dict[str, Any] = {"mode": "supervised", "vector_dim": 10, "buckets": 1000, "learning_rate": 0.2}
    numbers = {topic: number for number, topic in enumerate(sorted(TOPICS))}

    def loss(epochs: int) -> float:
        model = BlazingText(epochs=epochs, **settings).fit(texts, topics)
        assert model.score(held, truth) > 0.95
        chances = model.predict_proba(held)
        order = [model.classes_.tolist().index(topic) for topic in sorted(TOPICS)]
        return float(-np.log(chances[np.arange(len(held)), [order[numbers[topic]] for topic in truth]]).mean())

    there = {epochs: loss(epochs) for epochs in (1, 3)}
    assert there[3] < 0.5 * there[1]
    monkeypatch.undo()
    assert there[3] == pytest.approx(loss(3), abs=0.03)


def test_lines_of_several_labels_and_empty_ones_are_learnt(on_device: None) -> None:
    texts, topics = drawn(900)
    labels: list[Any] = [[topic, "any"] for topic in topics]
    model = BlazingText(mode="supervised", vector_dim=10, buckets=1000, epochs=10, learning_rate=0.2)
    model.fit([*texts, "of a line", ""], [*labels, "any", "any"])
    found, chances = model.predict_labels(texts[:50], k=2)
    assert all(set(pair) == {topic, "any"} for pair, topic in zip(found.tolist(), topics, strict=False))
    assert np.abs(chances - 0.5).max() < 0.2, "either of the two labels is drawn as often as the other"


def test_early_stopping_keeps_the_best_tables(on_device: None) -> None:
    run, (texts, topics) = RecordingRun(), drawn(600)
    model = BlazingText(
        mode="supervised", vector_dim=10, buckets=1000, epochs=40, early_stopping=True, min_epochs=1, patience=2
    ).fit(texts, topics, validation=drawn(100, seed=1), run=run)
    assert any("Stopping early!" in line for line in run.lines)
    assert model.score(*drawn(100, seed=1)) > 0.95


@pytest.mark.parametrize(
    ("mode", "half", "devices"), [("skipgram", 90, 1), ("skipgram", 200, 2), ("supervised", 450, 1)]
)
def test_a_stopped_run_leaves_what_it_learnt_and_goes_on(
    mode: str, half: int, devices: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "devices_of", lambda run, mode: (HERE,) * devices)
    texts, topics = drawn(2500)
    settings: dict[str, Any] = {"mode": mode, "vector_dim": 10, "epochs": 6, "min_count": 1}
    settings |= {"buckets": 1000} if mode == "supervised" else {"evaluation": False, "sampling_threshold": 1.0}
    shares = []
    for after in (half, 10**9):
        run = Stopped()
        run.after, run.checkpoints = after, tmp_path
        model = BlazingText(**settings).fit(texts, topics if mode == "supervised" else None, run=run)
        told = [line for line in run.lines if "Progress: " in line]
        shares.append(float(told[-1].split("Progress: ")[1].split("%")[0]))
        assert model.predict(texts[:1]).size
    assert 20 < shares[0] < 90
    assert shares[1] == 100
    assert any("Checkpoint loaded from" in line for line in run.lines)


@pytest.mark.parametrize("settings", [{"mode": "cbow"}, {"mode": "supervised", "word_ngrams": 1}])
def test_numbers_that_are_none_any_more_end_training(settings: dict[str, Any], on_device: None) -> None:
    texts, topics = drawn(50)
    labels = topics if settings["mode"] == "supervised" else None
    with pytest.raises(ValueError, match=r"training diverged.*learning_rate 1e\+39 is too large"):
        BlazingText(**settings, learning_rate=1e39, min_count=1, epochs=2).fit(texts, labels)


# -- whether ---------------------------------------------------------------------------------------------------------
def with_gpus(count: int) -> RecordingRun:
    run = RecordingRun()
    run.gpus = count
    return run


def test_a_host_without_a_gpu_does_not_look_for_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pytorch(monkeypatch)
    run = with_gpus(0)
    assert gpu.devices_of(run, "cbow") == ()
    assert run.lines == []


def without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(algorithms, "nets", raising=False)
    monkeypatch.setitem(sys.modules, "sagesmith.algorithms.nets", None)


def test_without_pytorch_processors_train(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pytorch(monkeypatch)
    run = with_gpus(1)
    model = BlazingText(mode="cbow", vector_dim=5, min_count=1, epochs=1).fit(["a b c"] * 20, run=run)
    assert model.predict(["a"]).any()
    assert any("pip install 'sagesmith[neural]'" in line for line in run.lines)
    assert "Running single machine CPU BlazingText training using cbow mode." in run.lines


@pytest.mark.parametrize(("mode", "used"), [("cbow", 3), ("skipgram", 3), ("supervised", 1), ("batch_skipgram", 0)])
def test_modes_take_the_gpus_that_they_have_a_use_for(mode: str, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sagesmith.algorithms import nets

    gpus = [torch.device("cuda", number) for number in range(3)]
    monkeypatch.setattr(nets, "every_device", lambda run: gpus)
    run = with_gpus(3)
    assert list(gpu.devices_of(run, mode)) == gpus[:used]
    if used:
        assert run.lines == [f"The host has 3 GPUs; {used} of them used"]
    else:
        assert run.lines == ["Mode batch_skipgram trains on processors; the host's 3 GPU(s) are not used"]
