"""Which operation a request means: by signing name, then by target, action, or method and path.

Source: section 1 of the wire notes. Names in the models but without a function here are refused by name with 501.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import NamedTuple

from botocore.exceptions import UnknownServiceError
from botocore.model import OperationModel

from sagesmith.core.operation import OPERATIONS, ApiError, Operation, not_implemented, service_model
from sagesmith.gateway import s3_route
from sagesmith.gateway.credentials import Claim, Form
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.paths import Template, template_of
from sagesmith.gateway.protocols import json, query, rest_json, rest_xml

# Signing names that differ from botocore's service name.
_SERVICES = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi", "states": "stepfunctions"}

# Target prefixes of the JSON services that unsigned requests may ask for, where signatures are not checked.
_TARGETS = {"Logs_20140328": "logs", "GraniteServiceVersion20100801": "cloudwatch"}

# Services that sign as `sagemaker` and are told apart by method and path.
_RUNTIMES = (
    "sagemaker-runtime",
    "sagemaker-featurestore-runtime",
    "sagemaker-metrics",
    "sagemaker-a2i-runtime",
    "sagemaker-edge",
)

_WIRES: dict[str, ModuleType] = {
    "json": json,
    "rest-json": rest_json,
    "rest-xml": rest_xml,
    "query": query,
    "ec2": query,
}


class Route(NamedTuple):
    """Where a request goes: the service and the protocol its answer, or its error, is written in."""

    service: str
    wire: ModuleType
    model: OperationModel | None = None  # None while the operation is not known


def preliminary(incoming: Incoming) -> Route:
    """Where an unsigned request goes, and the protocol to refuse one whose credentials cannot even be read."""
    target = incoming.headers.get("x-amz-target")
    if target is not None:
        return Route(_TARGETS.get(target.rpartition(".")[0], "sagemaker"), json)
    if incoming.method == "POST" and incoming.raw_path.startswith(b"/endpoints/"):
        return Route("sagemaker", rest_json)
    if incoming.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return Route("sts", query)
    return Route("s3", rest_xml)


def service_of(incoming: Incoming, claim: Claim) -> Route:
    """The service a request is for; what is unsigned and shows no other sign is for S3.

    Raises:
        ApiError: botocore knows no such service.
    """
    if claim.form is Form.NONE:
        return preliminary(incoming)
    name = _SERVICES.get(claim.service, claim.service)
    if name == "sagemaker":
        return Route(name, json if "x-amz-target" in incoming.headers else rest_json)
    if name == "s3":
        return Route("s3", rest_xml)
    if name == "cloudwatch" and "x-amz-target" not in incoming.headers:
        return Route(name, query)
    return Route(name, _WIRES[_protocol(name)])


@functools.lru_cache(maxsize=256)
def _protocol(service: str) -> str:
    try:
        model = service_model(service)
        for name in ("json", "rest-json", "rest-xml", "query", "ec2"):
            if name in model.metadata.get("protocols", (model.metadata["protocol"],)):
                return name
    except (UnknownServiceError, ValueError, KeyError):
        pass
    raise ApiError("UnknownOperationException", f"There is no service with the signing name {service[:60]!r}.")


def operation_of(incoming: Incoming, route: Route) -> Route:
    """The same route with its operation's model.

    Raises:
        ApiError: UnknownOperationException when the model has no such operation.
    """
    if route.wire is json:
        name = _target(incoming, route.service)
    elif route.service == "s3":
        name = s3_route.operation_of(incoming)
    elif route.wire is query:
        name = query.form_of(incoming).get("Action", "")
    else:
        services = _RUNTIMES if route.service == "sagemaker" else (route.service,)
        return _by_path(incoming, services, route)
    model = service_model(route.service)
    if name not in model.operation_names:
        if route.wire is query:
            raise ApiError("InvalidAction", f"The action {name[:100]} is not valid for this web service.")
        raise unknown(name, route.service)
    return Route(route.service, route.wire, model.operation_model(name))


def built(route: Route) -> Operation:
    """The function of a route's operation.

    Raises:
        ApiError: 501, by name, when nobody has built it.
    """
    assert route.model is not None
    found = OPERATIONS.get((route.service, route.model.name))
    if found is None:
        raise not_implemented(route.service, route.model.name)
    return found


def unknown(name: str, service: str) -> ApiError:
    return ApiError("UnknownOperationException", f"{service} has no operation {name[:200]!r}.")


def _target(incoming: Incoming, service: str) -> str:
    target = incoming.headers.get("x-amz-target", "")
    prefix, _, name = target.rpartition(".")
    if prefix != service_model(service).metadata.get("targetPrefix"):
        raise unknown(target, service)
    return name


class _Candidate(NamedTuple):
    route: Route
    template: Template


@functools.cache
def _candidates(services: tuple[str, ...], method: str, wire: ModuleType) -> tuple[_Candidate, ...]:
    """The REST operations of a method; those with the fewest labels first, as they are the more particular ones."""
    found = []
    for service in services:
        model = service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            if operation.http["method"] == method:
                found.append(_Candidate(Route(service, wire, operation), template_of(operation)))
    return tuple(sorted(found, key=lambda candidate: len(candidate.template.labels)))


def _by_path(incoming: Incoming, services: tuple[str, ...], route: Route) -> Route:
    for candidate in _candidates(services, incoming.method, route.wire):
        if candidate.template.pattern.fullmatch(incoming.raw_path) is not None:
            return candidate.route
    raise unknown(f"{incoming.method} {incoming.raw_path.decode('latin-1')}", route.service)


def read_only(model: OperationModel) -> bool:
    """Whether an operation changes nothing, by AWS's naming; what read-only keys may call."""
    return model.name.startswith(_READS) or model.name in ("FilterLogEvents", "Search", "QueryLineage")


_READS: tuple[str, ...] = ("Get", "List", "Describe", "Head", "BatchGet", "SelectObject", "Simulate")
