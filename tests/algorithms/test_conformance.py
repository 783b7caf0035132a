"""Every algorithm of the registry keeps the contract, and scikit-learn's own checks hold for those that predict."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from sagesmith.algorithms import XGBoost, registry
from sagesmith.testing.check_algorithm import CHECKS, Sample

CASES = [(algorithm, check) for algorithm in registry().values() for check in CHECKS]


@pytest.mark.parametrize(("algorithm", "check"), CASES, ids=[f"{a.name}-{c.__name__}" for a, c in CASES])
def test_algorithm_keeps_the_contract(algorithm: Any, check: Any) -> None:
    if check.__name__ in algorithm.exceptions:
        pytest.skip(algorithm.exceptions[check.__name__])
    check(algorithm, Sample.of(algorithm))


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic", "multi:softprob", "multi:softmax"])
def test_scikit_learns_own_checks_hold(objective: str) -> None:
    estimator = XGBoost(objective=objective, num_round=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its checks provoke warnings on purpose
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failed) <= set(XGBoost.exceptions), failed
    assert sum(result["status"] == "passed" for result in results) > 50
