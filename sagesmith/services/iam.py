"""iam: the roles that the SDKs look up before they train or deploy.

sagesmith evaluates no policies: whoever has a key may do everything (or read everything, with a read-only key). A
role therefore only has to exist and to trust SageMaker, and one that is asked for and was never created is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sagesmith.core.machine import Document, Move
from sagesmith.core.operation import ApiError, Context, Service
from sagesmith.services.refusal import refuse_unbuilt
from sagesmith.store.resources import Documents

iam = Service("iam")

_GLOBAL = "aws-global"  # roles belong to an account, not to a region
_SERVICE_ROLE = "SageMakerRole"  # lies below /service-role/, as the one that AWS's console makes
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def _missing(name: str) -> ApiError:
    return ApiError("NoSuchEntity", f"The role with name {name} cannot be found.", 404)


def _exists(arn: str) -> ApiError:
    return ApiError("EntityAlreadyExists", f"Role with name {arn.rsplit('/', 1)[-1]} already exists.", 409)


roles = Documents("IamRole", arn="iam-role", missing=_missing, exists=_exists)


@iam.operation
def get_role(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The role; made now when nobody has created it, trusting SageMaker."""
    return {"Role": _described(_role(request["RoleName"], ctx))}


@iam.operation
def create_role(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Creates a role.

    Raises:
        ApiError: EntityAlreadyExists, or MalformedPolicyDocument for a trust policy that is no JSON object.
    """
    refuse_unbuilt(request, {"PermissionsBoundary": "a permissions boundary"})
    try:
        policy = json.loads(request["AssumeRolePolicyDocument"])
    except (ValueError, RecursionError):
        policy = None
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise ApiError(
            "MalformedPolicyDocument", "AssumeRolePolicyDocument must be a JSON object with a member Statement."
        )
    return {"Role": _described(_create(request, _global(ctx)))}


@iam.operation
def delete_role(request: dict[str, Any], ctx: Context) -> None:
    """Deletes a role.

    Raises:
        ApiError: NoSuchEntity, or DeleteConflict while policies are attached.
    """
    document = roles.get(_global(ctx), request["RoleName"])
    if document.private["policies"]:
        raise ApiError("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
    roles.delete(_global(ctx), document)


@iam.operation
def list_roles(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The roles by name, in pages of MaxItems (100)."""
    prefix = request.get("PathPrefix", "/")
    found = sorted(
        (document for document in roles.each(_global(ctx)) if document.body["Path"].startswith(prefix)),
        key=lambda document: document.name,
    )
    return _page(request, "Roles", [(document.name, _described(document)) for document in found])


@iam.operation
def attach_role_policy(request: dict[str, Any], ctx: Context) -> None:
    """Notes that the policy is attached; ListAttachedRolePolicies shows it, nothing evaluates it."""
    _role(request["RoleName"], ctx)
    _change_policies(request, ctx, lambda policies: sorted({*policies, request["PolicyArn"]}))


@iam.operation
def detach_role_policy(request: dict[str, Any], ctx: Context) -> None:
    """Takes a policy off; raises NoSuchEntity when it is not attached."""
    arn = request["PolicyArn"]
    if arn not in roles.get(_global(ctx), request["RoleName"]).private["policies"]:
        raise ApiError("NoSuchEntity", f"Policy {arn} was not found.", 404)
    _change_policies(request, ctx, lambda policies: [policy for policy in policies if policy != arn])


@iam.operation
def list_attached_role_policies(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The policies attached to a role, by ARN."""
    if request.get("PathPrefix", "/") != "/":
        refuse_unbuilt(request, {"PathPrefix": "a path filter"})
    attached = _role(request["RoleName"], ctx).private["policies"]
    items = [(arn, {"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn}) for arn in attached]
    return _page(request, "AttachedPolicies", items)


@iam.operation
def simulate_principal_policy(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """`allowed` for every action, which is what the server does: it evaluates no policies."""
    refuse_unbuilt(
        request,
        {
            "PolicyInputList": "evaluation of policies",
            "PermissionsBoundaryPolicyInputList": "evaluation of policies",
            "PolicyExclusionList": "evaluation of policies",
            "ResourcePolicy": "evaluation of policies",
        },
    )
    resources = request.get("ResourceArns") or ["*"]
    items = [
        (
            f"{number:09}",
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "allowed",
                "MatchedStatements": [],
                "MissingContextValues": [],
            },
        )
        for number, (action, resource) in enumerate(
            (action, resource) for action in request["ActionNames"] for resource in resources
        )
    ]
    return _page(request, "EvaluationResults", items)


def _global(ctx: Context) -> Context:
    return replace(ctx, region=_GLOBAL)


def _role(name: str, ctx: Context) -> Document:
    """The role of that name, made when it is not there."""
    everywhere = _global(ctx)
    found = roles.find(everywhere, name)
    if found is not None:
        return found
    path = "/service-role/" if name == _SERVICE_ROLE else "/"
    try:
        return _create({"RoleName": name, "Path": path, "AssumeRolePolicyDocument": json.dumps(_TRUST)}, everywhere)
    except ApiError:
        return roles.get(everywhere, name)  # another request has just made it


def _create(request: Mapping[str, Any], ctx: Context) -> Document:
    name, path = request["RoleName"], request.get("Path", "/")
    body = {
        "Path": path,
        "RoleName": name,
        "RoleId": "AROA" + hashlib.sha256(name.encode()).hexdigest()[:17].upper(),
        "Arn": f"arn:aws:iam::{ctx.account}:role{path}{name}",
        "AssumeRolePolicyDocument": request["AssumeRolePolicyDocument"],
        "MaxSessionDuration": request.get("MaxSessionDuration", 3600),
        "Tags": request.get("Tags", []),
    }
    if "Description" in request:
        body["Description"] = request["Description"]
    return roles.create(ctx, name, body, private={"policies": []})


def _described(document: Document) -> dict[str, Any]:
    policy = quote(document.body["AssumeRolePolicyDocument"], safe="")
    return {**document.body, "CreateDate": document.created_at, "AssumeRolePolicyDocument": policy}


def _change_policies(request: Mapping[str, Any], ctx: Context, change: Any) -> None:
    roles.change(
        _global(ctx),
        request["RoleName"],
        lambda document: Move(private={"policies": change(document.private["policies"])}, after=None),
    )


def _page(request: Mapping[str, Any], key: str, items: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """One page in IAM's manner; the marker is the sort key of the last item shown.

    Args:
        request: may hold Marker and MaxItems.
        key: the member that holds the items.
        items: sort key and description, in ascending order.
    """
    left = [item for item in items if item[0] > request.get("Marker", "")]
    size = request.get("MaxItems", 100)
    page = {key: [description for _, description in left[:size]], "IsTruncated": len(left) > size}
    if page["IsTruncated"]:
        page["Marker"] = left[size - 1][0]
    return page
