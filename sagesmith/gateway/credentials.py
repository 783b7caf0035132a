"""Who a request says it comes from, in its Authorization header or presigned URL; nothing is checked yet."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote

from sagesmith.core.operation import ApiError
from sagesmith.gateway.form_data import missing
from sagesmith.gateway.http import Incoming

ALGORITHM = "AWS4-HMAC-SHA256"


class Form(Enum):
    """How the signature travels."""

    NONE = "unsigned"
    HEADER = "Authorization header"
    QUERY = "presigned URL, version 4"
    QUERY_V2 = "presigned URL, version 2"
    FORM = "form, version 4"
    FORM_V2 = "form, version 2"


class Claim(NamedTuple):
    """A request's credential scope and signature, as claimed."""

    form: Form = Form.NONE
    key: str = ""
    date: str = ""  # yyyymmdd of the scope
    region: str = ""
    service: str = ""  # the signing name: `monitoring` is CloudWatch
    signed: tuple[str, ...] = ()  # names of the signed headers
    signature: str = ""
    moment: str = ""  # X-Amz-Date, or Expires of version 2
    expires: str = ""  # seconds a presigned URL is good for
    token: str = ""  # of temporary credentials


UNCLAIMED = Claim()


def claim_of(incoming: Incoming) -> Claim:
    """Takes the claim apart.

    Raises:
        ApiError: there is one, and it is malformed.
    """
    authorization = incoming.headers.get("authorization")
    if authorization is not None:
        return _header_claim(incoming, authorization)
    query = incoming.query_string
    if b"X-Amz-Signature=" in query or b"X-Amz-Credential=" in query:
        return _query_claim(incoming)
    if b"AWSAccessKeyId=" in query and b"Signature=" in query:
        return _query_v2_claim(incoming)
    return UNCLAIMED


def _header_claim(incoming: Incoming, authorization: str) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise _malformed(
            f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.", "InvalidRequest"
        )
    fields = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if not fields.get(name)]
    if missing:
        raise _malformed(f"Authorization header requires {', '.join(missing)}.")
    key, date, region, service = _scope(fields["Credential"])
    headers = incoming.headers
    return Claim(
        Form.HEADER,
        key,
        date,
        region,
        service,
        tuple(fields["SignedHeaders"].lower().split(";")),
        fields["Signature"],
        headers.get("x-amz-date", ""),
        "",
        headers.get("x-amz-security-token", ""),
    )


def _query_claim(incoming: Incoming) -> Claim:
    query = dict(incoming.query)
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise _malformed(f"X-Amz-Algorithm only supports {ALGORITHM!r}.", "AuthorizationQueryParametersError")
    needed = ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
    missing = [name for name in needed if not query.get(name)]
    if missing:
        raise _malformed(
            f"Query-string authentication version 4 requires {', '.join(missing)}.", "AuthorizationQueryParametersError"
        )
    key, date, region, service = _scope(query["X-Amz-Credential"])
    return Claim(
        Form.QUERY,
        key,
        date,
        region,
        service,
        tuple(query["X-Amz-SignedHeaders"].lower().split(";")),
        query["X-Amz-Signature"],
        query["X-Amz-Date"],
        query["X-Amz-Expires"],
        query.get("X-Amz-Security-Token", ""),
    )


def _query_v2_claim(incoming: Incoming) -> Claim:
    query = dict(incoming.query)
    if not query.get("Expires"):
        raise _malformed(
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters.", "AccessDenied"
        )
    return Claim(
        Form.QUERY_V2,
        query["AWSAccessKeyId"],
        service="s3",
        signature=query["Signature"],
        moment=query["Expires"],
        token=query.get("x-amz-security-token", ""),
    )


def form_claim(fields: Mapping[str, str]) -> Claim:
    """The claim in the fields of a form that is posted to S3; their names are in lower case.

    Raises:
        ApiError: half a claim, or one of each version.
    """
    v4 = [name for name in ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature") if name in fields]
    v2 = [name for name in ("awsaccesskeyid", "signature") if name in fields]
    if v4 and v2:
        raise _malformed(f"Only one auth mechanism allowed: the form has {v4[0]} and {v2[0]}.", "InvalidArgument")
    if not v4 and not v2:
        return UNCLAIMED
    if "policy" not in fields:
        raise missing("policy")
    token = fields.get("x-amz-security-token", "")
    if v2:
        for name in ("AWSAccessKeyId", "signature"):
            if name.lower() not in fields:
                raise missing(name)
        return Claim(Form.FORM_V2, fields["awsaccesskeyid"], service="s3", signature=fields["signature"], token=token)
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"):
        if name.lower() not in fields:
            raise missing(name)
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise _malformed(f"X-Amz-Algorithm only supports {ALGORITHM!r}.", "InvalidArgument")
    key, date, region, service = _scope(fields["x-amz-credential"])
    if service != "s3":
        raise _malformed(f"X-Amz-Credential is for the service {service[:40]!r}, not s3.", "InvalidArgument")
    signature, moment = fields["x-amz-signature"], fields["x-amz-date"]
    return Claim(Form.FORM, key, date, region, service, (), signature, moment, "", token)


def _scope(credential: str) -> tuple[str, str, str, str]:
    parts = unquote(credential).rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise _malformed(
            f"Credential {credential[:100]!r} must have the form key/yyyymmdd/region/service/aws4_request."
        )
    return parts[0], parts[1], parts[2], parts[3]


def _malformed(message: str, code: str = "IncompleteSignature") -> ApiError:
    return ApiError(code, message, 400)
