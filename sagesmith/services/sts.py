"""sts: who the caller is, and temporary keys.

Every key of the account may assume every role; a temporary key has the rights of the key that asked for it, and ends
by itself. Session policies, MFA and session tags are refused by name.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from sagesmith.core.names import partition
from sagesmith.core.operation import ApiError, Context, Service, TemporaryKey
from sagesmith.services.refusal import refuse_unbuilt

if TYPE_CHECKING:
    from collections.abc import Mapping

sts = Service("sts")

ROLE = "SageMakerRole"  # what long-lived keys are sessions of, so that the SDKs find an execution role
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/(?:.*/)?([\w+=,.@-]{1,64})", re.ASCII)
_HOUR = 3600
_UNBUILT = {
    "Policy": "a session policy",
    "PolicyArns": "session policies",
    "SerialNumber": "multi-factor authentication",
    "TokenCode": "multi-factor authentication",
    "Tags": "session tags",
    "TransitiveTagKeys": "session tags",
    "SourceIdentity": "a source identity",
    "ProvidedContexts": "provided contexts",
    "MinimumSessionTokenSize": "a padded session token",
}


@sts.operation
def get_caller_identity(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """The account, and the assumed role's ARN from which the SDKs derive the execution role."""
    arn = ctx.role or session_arn(ctx, ROLE, ctx.principal or "sagesmith")
    return {"Account": ctx.account, "Arn": arn, "UserId": _user_id(arn)}


@sts.operation
def assume_role(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """A temporary key whose identity is a session of the role.

    Raises:
        ApiError: ValidationError for an ARN that is no role's, AccessDenied for a role of another account.
    """
    refuse_unbuilt(request, _UNBUILT)
    wanted = request["RoleArn"]
    match = _ROLE_ARN.fullmatch(wanted)
    if match is None:
        raise ApiError("ValidationError", f"{wanted} is invalid: expected arn:aws:iam::<account>:role/<name>")
    if match[1] != ctx.account:
        raise ApiError("AccessDenied", f"Not authorized to perform sts:AssumeRole on resource: {wanted}", 403)
    arn = session_arn(ctx, match[2], request["RoleSessionName"])
    key = _issue(request, ctx, arn, _HOUR)
    user = {"AssumedRoleId": _user_id(arn), "Arn": arn}
    return {"Credentials": _credentials(key), "AssumedRoleUser": user}


@sts.operation
def get_session_token(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """A temporary key with the caller's own identity.

    Raises:
        ApiError: AccessDenied when the caller signs with a temporary key already.
    """
    refuse_unbuilt(request, _UNBUILT)
    if ctx.principal.startswith("ASIA"):
        raise ApiError("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
    return {"Credentials": _credentials(_issue(request, ctx, ctx.role, 12 * _HOUR))}


def session_arn(ctx: Context, role: str, session: str) -> str:
    """`arn:aws:sts::<account>:assumed-role/<role>/<session>`."""
    return f"arn:{partition(ctx.region)}:sts::{ctx.account}:assumed-role/{role}/{session}"


def _issue(request: Mapping[str, Any], ctx: Context, arn: str, seconds: int) -> TemporaryKey:
    return ctx.world.issue_key(ctx.principal, arn, ctx.now + request.get("DurationSeconds", seconds))


def _credentials(key: TemporaryKey) -> dict[str, Any]:
    return {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "SessionToken": key.token,
        "Expiration": key.expires,
    }


def _user_id(arn: str) -> str:
    """`AROA…:session`; the same for the same role."""
    _, role, session = arn.rsplit("/", 2)
    return f"AROA{hashlib.sha256(role.encode()).hexdigest()[:17].upper()}:{session}"
