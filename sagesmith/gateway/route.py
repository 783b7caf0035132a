"""Which operation a request means: by signing name, then by target, action, or method and path.

Source: section 1 of the wire notes. Names in the models but without a function here are refused by name with 501.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from botocore.exceptions import UnknownServiceError
from botocore.model import OperationModel, StructureShape

from sagesmith.core.operation import OPERATIONS, ApiError, Operation, not_implemented, service_model
from sagesmith.gateway.credentials import Claim
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.paths import Template, template_of
from sagesmith.gateway.protocols import json, query, rest_json, rest_xml

# Signing names that differ from botocore's service name.
_SERVICES = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi", "states": "stepfunctions"}

# Services that sign as `sagemaker` and are told apart by method and path.
_RUNTIMES = (
    "sagemaker-runtime",
    "sagemaker-featurestore-runtime",
    "sagemaker-metrics",
    "sagemaker-a2i-runtime",
    "sagemaker-edge",
)

_WIRES: dict[str, ModuleType] = {"json": json, "rest-json": rest_json, "rest-xml": rest_xml, "query": query, "ec2": query}


@dataclass(frozen=True)
class Route:
    """Where a request goes: the service and the protocol its answer, or its error, is written in."""

    service: str
    wire: ModuleType
    model: OperationModel | None = None  # None while the operation is not known


def service_of(incoming: Incoming, claim: Claim) -> Route:
    """The service a request is for; what is unsigned or names no service is for S3.

    Raises:
        ApiError: botocore knows no such service.
    """
    name = _SERVICES.get(claim.service, claim.service)
    if name == "sagemaker":
        return Route(name, json if "x-amz-target" in incoming.headers else rest_json)
    if name in ("", "s3"):
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


@dataclass(frozen=True)
class _Candidate:
    service: str
    model: OperationModel
    template: Template
    queries: frozenset[str]  # query parameters that must be there
    headers: frozenset[str]  # likewise headers

    @property
    def demands(self) -> int:
        return len(self.template.constants) + len(self.queries) + len(self.headers)

    def takes(self, incoming: Incoming, parameters: dict[str, str]) -> bool:
        return (
            self.queries <= parameters.keys()
            and self.headers <= incoming.headers.keys()
            and all(
                name in parameters and value in (None, "", parameters[name]) for name, value in self.template.constants
            )
            and self.template.pattern.fullmatch(incoming.raw_path) is not None
        )


@functools.cache
def _candidates(services: tuple[str, ...], method: str) -> tuple[_Candidate, ...]:
    """The operations of a method; those that demand most first, as they are the more particular ones."""
    found = []
    for service in services:
        model = service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            if operation.http["method"] == method:
                found.append(_candidate(service, operation))
    return tuple(sorted(found, key=lambda candidate: -candidate.demands))


def _candidate(service: str, operation: OperationModel) -> _Candidate:
    shape = operation.input_shape
    places: dict[str, set[str]] = {"querystring": set(), "header": set()}
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            member = shape.members[name]
            location = member.serialization.get("location")
            if location in places:
                places[location].add(str(member.serialization["name"]))
    headers = frozenset(name.lower() for name in places["header"]) if service == "s3" else frozenset()
    queries = frozenset(places["querystring"]) if service == "s3" else frozenset()
    return _Candidate(service, operation, template_of(operation), queries, headers)


def _by_path(incoming: Incoming, services: tuple[str, ...], route: Route) -> Route:
    parameters = dict(incoming.query)
    for candidate in _candidates(services, incoming.method):
        if candidate.takes(incoming, parameters):
            return Route(candidate.service, route.wire, candidate.model)
    path = incoming.raw_path.decode("latin-1")
    if route.service == "s3":
        raise ApiError(
            "MethodNotAllowed", "The specified method is not allowed against this resource.", 405, {"Method": incoming.method}
        )
    raise unknown(f"{incoming.method} {path}", route.service)


def read_only(model: OperationModel) -> bool:
    """Whether an operation changes nothing, by AWS's naming; what read-only keys may call."""
    return model.name.startswith(_READS) or model.name in ("FilterLogEvents", "Search", "QueryLineage")


_READS: tuple[str, ...] = ("Get", "List", "Describe", "Head", "BatchGet", "SelectObject", "Simulate")


def candidates_of(service: str) -> Iterable[OperationModel]:
    """Every operation of a service's model, for the coverage table."""
    model = service_model(service)
    return (model.operation_model(name) for name in model.operation_names)
