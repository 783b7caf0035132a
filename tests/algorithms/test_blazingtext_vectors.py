"""The loops of word2vec do what their papers say: against plain NumPy with the same chances, and on planted meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.blazingtext import chance_compiled as chance
from sagesmith.algorithms.blazingtext import hosts, similarity, word2vec, word2vec_compiled
from sagesmith.algorithms.blazingtext.dictionary import Vocabulary
from sagesmith.algorithms.blazingtext.lanes_compiled import table
from sagesmith.algorithms.blazingtext.word2vec_compiled import Plan
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.blazingtext_texts import COMMON, TOPICS, drawn

WORDS, DIM = 30, 20


def plan_of(window: int, negatives: int, batch: int, grams: bool) -> Plan:
    """Tables of 30 words with numbers in them, some words rarely kept; with `grams`, words of 1 to 4 rows."""
    random = np.random.default_rng(5)
    sizes = random.integers(1, 5, WORDS) if grams else np.ones(WORDS, int)
    extra = random.permutation(WORDS * 4)  # rows that no two words share, so that the order of writing does not matter
    rows = np.concatenate([[word, *(WORDS + extra[4 * word : 4 * word + size - 1])] for word, size in enumerate(sizes)])
    inputs, outputs = table(5 * WORDS, DIM), table(WORDS, DIM)
    inputs[:, :DIM], outputs[:, :DIM] = random.normal(size=(5 * WORDS, DIM)) / 4, random.normal(size=(WORDS, DIM)) / 4
    keep = np.full(WORDS, 1 << 32, np.uint64)
    keep[:5] = 1 << 31
    noise = chance.noise_of(np.arange(1, WORDS + 1), 0.75)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Plan(keep, noise, window, negatives, starts, rows.astype(np.int64), inputs, outputs, batch)


class Reference:
    """The same in double precision: draws as the compiled loops do, in their order."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.state = plan, np.empty(1, np.uint64)
        chance.seeded(seed, self.state)
        self.inputs, self.outputs = (array[:, :DIM].astype(float) for array in (plan.inputs, plan.outputs))

    def kept(self, line: list[int]) -> list[int]:
        sure = word2vec_compiled.SURE
        keep = self.plan.keep
        return [w for w in line if keep[w] >= sure or (chance.drawn(self.state) >> np.uint64(32)) < keep[w]]

    def window(self, centre: int, count: int) -> list[int]:
        reach = 1 + chance.below(self.state, self.plan.window)
        return [k for k in range(max(0, centre - reach), min(count, centre + reach + 1)) if k != centre]

    def targets(self, word: int) -> list[int]:
        found = [word]
        for _ in range(self.plan.negatives):
            other = chance.word_drawn(self.state, self.plan.noise)
            found.append(other if other != word else (other + 1) % WORDS)
        return found

    def rows(self, word: int) -> np.ndarray:
        return self.plan.rows[self.plan.starts[word] : self.plan.starts[word + 1]]

    def step(self, h: np.ndarray, targets: list[int], rate: float) -> np.ndarray:
        """What h learns; the outputs learn too. Outputs that are drawn twice learn one after the other."""
        scores = self.outputs[targets] @ h
        errors = rate * ((np.arange(len(targets)) == 0) - 1 / (1 + np.exp(-scores)))
        e = np.zeros(DIM)
        for target, error in zip(targets, errors, strict=True):
            e += error * self.outputs[target]
            self.outputs[target] += error * h
        return e

    def skipgram(self, line: list[int], rate: float) -> None:
        line = self.kept(line)
        if len(line) < 2:
            return
        following = self.targets(line[0])
        for centre in range(len(line)):
            around = self.window(centre, len(line))
            for other in around:
                targets, ahead = following, centre + (other == around[-1])
                if ahead < len(line):
                    following = self.targets(line[ahead])
                self.inputs[line[other]] += self.step(self.inputs[line[other]], targets, rate)

    def skipgram_subwords(self, line: list[int], rate: float) -> None:
        line = self.kept(line)
        for centre, word in enumerate(line):
            around = self.window(centre, len(line))
            rows = self.rows(word)
            following = self.targets(line[around[0]]) if around else []
            for k, _ in enumerate(around):
                targets = following
                following = self.targets(line[around[k + 1]]) if k + 1 < len(around) else []
                self.inputs[rows] += self.step(self.inputs[rows].mean(axis=0), targets, rate)

    def cbow(self, line: list[int], rate: float, ahead: bool = True) -> None:
        line = self.kept(line)
        if len(line) < 2:
            return
        following = self.targets(line[0])
        for centre in range(len(line)):
            targets = following
            if ahead and centre + 1 < len(line):
                following = self.targets(line[centre + 1])
            elif not ahead:
                targets = self.targets(line[centre]) if centre else targets
            around = [line[k] for k in self.window(centre, len(line))]
            rows = np.concatenate([self.rows(word) for word in around])
            e = self.step(self.inputs[rows].mean(axis=0), targets, rate)
            np.add.at(self.inputs, rows, e)

    def cbow_subwords(self, line: list[int], rate: float) -> None:
        self.cbow(line, rate, ahead=False)

    def batch_skipgram(self, line: list[int], rate: float) -> None:
        line = self.kept(line)
        for centre in range(len(line) if len(line) > 1 else 0):
            around = self.window(centre, len(line))
            targets = self.targets(line[centre])
            size = min(self.plan.batch, 2 * self.plan.window)
            for begin in range(0, len(around), size):
                words = [line[k] for k in around[begin : begin + size]]
                x, y = self.inputs[words], self.outputs[targets]
                errors = rate * ((np.arange(len(targets)) == 0) - 1 / (1 + np.exp(-x @ y.T)))
                np.add.at(self.outputs, targets, errors.T @ x)
                np.add.at(self.inputs, words, errors @ y)


@pytest.mark.parametrize("negatives", [1, 2, 5, 7, 13])
@pytest.mark.parametrize(
    ("name", "grams"),
    [
        ("skipgram", False),
        ("skipgram_subwords", True),
        ("cbow", False),
        ("cbow_subwords", True),
        ("batch_skipgram", False),
    ],
)
def test_a_step_is_what_the_paper_says(name: str, grams: bool, negatives: int) -> None:
    plan = plan_of(window=3, negatives=negatives, batch=4, grams=grams)
    reference = Reference(plan, seed=9)
    random = np.random.default_rng(1)
    lines = [random.permutation(WORDS)[:size].tolist() for size in (1, 2, 9, 14)]
    stream = np.concatenate([[*line, -1] for line in lines]).astype(np.int32)
    for line in lines:
        getattr(reference, name)(line, 0.05)
    state = np.empty(1, np.uint64)
    chance.seeded(9, state)
    getattr(word2vec_compiled, name)(stream, 0, len(stream), (0.05, 0.05), plan, state)
    assert state[0] == reference.state[0], "another number of draws"
    for found, expected in ((plan.inputs, reference.inputs), (plan.outputs, reference.outputs)):
        assert np.abs(found[:, :DIM] - expected).max() < 3e-4
        assert not found[:, DIM:].any()


def test_the_rate_falls_to_its_end() -> None:
    plan = plan_of(window=2, negatives=2, batch=4, grams=False)
    before = plan.inputs.copy()
    stream, state = np.array([1, 2, 3, -1] * 50, np.int32), np.ones(1, np.uint64)
    word2vec_compiled.skipgram(stream, 0, len(stream), (0.0, 0.0), plan, state)
    assert np.array_equal(plan.inputs, before)


def test_noise_is_drawn_by_the_power_of_counts() -> None:
    counts = np.array([1000, 300, 50, 7, 1])
    noise, state = chance.noise_of(counts, 0.75), np.ones(1, np.uint64)
    seen = np.bincount([chance.word_drawn(state, noise) for _ in range(40_000)], minlength=5) / 40_000
    expected = counts**0.75 / (counts**0.75).sum()
    assert np.allclose(seen, expected, atol=0.01)
    assert chance.noise_of(np.array([5]), 0.75).tolist() == [((1 << 32) - 1) << 32]


def test_frequent_words_are_thinned_out() -> None:
    vocabulary = Vocabulary()
    vocabulary.read(b"the " * 900 + b"rare " * 100 + b"\n")
    dictionary, _ = vocabulary.dictionary(1, with_line_end=False)
    keep = word2vec.chances(dictionary, 0.01) / 2**32
    shares = np.array([900, 100]) / 1001
    assert np.allclose(keep, np.minimum(1, np.sqrt(0.01 / shares) + 0.01 / shares), rtol=1e-3)


def test_words_begin_as_in_word2vec_and_with_n_grams_as_in_fasttext() -> None:
    vocabulary, wide = Vocabulary(), {}
    vocabulary.read(" ".join(drawn(50)[0]).encode() + b"\n")
    dictionary, _ = vocabulary.dictionary(1, with_line_end=False)
    for subwords in (False, True):
        settings = BlazingText(mode="skipgram", subwords=subwords, vector_dim=200, min_char=2).settings
        tables = word2vec.drawn(dictionary, word2vec.arguments_of(settings), 0)
        assert not tables.outputs.any()
        words = np.add.reduceat(tables.inputs[tables.rows, :200], tables.starts[:-1]) / np.diff(tables.starts)[:, None]
        wide[subwords] = float(words.std() * 200)
    assert wide[False] == pytest.approx(np.sqrt(1 / 12), rel=0.02), "evenly drawn from -1/2 to 1/2"
    assert wide[True] == pytest.approx(2 * wide[False], rel=0.2), "from -1 to 1, whatever the number of n-grams"


def closeness(vectors: Callable[[list[str]], np.ndarray]) -> tuple[float, float]:
    """The mean cosine within topics, and between them."""
    words = [word for own in TOPICS.values() for word in own]
    found = vectors(words)
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines, topic = found @ found.T, np.repeat(np.arange(len(TOPICS)), 10)
    same = topic[:, None] == topic[None, :]
    return float(cosines[same & ~np.eye(len(words), dtype=bool)].mean()), float(cosines[~same].mean())


@pytest.mark.parametrize(
    ("mode", "subwords"),
    [("skipgram", False), ("cbow", False), ("batch_skipgram", False), ("skipgram", True), ("cbow", True)],
)
def test_words_of_a_topic_come_close(mode: str, subwords: bool) -> None:
    texts, _ = drawn(1500)
    model = BlazingText(
        mode=mode, subwords=subwords, vector_dim=20, epochs=4, buckets=5000, evaluation=False, sampling_threshold=0.01
    ).fit([text.split() for text in texts])
    within, between = closeness(model.predict)
    assert within > between + 0.4, (within, between)
    if subwords:
        near = model.predict(["harbours", "harbour", "market"])
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        assert near[0] @ near[1] > near[0] @ near[2] + 0.2
        assert model.predict(["zzzzzz"]).tolist() == [[0.0] * 20]
    else:
        assert model.predict(["harbours"]).tolist() == [[0.0] * 20]


def test_one_thread_and_a_seed_make_the_same_vectors() -> None:
    texts, _ = drawn(300)
    first, second, other = (
        BlazingText(mode="skipgram", vector_dim=8, epochs=1, min_count=1, seed=seed)
        .fit(texts, run=RecordingRun())
        .predict(COMMON)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_spearman_is_scipys() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    first, second = random.integers(0, 8, 60).astype(float), random.normal(size=60)
    assert similarity.spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert similarity.spearman(np.ones(5), np.arange(5.0)) == 0


def test_word_similarity_is_reported_as_in_the_service() -> None:
    scores = {(a.lower(), b.lower()): score for a, b, score, _ in similarity.pairs()}
    words = sorted({word for pair in scores for word in pair} - {"tiger"})
    random = np.random.default_rng(3)
    vectors = dict(zip(words, random.normal(size=(len(words), 50)), strict=True))
    asked: list[str] = []

    def vector(names: Any) -> np.ndarray:
        asked.extend(names)
        return np.array([vectors[name] for name in names])

    found = similarity.evaluated(vector, vectors.__contains__)
    assert [(name, found[name]["total_pairs"]) for name in similarity.FILES] == [
        ("EN-WS-353-ALL.txt", 353), ("EN-WS-353-REL.txt", 252), ("EN-WS-353-SIM.txt", 203),
    ]  # fmt: skip
    assert found["EN-WS-353-ALL.txt"]["not_found"] == sum("tiger" in pair for pair in scores)
    rhos = [found[name]["spearmans_rho"] for name in similarity.FILES]
    assert found["mean_rho"] == pytest.approx(sum(rhos) / 3)
    assert max(map(abs, rhos)) < 0.2, "random vectors know nothing"
    assert "jerusalem" in asked, "words are looked up in lower case too"


def test_the_log_is_the_services() -> None:
    run = RecordingRun()
    texts, _ = drawn(400)
    model = BlazingText(mode="batch_skipgram", vector_dim=8, epochs=1, min_count=1).fit(texts, run=run)
    log = "\n".join(run.lines)
    for line in (
        "Running single machine CPU BlazingText training using batch_skipgram mode.",
        f"Number of words:  {len(COMMON) + 30}", "Progress: 100.00%  Million Words/sec: ", "Training finished!",
        "Average throughput in Million words/sec: ", "Total training time in seconds: ",
        "Evaluating word embeddings....", '"EN-WS-353-ALL.txt": {', f"#mean_rho: {model.evaluation_['mean_rho']}",
    ):  # fmt: skip
        assert line in log, line


@pytest.mark.parametrize(
    ("names", "words", "meetings"), [("a", 10**9, 1), ("ab", 100, 1), ("ab", 300_000, 3), ("abc", 10**9, hosts.LAPS)]
)
def test_hosts_meet_more_often_the_more_they_learn_in_between(names: str, words: int, meetings: int) -> None:
    run = RecordingRun()
    run.hosts = list(names)
    assert hosts.meetings(words, 1000, run) == meetings
    parts = list(hosts.laps([0, 5, 10, 15, 20], meetings))
    assert [parts[0][0], parts[-1][-1], len(parts)] == [0, 20, meetings]
