"""The operations on endpoints. They write down what is wanted; the machine (`steps.py`) makes it so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.core.machine import Move
from sagesmith.core.operation import Context, Service, validation_error
from sagesmith.services import routes
from sagesmith.services.sagemaker.endpoints.describe import described
from sagesmith.services.sagemaker.endpoints.policy import check_policy
from sagesmith.services.sagemaker.endpoints.record import Deployment, Private, endpoints
from sagesmith.services.sagemaker.endpoints.snapshot import new_deployment
from sagesmith.services.sagemaker.endpoints.steps import everything_retired

if TYPE_CHECKING:
    from sagesmith.core.machine import Document

sagemaker = Service("sagemaker")


@sagemaker.operation
def create_endpoint(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Writes down the endpoint; its instances start with the machine's first step."""
    policy = request.get("DeploymentConfig", {})
    check_policy(policy)
    fleet = new_deployment(ctx, request["EndpointConfigName"], {})
    body = {"EndpointName": request["EndpointName"], "EndpointConfigName": request["EndpointConfigName"]}
    if policy:
        body["LastDeploymentConfig"] = policy
    private: Private = {"fleet": fleet, "retiring": [], "routes": {"variants": []}}
    document = endpoints.create(
        ctx,
        request["EndpointName"],
        body,
        status="Creating",
        state="Creating",
        private=private,
        due_in=0.0,
        tags=request.get("Tags", ()),
    )
    return {"EndpointArn": document.arn}


@sagemaker.operation
def describe_endpoint(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The endpoint, its variants as they are now, and the update under way."""
    return described(endpoints.get(ctx, request["EndpointName"]))


@sagemaker.operation
def list_endpoints(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Endpoints by name, status or time."""
    return endpoints.page(ctx, request, key="Endpoints", summary=_summary)


@sagemaker.operation
def update_endpoint(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Begins a blue/green update to another configuration."""
    excluded = {entry["VariantPropertyType"] for entry in request.get("ExcludeRetainedVariantProperties", ())}
    if excluded and not request.get("RetainAllVariantProperties"):
        raise validation_error("ExcludeRetainedVariantProperties needs RetainAllVariantProperties to be true.")

    def decide(document: Document) -> Move:
        _must_be_in_service(document)
        policy = _policy(request, document)
        retained = {}
        if request.get("RetainAllVariantProperties"):
            retained = _retained(document.private["fleet"], excluded)
        green = new_deployment(ctx, request["EndpointConfigName"], retained)
        return Move(state="Updating", status="Updating", private={"green": green, "policy": policy or None}, after=0.0)

    return {"EndpointArn": endpoints.change(ctx, request["EndpointName"], decide).arn}


@sagemaker.operation
def update_endpoint_weights_and_capacities(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Weights count from this commit on; instances are started or stopped by the machine."""

    def decide(document: Document) -> Move:
        _must_be_in_service(document)
        fleet: Deployment = document.private["fleet"]
        wanted = _wanted(request["DesiredWeightsAndCapacities"], fleet)
        variants = [{**variant, **wanted.get(variant["name"], {})} for variant in fleet["variants"]]
        weights = {variant["name"]: variant["weight"] for variant in variants}
        served = [{**route, "weight": weights[route["name"]]} for route in document.private["routes"]["variants"]]
        private = {
            "fleet": {**fleet, "variants": variants},
            "routes": {"variants": served},
            "previous": {variant["name"]: variant["count"] for variant in fleet["variants"]},
        }
        return Move(state="Scaling", status="Updating", private=private, after=0.0)

    document = endpoints.change(ctx, request["EndpointName"], decide)
    routes.forget(ctx, document.name)
    return {"EndpointArn": document.arn}


@sagemaker.operation
def delete_endpoint(request: dict[str, Any], ctx: Context) -> None:
    """Ends the routes at once and has every instance stopped; requests under way are answered."""

    def decide(document: Document) -> Move:
        if document.status == "Deleting":
            return Move(after=0.0)
        private = everything_retired(document, ctx)
        return Move(state="Deleting", status="Deleting", private=private, after=0.0)

    document = endpoints.change(ctx, request["EndpointName"], decide)
    routes.forget(ctx, document.name)


def _summary(document: Document) -> dict[str, Any]:
    return {
        "EndpointName": document.name,
        "EndpointArn": document.arn,
        "CreationTime": document.created_at,
        "LastModifiedTime": document.modified_at,
        "EndpointStatus": document.status,
    }


def _must_be_in_service(document: Document) -> None:
    if document.status == "Failed":
        raise validation_error(f'Cannot update endpoint "{document.arn}": it is Failed and can only be deleted.')
    if document.status != "InService":
        raise validation_error(f'Cannot update in-progress endpoint "{document.arn}".')


def _policy(request: Mapping[str, Any], document: Document) -> Mapping[str, Any]:
    """The deployment policy of an update: the one given, or the last one when it is to be retained."""
    if "DeploymentConfig" in request and request.get("RetainDeploymentConfig"):
        raise validation_error("Give DeploymentConfig or RetainDeploymentConfig, not both.")
    policy: Mapping[str, Any] = request.get("DeploymentConfig", {})
    if request.get("RetainDeploymentConfig"):
        policy = document.body.get("LastDeploymentConfig", {})
    check_policy(policy)
    return policy


def _retained(fleet: Deployment, excluded: set[str]) -> dict[str, dict[str, Any]]:
    """Counts and weights by variant that outlive the update."""
    kept = {"count": "DesiredInstanceCount", "weight": "DesiredWeight"}
    fields = [field for field, name in kept.items() if name not in excluded]
    return {variant["name"]: {field: dict(variant)[field] for field in fields} for variant in fleet["variants"]}


def _wanted(changes: list[Mapping[str, Any]], fleet: Deployment) -> dict[str, dict[str, Any]]:
    """Variant → the fields that change."""
    names = [variant["name"] for variant in fleet["variants"]]
    wanted: dict[str, dict[str, Any]] = {}
    for change in changes:
        name = change["VariantName"]
        if name not in names:
            raise validation_error(f'Could not find variant "{name}"; the endpoint has {", ".join(names)}.')
        if name in wanted:
            raise validation_error(f'Variant "{name}" is named twice in DesiredWeightsAndCapacities.')
        if change.get("ServerlessUpdateConfig"):
            raise validation_error(f'Variant "{name}" is not serverless: ServerlessUpdateConfig does not apply to it.')
        if change.get("DesiredInstanceCount", 1) < 1:
            raise validation_error(f'Variant "{name}": DesiredInstanceCount must be at least 1, got 0.')
        fields = {"weight": "DesiredWeight", "count": "DesiredInstanceCount"}
        wanted[name] = {field: change[member] for field, member in fields.items() if member in change}
    return wanted
