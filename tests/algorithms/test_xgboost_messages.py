"""What xgboost's C++ side says reaches the run's log as a line, and nobody else's."""

from __future__ import annotations

import pytest
import xgboost

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.xgboost.messages import line_of

UNUSED = {"booster": "gblinear", "max_depth": 3, "num_round": 1}  # a linear booster has no depth


def test_a_warning_is_one_line_of_the_log(diabetes, job) -> None:  # type: ignore[no-untyped-def]
    XGBoost(**UNUSED).fit(*diabetes, run=job)
    said = [line for line in job.lines if line.startswith("XGBoost: ")]
    assert len(said) == 1
    assert 'Parameters: { "max_depth" } are not used.' in said[0]
    assert "\n" not in said[0]
    assert ".cc" not in said[0]


def test_verbosity_chooses_what_is_said(diabetes, make_job) -> None:  # type: ignore[no-untyped-def]
    counts = []
    for verbosity in (0, 1, 3):
        job = make_job()
        job.checkpoints = None  # each of the three trains
        XGBoost(**UNUSED, verbosity=verbosity).fit(*diabetes, run=job)
        counts.append(len([line for line in job.lines if line.startswith("XGBoost: ")]))
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2]


def test_xgboost_warns_as_ever_outside_of_a_run(diabetes, job) -> None:  # type: ignore[no-untyped-def]
    X, y = diabetes
    XGBoost(**UNUSED).fit(X, y, run=job)
    with pytest.warns(UserWarning, match="are not used"):
        xgboost.train({"booster": "gblinear", "max_depth": 3}, xgboost.DMatrix(X, y), 1)


def test_the_head_of_a_message_is_left_out() -> None:
    message = '[12:00:01] WARNING: /workspace/src/learner.cc:790: \nParameters: { "x" } are not used.\n'
    assert line_of(message) == 'Parameters: { "x" } are not used.'
    assert line_of("[12:00:01] 5 rows\n") == "5 rows"
