from __future__ import annotations

import re
from typing import Any

import pytest

from sagesmith.testing.check_operation import check_answer

GOOD: dict[str, Any] = {
    "TrainingJobSummaries": [
        {"TrainingJobName": "a", "TrainingJobArn": "arn", "CreationTime": 1.0, "TrainingJobStatus": "Completed"}
    ]
}


def summary(**changes: Any) -> dict[str, Any]:
    return {"TrainingJobSummaries": [{**GOOD["TrainingJobSummaries"][0], **changes}]}


def test_an_answer_that_fits_passes() -> None:
    check_answer("ListTrainingJobs", GOOD)
    check_answer("StopTrainingJob", {})


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        ("ListTrainingJobs.TrainingJobSummaries: required, but missing", {}),
        ("TrainingJobSummaries: expected a list, got {}", {"TrainingJobSummaries": {}}),
        ("TrainingJobSummaries[0]: expected a structure, got 'a'", {"TrainingJobSummaries": ["a"]}),
        ("[0].Colour: TrainingJobSummary has no such member", summary(Colour="red")),
        ("[0].TrainingJobName: expected string, got 5", summary(TrainingJobName=5)),
        ("[0].CreationTime: expected timestamp, got '2026'", summary(CreationTime="2026")),
        ("[0].CreationTime: expected timestamp, got True", summary(CreationTime=True)),
        ("[0].CreationTime: JSON has no nan", summary(CreationTime=float("nan"))),
        ("[0].TrainingJobStatus: 'Done' is not among", summary(TrainingJobStatus="Done")),
    ],
)
def test_an_answer_that_no_client_could_read_is_named(problem: str, answer: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=re.escape(problem)):
        check_answer("ListTrainingJobs", answer)


def test_an_operation_without_output_answers_nothing() -> None:
    with pytest.raises(AssertionError, match="has no output"):
        check_answer("StopTrainingJob", {"TrainingJobArn": "a"})
