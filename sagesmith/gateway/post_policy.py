"""The policy of an S3 POST: what its signer lets a stranger upload, checked against the form that came.

    {"expiration": "2026-12-01T12:00:00Z",
     "conditions": [{"bucket": "b"}, ["starts-with", "$key", "user/"], ["content-length-range", 1, 1048576]]}

Source: "Creating a POST Policy" and "POST Object", S3 API reference.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sagesmith.core.operation import ApiError

_SIGNATURES = {"awsaccesskeyid", "signature", "x-amz-signature"}  # what signs a policy cannot stand in it
_EXEMPT = {"policy", "file", *_SIGNATURES}
_IGNORED = "x-ignore-"
_RANGE = "content-length-range"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
_ESCAPES = re.compile(r"\\([$v]|.)", re.DOTALL)  # S3 knows two that JSON does not
_OWN_ESCAPES = {"$": "$", "v": "\\u000b"}
_MOST = 2**63 - 1


@dataclass(frozen=True)
class Sizes:
    """How many bytes the file may have, both ends included."""

    least: int = 0
    most: int = _MOST


def check_policy(text: str, fields: Mapping[str, str], bucket: str, now: float) -> Sizes:
    """Holds the form's fields (lower-case names, variables expanded) against a policy in base64.

    Raises:
        ApiError: AccessDenied for what the policy does not allow, InvalidPolicyDocument for one that is none.
    """
    policy = _read(text)
    if now > _expiration(policy):
        raise _denied("Policy expired.")
    values = {**fields, "bucket": bucket}
    covered, sizes = set(), Sizes()
    for condition in _conditions(policy):
        operator, name, value = condition
        if operator == _RANGE:
            sizes = Sizes(max(sizes.least, int(name)), min(sizes.most, int(value)))
            continue
        covered.add(name)
        if not _holds(operator, name, value, values.get(name)):
            raise _denied(f"Policy Condition failed: {json.dumps([operator, f'${name}', value], ensure_ascii=False)}")
    extra = sorted(
        name for name in values if name not in covered and name not in _EXEMPT and not name.startswith(_IGNORED)
    )
    if extra:
        raise _denied(f"Extra input fields: {', '.join(extra)[:300]}")
    return sizes


def _holds(operator: str, name: str, wanted: str, found: str | None) -> bool:
    if found is None:
        return False
    if operator == "eq":
        return found == wanted
    if name == "content-type":  # a list of types: each must begin so
        return all(item.strip().startswith(wanted) for item in found.split(","))
    return found.startswith(wanted)


def _read(text: str) -> dict[str, Any]:
    try:
        document = base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid("it is not UTF-8 text in base64") from None
    document = _ESCAPES.sub(lambda match: _OWN_ESCAPES.get(match[1], match[0]), document)
    try:
        policy = json.loads(document)
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON") from None
    if not isinstance(policy, dict):
        raise _invalid("it must be a JSON object with expiration and conditions")
    unknown = sorted(policy.keys() - {"expiration", "conditions"})
    if unknown:
        raise _invalid(f"Unexpected: {unknown[0][:100]!r}")
    return policy


def _expiration(policy: dict[str, Any]) -> float:
    moment = policy.get("expiration")
    if moment is None:
        raise _invalid("Policy missing expiration")
    if isinstance(moment, str) and _MOMENT.fullmatch(moment):
        seconds, fraction = moment[:19], moment[19:-1]
        try:
            found = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            pass
        else:
            return found.timestamp() + float(fraction or 0)
    raise _invalid(f"Invalid 'expiration' value: {str(moment)[:60]!r}; it must read like 2026-12-01T12:00:00Z")


def _conditions(policy: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Every condition as operator, field name in lower case, value; of a range the two ends."""
    stated = policy.get("conditions")
    if not isinstance(stated, list):
        raise _invalid("Policy missing conditions")
    found = []
    for condition in stated:
        if isinstance(condition, dict) and condition:
            found += [_matching("eq", f"${name}", value, {name: value}) for name, value in condition.items()]
        elif isinstance(condition, list) and len(condition) == 3 and isinstance(condition[0], str):
            operator, first, second = condition[0].lower(), condition[1], condition[2]
            if operator == _RANGE:
                found.append((_RANGE, str(_bytes(first)), str(_bytes(second))))
            else:
                found.append(_matching(operator, first, second, condition))
        else:
            raise _invalid(f"Invalid Condition: {_shown(condition)}")
    return found


def _matching(operator: str, name: Any, value: Any, condition: Any) -> tuple[str, str, str]:
    if operator not in ("eq", "starts-with"):
        raise _invalid(f"Invalid Condition: {_shown(condition)}: the operator is none of eq, starts-with, {_RANGE}")
    if not isinstance(name, str) or not name.startswith("$") or len(name) < 2:
        raise _invalid(f"Invalid Condition: {_shown(condition)}: a field is named like $key")
    if not isinstance(value, str):
        raise _invalid(f"Invalid Condition: {_shown(condition)}: the value must be a string")
    return operator, name[1:].lower(), value


def _bytes(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise _invalid(f"Invalid {_RANGE}: {_shown(value)} is not a number of bytes")
    return value


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:200]


def _denied(why: str) -> ApiError:
    return ApiError("AccessDenied", f"Invalid according to Policy: {why}", 403)


def _invalid(why: str) -> ApiError:
    return ApiError("InvalidPolicyDocument", f"Invalid Policy: {why}.")
