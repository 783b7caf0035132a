"""Requests and answers of Linear Learner, and its artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import LinearLearner
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.formats.batch import Batch
from sagesmith.formats.format import read_body
from sagesmith.formats.protobuf import decode
from sagesmith.formats.recordio_writer import write_records

JSON, LINES, RECORDS, CSV = "application/json", "application/jsonlines", "application/x-recordio-protobuf", "text/csv"


@pytest.fixture(scope="module")
def models(wine: Any, cancer: Any, diabetes: Any) -> dict[str, LinearLearner]:
    settings: dict[str, Any] = {"epochs": 4, "mini_batch_size": 30, "num_models": 4}
    return {
        "binary": LinearLearner(predictor_type="binary_classifier", **settings).fit(*cancer),
        "hinge": LinearLearner(predictor_type="binary_classifier", loss="hinge_loss", **settings).fit(*cancer),
        "multiclass": LinearLearner(predictor_type="multiclass_classifier", **settings).fit(*wine),
        "regression": LinearLearner(predictor_type="regressor", **settings).fit(*diabetes),
    }


def ask(model: LinearLearner, body: bytes, content_type: str = CSV, accept: str = JSON) -> bytes:
    return model.respond(Request(body, content_type, accept)).body


def csv(X: np.ndarray) -> bytes:
    return "".join(",".join(map(repr, row)) + "\n" for row in X.astype(np.float64).tolist()).encode()


def test_a_binary_classifier_answers_score_and_label(models: Any, cancer: Any) -> None:
    X, model = cancer[0][:5], models["binary"]
    answers = json.loads(ask(model, csv(X)))["predictions"]
    assert [list(answer) for answer in answers] == [["score", "predicted_label"]] * 5
    assert [a["score"] for a in answers] == pytest.approx(model.predict_proba(X)[:, 1].tolist(), abs=1e-6)
    assert [a["predicted_label"] for a in answers] == [int(a["score"] > model.threshold) for a in answers]


def test_hinge_answers_raw_margins(models: Any, cancer: Any) -> None:
    X, model = cancer[0], models["hinge"]
    scores = [row["score"] for row in json.loads(ask(model, csv(X)))["predictions"]]
    assert min(scores) < 0 < 1 < max(scores)
    assert scores == pytest.approx((X @ model.weight_[:, 0] + model.bias_[0]).tolist(), rel=1e-4, abs=1e-4)
    with pytest.raises(AttributeError, match="hinge_loss"):
        model.predict_proba(X)


def test_a_multiclass_model_answers_a_probability_a_class(models: Any, wine: Any) -> None:
    answer = json.loads(ask(models["multiclass"], csv(wine[0][:3])))["predictions"]
    for row in answer:
        assert sum(row["score"]) == pytest.approx(1, abs=1e-6)
        assert row["predicted_label"] == int(np.argmax(row["score"]))


def test_a_regression_answers_in_the_labels_unit(models: Any, diabetes: Any) -> None:
    rows = json.loads(ask(models["regression"], csv(diabetes[0])))["predictions"]
    assert [list(row) for row in rows[:1]] == [["score"]]
    assert np.mean([row["score"] for row in rows]) == pytest.approx(diabetes[1].mean(), rel=0.05)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("content_type", [CSV, JSON, LINES, RECORDS, "sparse records", "sparse json"])
def test_every_form_of_request_gets_the_same_answer(models: Any, kind: str, content_type: str, request: Any) -> None:
    X = request.getfixturevalue({"binary": "cancer", "multiclass": "wine", "regression": "diabetes"}[kind])[0][:4]
    keys = list(range(X.shape[1]))
    sparse_json = [{"data": {"features": {"keys": keys, "shape": [len(keys)], "values": row}}} for row in X.tolist()]
    bodies = {
        CSV: csv(X),
        JSON: json.dumps({"instances": [{"data": {"features": {"values": row}}} for row in X.tolist()]}).encode(),
        LINES: "\n".join(json.dumps({"features": row}) for row in X.tolist()).encode(),
        RECORDS: write_records(Batch(X)),
        "sparse records": write_records(Batch(sparse.csr_matrix(X))),
        "sparse json": json.dumps({"instances": sparse_json}).encode(),
    }
    sent = {"sparse records": RECORDS, "sparse json": JSON}.get(content_type, content_type)
    model = models[kind]
    found = np.array([row["score"] for row in json.loads(ask(model, bodies[content_type], sent))["predictions"]])
    assert found == pytest.approx(np.asarray(model.infer(Batch(X))["score"]), rel=1e-5, abs=1e-6)


def test_answers_as_lines_and_records(models: Any, wine: Any) -> None:
    model, X = models["multiclass"], wine[0][:2]
    lines = [json.loads(line) for line in ask(model, csv(X), accept=LINES).decode().splitlines()]
    assert lines == json.loads(ask(model, csv(X)))["predictions"]
    body = ask(model, csv(X), accept=RECORDS)
    length = int.from_bytes(body[4:8], "little")
    label = decode(body[8 : 8 + length]).label
    assert sorted(label) == ["predicted_label", "score"]
    assert np.asarray(label["score"].values).tolist() == pytest.approx(lines[0]["score"])
    assert len(label["predicted_label"].values) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [(b"1,2\n", CSV, 400), (b"nan," * 29 + b"1\n", CSV, 400), (b"inf," * 29 + b"1\n", CSV, 400), (b"", CSV, 400),
     (b"{}", JSON, 400), (b"x", RECORDS, 400), (b"1", "text/libsvm", 415)],
)  # fmt: skip
def test_broken_requests_are_refused(models: Any, body: bytes, content_type: str, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        ask(models["binary"], body, content_type)
    assert caught.value.status == status


def test_the_artifact_acts_on_raw_rows(models: Any, diabetes: Any, tmp_path: Path) -> None:
    models["regression"].save(tmp_path)
    with np.load(tmp_path / "model_algo-1") as arrays:
        assert sorted(arrays) == ["bias", "margin", "threshold", "weight"]
        expected = diabetes[0] @ arrays["weight"][:, 0] + arrays["bias"][0]
    assert LinearLearner.load(tmp_path).predict(diabetes[0]) == pytest.approx(expected, rel=1e-6)
    assert json.loads((tmp_path / "model.json").read_text())["hyperparameters"]["predictor_type"] == "regressor"


def test_labels_of_any_kind_come_back(cancer: Any, tmp_path: Path) -> None:
    X, y = cancer
    words = np.where(y > 0, "benign", "malignant")
    model = LinearLearner(**LinearLearner.example).fit(X, words)
    model.save(tmp_path)
    assert np.array_equal(LinearLearner.load(tmp_path).predict(X), model.predict(X))
    assert set(model.predict(X)) == {"benign", "malignant"}


@pytest.mark.parametrize(
    "change",
    [{"weight": np.zeros((4, 2))}, {"weight": np.zeros(4)}, {"bias": np.zeros(3)}, {"weight": np.full((30, 1), np.nan)},
     {"margin": np.zeros(2)}],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(models: Any, tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    models["binary"].save(tmp_path)
    with (tmp_path / "model_algo-1").open("wb") as file:
        np.savez(file, **dict(models["binary"].arrays()) | change)
    with pytest.raises(ValueError, match="model_algo-1"):
        LinearLearner.load(tmp_path)


def test_read_body_is_what_training_reads(cancer: Any) -> None:
    assert np.array_equal(read_body(write_records(Batch(cancer[0][:3])), RECORDS).features, cancer[0][:3])
