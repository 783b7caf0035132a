"""Text classification: against plain NumPy, on planted topics, with early stopping; and bad input."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.blazingtext import slices, supervised
from sagesmith.algorithms.blazingtext.dictionary import Vocabulary
from sagesmith.algorithms.blazingtext.lanes_compiled import table
from sagesmith.algorithms.blazingtext.supervised_compiled import Lines, softmax
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.blazingtext_texts import drawn, labelled

SETTINGS: dict[str, Any] = {
    "mode": "supervised", "vector_dim": 10, "min_count": 1, "buckets": 2000, "epochs": 5, "learning_rate": 0.3,
}  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3, 6, 9])
def test_a_step_is_softmax_regression(classes: int) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(0, 9, 40)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    rows = random.integers(0, 25, ends[-1]).astype(np.int32)
    labels = random.integers(0, classes, 40)
    lines = Lines(ends, rows, np.arange(41), labels)
    inputs, outputs = table(25, 18), table(classes, 18)
    inputs[:, :18] = random.normal(size=(25, 18))
    x, y = inputs[:, :18].astype(float), outputs[:, :18].astype(float)
    order, loss = random.permutation(40), 0.0
    for at, line in enumerate(order):
        own = rows[ends[line] : ends[line + 1]]
        if not len(own):
            continue
        h = x[own].mean(axis=0)
        p = np.exp(y @ h)
        p /= p.sum()
        loss -= np.log(p[labels[line]])
        errors = (0.4 - 0.2 * at / 40) * ((np.arange(classes) == labels[line]) - p)
        e = errors @ y
        y += np.outer(errors, h)
        np.add.at(x, own, e / len(own))
    found = softmax(order, 0, 40, (0.4, 0.2), lines, inputs, outputs, np.ones(1, np.uint64))
    assert found == pytest.approx(loss, rel=1e-4)
    assert np.allclose(inputs[:, :18], x, atol=1e-4)
    assert np.allclose(outputs[:, :18], y, atol=1e-4)


def test_topics_are_told_apart() -> None:
    texts, topics = drawn(600)
    held, truth = drawn(200, seed=1)
    run = RecordingRun()
    model = BlazingText(**SETTINGS).fit(texts, topics, validation=(held, truth), run=run)
    assert model.score(held, truth) > 0.98
    assert sorted(model.classes_.tolist()) == ["city", "sea", "wood"]
    labels, chances = model.predict_labels(held, 2)
    assert labels.shape == chances.shape == (200, 2)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert np.array_equal(labels[:, 0], model.predict(held))
    whole = model.predict_proba(held)
    assert whole.shape == (200, 3)
    assert np.allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert f"#validation_accuracy: {model.score(held, truth):.4f}" in run.lines
    assert f"#train_accuracy: {model.score(texts, topics):.4f}" in run.lines
    for line in (
        "Running single machine CPU BlazingText training using supervised mode.", "Number of labels: 3",
        "-------------- End of epoch: 4", "Training finished.", "Number of train examples: 600",
        "Number of validation examples: 200",
    ):  # fmt: skip
        assert line in run.lines, line


def test_a_file_sorted_by_label_is_learnt_as_well() -> None:
    texts, topics = drawn(900)
    order = np.argsort(topics, kind="stable")
    model = BlazingText(**SETTINGS | {"epochs": 2})
    model.fit([texts[row] for row in order], [topics[row] for row in order])
    assert model.score(*drawn(200, seed=1)) > 0.95


def test_of_several_labels_each_is_learnt() -> None:
    texts, topics = drawn(900)
    several = [[topic, "all"] if topic == "sea" else [topic] for topic in topics]
    model = BlazingText(**SETTINGS | {"epochs": 10}).fit(texts, several)
    labels, chances = model.predict_labels(
        [text for text, topic in zip(texts, topics, strict=True) if topic == "sea"], 2
    )
    assert {frozenset(row) for row in labels.tolist()} == {frozenset(("sea", "all"))}
    assert chances.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.1)
    assert model.score(texts, several) > 0.98


def test_word_order_counts_with_ngrams_of_words() -> None:
    texts = ["good not bad", "bad not good"] * 200
    topics = ["praise", "blame"] * 200
    alone, pairs = (
        BlazingText(**SETTINGS | {"word_ngrams": longest, "epochs": 10}).fit(texts, topics).score(texts, topics)
        for longest in (1, 2)
    )
    assert (alone, pairs) == (0.5, 1.0)


def test_labels_may_be_whole_numbers_and_files_may_be_read(tmp_path: Path) -> None:
    texts, topics = drawn(300)
    numbers = [sorted(set(topics)).index(topic) for topic in topics]
    (tmp_path / "train.txt").write_text(labelled(texts, [str(number) for number in numbers]))
    run = RecordingRun()
    by_list = BlazingText(**SETTINGS).fit(texts, numbers, run=run)
    by_file = BlazingText(**SETTINGS).fit(tmp_path / "train.txt", run=run)
    by_channel = BlazingText(**SETTINGS).fit(Channel.from_folder("train", tmp_path, "text/plain"), run=run)
    for other in (by_file, by_channel):
        assert np.array_equal(by_list.predict_proba(texts), other.predict_proba(texts))
    assert by_list.score(texts, numbers) == by_file.score(texts, np.array(numbers)) > 0.98


class Planned:
    """A learner whose validation accuracy is told in advance."""

    def __init__(self, accuracies: list[float]) -> None:
        self.accuracies = iter(accuracies)
        self.inputs, self.outputs = np.zeros((1, 1)), np.zeros((1, 1))

    def accuracy(self, lines: Any, team: Any) -> float:
        return next(self.accuracies)


@pytest.mark.parametrize(
    ("accuracies", "least", "patience", "stopped", "best"),
    [
        ([0.5, 0.6, 0.6, 0.5, 0.9], 1, 2, 4, 2),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.9], 3, 2, 5, 1),
        ([0.5, 0.4, 0.6, 0.5, 0.7], 1, 2, None, 5),
    ],
)
def test_early_stopping_waits_and_takes_the_best(
    accuracies: list[float], least: int, patience: int, stopped: int | None, best: int
) -> None:
    learner: Any = Planned(accuracies)
    settings = {"early_stopping": True, "min_epochs": least, "patience": patience}
    lines: Any = "lines"
    watch, run, team = supervised.Watch(learner, lines, settings), RecordingRun(), None
    ended = None
    for epoch in range(1, len(accuracies) + 1):
        learner.inputs[:] = epoch
        if watch.over(epoch, team, run):  # type: ignore[arg-type]
            ended = epoch
            break
    assert ended == stopped
    watch.restore_best()
    assert learner.inputs[0, 0] == best
    assert f"Validation accuracy: {max(accuracies[: ended or 9]):g}" in run.lines
    assert "Validation accuracy improved! Storing best weights..." in run.lines


def test_early_stopping_ends_a_training() -> None:
    texts, topics = drawn(300)
    run = RecordingRun()
    settings = SETTINGS | {"early_stopping": True, "min_epochs": 2, "patience": 1, "epochs": 40, "learning_rate": 0.5}
    model = BlazingText(**settings).fit(texts, topics, validation=drawn(100, seed=1), run=run)
    epochs = sum(line.startswith("-------------- End of epoch") for line in run.lines)
    assert 2 < epochs < 40
    best = max(float(line.split()[-1]) for line in run.lines if line.startswith("Validation accuracy: "))
    assert model.score(*drawn(100, seed=1)) == pytest.approx(best)


def test_the_model_file_has_every_bucket_and_holes(tmp_path: Path) -> None:
    texts, topics = drawn(50)
    model = BlazingText(**SETTINGS | {"buckets": 2_000_000}).fit(texts, topics)
    model.save(tmp_path)
    stat = (tmp_path / "model.bin").stat()
    assert stat.st_size > 4 * 10 * 2_000_000
    assert stat.st_blocks * 512 < 20 << 20
    assert np.array_equal(BlazingText.load(tmp_path).predict_proba(texts), model.predict_proba(texts))


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", 3], ["x", "y"], "row 1: 3 is neither a text nor a list of words"),
        (["a", "b"], ["x"], "2 texts, but 1 labels"),
        (["a", "b"], ["x", "y z"], "row 1: the label 'y z' is empty or holds white space"),
        (["a", "b"], ["x", ""], "row 1: the label '' is empty"),
        (["a", "b"], ["x", None], "row 1: the label None is neither a whole number nor text"),
        (["a", "b"], ["x", []], "row 1: an empty list of labels"),
        ([], [], "channel train holds no line with a label"),
        (["a"], None, "requires y to be passed"),
    ],
)
def test_what_cannot_be_learnt_is_told(texts: list[Any], labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlazingText(**SETTINGS).fit(texts, labels)


def test_fewer_than_one_label_is_refused() -> None:
    model = BlazingText(**SETTINGS).fit(["a", "b"], ["x", "y"])
    with pytest.raises(ValueError, match="k must be a whole number from 1 on, found 0"):
        model.predict_labels(["a"], 0)


def test_a_validation_channel_without_lines_is_told() -> None:
    with pytest.raises(ValueError, match="channel validation holds no line with a label"):
        BlazingText(**SETTINGS).fit(["a", "b"], ["x", "y"], validation=([], []))


def test_unknown_words_and_empty_texts_are_answered() -> None:
    texts, topics = drawn(100)
    model = BlazingText(**SETTINGS).fit(texts, topics)
    _, chances = model.predict_labels(["", "never seen"], 3)
    assert chances.shape == (2, 3)  # of an empty text its end of line is known, as in fastText
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert model.predict([]).tolist() == []


def test_too_large_a_rate_is_told() -> None:
    texts, topics = drawn(200)
    with pytest.raises(ValueError, match="training diverged in epoch 0: learning_rate 1e"):
        BlazingText(**SETTINGS | {"learning_rate": 1e30}).fit(texts, topics)


def test_threads_take_every_slice_once() -> None:
    class Threads(RecordingRun):
        def __init__(self, threads: int) -> None:
            super().__init__()
            self.threads = threads

    seen: list[Any] = []

    def learn(*given: Any) -> int:
        seen.append(given)
        return 1

    for threads in (1, 3):
        run = Threads(threads)
        progress = slices.Progress(run, 0.5, 200, "%s %s %s")
        cuts = slices.cuts_of(100, threads, 7)
        seen.clear()
        with slices.Team(run, 0) as team:
            for epoch in range(2):
                assert sum(team.epoch(learn, cuts, cuts, epoch, progress)) == len(cuts) - 1
            assert team.map(lambda begin, end: (begin, end), 10)[-1][1] == 10
        ranges = sorted((begin, end) for begin, end, _, _ in seen)
        assert ranges == sorted([*pairwise(cuts)] * 2)
        rates = sorted((rate for _, _, rate, _ in seen), reverse=True)
        assert rates[0][0] == 0.5
        assert rates[-1][1] == pytest.approx(0)
        assert len({int(state[0]) for *_, state in seen}) == len(seen)
        assert progress.done == 200


def test_other_lines_become_rows_that_are_known() -> None:
    vocabulary = Vocabulary()
    stream = vocabulary.read(b"__label__a one two\n")
    dictionary, final = vocabulary.dictionary(1, with_line_end=True)
    arguments = supervised.arguments_of(SETTINGS | {"word_ngrams": 2})
    lines = supervised.lines_of(stream, vocabulary, final, arguments, dictionary.words)
    learner = supervised.Learner.drawn(lines, dictionary, arguments, seed=0)
    other = vocabulary.read(b"__label__b two three one two\n__label__a two\n", learn=False)
    given = learner.own(supervised.lines_of(other, vocabulary, final, arguments, dictionary.words))
    assert np.diff(given.ends).tolist() == [6, 3]  # two, one, two, </s>, "one two", "two </s>"; two, </s>, "two </s>"
    assert given.labels.tolist() == [0]
    assert np.diff(given.label_ends).tolist() == [0, 1]
