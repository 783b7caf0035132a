"""Declared hyperparameters: parsing, ranges, errors, and the constructor that follows from them."""

from __future__ import annotations

from typing import Literal

import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.base import Algorithm, HyperparameterError
from sagesmith.algorithms.hyperparameters import Tunable, hp


class Example(Algorithm):
    """Something with hyperparameters of every type."""

    name = "example"
    k: int = hp("number of clusters", ge=2)
    rate: float | Literal["auto"] = hp("learning rate", default="auto", gt=0)
    shuffle: bool = hp("whether rows are shuffled", default=True)
    metrics: list[str] = hp("metrics", default=None)
    weights: dict[str, float] = hp("weights", default=None)


@pytest.mark.parametrize(
    ("given", "attribute", "expected"),
    [
        ({"k": "3"}, "k", 3),
        ({"k": "3", "rate": "0.5"}, "rate", 0.5),
        ({"k": "3", "rate": "auto"}, "rate", "auto"),
        ({"k": "3", "shuffle": "False"}, "shuffle", False),
        ({"k": "3", "metrics": '["msd","ssd"]'}, "metrics", ["msd", "ssd"]),
        ({"k": "3", "metrics": "msd, ssd"}, "metrics", ["msd", "ssd"]),
        ({"k": "3", "weights": '{"a": 1}'}, "weights", {"a": 1}),
    ],
)
def test_strings_become_typed_attributes(given: dict[str, str], attribute: str, expected: object) -> None:
    model = Example.from_strings(given)
    assert getattr(model, attribute) == expected
    assert type(getattr(model, attribute)) is type(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Missing required hyperparameter: k"),
        ({"k": "1"}, r"Hyperparameter k: 1 is not in \[2, inf\)"),
        ({"k": "two"}, "Hyperparameter k: could not parse value two, expected int"),
        ({"k": "2", "rate": "0"}, r"Hyperparameter rate: 0 is not in \(0, inf\)"),
        ({"k": "2", "rate": "nan"}, "Hyperparameter rate: nan is not in"),
        ({"k": "2", "shuffle": "maybe"}, "could not parse value maybe, expected bool"),
        ({"k": "2", "weights": "[1]"}, "expected a JSON object"),
        (
            {"k": "2", "mini_batch_siz": "5"},
            r"Additional properties are not allowed \('mini_batch_siz' was unexpected\)",
        ),
    ],
)
def test_bad_strings_are_refused_by_name(given: dict[str, str], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        Example.from_strings(given)


def test_constructor_keeps_what_it_was_given_and_refuses_unknown_names() -> None:
    assert repr(Example(k=3, rate=0.1)) == "Example(k=3, rate=0.1)"
    with pytest.raises(TypeError, match="Invalid parameter 'kk' for Example"):
        Example(kk=3)
    with pytest.raises(TypeError, match="two names"):
        XGBoost(num_round=1, eta=0.1, learning_rate=0.2)


def test_aliases_stand_for_the_hyperparameter() -> None:
    assert XGBoost(num_round=1, learning_rate=0.1).eta == 0.1
    model = XGBoost.from_strings(
        {"num_round": "1", "learning_rate": "0.1", "min_split_loss": "2", "reg_lambda": "3", "reg_alpha": "4"}
    )
    assert (model.eta, model.gamma, model.reg_lambda, model.reg_alpha) == (0.1, 2, 3, 4)
    assert XGBoost.from_strings({"num_round": "1", "lambda": "3", "alpha": "4"}).reg_lambda == 3
    with pytest.raises(HyperparameterError, match="given twice"):
        XGBoost.from_strings({"num_round": "1", "eta": "0.1", "learning_rate": "0.2"})


def test_clone_and_pipelines_work(cancer) -> None:  # type: ignore[no-untyped-def]
    X, y = cancer
    model = clone(XGBoost(objective="binary:logistic", num_round=3))
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    assert pipeline.score(X, y) > 0.9
    assert pipeline.set_params(xgboost__num_round=1).get_params()["xgboost__num_round"] == 1


def test_categorical_tunable_values_are_a_list_of_json() -> None:
    class Switch(Algorithm):
        flag: bool = hp("a flag", default=True, tunable=Tunable(values=("True", "False")))

    assert Switch.specification()["hyperparameters"][0]["tunable"] == {"scale": "Auto", "values": ["True", "False"]}
