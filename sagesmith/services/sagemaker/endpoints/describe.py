"""DescribeEndpoint's answer: the stored members, and the variants as their instances stand now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagesmith.services.sagemaker.endpoints.record import Deployment, Variant

if TYPE_CHECKING:
    from sagesmith.core.machine import Document

# State → what the variants of the fleet in service, and of the update's fleet, are going through.
_BLUE = {"Creating": "Creating", "Scaling": "Updating", "Terminating": "Deleting", "Deleting": "Deleting"}
_GREEN = {"Updating": "Creating", "Baking": "Baking", "Terminating": "Baking", "RollingBack": "Deleting"}


def described(document: Document) -> dict[str, Any]:
    """DescribeEndpoint's answer."""
    private = document.private
    answer = {
        **document.body,
        "EndpointArn": document.arn,
        "EndpointStatus": document.status,
        "CreationTime": document.created_at,
        "LastModifiedTime": document.modified_at,
        "ProductionVariants": _variants(private["fleet"], _BLUE.get(document.state), document),
    }
    green: Deployment | None = private.get("green")
    if green is not None:
        variants = _variants(green, _GREEN.get(document.state), document)
        types = {variant["name"]: variant["instance_type"] for variant in green["variants"]}
        for variant in variants:
            variant["InstanceType"] = types[variant["VariantName"]]
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": green["config"],
            "ProductionVariants": variants,
            "StartTime": green["started_at"],
        }
    return answer


def _variants(deployment: Deployment, status: str | None, document: Document) -> list[dict[str, Any]]:
    return [_variant(variant, deployment, status, document) for variant in deployment["variants"]]


def _variant(variant: Variant, deployment: Deployment, status: str | None, document: Document) -> dict[str, Any]:
    own = [instance for instance in deployment["instances"] if instance["variant"] == variant["name"]]
    answer: dict[str, Any] = {
        "VariantName": variant["name"],
        "DeployedImages": [
            {
                "SpecifiedImage": container["image"],
                "ResolvedImage": container["image"],
                "ResolutionTime": variant["resolved_at"],
            }
            for container in variant["containers"]
        ],
        "CurrentWeight": variant["weight"],
        "DesiredWeight": variant["weight"],
        "CurrentInstanceCount": sum(bool(instance["places"]) for instance in own),
        "DesiredInstanceCount": variant["count"],
        "RoutingConfig": {"RoutingStrategy": variant["strategy"]},
    }
    if status:
        since = document.private.get("phase_at", deployment["started_at"])
        answer["VariantStatus"] = [{"Status": status, "StartTime": since}]
    return answer
