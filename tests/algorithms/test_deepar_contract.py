"""DeepAR in Python: what it learns, says, refuses and remembers; the contract of algorithms on series."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import DeepAR
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun, applicable, looks_pickled
from tests.algorithms.conftest import JobLike
from tests.algorithms.deepar_series import AS_STRINGS, SETTINGS, counts, drawn, shortened


class Series:
    """What the kit's checks take for rows."""

    X = drawn(2)


@pytest.mark.parametrize("check", applicable(DeepAR), ids=lambda check: str(check.__name__))
def test_the_contract_holds(check: Any) -> None:
    check(DeepAR, Series())


@pytest.fixture(scope="module")
def trained() -> tuple[DeepAR, list[str]]:
    run = RecordingRun()
    return DeepAR(**SETTINGS).fit(drawn(), test=drawn(seed=9), run=run), run.lines


def test_waves_are_forecast(trained: tuple[DeepAR, list[str]]) -> None:
    model, _ = trained
    later = drawn(seed=5)
    found = model.forecast(shortened(later, 12), num_samples=200)
    truths = np.array([record["target"][-12:] for record in later])
    assert np.abs(found.mean - truths).sum() / truths.sum() < 0.06, "noise alone is 0.02"
    inside = (found.quantiles["0.1"] <= truths) & (truths <= found.quantiles["0.9"])
    assert inside.mean() > 0.75
    assert (found.quantiles["0.9"] - found.quantiles["0.1"]).sum() / truths.sum() < 0.4
    assert found.samples.shape == (20, 200, 12)
    assert np.allclose(found.samples.mean(axis=1), found.mean, rtol=1e-4)
    assert model.score(later) == -model.evaluate(later)["mean_wQuantileLoss"]


def test_the_log_is_sagemaker_s(trained: tuple[DeepAR, list[str]]) -> None:
    _, lines = trained
    text = "\n".join(lines)
    number = r"-?[0-9.]+(e-?[0-9]+)?"
    for pattern in (
        rf"^Epoch\[0\] Batch\[0\] avg_epoch_loss={number}$",
        rf"^#quality_metric: host=algo-1, epoch=0, batch=0 train loss <loss>={number}$",
        rf"^Epoch\[0\] Batch \[5\]\tSpeed: [0-9.]+ samples/sec\tloss={number}$",
        r"^processed a total of 1280 examples$",
        rf"^#quality_metric: host=algo-1, epoch=5, train loss <loss>={number}$",
        r"^best epoch loss so far$",
        rf"^Final loss: {number} \(occurred at epoch [0-5]\)$",
        rf"^#quality_metric: host=algo-1, train final_loss <loss>={number}$",
        r"^Evaluating model accuracy on testset using 40 samples$",
        rf"^#test_score \(algo-1, RMSE\): {number}$",
        rf"^#test_score \(algo-1, mean_absolute_QuantileLoss\): {number}$",
        rf"^#test_score \(algo-1, mean_wQuantileLoss\): {number}$",
        rf"^#test_score \(algo-1, wQuantileLoss\[0.1\]\): {number}$",
        rf"^#quality_metric: host=algo-1, test RMSE <loss>={number}$",
        rf"^#quality_metric: host=algo-1, test mean_wQuantileLoss <loss>={number}$",
    ):
        assert re.search(pattern, text, re.MULTILINE), pattern
    batches = re.findall(r"epoch=0, batch=(\d+) train loss", text)
    assert batches == ["0", "5", "10", "15"]
    weighted = [float(x) for x in re.findall(r"algo-1, wQuantileLoss\[\S+\]\): (\S+)", text)]
    (mean,) = re.findall(r"algo-1, mean_wQuantileLoss\): (\S+)", text)
    assert len(weighted) == 9
    assert float(mean) == pytest.approx(np.mean(weighted))


def test_the_scores_are_what_their_formulas_say(trained: tuple[DeepAR, list[str]]) -> None:
    model, _ = trained
    records = drawn(6, seed=4)
    records[0]["target"][-3] = None
    found = model.evaluate(records)
    ahead = model.forecast(shortened(records, 12), num_samples=40)
    y = np.array([[np.nan if x is None else x for x in record["target"][-12:]] for record in records])
    seen = np.isfinite(y)
    losses = [
        2 * np.nansum(np.maximum(float(q) * (y - v), (float(q) - 1) * (y - v))) for q, v in ahead.quantiles.items()
    ]
    size = np.abs(y[seen]).sum()
    assert found["RMSE"] == pytest.approx(np.sqrt(((ahead.mean - y)[seen] ** 2).mean()), rel=1e-4)
    assert found["mean_wQuantileLoss"] == pytest.approx(np.mean(losses) / size, rel=1e-4)
    assert found["mean_absolute_QuantileLoss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert found["wQuantileLoss[0.3]"] == pytest.approx(losses[2] / size, rel=1e-4)


def test_the_same_seed_gives_the_same_model() -> None:
    records, few = drawn(6), {**SETTINGS, "epochs": 1}
    first, second, other = (DeepAR(**few, seed=seed).fit(records).predict(records) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert records == drawn(6), "training changed its data"


def test_a_saved_model_forecasts_the_same(trained: tuple[DeepAR, list[str]], tmp_path: Path) -> None:
    model, _ = trained
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert not looks_pickled(path.read_bytes())
    loaded = DeepAR.load(tmp_path / "a")
    assert np.array_equal(loaded.predict(drawn(3)), model.predict(drawn(3)))
    document = json.loads((tmp_path / "a" / "model.json").read_text())
    document["hyperparameters"]["num_cells"] = 17
    (tmp_path / "a" / "model.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"model_algo-1 is no deepar model: array 'layers\.0\.input'"):
        DeepAR.load(tmp_path / "a")
    (tmp_path / "b" / "model_algo-1").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no deepar model"):
        DeepAR.load(tmp_path / "b")


def test_patience_ends_training_with_the_best_weights() -> None:
    run = RecordingRun()
    settings = {**SETTINGS, "epochs": 60, "learning_rate": 0.3, "early_stopping_patience": 2}
    DeepAR(**settings).fit(drawn(6), run=run)
    losses = [float(line.rpartition("=")[2]) for line in run.lines if re.search(r"epoch=\d+, train loss", line)]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 60
    assert f"(occurred at epoch {best})" in " ".join(run.lines)
    assert run.lines.count("loss did not improve") >= 2


def test_a_stopped_run_keeps_what_it_learnt(tmp_path: Path) -> None:
    class Stopping(RecordingRun):
        @property
        def stopping(self) -> bool:
            return any("epoch=1, train loss" in line for line in self.lines)

    run = Stopping()
    model = DeepAR(**{**SETTINGS, "epochs": 50}).fit(drawn(6), run=run)
    assert sum("processed a total" in line for line in run.lines) == 2
    assert model.predict(drawn(2)).shape == (2, 12)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    class Killed(JobLike):
        killed = False

        def quality(self, name: str, value: float, *more: Any, **named: Any) -> None:
            super().quality(name, value, *more, **named)
            if self.killed and named.get("epoch") == 3 and named.get("batch") == 10:
                raise KeyboardInterrupt

    few = {**SETTINGS, "epochs": 5}
    whole = JobLike(tmp_path / "whole")
    expected = DeepAR(**few).fit(drawn(6), run=whole).predict(drawn(3))
    run = Killed(tmp_path / "killed")
    run.killed = True
    with pytest.raises(KeyboardInterrupt):
        DeepAR(**few).fit(drawn(6), run=run)
    run.killed = False
    run.lines.clear()
    found = DeepAR(**few).fit(drawn(6), run=run).predict(drawn(3))
    assert sum("processed a total of" in line for line in run.lines) == 2, "three epochs were kept"
    assert any(line.startswith("Checkpoint loaded from") for line in run.lines)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("likelihood", ["gaussian", "negative-binomial", "beta", "deterministic-L1", "STUDENT-t"])
def test_every_likelihood_trains_and_forecasts(likelihood: str) -> None:
    records = counts(8)
    if likelihood == "beta":
        records = [{**record, "target": [min(1.0, x / 12) for x in record["target"]]} for record in records]
    model = DeepAR(**{**SETTINGS, "epochs": 4, "likelihood": likelihood}).fit(records)
    scores, found = model.evaluate(records), model.forecast(records, num_samples=50)
    assert scores["mean_wQuantileLoss"] < 0.6
    if likelihood == "negative-binomial":
        assert (found.samples >= 0).all()
        assert np.allclose(found.samples, np.round(found.samples), atol=1e-3)
    if likelihood == "beta":
        assert ((found.samples >= 0) & (found.samples <= 1)).all()
    if likelihood == "deterministic-L1":
        assert np.array_equal(found.quantiles["0.1"], found.quantiles["0.9"])


def test_short_missing_and_silent_series_are_taken(trained: tuple[DeepAR, list[str]]) -> None:
    model, _ = trained
    asked = [
        {"start": "2024-05-01", "target": [], "cat": [0]},
        {"start": "2024-05-01", "target": [5.0], "cat": [1]},
        {"start": "2024-05-01", "target": [None, "NaN"], "cat": [0]},
        {"start": "2024-05-01", "target": [0.0] * 30, "cat": [0]},
        {"start": "1800-01-01", "target": [3.0, None] * 50, "cat": [1]},
    ]
    found = model.predict(asked)
    assert found.shape == (5, 12)
    assert np.isfinite(found).all()
    records = [*drawn(4), {"start": "2024-01-01", "target": [0.0] * 100, "cat": [0]}]
    records.append({"start": "2024-01-01", "target": [None] * 50 + [2.0] * 13, "cat": [0]})
    again = DeepAR(**{**SETTINGS, "epochs": 2}).fit(records)
    assert np.isfinite(again.predict(records)).all()


def test_dynamic_features_tell_of_the_future() -> None:
    random = np.random.default_rng(0)
    records = []
    for _ in range(16):
        feature = (random.random(160) < 0.3).astype(float)
        target = 10 + 8 * feature + 0.1 * random.normal(size=160)
        records.append({"start": "2024-01-01", "target": target.tolist(), "dynamic_feat": [(1000 * feature).tolist()]})
    model = DeepAR(**{**SETTINGS, "epochs": 3}).fit(records)
    plain = [{k: v for k, v in record.items() if k != "dynamic_feat"} for record in records]
    without = DeepAR(**{**SETTINGS, "epochs": 3}).fit(plain)
    losses = [m.evaluate(r)["mean_wQuantileLoss"] for m, r in ((model, records), (without, plain))]
    assert losses[0] < 0.2 * losses[1]
    with pytest.raises(DataError, match="expected 172: the length of 'target' and prediction_length 12 more"):
        model.predict(records)
    longer = [
        {**record, "dynamic_feat": [[*record["dynamic_feat"][0], *[1000.0] * 6, *[0.0] * 6]]} for record in records
    ]
    found = model.predict(longer)
    assert (found[:, :6].mean(axis=1) - found[:, 6:].mean(axis=1)).min() > 5, "8 in the data, 0 if nothing was learnt"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cat": [2]}, "'cat' 0 is 2; the categories 0 to 1 are known"),
        ({"cat": None}, "'cat' has 0 entries, expected 1"),
        ({"dynamic_feat": [[0.0] * 212]}, "'dynamic_feat' has 1 entries, expected 0"),
    ],
)
def test_series_that_do_not_fit_the_model_are_refused(
    trained: tuple[DeepAR, list[str]], asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        trained[0].predict([{**drawn(1)[0], **asked}])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("likelihood", "poisson", r"likelihood: poisson is not in \[gaussian, beta"),
        ("cardinality", "[0]", "whole numbers from 1 to 10000000"),
        ("cardinality", "[10000001]", "whole numbers from 1 to 10000000"),
        ("cardinality", "many", "cardinality"),
        ("test_quantiles", "[0.5, 1.0]", r"numbers in \(0, 1\)"),
        ("test_quantiles", "[]", r"numbers in \(0, 1\)"),
        ("early_stopping_patience", "0", "early_stopping_patience"),
        ("dropout_rate", "1", r"in \[0, 1\)"),
        ("prediction_length", "0", "prediction_length"),
        ("num_dynamic_feat", "-1", "num_dynamic_feat"),
    ],
)
def test_hyperparameters_that_make_no_sense(name: str, value: str, words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        DeepAR.from_strings(AS_STRINGS | {name: value})


def test_sagemaker_s_strings_are_read() -> None:
    given = {"cardinality": "[3, 4]", "num_dynamic_feat": "2", "early_stopping_patience": "", "likelihood": "student-t"}
    settings = DeepAR.from_strings(AS_STRINGS | given | {"test_quantiles": "[0.5, 0.9]"}).settings
    assert settings["cardinality"] == [3, 4]
    assert settings["num_dynamic_feat"] == 2
    assert settings["early_stopping_patience"] == ""
    assert settings["test_quantiles"] == [0.5, 0.9]
    assert DeepAR.from_strings(AS_STRINGS | {"cardinality": ""}).settings["cardinality"] == ""


# -- requests --------------------------------------------------------------------------------------------------
def ask(model: DeepAR, body: Any, kind: str = "application/json", accept: str = "", **environment: str) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return model.respond(Request(text.encode(), kind, accept, environment=environment)).body.decode()


def test_a_request_gets_what_it_asks_for(trained: tuple[DeepAR, list[str]]) -> None:
    model, _ = trained
    instances = drawn(2)
    every = {"num_samples": 7, "output_types": ["mean", "quantiles", "samples"], "quantiles": ["0.5", "0.90"]}
    (first, second) = json.loads(ask(model, {"instances": instances, "configuration": every}))["predictions"]
    assert list(first) == ["mean", "quantiles", "samples"]
    assert list(first["quantiles"]) == ["0.5", "0.90"]
    assert np.shape(first["samples"]) == (7, 12)
    assert np.allclose(np.mean(second["samples"], axis=0), second["mean"], rtol=1e-4)
    assert np.allclose(np.median(first["samples"], axis=0), first["quantiles"]["0.5"], rtol=1e-5)
    mean_only = {"instances": instances, "configuration": {"output_types": ["mean"]}}
    assert [list(one) for one in json.loads(ask(model, mean_only))["predictions"]] == [["mean"], ["mean"]]
    (plain, _) = json.loads(ask(model, {"instances": instances}))["predictions"]
    assert list(plain) == ["mean", "quantiles"]
    assert list(plain["quantiles"]) == [f"0.{k}" for k in range(1, 10)]


def test_lines_take_their_configuration_from_the_environment(trained: tuple[DeepAR, list[str]]) -> None:
    model, _ = trained
    line = json.dumps(drawn(1)[0])
    answer = ask(model, f"{line}\n{line}\n", "application/jsonlines")
    assert [sorted(json.loads(one)) for one in answer.splitlines()] == [["mean", "quantiles"]] * 2
    given = {"DEEPAR_INFERENCE_CONFIG": '{"num_samples": 5, "output_types": ["samples"], "quantiles": []}'}
    (only,) = ask(model, line, "application/jsonlines", **given).splitlines()
    assert np.shape(json.loads(only)["samples"]) == (5, 12)
    cut_off = ask(model, line, "application/json", "application/jsonlines", SAGEMAKER_BATCH="true", **given)
    assert cut_off == only + "\n"
    with pytest.raises(RequestError, match="DEEPAR_INFERENCE_CONFIG: not JSON"):
        ask(model, line, "application/jsonlines", DEEPAR_INFERENCE_CONFIG="{")


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        ("", "application/json", 400, "the request is empty"),
        ("{", "application/json", 400, "not JSON"),
        ("[]", "application/json", 400, 'without a list "instances"'),
        ('{"instances": []}', "application/json", 400, 'without a list "instances"'),
        ('{"instances": [3]}', "application/json", 400, "instance 1 must be an object"),
        ('{"instances": [{"start": "x", "target": [1], "cat": [0]}]}', "application/json", 400, "instance 1: 'start'"),
        (
            '\n\n{"start": "2024-01-01", "target": [1], "cat": [9]}',
            "application/jsonlines",
            400,
            "line 3: 'cat' 0 is 9",
        ),
        ('{"start": "2024-01-01", "target": [1e38], "cat": [0]}', "application/jsonlines", 400, "1e+18 is the most"),
        ('{"a": 1}\n{', "application/jsonlines", 400, "line 2: not JSON"),
        ("1,2", "text/csv", 415, "text/csv"),
    ],
)
def test_bad_requests_are_told_why(
    trained: tuple[DeepAR, list[str]], body: str, kind: str, status: int, words: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        ask(trained[0], body, kind)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number from 1 on, found 0"),
        ({"num_samples": 10**9}, "33554432 at most"),
        ({"output_types": ["median"]}, "output_types must be a list of mean, quantiles, samples"),
        ({"output_types": []}, "output_types"),
        ({"quantiles": ["1.0"]}, 'quantiles must be a list of numbers in (0, 1) such as "0.5"'),
        ({"quantiles": ["high"]}, "quantiles"),
        ({"samples": 3}, "configuration has no key 'samples'; it has: num_samples, output_types, quantiles"),
        ([], "configuration must be a JSON object"),
    ],
)
def test_bad_configurations_are_told_why(trained: tuple[DeepAR, list[str]], given: Any, words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        ask(trained[0], {"instances": drawn(1), "configuration": given})
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number from 1 on, found 0"),
        ({"quantiles": ["1.5"]}, r"quantiles must be a list of numbers in \(0, 1\)"),
    ],
)
def test_a_python_caller_is_told_the_same(trained: tuple[DeepAR, list[str]], given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        trained[0].forecast(drawn(1), **given)


def test_an_answer_that_is_not_given_is_406(trained: tuple[DeepAR, list[str]]) -> None:
    with pytest.raises(RequestError) as refused:
        ask(trained[0], {"instances": drawn(1)}, accept="text/csv")
    assert refused.value.status == 406
