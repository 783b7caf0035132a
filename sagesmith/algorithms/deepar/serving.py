"""Serving: requests with series and a configuration, answers with mean, quantiles and samples.

    {"instances": [{"start": …, "target": […]}], "configuration": {"num_samples": 50, "output_types": ["mean"]}}

In batch transform a line is one instance, and the configuration is the variable DEEPAR_INFERENCE_CONFIG.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.responding import negotiated
from sagesmith.formats.channel import HeldChannel
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.lines import pieces
from sagesmith.formats.nesting import load_json
from sagesmith.formats.source import Source

if TYPE_CHECKING:
    from sagesmith.algorithms.deepar import DeepAR, Forecast

Placed = tuple[Any, str]  # an instance, and where it stands
VARIABLE = "DEEPAR_INFERENCE_CONFIG"
TYPES = ("mean", "quantiles", "samples")
MOST = 1 << 25  # numbers that one request may have drawn: 128 MB


@dataclass(frozen=True)
class Configuration:
    """What an answer is to hold."""

    num_samples: int = 100
    output_types: Sequence[str] = ("mean", "quantiles")
    quantiles: Sequence[str] = tuple(f"0.{k}" for k in range(1, 10))

    def changed(self, given: Any) -> Configuration:
        """With the keys that are given.

        Raises:
            DataError: an unknown key, or a value that makes no sense, saying what is allowed.
        """
        if not isinstance(given, Mapping):
            raise DataError(f"configuration must be a JSON object, found {given!r:.60}")
        values = dict(vars(self))
        if unknown := sorted(set(given) - set(values)):
            raise DataError(f"configuration has no key {unknown[0]!r}; it has: {', '.join(values)}")
        values |= given
        count = values["num_samples"]
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise DataError(f"num_samples must be a whole number from 1 on, found {count!r:.60}")
        types = values["output_types"]
        if not isinstance(types, (list, tuple)) or not types or any(kind not in TYPES for kind in types):
            raise DataError(f"output_types must be a list of {', '.join(TYPES)}, found {types!r:.60}")
        levels = values["quantiles"]
        if not isinstance(levels, (list, tuple)) or any(_level(level) is None for level in levels):
            raise DataError(f'quantiles must be a list of numbers in (0, 1) such as "0.5", found {levels!r:.60}')
        return Configuration(count, tuple(types), tuple(str(level) for level in levels))


def _level(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, float)) else -1.0
    except ValueError:
        return None
    return number if 0 < number < 1 else None


def respond(model: DeepAR, request: Request) -> Response:
    """Answers one request.

    Raises:
        RequestError: 415, 406, or 400 for series or a configuration that cannot be used, naming the instance.
    """
    kind = _kind(model, request)
    accept = negotiated(model, request).name if request.accept or kind == model.returns[0] else kind
    try:
        instances, configuration = _read(request, kind)
        predictions = _predicted(model, instances, configuration)
    except (DataError, ValueError) as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    if accept == "application/jsonlines":
        return Response("".join(json.dumps(one) + "\n" for one in predictions).encode(), accept)
    return Response(json.dumps({"predictions": predictions}).encode(), accept)


def _kind(model: DeepAR, request: Request) -> str:
    try:
        name = ContentType.parse(request.content_type or model.accepts[0]).name
        name = "application/jsonlines" if name == "application/json" and _is_line(request) else name
    except DataError as error:
        raise RequestError(str(error), 415) from None
    if name not in model.accepts:
        raise RequestError(f"Content type {request.content_type!r} is not in [{', '.join(model.accepts)}]", 415)
    return name


def _is_line(request: Request) -> bool:
    """Whether a request in JSON is a line that batch transform cut off (SplitType=Line): an instance by itself."""
    return request.environment.get("SAGEMAKER_BATCH", "").lower() == "true" and b'"instances"' not in request.body


def _read(request: Request, kind: str) -> tuple[Sequence[Placed], Configuration]:
    """The instances, each with its place, and what is asked of them."""
    configuration = Configuration()
    if text := request.environment.get(VARIABLE):
        configuration = configuration.changed(load_json(text.encode(), VARIABLE))
    if not request.body.strip():
        raise DataError("the request is empty")
    if kind == "application/jsonlines":
        return _lines(request.body), configuration
    document = load_json(request.body, "request")
    if not isinstance(document, dict):
        raise DataError('JSON without a list "instances" at its top')
    if not isinstance(document.get("instances"), list) or not document["instances"]:
        raise DataError('JSON without a list "instances" at its top')
    if "configuration" in document:
        configuration = configuration.changed(document["configuration"])
    return [(value, f"instance {number}") for number, value in enumerate(document["instances"], 1)], configuration


def _lines(body: bytes) -> list[Placed]:
    return [
        (load_json(line, f"line {number}"), f"line {number}")
        for text, first, _ in pieces(Source.of_body(body))
        for number, line in enumerate(text.splitlines(), first)
        if line.strip()
    ]


def _predicted(model: DeepAR, instances: Sequence[Placed], configuration: Configuration) -> list[dict[str, Any]]:
    for instance, place in instances:
        if not isinstance(instance, Mapping):
            raise DataError(f'{place} must be an object with "start" and "target", found {instance!r:.60}')
    horizon = model.settings["prediction_length"]
    if (drawn := len(instances) * horizon * configuration.num_samples) > MOST:
        raise DataError(f"{drawn} numbers would be drawn (series, steps and num_samples multiplied); {MOST} at most")
    series = HeldChannel.over("predict", instances)
    forecast = model.forecast(series, configuration.num_samples, configuration.quantiles)
    return [_prediction(forecast, row, configuration.output_types) for row in range(len(instances))]


def _prediction(forecast: Forecast, row: int, types: Sequence[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if "mean" in types:
        answer["mean"] = forecast.mean[row].tolist()
    if "quantiles" in types:
        answer["quantiles"] = {level: values[row].tolist() for level, values in forecast.quantiles.items()}
    if "samples" in types:
        answer["samples"] = forecast.samples[row].tolist()
    return answer
