"""What NTM is given and says: bad counts, vocabularies, embeddings, topics as words."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sagesmith.algorithms import NTM
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.algorithms.ntm import topics, vocabulary
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ntm_documents import csv, drawn

COUNTS = drawn(60)[0]
QUICK: dict[str, Any] = {"num_topics": 5, "epochs": 1}
WORDS = [f"word{number}" for number in range(25)]


def auxiliary(folder: Path, content: bytes | None = None, **files: bytes) -> Channel:
    words = "".join(f"{word}\n" for word in WORDS).encode() if content is None else content
    for name, data in {"vocab.txt": words, **{k.replace("_", "."): v for k, v in files.items()}}.items():
        (folder / name).write_bytes(data)
    return Channel.from_folder("auxiliary", folder, "text/plain")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_what_is_no_count_is_named(value: float, tmp_path: Path) -> None:
    bad = COUNTS.copy()
    bad[7, 3] = value
    wanted = "row 7, column 3 is -1" if value < 0 else "row 7, column 3 is"
    (tmp_path / "a.csv").write_text(csv(bad))
    channel = Channel.from_folder("train", tmp_path, "text/csv", label_size=0)
    with pytest.raises(DataError, match=wanted):
        NTM(**QUICK).fit(channel)
    model = NTM(**QUICK).fit(COUNTS)
    with pytest.raises(RequestError, match=wanted):
        model.respond(Request(csv(bad).encode(), "text/csv"))
    if value < 0:
        for rows in (bad, sparse.csr_matrix(bad)):
            with pytest.raises(DataError, match=wanted):
                NTM(**QUICK).fit(rows)
            with pytest.raises(DataError, match=wanted):
                model.predict(rows)


def test_empty_documents_teach_nothing_and_weigh_all_topics_the_same() -> None:
    run = RecordingRun()
    padded = np.insert(COUNTS, [0, 30], 0, axis=0)
    model = NTM(**QUICK).fit(padded, run=run)
    assert "Channel 'train': 2 of 62 documents have no words and are left out" in run.lines
    # BLAS sums in an order that hangs on where memory lies
    np.testing.assert_allclose(model.predict(COUNTS), NTM(**QUICK).fit(COUNTS).predict(COUNTS), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.predict(padded)[0], 0.2, rtol=1e-6)
    with pytest.raises(ValueError, match="holds no words"):
        NTM(**QUICK).fit(np.zeros_like(COUNTS))
    with pytest.raises(DataError, match="channel 'test' holds no document with a word"):
        NTM(**QUICK).fit(COUNTS, test=np.zeros_like(COUNTS))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"encoder_layers": "10,0"}, "auto or a list of positive integers"),
        ({"encoder_layers": []}, "auto or a list of positive integers"),
        ({"encoder_layers": "wide"}, "encoder_layers"),
        ({"clip_gradient": 0.0001}, r"\[0.001, inf\)"),
        ({"batch_norm": True, "mini_batch_size": 1}, "mini_batch_size: 1 is not in"),
        ({"optimizer": "lion"}, "sgd, adam, adagrad, adadelta, rmsprop"),
    ],
)
def test_settings_out_of_range_are_named(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(HyperparameterError, match=reason):
        NTM(**QUICK | changed).fit(COUNTS)


def test_columns_must_be_feature_dim() -> None:
    with pytest.raises(DataError, match="rows of 25 columns, but feature_dim is 24"):
        NTM(**QUICK, feature_dim=24).fit(COUNTS)
    with pytest.raises(DataError, match="channel 'validation' has rows of 20 columns, but feature_dim is 25"):
        NTM(**QUICK).fit(COUNTS, validation=COUNTS[:, :20])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"one\ntwo\n", "vocab.txt has 2 words, but feature_dim is 25"),
        (b"\n".join(w.encode() for w in WORDS) + b"\nmore", "vocab.txt has 26 words"),
        (("\n".join([*WORDS[:3], "", *WORDS[4:]]) + "\n").encode(), "vocab.txt, line 4: '' is no word"),
        (b"one\ntw\xff\n", "vocab.txt, line 2: it is not UTF-8"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_told(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        NTM(**QUICK).fit(COUNTS, auxiliary=auxiliary(tmp_path, content))


def test_a_vocabulary_under_another_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"one file named vocab.txt; it holds words.txt"):
        NTM(**QUICK).fit(COUNTS, auxiliary=Channel.from_folder("auxiliary", tmp_path, "text/plain"))
    with pytest.raises(DataError, match="vocabulary has 1 words, but feature_dim is 25"):
        NTM(**QUICK).fit(COUNTS, vocabulary=["a"])


def test_topics_are_told_by_id_without_a_vocabulary() -> None:
    run = RecordingRun()
    model = NTM(**QUICK).fit(COUNTS, run=run)
    at = next(number for number, line in enumerate(run.lines) if line.startswith("Topics from"))
    assert run.lines[at] == f"Topics from epoch:final (num_topics:5) [, tu {model.topic_uniqueness().mean():.2f}]:"
    assert run.lines[at + 1 :][:5] == [" ".join(words) for words in model.topics()]
    assert len(run.lines[at + 1].split()) == 20
    assert "Test data is not provided." in run.lines


def test_topics_are_told_by_word_and_scored_by_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(25, 4)).round(3)
    lines = [
        "25 4",
        "stranger 1 2",
        *(f"{w} {' '.join(map(str, v))}" for w, v in zip(WORDS[2:], vectors[2:], strict=True)),
    ]
    given = ("\n".join(lines) + "\n").encode()
    run = RecordingRun()
    model = NTM(**QUICK).fit(COUNTS, run=run, auxiliary=auxiliary(tmp_path, glove_txt=given))
    told = "2 out of 25 in vocabulary do not have embeddings! Default vector used for unknown embedding!"
    assert told in run.lines
    at = next(number for number, line in enumerate(run.lines) if line.startswith("Topics from"))
    table = np.where(np.arange(25)[:, None] < 2, 0, vectors)
    expected = []
    for words in model.topics():
        chosen = table[[WORDS.index(word) for word in words]]
        length = np.linalg.norm(chosen, axis=1)
        pairs = [
            chosen[i] @ chosen[j] / (length[i] * length[j]) if length[i] * length[j] else 0.0
            for i in range(20)
            for j in range(i)
        ]
        expected.append(np.mean(pairs))
    unique = model.topic_uniqueness()
    mean = f"[wetc {np.mean(expected):.2f}, tu {unique.mean():.2f}]"
    assert run.lines[at] == f"Topics from epoch:final (num_topics:5) {mean}:"
    assert run.lines[at + 1] == f"[{expected[0]:.2f}, {unique[0]:.2f}] {' '.join(model.topics()[0])}"
    packed = tmp_path / "elsewhere.gz"
    packed.write_bytes(gzip.compress(given))
    monkeypatch.setenv(vocabulary.VARIABLE, str(packed))
    again = RecordingRun()
    NTM(**QUICK).fit(COUNTS, run=again, vocabulary=WORDS)
    assert run.lines[at] in again.lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("word1 1 x", "line 2: other than numbers"),
        ("word1 1", "line 2: 'word1' must have 2"),
        ("word1 1 nan", "finite"),
    ],
)
def test_broken_embeddings_are_told(line: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        NTM(**QUICK).fit(COUNTS, auxiliary=auxiliary(tmp_path, embeddings_txt=f"word0 1 2\n{line}\n".encode()))


def test_missing_embeddings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vocabulary.VARIABLE, "/nowhere/glove.txt")
    with pytest.raises(DataError, match=r"/nowhere/glove\.txt: cannot be opened"):
        NTM(**QUICK).fit(COUNTS, vocabulary=WORDS)


def test_listed_words_are_likely_and_raised() -> None:
    """The specification of relevance: log p(w | topic) and log p(w | topic) / p(w), 4 parts to 6."""
    random = np.random.default_rng(0)
    model = {"topics": random.normal(size=(9, 2)), "background": 2 * random.normal(size=9)}
    chances = np.exp(model["topics"] + model["background"][:, None])
    chances /= chances.sum(axis=0)
    usual = np.exp(model["background"])[:, None]
    wanted = np.argsort(-(0.4 * np.log(chances) + 0.6 * np.log(chances / usual)), axis=0).T
    assert topics.top(topics.relevance(model), 9).tolist() == wanted.tolist()
    assert topics.top(model["topics"], 9).tolist() != wanted.tolist() != topics.top(chances, 9).tolist()


def test_uniqueness_and_coherence_by_hand() -> None:
    words = np.array([[0, 1, 2], [0, 3, 4]])
    np.testing.assert_allclose(topics.uniqueness(words), [(0.5 + 1 + 1) / 3] * 2)
    vectors = np.array([[1.0, 0], [0, 2], [1, 1], [3, 0], [0, 0]])
    np.testing.assert_allclose(topics.coherence(words, vectors), [(0 + 2 * 0.5**0.5) / 3, (1 + 0 + 0) / 3], atol=1e-12)
    assert topics.top(np.array([[1.0, 5], [3, 5], [2, 9]]), 2).tolist() == [[1, 2], [2, 0]]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_weights_sum_to_one_whatever_the_counts(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 6), st.just(25)))
    cells = st.floats(0, 2.0**100, width=32) | st.just(0.0)
    rows = np.array(data.draw(st.lists(cells, min_size=shape[0] * 25, max_size=shape[0] * 25)), np.float32)
    weights = MODEL.predict(rows.reshape(shape))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(MODEL.predict(sparse.csr_matrix(rows.reshape(shape))), weights)


MODEL = NTM(**QUICK).fit(COUNTS)
