"""Seq2Seq in Python: what it is given, what it says, what it refuses, and its folder."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from sagesmith.algorithms import Seq2Seq
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.formats.channel import Channel
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.protobuf import Record, Value, decode, encode
from sagesmith.testing.check_algorithm import CHECKS, RecordingRun, Sample
from tests.algorithms.seq2seq_sentences import backwards, recordio, vocabularies, vocabulary_json

RECORDIO = "application/x-recordio-protobuf"
UNKNOWN_ID = Value("int32", np.array([999], np.int32))
TRAIN, HELD = backwards(40), backwards(10, seed=1)


@pytest.fixture(scope="module")
def model() -> Seq2Seq:
    return Seq2Seq(**Seq2Seq.example).fit(*TRAIN, validation=HELD)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "vocab").mkdir()
    for name, sides in (("train", TRAIN), ("validation", HELD)):
        (tmp_path / f"{name}.rec").write_bytes(recordio(sides))
    for name, vocabulary in zip(("src", "trg"), vocabularies(), strict=True):
        (tmp_path / "vocab" / f"vocab.{name}.json").write_text(vocabulary_json(vocabulary))
    return tmp_path


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_as_far_as_rows_are_not_needed(check: Any) -> None:
    if check.__name__ in Seq2Seq.exceptions:
        pytest.skip(Seq2Seq.exceptions[check.__name__])
    check(Seq2Seq, Sample.of(Seq2Seq))


def test_texts_and_lists_of_tokens_are_the_same(model: Seq2Seq) -> None:
    listed = [[text.split() for text in side] for side in TRAIN]
    other = Seq2Seq(**Seq2Seq.example).fit(*listed, validation=HELD)
    assert other.predict(listed[0]) == model.predict(TRAIN[0])
    assert model.score(*HELD) == model.score(HELD[0], [text.split() for text in HELD[1]])


def test_files_and_channels_are_the_same(files: Path) -> None:
    given: dict[str, Any] = {"validation": files / "validation.rec", "vocab": str(files / "vocab")}
    by_file = Seq2Seq(**Seq2Seq.example).fit(files / "train.rec", **given)
    train = Channel.from_folder("train", files / "train.rec", RECORDIO)
    by_channel = Seq2Seq(**Seq2Seq.example).fit(
        train, validation=HELD, vocab=Channel.from_folder("vocab", files / "vocab", "application/json")
    )
    assert by_file.predict(HELD[0]) == by_channel.predict(HELD[0])


def test_predicting_changes_nothing_and_a_second_fit_forgets(model: Seq2Seq) -> None:
    first = model.predict(HELD[0])
    assert model.predict(HELD[0]) == first
    other = Seq2Seq(**Seq2Seq.example).fit(*backwards(30, seed=5), validation=HELD)
    assert other.fit(*TRAIN, validation=HELD).predict(HELD[0]) == first


def test_empty_and_unknown_are_translated(model: Seq2Seq) -> None:
    said = model.translate(["", "never seen", "w1"], matrix=True)
    assert said[0][0] == []
    assert said[0][1] is not None
    assert said[0][1].shape == (0, 0)
    assert model.predict(["never seen"]) == model.predict(["<unk> <unk>"])
    assert model.predict([]) == []


def test_a_long_sentence_is_cut() -> None:
    model = Seq2Seq(**{**Seq2Seq.example, "max_seq_len_source": 3}).fit(*TRAIN, validation=HELD)
    assert model.predict(["w1 w2 w3 w4 w5"]) == model.predict(["w1 w2 w3"])


@pytest.mark.parametrize("further", [{}, {"encoder_type": "cnn", "decoder_type": "cnn"}, {"num_layers_decoder": 2}])
def test_a_loaded_model_says_the_same(tmp_path: Path, further: dict[str, Any]) -> None:
    model = Seq2Seq(**{**Seq2Seq.example, "cnn_num_hidden": 8, **further}).fit(*TRAIN, validation=HELD)
    model.save(tmp_path / "one")
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert sorted(files) == ["model.json", "model_algo-1", "vocab.src.json", "vocab.trg.json"]
    loaded = Seq2Seq.load(tmp_path / "one")
    assert loaded.predict(HELD[0]) == model.predict(HELD[0])
    loaded.save(tmp_path / "two")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}


@pytest.mark.parametrize("name", ["model.json", "model_algo-1", "vocab.src.json", "vocab.trg.json"])
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_broken_folder_is_refused(model: Seq2Seq, tmp_path: Path, name: str, content: bytes | None) -> None:
    model.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        Seq2Seq.load(tmp_path)


def test_vocabularies_of_another_size_are_refused(model: Seq2Seq, tmp_path: Path) -> None:
    model.save(tmp_path)
    words = json.loads((tmp_path / "vocab.trg.json").read_text())
    (tmp_path / "vocab.trg.json").write_text(json.dumps(words | {"more": len(words)}))
    with pytest.raises(ValueError, match=f"a vocabulary of {len(words) + 1} tokens, but the model knows {len(words)}"):
        Seq2Seq.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "further", "message"),
    [
        (TRAIN, {}, "fit needs validation="),
        ((TRAIN[0], TRAIN[1][:-1]), {"validation": HELD}, "train: 40 sentences, but 39 counterparts"),
        (("w1 w2", "W2 W1"), {"validation": HELD}, "a list of sentences is needed, not str"),
        (([1, 2], ["a", "b"]), {"validation": HELD}, "sentence 0: a text or a list of tokens is needed, not 1"),
        (([["a"], [1]], ["a", "b"]), {"validation": HELD}, "sentence 1: a text or a list of tokens"),
        ((TRAIN[0],), {"validation": HELD}, "a file need vocab=FOLDER"),
        (TRAIN, {"validation": HELD[0]}, "validation: .sentences, counterparts., a file or a Channel is needed"),
        ((["", " "], ["a", "b"]), {"validation": HELD}, "channel 'train' holds no pairs with tokens on both sides"),
        (TRAIN, {"validation": ([""], ["a"])}, "channel 'validation' holds no pairs"),
        (TRAIN, {"validation": HELD, "vocab": "nowhere"}, "nowhere/vocab.src.json: cannot be read"),
    ],
)
def test_bad_data_are_refused_in_words(arguments: Any, further: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**Seq2Seq.example).fit(*arguments, **further)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rnn_num_hidden": "7"}, "rnn_num_hidden: 7 is not even"),
        ({"clip_gradient": "nan"}, r"clip_gradient: nan is not in \(-inf, inf\)"),
        ({"weight_init_scale": "-1"}, "weight_init_scale is -1: xavier's magnitude must be positive"),
        ({"clip_gradient": "0"}, "clip_gradient: 0 is not positive, or negative for no bound"),
        ({"max_num_batches": "0"}, "max_num_batches: 0 is not positive, or -1"),
        ({"rnn_attention_type": "location"}, r"rnn_attention_type: location is not in \[dot, fixed, mlp, bilinear\]"),
        ({"loss_type": "smoothed"}, r"loss_type: smoothed is not in \[cross-entropy\]"),
        ({"embed_dropout_source": "1.5"}, r"embed_dropout_source: 1.5 is not in \[0, 1\]"),
        ({"bleu_sample_size": "-2"}, "bleu_sample_size: -2 is not in"),
        ({"batch_siz": "3"}, "Additional properties are not allowed .'batch_siz' was unexpected"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        Seq2Seq.from_strings(settings)


def test_uniform_first_weights_take_what_amazon_tunes() -> None:
    settings = Seq2Seq.from_strings({"weight_init_scale": "-0.5", "weight_init_type": "uniform"}).settings
    assert settings["weight_init_scale"] == -0.5


def test_what_has_no_effect_is_told() -> None:
    run = RecordingRun()
    Seq2Seq(**{**Seq2Seq.example, "momentum": 0.9}).fit([*TRAIN[0], ""], [*TRAIN[1], "W1"], validation=HELD, run=run)
    assert "Hyperparameter momentum has no effect with optimizer_type adam" in run.lines
    assert "Channel train: 1 pairs with an empty side are left out" in run.lines


# -- requests --------------------------------------------------------------------------------------------------


def ask(model: Seq2Seq, body: Any, content_type: str = "application/json", accept: str = "") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = model.respond(Request(data, content_type, accept))
    assert response.content_type == (accept or content_type)
    return response.body


def test_json_in_and_out(model: Seq2Seq) -> None:
    text = HELD[0][0]
    plain = {"data": text}
    for yes in ("true", True, "True"):
        body = ask(model, {"instances": [plain, plain | {"configuration": {"attention_matrix": yes}}]})
        first, second = json.loads(body)["predictions"]
        assert first == {"target": model.predict([text])[0]}
        assert second["target"] == first["target"]
        assert np.array(second["matrix"]).shape == (len(first["target"].split()), len(text.split()))
    (none,) = json.loads(ask(model, {"instances": [plain | {"configuration": {"attention_matrix": "false"}}]}))[
        "predictions"
    ]
    assert set(none) == {"target"}


def test_json_lines_in_and_out(model: Seq2Seq) -> None:
    body = b"".join(json.dumps({"source": text}).encode() + b"\n" for text in HELD[0])
    said = [json.loads(line) for line in ask(model, body, "application/jsonlines").splitlines()]
    assert said == [{"target": text} for text in model.predict(HELD[0])]
    assert ask(model, body, "application/jsonlines", "application/json") == json.dumps({"predictions": said}).encode()


def test_json_lines_may_ask_for_the_attention_too(model: Seq2Seq) -> None:
    asked = {"source": HELD[0][0], "configuration": {"attention_matrix": "true"}}
    body = "".join(json.dumps(one) + "\n" for one in (asked, {"source": HELD[0][1]})).encode()
    first, second = (json.loads(line) for line in ask(model, body, "application/jsonlines").splitlines())
    assert np.array(first["matrix"]).shape == (len(first["target"].split()), len(HELD[0][0].split()))
    assert set(second) == {"target"}


def test_recordio_in_and_out(model: Seq2Seq) -> None:
    source, target = model.vocabularies_
    ids = Value("int32", source.encode(HELD[0][0].split()))
    nothing = Value("int32", np.empty(0, np.int32))
    records = [
        Record({"source": ids, "target": nothing}),
        Record({"source": ids}, configuration='{"attention_matrix": "true"}'),
    ]
    body = ask(model, b"".join(frame(encode(one)) for one in records), RECORDIO)
    first, second = (decode(payload) for payload in frames(io.BytesIO(body)))
    assert (set(first.features), first.label) == ({"target"}, {})
    assert first.features["target"].kind == "int32"
    assert " ".join(target.decode(first.features["target"].values)) == model.predict([HELD[0][0]])[0]
    matrix = second.features["matrix"]
    assert matrix.shape is not None
    assert matrix.shape.tolist() == [len(first.features["target"].values), len(ids.values)]
    assert len(matrix.values) == matrix.shape.prod()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"a,b", "text/csv", 415, "Content type 'text/csv' is not in"),
        (b"", "application/json", 400, "request: not JSON"),
        ({"instances": []}, "application/json", 400, "holds no sentences"),
        ({"data": "a"}, "application/json", 400, 'JSON without a list "instances"'),
        ({"instances": [{"data": "a"}, {"data": 5}]}, "application/json", 400, "instance 2: not of the form"),
        ({"instances": [{"features": [1]}]}, "application/json", 400, "instance 1: not of the form"),
        (
            {"instances": [{"data": "a", "configuration": {"beam": 3}}]}, "application/json", 400,
            "instance 1: configuration {'beam': 3} is not of the form",
        ),
        (
            {"instances": [{"data": "a", "configuration": {"attention_matrix": "maybe"}}]}, "application/json", 400,
            "attention_matrix 'maybe' is not true or false",
        ),
        (b'{"source": "a"}\n{"source"', "application/jsonlines", 400, "line 2: not JSON"),
        (b'{"source": "a"}\n{"data": "a"}', "application/jsonlines", 400, "line 2: not of the form"),
        (b'{"source": "a"}\n{"source": "", "configuration": 1}', "application/jsonlines", 400, "line 2: configuration"),
        (b'{"source": "\xff"}', "application/jsonlines", 400, "line 1: not UTF-8"),
        (b"\n", "application/jsonlines", 400, "holds no sentences"),
        (b"nonsense", RECORDIO, 400, "record 1: begins with"),
        (frame(encode(Record({"source": UNKNOWN_ID}))), RECORDIO, 400, "record 1: source holds the id 999; the"),
        (frame(encode(Record())), RECORDIO, 400, "record 1: features has no entry 'source'"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_words(
    model: Seq2Seq, body: Any, content_type: str, status: int, message: str
) -> None:
    with pytest.raises(RequestError) as error:
        ask(model, body, content_type)
    assert (error.value.status, message in str(error.value)) == (status, True), str(error.value)


def test_another_accept_is_refused(model: Seq2Seq) -> None:
    with pytest.raises(RequestError) as error:
        ask(model, {"instances": [{"data": "a"}]}, accept="text/csv")
    assert error.value.status == 406


@limits(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.sampled_from(Seq2Seq.accepts))
def test_nothing_a_stranger_sends_breaks_it(model: Seq2Seq, body: bytes, content_type: str) -> None:
    with contextlib.suppress(RequestError):
        assert model.respond(Request(body, content_type)).status == 200
