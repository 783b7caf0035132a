"""Object2Vec keeps the contract of algorithms on pairs of token lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from sagesmith.algorithms import Object2Vec
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.testing.check_algorithm import CHECKS, RecordingRun, Sample
from tests.algorithms.object2vec_pairs import SMALL, drawn, jsonlines

PAIRS, LABELS = drawn(150)
TWO_FILES = {
    "enc1_network": "hcnn", "enc1_max_seq_len": 5, "enc1_vocab_size": 20, "enc1_token_embedding_dim": 16,
    "enc0_pretrained_embedding_file": "v.txt", "enc1_pretrained_embedding_file": "v.txt", "enc0_vocab_file": "v.json",
    "enc1_vocab_file": "v.json",
}  # fmt: skip
ON_ROWS = ("check_kinds_of_arrays", "check_responses", "check_bad_requests", "check_metric_regexes")


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.__name__ not in ON_ROWS], ids=lambda check: str(check.__name__)
)
def test_the_contract_holds_on_pairs(check: Any) -> None:
    pairs = np.random.default_rng(7).integers(0, 20, (120, 2))
    check(Object2Vec, Sample(pairs, (pairs[:, 0] < pairs[:, 1]).astype(int)))


@pytest.fixture(scope="module")
def model() -> Object2Vec:
    return Object2Vec(**SMALL).fit(PAIRS, LABELS)


def ask(model: Object2Vec, body: Any, kind: str = "application/json", accept: str = "") -> Any:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = model.respond(Request(text, kind, accept))
    if answer.content_type == "application/jsonlines":
        return [json.loads(line) for line in answer.body.splitlines()]
    return json.loads(answer.body)


def test_pairs_are_scored_and_sides_embedded(model: Object2Vec) -> None:
    proba = model.predict_proba(PAIRS[:3])
    instances = [{"in0": a, "in1": b} for a, b in PAIRS[:3]]
    answer = ask(model, {"instances": instances})
    assert list(answer) == ["predictions"]
    assert [list(one) for one in answer["predictions"]] == [["scores"]] * 3
    assert np.allclose([one["scores"] for one in answer["predictions"]], proba, atol=1e-6)
    assert np.allclose(proba.sum(axis=1), 1)
    lines = ask(model, jsonlines(PAIRS[:3]).encode(), "application/jsonlines")
    assert np.allclose([one["scores"] for one in lines], proba, atol=1e-6)
    as_json = ask(model, jsonlines(PAIRS[:3]).encode(), "application/jsonlines", "application/json")
    assert len(as_json["predictions"]) == 3
    for side in (0, 1):
        asked = {"instances": [{f"in{side}": pair[side]} for pair in PAIRS[:3]]}
        given = [one["embeddings"] for one in ask(model, asked)["predictions"]]
        expected = model.embed(**{f"in{side}": [pair[side] for pair in PAIRS[:3]]})
        assert np.allclose(given, expected, atol=1e-6)
        assert expected.shape == (3, 16)


def test_a_pooled_embedding_is_the_mean_of_the_tokens_vectors(model: Object2Vec) -> None:
    table = model.arrays()["tables.1.weight"]
    assert np.allclose(model.embed(in1=[[3, 4, 4]])[0], table[[3, 4, 4]].mean(axis=0), atol=1e-6)


def test_lists_are_cut_where_asked(model: Object2Vec) -> None:
    body = {"instances": [{"in0": [1, 2, 3, 4, 5, 6, 7, 8]}]}
    vector = ask(model, body)["predictions"][0]["embeddings"]
    assert np.allclose(vector, model.embed(in0=[[1, 2, 3, 4, 5, 6]])[0], atol=1e-6)
    two = ask(model, body, "application/json; infer_max_seqlens=2,5000")["predictions"][0]["embeddings"]
    assert np.allclose(two, model.embed(in0=[[1, 2]])[0], atol=1e-6)
    table = model.arrays()["tables.0.weight"]
    all_eight = ask(model, body, "application/json; infer_max_seqlens=8,1")["predictions"][0]["embeddings"]
    assert np.allclose(all_eight, table[1:9].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b'{"in0": [1]}\n{"in0": 5}\n', "application/jsonlines", 400, "line 2: in0 is 5, not a list"),
        (b'{"in0": [1]}\n{"in0": [1}\n', "application/jsonlines", 400, "line 2: not JSON"),
        (b'{"in0": [1]}\n{"in1": [1]}\n', "application/jsonlines", 400, "line 2 has in1, the ones before it in0"),
        (b'{"instances": [{"in2": [1]}]}', "application/json", 400, 'instance 1: neither "in0" nor "in1"'),
        (b'{"instances": [{"in0": []}]}', "application/json", 400, "instance 1: in0 is an empty list"),
        (b'{"instances": [{"in0": [20]}]}', "application/json", 400, 'Vocab id "20" is not less than vocab_size=20'),
        (b'{"in0": [1]}\n\n{"in0": [1, 25]}\n', "application/jsonlines", 400, "vocab_size=20 (line 3)"),
        (b'{"instances": [{"in0": [1]}, {"in0": [20]}]}', "application/json", 400, "vocab_size=20 (instance 2)"),
        (b'{"instances": [{"in0": [-1]}]}', "application/json", 400, "in0 holds '-1'"),
        (b'{"instances": [{"in0": [1.5]}]}', "application/json", 400, "in0 holds '1.5'"),
        (b'{"instances": []}', "application/json", 400, "holds no instances"),
        (b"[]", "application/json", 400, 'without a list "instances"'),
        (b" ", "application/json", 400, "empty"),
        (b"1,2", "text/csv", 415, "text/csv"),
        (b'{"instances": [{"in0": [1]}]}', "application/json; infer_max_seqlens=0,5", 400, "whole numbers of 1 to"),
        (b'{"instances": [{"in0": [1]}]}', f"application/json; infer_max_seqlens={'9' * 5000},5", 400, "<in0>,<in1>"),
        (b'{"instances": [{"in0": [1]}]}', "application/json; infer_max_seqlens=5", 400, "<in0>,<in1>"),
    ],
)
def test_bad_requests_are_told(model: Object2Vec, body: bytes, kind: str, status: int, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(model, body, kind)
    assert (caught.value.status, words in str(caught.value)) == (status, True), str(caught.value)


def test_an_accept_that_is_not_given(model: Object2Vec) -> None:
    with pytest.raises(RequestError) as caught:
        ask(model, {"instances": [{"in0": [1]}]}, accept="text/csv")
    assert caught.value.status == 406


def test_a_regression_answers_one_number() -> None:
    target = np.array([float(len(a)) for a, _ in PAIRS])
    run = RecordingRun()
    settings = {**SMALL, "output_layer": "mean_squared_error", "epochs": 20, "early_stopping_tolerance": 1e-6}
    model = Object2Vec(**settings).fit(PAIRS, target, validation=(PAIRS, target), test=(PAIRS, target), run=run)
    answer = ask(model, {"instances": [{"in0": PAIRS[0][0], "in1": PAIRS[0][1]}]})
    assert answer["predictions"][0]["scores"] == pytest.approx([float(model.predict(PAIRS[:1])[0])], rel=1e-5)
    last = [line for line in run.lines if "test mean_squared_error <loss>=" in line]
    mse = float(((model.predict(PAIRS) - target) ** 2).mean())
    assert float(last[0].rpartition("=")[2]) == pytest.approx(mse, rel=1e-4)
    assert not any("accuracy" in line for line in run.lines)


def test_the_log_of_a_classification() -> None:
    run = RecordingRun()
    settings = {**SMALL, "epochs": 2, "enc1_vocab_size": 7}
    Object2Vec(**settings).fit(PAIRS, LABELS, validation=(PAIRS, LABELS), run=run)
    text = "\n".join(run.lines)
    assert (
        "Inconsistent enc_dim and token_embedding_dim found for token-embedding-encoder: 16 vs 300. "
        "Setting token embedding dim to be 16"
    ) in text
    assert "Parameters of encoders: [" in text
    assert "Encoder configs: [{" in text
    assert "enc1_vocab_size ignored" in text
    for epoch in (0, 1):
        for channel in ("train", "validation"):
            assert f"#quality_metric: host=algo-1, epoch={epoch}, {channel} accuracy <score>=" in text
            assert f"#quality_metric: host=algo-1, epoch={epoch}, {channel} cross_entropy <loss>=" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"enc0_layers": 2}, "enc0_layers has no effect with enc0_network pooled_embedding"),
        (
            {"enc0_network": "bilstm", "enc0_cnn_filter_width": 5},
            "enc0_cnn_filter_width has no effect with enc0_network",
        ),
        ({"enc0_freeze_pretrained_embedding": False}, "has no effect without enc0_pretrained_embedding_file"),
        ({"enc0_vocab_file": "vocab.json"}, "enc0_vocab_file has no effect without enc0_pretrained_embedding_file"),
        ({"mlp_layers": 0}, "mlp_dim has no effect with mlp_layers 0"),
        ({"enc1_layers": 3}, "enc1_network is enc0: encoder 1 takes encoder 0's settings, enc1_layers ignored"),
        ({"output_layer": "mean_squared_error", "num_classes": 3}, "num_classes has no effect with output_layer"),
        ({"token_embedding_storage_type": "row_sparse", "bucket_width": 3}, "bucketing is switched off"),
        ({"optimizer": "adadelta"}, "learning_rate has no effect"),
    ],
)
def test_what_has_no_effect_is_said(settings: dict[str, Any], words: str) -> None:
    run, plain = RecordingRun(), RecordingRun()
    Object2Vec(**{**SMALL, "epochs": 1, **settings}).fit(PAIRS[:40], LABELS[:40], run=run)
    Object2Vec(**{**SMALL, "epochs": 1}).fit(PAIRS[:40], LABELS[:40], run=plain)
    assert (any(words in line for line in run.lines), any(words in line for line in plain.lines)) == (True, False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"comparator_list": "hadamard, dot"}, "comma-separated list of different ones of hadamard, concat, abs_diff"),
        ({"comparator_list": "concat, concat"}, "different ones"),
        ({"enc1_network": "hcnn"}, "Missing required hyperparameter: enc1_max_seq_len"),
        ({"enc1_network": "hcnn", "enc1_max_seq_len": 5}, "Missing required hyperparameter: enc1_vocab_size"),
        ({"token_embedding_storage_type": "row_sparse", "optimizer": "rmsprop"}, "found rmsprop"),
        ({"token_embedding_storage_type": "row_sparse", "optimizer": "adadelta"}, "adam, adagrad, sgd"),
        ({"enc0_pretrained_embedding_file": "glove.txt"}, "needs enc0_vocab_file"),
        ({"enc0_vocab_file": "../a"}, "letters, digits, dots"),
        (
            {"tied_token_embedding_weight": True, "enc1_network": "hcnn", "enc1_max_seq_len": 5, "enc1_vocab_size": 9},
            "enc0_vocab_size is 20 and enc1_vocab_size 9",
        ),
        (
            TWO_FILES | {"tied_token_embedding_weight": True, "enc1_freeze_pretrained_embedding": False},
            "enc0_freeze_pretrained_embedding is True and enc1_freeze_pretrained_embedding False",
        ),
        ({"enc0_layers": 5}, "enc0_layers: 5"),
        ({"enc_dim": 3}, "enc_dim: 3"),
        ({"num_classes": 31}, "num_classes: 31"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        Object2Vec(**{**SMALL, **settings}).validate()


def test_kinds_of_pairs(tmp_path: Path) -> None:
    ids = np.random.default_rng(1).integers(0, 20, (60, 2))
    label = (ids[:, 0] > ids[:, 1]).astype(int)
    (tmp_path / "a.jsonl").write_text(jsonlines([[[int(a)], [int(b)]] for a, b in ids], label))
    expected = Object2Vec(**Object2Vec.example).fit(ids, label).predict_proba(ids)
    forms = [ids.tolist(), pandas.DataFrame(ids), [([int(a)], [int(b)]) for a, b in ids]]
    for form in forms:
        found = Object2Vec(**Object2Vec.example).fit(form, label)
        assert np.array_equal(found.predict_proba(form), expected), type(form)
    assert np.array_equal(Object2Vec(**Object2Vec.example).fit(tmp_path).predict_proba(ids), expected)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ([[[1], [2]]], [1, 0], "1 pairs, but 2 labels"),
        ([[[1], []]], [1], "row 0: in1 is an empty list"),
        ([[[1], ["a"]]], [1], "in1 holds 'a'"),
        ([[1, 2, 3]], [1], "row 0: not a pair"),
        ([], [], "no pairs"),
        ([[[1], [2]]], [np.nan], "row 0: the label is nan"),
        ([[[1], [2]], [[1], [2]]], [1, 2], "takes any number (channel 'train', row 1"),
        ([[[1], [2]]], [0.5], "label 0.5 is not one of the classes"),
        ([[[1], [20]]], [1], 'Inconsistent vocab for in1 found. Vocab id "20" is not less than vocab_size=20'),
    ],
)
def test_bad_pairs_are_refused_in_words(X: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match="(?s).*" + re.escape(words)):
        Object2Vec(**SMALL).fit(X, y)


def test_a_label_beyond_float32_is_named() -> None:
    settings = {**SMALL, "output_layer": "mean_squared_error"}
    with pytest.raises(ValueError, match=r"label -1e\+39 is beyond float32, .*channel 'train', row 1"):
        Object2Vec(**settings).fit([[[1], [2]]] * 3, [1.0, -1e39, 2.0])


def test_the_preferred_mode_is_checked(model: Object2Vec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save(tmp_path)
    for mode in ("embedding", "classification"):
        monkeypatch.setenv("INFERENCE_PREFERRED_MODE", mode)
        assert np.array_equal(Object2Vec.load(tmp_path).predict_proba(PAIRS), model.predict_proba(PAIRS))
    monkeypatch.setenv("INFERENCE_PREFERRED_MODE", "both")
    with pytest.raises(
        ValueError, match=r"^INFERENCE_PREFERRED_MODE is 'both'; it must be one of embedding, classification"
    ):
        Object2Vec.load(tmp_path)
