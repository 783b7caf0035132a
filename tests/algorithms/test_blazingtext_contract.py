"""BlazingText keeps the contract of algorithms on texts: hyperparameters, Python's manners, saving, answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.testing.check_algorithm import RecordingRun, looks_pickled
from tests.algorithms.blazingtext_texts import drawn

JSON, LINES = "application/json", "application/jsonlines"
TEXTS, TOPICS = drawn(300)
CLASSIFIER = {"mode": "supervised", "vector_dim": 10, "min_count": 1, "buckets": 500, "learning_rate": 0.3}
VECTORS = {"mode": "skipgram", "vector_dim": 8, "min_count": 1, "epochs": 1, "buckets": 300}


@pytest.fixture(scope="module")
def classifier() -> BlazingText:
    return BlazingText(**CLASSIFIER).fit(TEXTS, TOPICS)


@pytest.fixture(scope="module")
def vectors() -> BlazingText:
    return BlazingText(**VECTORS, subwords=True, max_char=4).fit(TEXTS)


def asked(model: BlazingText, body: Any, content_type: str = JSON, accept: str = "") -> Any:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = model.respond(Request(text, content_type, accept))
    assert (response.status, response.content_type) == (200, content_type or JSON)
    return json.loads(response.body) if response.content_type == JSON else response.body.decode()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "word2vec"}, "mode: could not parse value word2vec"),
        ({}, "Missing required hyperparameter: mode"),
        ({"mode": "cbow", "epochs": 0}, r"epochs: 0 is not in"),
        ({"mode": "cbow", "min_count": -1}, "min_count: -1 is not in"),
        ({"mode": "cbow", "sampling_threshold": 0}, "sampling_threshold: 0 is not in"),
        ({"mode": "batch_skipgram", "subwords": True}, "subwords=True goes with the modes skipgram and cbow"),
        ({"mode": "supervised", "subwords": True}, "subwords=True goes with the modes skipgram and cbow"),
        ({"mode": "cbow", "subwords": True, "min_char": 5, "max_char": 4}, "min_char 5 is larger than max_char 4"),
        ({"mode": "cbow", "word_ngrams": 3}, "word_ngrams=3 means nothing in mode cbow"),
        ({"mode": "supervised", "window_size": 3}, "window_size=3 means nothing in mode supervised"),
    ],
)
def test_bad_hyperparameters_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        BlazingText(**values).validate()


def test_strings_of_a_job_are_read() -> None:
    model = BlazingText.from_strings({"mode": "cbow", "subwords": "True", "evaluation": "false", "vector_dim": "30"})
    assert (model.settings["subwords"], model.settings["evaluation"], model.settings["vector_dim"]) == (True, False, 30)
    defaults = {name: parameter.default for name, parameter in BlazingText.hyperparameters.items()}
    assert defaults | {"mode": "", "seed": 0} == {
        "mode": "", "batch_size": 11, "buckets": 2_000_000, "epochs": 5, "evaluation": True, "learning_rate": 0.05,
        "min_char": 3, "max_char": 6, "min_count": 5, "negative_samples": 5, "sampling_threshold": 0.0001,
        "subwords": False, "vector_dim": 100, "window_size": 5, "early_stopping": False, "min_epochs": 5,
        "patience": 4, "word_ngrams": 2, "seed": 0,
    }  # fmt: skip


def test_same_seed_same_model_and_fitting_forgets() -> None:
    def trained(texts: list[str], topics: list[str]) -> BlazingText:
        return BlazingText(**CLASSIFIER).fit(texts, topics, run=RecordingRun())

    first, second = trained(TEXTS, TOPICS), trained(TEXTS[:50], TOPICS[:50])
    expected = first.predict_proba(TEXTS)
    second.fit(TEXTS, TOPICS, run=RecordingRun())
    assert np.array_equal(second.predict_proba(TEXTS), expected)
    alone = np.concatenate([first.predict_proba([text]) for text in TEXTS[:5]])
    assert np.allclose(alone, expected[:5], atol=1e-6)


@pytest.mark.parametrize("name", ["classifier", "vectors"])
def test_a_saved_model_is_the_same(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    for folder in ("first", "second"):
        model.save(tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == (["model.bin"] if name == "classifier" else ["eval.json", "vectors.bin", "vectors.txt"])
    for file in files:
        content = (tmp_path / "first" / file).read_bytes()
        assert content == (tmp_path / "second" / file).read_bytes()
        assert not looks_pickled(content)
    loaded = BlazingText.load(tmp_path / "first")
    assert loaded.get_params()["mode"] == model.mode
    asked_for = ["wave", "oak market", "never", "the the oak"]
    assert np.array_equal(loaded.predict(asked_for), model.predict(asked_for))
    loaded.save(tmp_path / "third")
    for file in set(files) - {"eval.json"}:
        assert (tmp_path / "third" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()


def test_eval_json_is_what_was_logged(tmp_path: Path, vectors: BlazingText) -> None:
    vectors.save(tmp_path)
    found = json.loads((tmp_path / "eval.json").read_text())
    assert found == vectors.evaluation_
    assert found["EN-WS-353-REL.txt"]["total_pairs"] == 252


def test_a_model_that_was_not_trained_says_so(vectors: BlazingText) -> None:
    for call in (BlazingText(**CLASSIFIER).predict, BlazingText(**CLASSIFIER).predict_labels):
        with pytest.raises(NotFittedError, match="call fit or load first"):
            call(["a"])
    with pytest.raises(ValueError, match="a model of word vectors has no labels"):
        vectors.predict_labels(["a"])
    with pytest.raises(AttributeError, match="is no classifier"):
        _ = vectors.predict_proba
    with pytest.raises(ValueError, match="a list of texts is needed"):
        vectors.predict("word")
    with pytest.raises(ValueError, match="row 1: 3 is no text"):
        vectors.predict(["a", 3])


def test_words_too_rare_are_told() -> None:
    with pytest.raises(ValueError, match="no word of the 4 of channel train occurs min_count=50 times"):
        BlazingText(mode="cbow", min_count=50).fit(["a b c d"])


def test_modes_that_take_no_validation_say_so() -> None:
    with pytest.raises(ValueError, match="mode cbow takes no validation channel"):
        BlazingText(mode="cbow").fit(TEXTS, validation=TEXTS)
    with pytest.raises(ValueError, match="early_stopping=True needs a validation channel"):
        BlazingText(**CLASSIFIER, early_stopping=True).fit(TEXTS, TOPICS)


def test_words_are_answered_with_vectors(vectors: BlazingText) -> None:
    answer = asked(vectors, {"instances": ["wave", "waves", ""]})
    assert [row["word"] for row in answer] == ["wave", "waves", ""]
    assert list(answer[0]) == ["vector", "word"]
    found = np.array([row["vector"] for row in answer], np.float32)
    assert np.array_equal(found, vectors.predict(["wave", "waves", ""]))
    assert found[1].any()
    assert not found[2].any(), "no word and no n-gram: zeros"
    lines = asked(vectors, b'{"source": "wave"}\n\n{"source": "owl"}\n', LINES)
    assert [json.loads(line)["word"] for line in lines.splitlines()] == ["wave", "owl"]
    assert json.loads(lines.splitlines()[0]) == answer[0]


def test_texts_are_answered_with_labels(classifier: BlazingText) -> None:
    texts = ["a wave at the reef", "moss on the oak"]
    answer = asked(classifier, {"instances": texts})
    assert [row["label"] for row in answer] == [["__label__sea"], ["__label__wood"]]
    assert list(answer[0]) == ["label", "prob"]
    two = asked(classifier, {"instances": texts, "configuration": {"k": 2}})
    labels, chances = classifier.predict_labels(texts, 2)
    assert [row["label"] for row in two] == [[f"__label__{label}" for label in row] for row in labels]
    assert np.allclose([row["prob"] for row in two], chances)
    most = asked(classifier, {"instances": texts, "configuration": {"k": 99}})
    assert [len(row["prob"]) for row in most] == [3, 3]
    lines = asked(classifier, b'{"source": "a wave", "k": 2}\n{"source": "moss"}\n', LINES).splitlines()
    assert [list(json.loads(line)) for line in lines] == [["prob", "label"]] * 2
    assert [len(json.loads(line)["prob"]) for line in lines] == [2, 1]


@pytest.mark.parametrize("accept", ["application/json", LINES, "text/csv", "*/*", ""])
def test_accept_is_ignored_where_it_differs(classifier: BlazingText, accept: str) -> None:
    assert asked(classifier, {"instances": ["wave"]}, JSON, accept)[0]["label"] == ["__label__sea"]
    assert asked(classifier, b'{"source": "wave"}', LINES, accept).endswith("\n")
    assert asked(classifier, {"instances": ["wave"]}, "")[0]["label"] == ["__label__sea"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"", JSON, 400, "request: not JSON"),
        (b"[1]", JSON, 400, "request: not of the form"),
        (b'{"instances": []}', JSON, 400, "request: not of the form"),
        (b'{"instances": ["a", 7]}', JSON, 400, "instance 2: 7 is no text"),
        (b'{"instances": ["a"], "configuration": 3}', JSON, 400, "configuration 3 is no object"),
        (b'{"instances": ["a"], "configuration": {"n": 2}}', JSON, 400, "configuration has no key 'n'; it has: k"),
        (b'{"instances": ["a"], "configuration": {"k": 0}}', JSON, 400, "k must be a whole number from 1 on, found 0"),
        (b'{"instances": ["a"], "configuration": {"k": true}}', JSON, 400, "found True"),
        (b'{"instances": ["\\ud800"]}', JSON, 400, "instance 1: half of a surrogate pair"),
        (b'{"source": "a"}\n' * 6 + b'{"source"', LINES, 400, "line 7: not JSON"),
        (b'{"source": "a"}\n{"text": "b"}', LINES, 400, "line 2: not of the form"),
        (b'{"source": "a", "k": "two"}', LINES, 400, "line 1: k must be a whole number from 1 on, found 'two'"),
        (b" \n", LINES, 400, "it is empty"),
        (b"\xff", LINES, 400, "line 1: not UTF-8"),
        (b"a,b", "text/csv", 415, "'text/csv' is not in"),
    ],
)
def test_bad_requests_are_told(
    classifier: BlazingText, body: bytes, content_type: str, status: int, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        classifier.respond(Request(body, content_type))
    assert caught.value.status == status
    assert message in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=5))
def test_any_text_is_answered(classifier: BlazingText, vectors: BlazingText, texts: list[str]) -> None:
    for model in (classifier, vectors):
        assert len(asked(model, {"instances": texts})) == len(texts)
        lines = "".join(json.dumps({"source": text}) + "\n" for text in texts).encode()
        assert len(asked(model, lines, LINES).split("\n")) == len(texts) + 1


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_get_a_status(classifier: BlazingText, body: bytes) -> None:
    for kind in (JSON, LINES):
        status = 0
        try:
            status = classifier.respond(Request(body, kind)).status
        except RequestError as error:
            status = error.status
        assert status in (200, 400)
