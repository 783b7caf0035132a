"""Training: bare xgboost's results, the log, channels and their errors, early stopping, checkpoints, going on."""

from __future__ import annotations

import json
import os
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import matrix
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError


def table(log: list[str], metric: str) -> list[float]:
    """The values of `train-rmse` and the like in a log, round by round."""
    return [float(m[1]) for line in log if (m := re.search(rf"\t{re.escape(metric)}:(\S+)", line))]


CASES: dict[str, dict[str, Any]] = {
    "plain": {"objective": "reg:squarederror"},
    "sampled": {"objective": "reg:squarederror", "subsample": 0.7, "colsample_bytree": 0.6, "seed": 11},
    "exact": {"objective": "reg:squarederror", "tree_method": "exact", "max_depth": 3, "eta": 0.1},
    "approx": {"objective": "reg:squarederror", "tree_method": "approx", "max_bin": 64},
    "leafwise": {"objective": "reg:squarederror", "grow_policy": "lossguide", "max_leaves": 8},
    "dart": {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.2, "seed": 3},
    "linear": {"objective": "reg:squarederror", "booster": "gblinear"},
    "forest": {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.5},
    "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": 1.3},
    "poisson": {"objective": "count:poisson"},
    "gamma": {"objective": "reg:gamma"},
    "huber": {"objective": "reg:pseudohubererror"},
    "absolute": {"objective": "reg:absoluteerror"},
    "log error": {"objective": "reg:squaredlogerror"},
    "cox": {"objective": "survival:cox"},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_results_are_bare_xgboosts(settings: dict[str, Any], diabetes, job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    inside, outside = slice(0, 300), slice(300, None)
    log: dict[str, Any] = {}
    data, held = xgboost.DMatrix(X[inside], y[inside]), xgboost.DMatrix(X[outside], y[outside])
    bare = xgboost.train(
        {**settings, "nthread": 1}, data, 12, evals=[(data, "train"), (held, "validation")], evals_result=log,
        verbose_eval=False,
    )  # fmt: skip
    model = XGBoost(num_round=12, **settings).fit(X[inside], y[inside], validation=(X[outside], y[outside]), run=job)
    assert np.allclose(model.predict(X), bare.predict(xgboost.DMatrix(X)), rtol=1e-6)
    for name, metrics in log.items():
        for metric, values in metrics.items():
            assert table(job.lines, f"{name}-{metric}") == [float(f"{value:.5f}") for value in values]


def test_binary_and_multiclass_are_bare_xgboosts(cancer, wine) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    bare = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(X, y), 10)
    model = XGBoost(objective="binary:logistic", num_round=10).fit(X, y)
    assert np.allclose(model.predict_proba(X)[:, 1], bare.predict(xgboost.DMatrix(X)), rtol=1e-6)
    X, y = wine
    bare = xgboost.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, xgboost.DMatrix(X, y), 10)
    model = XGBoost(objective="multi:softprob", num_round=10, num_class=3).fit(X, y)
    assert np.allclose(model.predict_proba(X), bare.predict(xgboost.DMatrix(X)), rtol=1e-6)


def test_weights_and_query_ids_reach_xgboost(diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    weight, group = np.linspace(0.1, 2, len(y)), np.repeat(np.arange(34), 13)
    bare = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, y, weight=weight), 5).predict(xgboost.DMatrix(X))
    assert np.allclose(XGBoost(num_round=5).fit(X, y, sample_weight=weight).predict(X), bare, rtol=1e-6)
    relevance = np.digitize(y, [100, 150, 200])
    data = xgboost.DMatrix(X, relevance)
    data.set_group([13] * 34)
    bare = xgboost.train({"objective": "rank:ndcg", "nthread": 1}, data, 5).predict(xgboost.DMatrix(X))
    model = XGBoost(num_round=5, objective="rank:ndcg").fit(X, relevance, group=group)
    assert np.allclose(model.predict(X), bare, rtol=1e-6)
    with pytest.raises(DataError, match="side by side"):
        XGBoost(num_round=5, objective="rank:ndcg").fit(X, relevance, group=np.arange(len(y)) % 2)


def test_every_event_is_observed_in_survival_aft(diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    model = XGBoost(num_round=20, objective="survival:aft", aft_loss_distribution_scale=1.0).fit(X, y)
    assert np.corrcoef(model.predict(X), y)[0, 1] > 0.7


def test_the_log_is_the_containers(csv_file, job, diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    train = Channel.from_folder("train", csv_file("train", y[:300], X[:300]), "text/csv")
    validation = Channel.from_folder("validation", csv_file("validation", y[300:], X[300:]), "text/csv")
    XGBoost(num_round=2).fit(train, validation=validation, run=job)
    assert job.lines[:5] == [
        "Running XGBoost Sagemaker in algorithm mode",
        "Determined delimiter of CSV input is ','",
        "Determined delimiter of CSV input is ','",
        "Train matrix has 300 rows and 10 columns",
        "Validation matrix has 142 rows",
    ]
    assert "Single node training." in job.lines
    assert re.fullmatch(r"\[0\]\ttrain-rmse:\d+\.\d{5}\tvalidation-rmse:\d+\.\d{5}", job.rounds[0])
    assert [line[:3] for line in job.rounds] == ["[0]", "[1]"]


def test_metric_definitions_read_both_kinds_of_tab(job, cancer) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    asked = ["logloss", "auc", "f1_macro", "accuracy", "error"]
    XGBoost(num_round=1, objective="binary:logistic", eval_metric=asked).fit(X, y, validation=(X, y), run=job)
    line = job.rounds[0]
    known = {metric.name: metric for metric in XGBoost.metrics}
    for written in (line, line.replace("\t", "#011")):
        found = {n: m[1] for n, metric in known.items() if (m := re.search(metric.regex, written))}
        assert set(found) == {f"{data}:{metric}" for data in ("train", "validation") for metric in asked}
        assert found["validation:auc"] == re.search(r"validation-auc:([\d.]+)", line)[1]  # type: ignore[index]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_csv_delimiters_weights_and_gaps(delimiter: str, csv_file, job, diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = (part.copy() for part in diabetes)
    if delimiter != " ":
        X[::7, 3] = np.nan
    weight = np.linspace(0.5, 2, len(y)).astype(np.float32)
    channel = Channel.from_folder("train", csv_file("train", y, weight, X, delimiter=delimiter), "text/csv")
    model = XGBoost(num_round=4, csv_weights=1).fit(channel, run=job)
    assert f"Determined delimiter of CSV input is {delimiter!r}" in job.lines
    bare = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, y, weight=weight), 4).predict(xgboost.DMatrix(X))
    assert np.allclose(model.predict(X), bare, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("", {}, "No data in training channel path"),
        ("1\n2\n", {}, "line 1: 1 column"),
        ("1,2\n3\n", {}, "column|fields|width"),
        (",2\n1,3\n", {}, "label of row 1 is nan"),
        ("1,-2,3\n1,1,3\n", {"csv_weights": 1}, "weight of row 1 is -2"),
        ("2,3\n1,3\n", {"objective": "binary:logistic"}, r"label 2 of row 1 is not in \[0, 1\]"),
        (
            "1,3\n5,3\n",
            {"objective": "multi:softmax", "num_class": 3},
            r"label 5 of row 2 is not an integer in \[0, 3\)",
        ),
        ("0,3\n1,3\n", {"objective": "reg:gamma"}, "not positive"),
        ("-1,3\n1,3\n", {"objective": "count:poisson"}, "not negative"),
    ],
)
def test_bad_data_is_the_users_error(content, settings, message, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        XGBoost(num_round=1, **settings).fit(Channel.from_folder("train", tmp_path, "text/csv"))


def test_channels_are_checked(csv_file, diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    folder = csv_file("train", y, X)
    train = Channel.from_folder("train", folder, "text/csv")
    with pytest.raises(DataError, match="Extraneous channel found: test"):
        XGBoost(num_round=1).fit(train, test=train)
    with pytest.raises(DataError, match="Missing required channel: train"):
        model = XGBoost(num_round=1)
        model.validate()
        model.train({"validation": train}, Run())
    with pytest.raises(DataError, match="content type image/png is not in"):
        XGBoost(num_round=1).fit(Channel.from_folder("train", folder, "image/png"))
    with pytest.raises(DataError, match="label_size 2 is not 1"):
        XGBoost(num_round=1).fit(Channel.from_folder("train", folder, "text/csv;label_size=2"))
    XGBoost(num_round=1).fit(Channel.from_folder("train", folder, "text/csv; label_size=1"))
    (folder / ".hidden").write_text("1,2")
    with pytest.raises(DataError, match="Hidden file found in the data path! Remove that before training"):
        XGBoost(num_round=1).fit(Channel.from_folder("train", folder, "text/csv"))


def test_the_same_file_in_both_channels_is_noticed(csv_file, job, diabetes) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    channel = Channel.from_folder("train", csv_file("train", y, X), "text/csv")
    XGBoost(num_round=1).fit(channel, validation=channel, run=job)
    assert any("same size" in line for line in job.lines)


def test_libsvm_with_query_ids_and_narrower_validation(tmp_path: Path, job) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    for name, columns in (("train", 6), ("validation", 5)):
        rows = []
        for query in range(12):
            for _ in range(5):
                x = random.random(columns)
                cells = " ".join(f"{i}:{v:.4f}" for i, v in enumerate(x) if v > 0.3 or (i == columns - 1))
                rows.append(f"{int(3 * x[0])} qid:{query} {cells}")
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.libsvm").write_text("\n".join(rows) + "\n")
    channels = {n: Channel.from_folder(n, tmp_path / n, "text/libsvm") for n in ("train", "validation")}
    settings = {"objective": "rank:ndcg", "eval_metric": "ndcg@3,ndcg"}
    model = XGBoost(num_round=5, **settings).fit(channels["train"], validation=channels["validation"], run=job)
    assert "Train matrix has 60 rows and 6 columns" in job.lines
    assert table(job.lines, "validation-ndcg@3")[-1] > 0.5
    assert not any("No query ids" in line for line in job.lines)
    assert model.n_features_in_ == 6


def test_early_stopping_keeps_the_best_round(diabetes, job, make_job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    halves = {"validation": (X[300:], y[300:])}
    settings = {"num_round": 200, "early_stopping_rounds": 3, "eta": 0.5}
    model = XGBoost(eval_metric="mae,rmse", **settings).fit(X[:300], y[:300], **halves, run=job)
    scores = table(job.lines, "validation-rmse")
    best = int(np.argmin(scores))
    assert len(scores) == best + 4 < 200
    assert model.booster_model.num_boosted_rounds() == best + 1
    assert not any("No metric was named" in line for line in job.lines)
    unnamed = make_job()
    unnamed.checkpoints = job.checkpoints.with_name("other")
    again = XGBoost(**settings).fit(X[:300], y[:300], **halves, run=unnamed)
    assert "using the objective's own, validation:rmse" in " ".join(unnamed.lines)
    assert np.array_equal(again.predict(X), model.predict(X))
    alone = make_job()
    alone.checkpoints = None
    XGBoost(num_round=5, early_stopping_rounds=1).fit(X, y, run=alone)
    assert len(alone.rounds) == 5
    assert any("no effect without a validation channel" in line for line in alone.lines)


def test_early_stopping_follows_the_tuning_objective_upwards(cancer, job) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    settings = {"eval_metric": "logloss", "tuning_objective_metric": "validation:accuracy", "early_stopping_rounds": 4}
    model = XGBoost(objective="binary:logistic", num_round=60, **settings)
    model.fit(X[:80], y[:80], validation=(X[80:], y[80:]), run=job)
    scores = table(job.lines, "validation-accuracy")
    assert model.booster_model.num_boosted_rounds() == int(np.argmax(scores)) + 1


def test_checkpoints_are_kept_and_resumed_from(diabetes, make_job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    folder = tmp_path / "checkpoints"
    whole = XGBoost(num_round=12).fit(X, y).predict(X)
    stopped = make_job(stop_after=8)
    XGBoost(num_round=12).fit(X, y, run=stopped)
    assert sorted(path.name for path in folder.iterdir()) == [f"xgboost-checkpoint.{n}" for n in range(3, 8)]
    (folder / "xgboost-checkpoint.7").write_bytes(b"{torn")
    (folder / "xgboost-checkpoint.9.sagemaker-ignore").write_bytes(b"half")
    resumed = make_job()
    model = XGBoost(num_round=12).fit(X, y, run=resumed)
    assert [line.split("\t")[0] for line in resumed.rounds] == [f"[{n}]" for n in range(7, 12)]
    assert any("Resuming from checkpoint 6: 5 rounds remain" in line for line in resumed.lines)
    assert np.array_equal(model.predict(X), whole)
    finished = make_job()
    assert np.array_equal(XGBoost(num_round=12).fit(X, y, run=finished).predict(X), whole)
    assert finished.rounds == []


def test_a_checkpoint_being_uploaded_stays(diabetes, make_job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    folder = tmp_path / "checkpoints"
    XGBoost(num_round=8).fit(X, y, run=make_job(stop_after=3))
    (folder / "xgboost-checkpoint.0.sagemaker-uploading").touch()
    (folder / "xgboost-checkpoint.1.sagemaker-uploaded").touch()
    XGBoost(num_round=8).fit(X, y, run=make_job())
    names = {path.name for path in folder.iterdir()}
    assert names == {f"xgboost-checkpoint.{n}" for n in (0, 3, 4, 5, 6, 7)} | {
        "xgboost-checkpoint.0.sagemaker-uploading"
    }


def test_a_stopped_job_leaves_the_rounds_done(diabetes, make_job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    run = make_job(stop_after=3)
    model = XGBoost(num_round=50, save_model_on_termination=True).fit(X, y, run=run)
    assert model.booster_model.num_boosted_rounds() == 3
    files = [path.name for path in (tmp_path / "model").iterdir()]
    assert files == ["xgboost-model"]
    assert np.array_equal(XGBoost.load(tmp_path / "model").predict(X), model.predict(X))


def test_training_goes_on_from_a_model(diabetes, job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    XGBoost(num_round=4).fit(X, y).save(tmp_path / "first")
    job.checkpoints = None
    job.initial_model = tmp_path / "first"
    model = XGBoost(num_round=6).fit(X, y, run=job)
    assert model.booster_model.num_boosted_rounds() == 10
    assert np.allclose(model.predict(X), XGBoost(num_round=10).fit(X, y).predict(X), rtol=1e-5)
    refreshed = XGBoost(num_round=4, process_type="update", updater="refresh", reg_lambda=50.0)
    refreshed.fit(X, y, run=job)
    assert refreshed.booster_model.num_boosted_rounds() == 4


def test_models_travel_as_xgboosts_own_files(wine, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    X, y = wine
    names = np.array(["barolo", "grignolino", "barbera"])[y.astype(int)]
    model = XGBoost(objective="multi:softprob", num_round=5).fit(X, names)
    model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["xgboost-model"]
    content = (tmp_path / "xgboost-model").read_bytes()
    assert content[:2] == b"{L"
    bare = xgboost.Booster(model_file=bytearray(content))
    assert np.allclose(bare.predict(xgboost.DMatrix(X)), model.predict_proba(X), rtol=1e-6)
    assert XGBoost.load(tmp_path).classes_.tolist() == sorted(set(names))
    (tmp_path / "xgboost-model").write_bytes(bytes(bare.save_raw("json")))
    assert json.loads((tmp_path / "xgboost-model").read_text())["learner"]
    assert np.array_equal(XGBoost.load(tmp_path).predict(X), model.predict(X))


def test_pickled_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "xgboost-model").write_bytes(b"\x80\x04\x95\x00.")
    with pytest.raises(ValueError, match="is a Python pickle"):
        XGBoost.load(tmp_path)
    (tmp_path / "xgboost-model").write_bytes(b"binf\x00\x00")
    with pytest.raises(ValueError, match="no XGBoost model in UBJSON or JSON"):
        XGBoost.load(tmp_path)


def test_a_pipe_is_read_once_with_weights(diabetes, tmp_path: Path, job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    weight = np.linspace(0.5, 2, len(y)).astype(np.float32)
    os.mkfifo(tmp_path / "train_0")
    text = "".join(";".join(repr(float(v)) for v in row) + "\n" for row in np.column_stack([y, weight, X]))
    writer = threading.Thread(target=(tmp_path / "train_0").write_text, args=(text,))
    writer.start()
    model = XGBoost(num_round=3, csv_weights=1).fit(Channel.from_pipe("train", tmp_path / "train", "text/csv"), run=job)
    writer.join(10)
    expected = XGBoost(num_round=3).fit(X, y, sample_weight=weight).predict(X)
    assert np.allclose(model.predict(X), expected, rtol=1e-6)


def test_rows_are_let_go_of_before_boosting(diabetes, csv_file, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    channels = {name: Channel.from_folder(name, csv_file(name, y, X), "text/csv") for name in ("train", "validation")}
    read, boost = matrix.read, xgboost.train
    features: list[weakref.ref[Any]] = []
    held: list[bool] = []

    def watched_read(*arguments: Any) -> Any:
        batch = read(*arguments)
        assert batch is not None
        features.append(weakref.ref(batch.features))
        return batch

    def watched_boost(*arguments: Any, **options: Any) -> Any:
        held.extend(each() is not None for each in features)
        return boost(*arguments, **options)

    monkeypatch.setattr(matrix, "read", watched_read)
    monkeypatch.setattr(xgboost, "train", watched_boost)
    model = XGBoost(num_round=1)
    model.validate()
    model.train(channels, Run(1))
    assert held == [False, False]
