"""Answers of a served XGBoost model: content types, statuses, selectable output, batch form, ensembles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records


@pytest.fixture(scope="module")
def models(cancer: Any, wine: Any) -> dict[str, XGBoost]:
    made = {}
    for objective in ("binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic", "rank:pairwise"):
        made[objective] = XGBoost(objective=objective, num_round=3).fit(*cancer)
    for objective in ("multi:softmax", "multi:softprob"):
        made[objective] = XGBoost(objective=objective, num_round=3).fit(*wine)
    return made


def csv_of(X: np.ndarray) -> bytes:
    return "".join(",".join(repr(float(v)) for v in row) + "\n" for row in X).encode()


def ask(model: XGBoost, body: bytes, content_type: str = "text/csv", accept: str = "", **environment: str) -> Any:
    return model.respond(Request(body, content_type, accept, environment=environment))


def refused(model: XGBoost, body: bytes, content_type: str = "text/csv", accept: str = "", **environment: str) -> Any:
    with pytest.raises(RequestError) as caught:
        ask(model, body, content_type, accept, **environment)
    return caught.value


def test_csv_in_csv_out(models, cancer) -> None:  # type: ignore[no-untyped-def]
    X = cancer[0][:3]
    expected = models["binary:logistic"].predict_proba(X)[:, 1]
    answer = ask(models["binary:logistic"], csv_of(X))
    assert (answer.status, answer.content_type) == (200, "text/csv")
    assert answer.body == "".join(f"{float(p)}\n" for p in expected).encode()


def test_softprob_rows_are_comma_joined(models, wine) -> None:  # type: ignore[no-untyped-def]
    X = wine[0][:2]
    lines = ask(models["multi:softprob"], csv_of(X)).body.decode().splitlines()
    found = [[float(value) for value in line.split(",")] for line in lines]
    assert np.allclose(found, models["multi:softprob"].predict_proba(X))


@pytest.mark.parametrize(
    ("objective", "raw"),
    [("binary:logistic", False), ("binary:logitraw", True), ("binary:hinge", False), ("rank:pairwise", True)],
)
def test_the_score_is_xgboosts_prediction(objective: str, raw: bool, models, cancer) -> None:  # type: ignore[no-untyped-def]
    X = cancer[0][:5]
    expected = models[objective].booster_model.predict(xgboost.DMatrix(X), output_margin=raw)
    found = [float(line) for line in ask(models[objective], csv_of(X)).body.split()]
    assert np.allclose(found, expected)


def test_json_lists_scores(models, wine) -> None:  # type: ignore[no-untyped-def]
    answer = json.loads(ask(models["multi:softprob"], csv_of(wine[0][:2]), accept="application/json").body)
    assert [list(row) for row in answer["predictions"]] == [["score"], ["score"]]
    assert len(answer["predictions"][0]["score"]) == 3


def test_every_request_form_gives_the_same_score(models, cancer) -> None:  # type: ignore[no-untyped-def]
    X = cancer[0][:4]
    model = models["binary:logistic"]
    expected = ask(model, csv_of(X)).body
    libsvm = "\n".join("0 " + " ".join(f"{i}:{float(v)!r}" for i, v in enumerate(row)) for row in X).encode()
    assert ask(model, csv_of(X).replace(b",", b";"), "text/csv").body == expected
    assert ask(model, csv_of(X).replace(b",", b"\t"), "text/csv; charset=utf-8").body == expected
    assert ask(model, csv_of(X), "").body == expected
    assert ask(model, write_records(Batch(X)), "application/x-recordio-protobuf").body == expected
    large = csv_of(np.tile(X, (40, 1)))
    assert len(large) > 16_384
    assert ask(model, large).body == expected * 40
    for content_type in ("text/libsvm", "text/x-libsvm"):
        assert ask(model, libsvm, content_type).body == expected


def test_missing_fields_and_narrow_or_one_based_libsvm(models, cancer) -> None:  # type: ignore[no-untyped-def]
    model, row = models["binary:logistic"], cancer[0][0].copy()
    row[2:] = np.nan
    expected = ask(model, csv_of(row[None])).body
    assert ask(model, (",".join(map(repr, row[:2].tolist())) + "," * 28).encode()).body == expected
    assert ask(model, (",".join(map(repr, row[:2].tolist())) + ',""' * 28).encode()).body == expected
    assert (
        ask(
            model, f"0:{row[0]!r} 1:{row[1]!r}".replace("np.float32(", "").replace(")", "").encode(), "text/libsvm"
        ).body
        == expected
    )
    whole = cancer[0][0]
    shifted = " ".join(f"{i + 1}:{float(v)!r}" for i, v in enumerate(whole)).encode()
    assert ask(model, shifted, "text/libsvm").body == ask(model, csv_of(whole[None])).body


def test_statuses(models, cancer) -> None:  # type: ignore[no-untyped-def]
    model, body = models["binary:logistic"], csv_of(cancer[0][:1])
    assert ask(model, b"").status == 204
    assert ask(model, b"\n").status == 204
    assert refused(model, b'{"instances": []}', "application/json").status == 415
    for content_type, broken in (
        ("text/csv", b"a,b,c"),
        ("text/csv", b"1,2\n3"),
        ("text/csv", b"\xff\xfe\xff"),
        ("text/csv; charset=klingon", b"1"),
        ("text/libsvm", b"1:x"),
        ("application/x-recordio-protobuf", b"\x0a\x23\xd7\xce\xff"),
    ):
        assert refused(model, broken, content_type).status == 415
    assert refused(model, body, accept="image/png").status == 406
    narrow = refused(model, b"1,2,3")
    assert narrow.status == 400
    assert str(narrow).startswith("Unable to evaluate payload provided: ")
    assert refused(model, body[:-1] + b",1").status == 400
    assert refused(model, b"0:1 99:1", "text/libsvm").status == 400


def test_accept_is_negotiated(models, cancer) -> None:  # type: ignore[no-untyped-def]
    model, body = models["binary:logistic"], csv_of(cancer[0][:1])
    default = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/json"}
    assert ask(model, body, **default).content_type == "application/json"
    assert ask(model, body, accept="*/*", **default).content_type == "application/json"
    assert ask(model, body, accept="image/png, application/json;q=0.5").content_type == "application/json"
    assert json.loads(ask(model, body, accept="application/jsonlines").body)["score"] > 0


def test_recordio_frames_stand_alone(models, cancer) -> None:  # type: ignore[no-untyped-def]
    from io import BytesIO

    from sagesmith.formats.frames import frames
    from sagesmith.formats.protobuf import decode

    X = cancer[0][:3]
    answer = ask(models["binary:logistic"], csv_of(X), accept="application/x-recordio-protobuf")
    scores = [decode(payload).label["score"].values.tolist() for payload in frames(BytesIO(answer.body))]
    assert np.allclose(scores, models["binary:logistic"].predict_proba(X)[:, 1:])


def test_batch_and_multi_model_forms(models, wine, cancer) -> None:  # type: ignore[no-untyped-def]
    body = ask(models["multi:softprob"], csv_of(wine[0][:2]), SAGEMAKER_BATCH="true").body.decode()
    assert [len(json.loads(line)) for line in body.splitlines()] == [3, 3]
    body = ask(models["binary:hinge"], csv_of(cancer[0][:2]), SAGEMAKER_MULTI_MODEL="true").body
    assert body.count(b"\n") == 0
    assert len(body.split(b",")) == 2


SELECTED = {
    "binary:logistic": {"predicted_label", "labels", "probability", "probabilities", "raw_score", "raw_scores"},
    "multi:softprob": {"predicted_label", "labels", "probability", "probabilities", "raw_score", "raw_scores"},
    "binary:logitraw": {"predicted_label", "labels", "raw_score", "raw_scores"},
    "binary:hinge": {"predicted_label", "labels", "raw_score", "raw_scores"},
    "multi:softmax": {"predicted_label", "labels", "raw_score", "raw_scores"},
    "reg:logistic": {"predicted_score"},
}
ALL = "predicted_label, labels, probability,probabilities,raw_score,RAW_SCORES,predicted_score"


@pytest.mark.parametrize("objective", SELECTED)
def test_selectable_output(objective: str, models, cancer, wine) -> None:  # type: ignore[no-untyped-def]
    X = (wine if objective.startswith("multi") else cancer)[0][:3]
    model = models[objective]
    scores = model.ensemble_.predict(X)
    answer = json.loads(ask(model, csv_of(X), accept="application/json", SAGEMAKER_INFERENCE_OUTPUT=ALL).body)
    for row, score in zip(answer["predictions"], scores, strict=True):
        known = {key for key, value in row.items() if not (isinstance(value, float) and math.isnan(value))}
        assert known == SELECTED[objective]
        if objective == "reg:logistic":
            assert row["predicted_score"] == float(score)
            continue
        assert row["labels"] == ([0, 1, 2] if objective.startswith("multi") else [0, 1])
        if objective == "multi:softprob":
            assert row["predicted_label"] == int(np.argmax(score))
            assert row["probabilities"] == [float(p) for p in score]
            assert row["probability"] == max(row["probabilities"])
        elif objective == "binary:logistic":
            assert row["probabilities"] == [1 - float(score), float(score)]
            assert row["predicted_label"] == int(score > 0.5)
        elif objective == "binary:logitraw":
            assert (row["predicted_label"], row["raw_scores"]) == (int(score > 0), [1 - float(score), float(score)])
        else:
            assert row["predicted_label"] == int(score)


def test_selectable_output_in_every_encoding(models, cancer) -> None:  # type: ignore[no-untyped-def]
    from io import BytesIO

    from sagesmith.formats.frames import frames
    from sagesmith.formats.protobuf import decode

    X, model = cancer[0][:2], models["binary:logistic"]
    keys = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label,probabilities"}
    rows = json.loads(ask(model, csv_of(X), accept="application/json", **keys).body)["predictions"]
    lines = ask(model, csv_of(X), accept="application/jsonlines", **keys).body.splitlines()
    assert [json.loads(line) for line in lines] == rows
    written = ask(model, csv_of(X), **keys).body.decode().splitlines()
    assert written == [f'{row["predicted_label"]},"{json.dumps(row["probabilities"])}"' for row in rows]
    records = ask(model, csv_of(X), accept="application/x-recordio-protobuf", **keys).body
    decoded = [decode(payload).label for payload in frames(BytesIO(records))]
    assert [record["predicted_label"].values.tolist() for record in decoded] == [
        [row["predicted_label"]] for row in rows
    ]
    assert np.allclose([record["probabilities"].values for record in decoded], [row["probabilities"] for row in rows])


def test_selectable_output_of_other_objectives_is_refused(models, cancer) -> None:  # type: ignore[no-untyped-def]
    error = refused(models["rank:pairwise"], csv_of(cancer[0][:1]), SAGEMAKER_INFERENCE_OUTPUT="predicted_score")
    assert error.status == 500
    assert str(error) == "Objective `rank:pairwise` unsupported for selectable inference predictions."


def test_every_file_of_a_folder_is_part_of_the_ensemble(cancer, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    parts = [XGBoost(objective="binary:logistic", num_round=n, max_depth=n).fit(X, y) for n in (1, 2, 3)]
    for number, part in enumerate(parts):
        part.save(tmp_path / "one")
        (tmp_path / "one" / "xgboost-model").rename(tmp_path / f"xgboost-model-{number}")
    (tmp_path / "one").rmdir()
    (tmp_path / ".sagemaker").write_text("no model")
    mean = np.mean([part.predict_proba(X)[:, 1] for part in parts], axis=0)
    assert np.allclose(XGBoost.load(tmp_path).predict_proba(X)[:, 1], mean)
    monkeypatch.setenv("SAGEMAKER_INFERENCE_ENSEMBLE", "false")
    assert np.allclose(XGBoost.load(tmp_path).predict_proba(X), parts[0].predict_proba(X))


def test_softmax_and_hinge_vote(wine, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = wine
    votes = []
    for number in range(3):
        model = XGBoost(objective="multi:softmax", num_round=1, max_depth=1, seed=number, subsample=0.2).fit(X, y)
        model.save(tmp_path)
        (tmp_path / "xgboost-model").rename(tmp_path / f"model-{number}")
        votes.append(model.predict(X))
    expected = [np.bincount(column.astype(int)).argmax() for column in np.array(votes).T]
    assert XGBoost.load(tmp_path).predict(X).tolist() == expected


@pytest.mark.parametrize("objective", ["binary:logistic", "binary:hinge", "multi:softmax", "multi:softprob"])
def test_dense_rows_are_predicted_as_by_xgboost_itself(objective: str, models, cancer, wine) -> None:  # type: ignore[no-untyped-def]
    X = (wine if objective.startswith("multi") else cancer)[0][:50].copy()
    X[::3, 2] = np.nan
    for rows in (X, X[:1], X[::2], np.asfortranarray(X)):
        expected = models[objective].booster_model.inplace_predict(rows)
        found = models[objective].ensemble_.predict(rows)
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)
