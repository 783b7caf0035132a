"""The conformance check of an operation: its answer, against the output shape of botocore's model.

    answer = check_operation("DescribeTrainingJob", {"TrainingJobName": "a"}, ctx)

calls the operation as another room would, so the request is validated, and fails for an answer that no client could
read: a member the model lacks, a required one that is missing, a wrong type, a value outside an enumeration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagesmith.core.operation import Context, service_model

_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "character": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, datetime),
    "blob": (bytes,),
}


def check_operation(operation: str, request: Mapping[str, Any], ctx: Context, service: str = "sagemaker") -> Any:
    """Calls an operation and returns its answer.

    Raises:
        ApiError: what the operation answers.
        AssertionError: the answer does not fit the model, naming every place.
    """
    answer = ctx.call(operation, request, service)
    check_answer(operation, answer, service)
    return answer


def check_answer(operation: str, answer: Mapping[str, Any], service: str = "sagemaker") -> None:
    """Raises AssertionError unless `answer` fits the operation's output shape."""
    shape = service_model(service).operation_model(operation).output_shape
    if shape is None:
        assert not answer, f"{operation} has no output, but answered {answer!r}"
        return
    problems = _problems(answer, shape, operation)
    assert not problems, "\n".join(problems)


def _problems(value: Any, shape: Shape, path: str) -> list[str]:
    if isinstance(shape, StructureShape):
        return _structure_problems(value, shape, path)
    if isinstance(shape, ListShape):
        if not isinstance(value, list | tuple):
            return [f"{path}: expected a list, got {value!r}"]
        return [text for at, item in enumerate(value) for text in _problems(item, shape.member, f"{path}[{at}]")]
    if isinstance(shape, MapShape):
        if not isinstance(value, Mapping):
            return [f"{path}: expected a map, got {value!r}"]
        return [text for key, item in value.items() for text in _problems(item, shape.value, f"{path}[{key!r}]")]
    return _scalar_problems(value, shape, path)


def _structure_problems(value: Any, shape: StructureShape, path: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{path}: expected a structure, got {value!r}"]
    problems = [f"{path}.{name}: required, but missing" for name in shape.required_members if name not in value]
    for name, item in value.items():
        if name not in shape.members:
            problems.append(f"{path}.{name}: {shape.name} has no such member")
        else:
            problems += _problems(item, shape.members[name], f"{path}.{name}")
    return problems


def _scalar_problems(value: Any, shape: Shape, path: str) -> list[str]:
    expected = _SCALARS[shape.type_name]
    is_boolean = isinstance(value, bool)
    if not isinstance(value, expected) or is_boolean != (shape.type_name == "boolean"):
        return [f"{path}: expected {shape.type_name}, got {value!r}"]
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{path}: JSON has no {value!r}"]
    allowed = getattr(shape, "enum", None) or shape.metadata.get("enum")
    if allowed and value not in allowed:
        return [f"{path}: {value!r} is not among {', '.join(allowed)}"]
    return []
