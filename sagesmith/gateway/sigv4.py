"""Signatures: version 4 in headers, presigned URLs and forms, version 2 in presigned S3 URLs and forms.

The canonical request is built here rather than with botocore's signer because it must not alter the request and must
cost microseconds; tests hold both equal on random requests. Source: "Signature Version 4 signing process", AWS
General Reference. Comparisons take constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.compat
import botocore.credentials
from botocore.utils import normalize_url_path

from sagesmith.core.operation import ApiError, Body
from sagesmith.gateway.credentials import ALGORITHM, Claim, Form
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.keys import Key

SKEW = 15 * 60  # seconds that a client's clock may be off
LONGEST = 7 * 24 * 3600  # seconds a presigned URL may be good for
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = frozenset(
    {
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    }
)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")  # that normalising and encoding leave as it is
_SPACES = re.compile(r"[ \t]+")
_V2_FIELDS = (b"AWSAccessKeyId=", b"Signature=", b"Expires=")
_EMPTY = hashlib.sha256(b"").hexdigest()


def verify(incoming: Incoming, claim: Claim, key: Key, now: float) -> None:
    """Checks the claim's signature, its date, and that what must be signed is.

    The body counts through its hash: that of `X-Amz-Content-Sha256` where the header is there (`check_body` compares
    it with the body, which for S3 comes later), else of the body itself.

    Raises:
        ApiError: SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied (an expired URL) and the like, status 403.
    """
    if claim.form is Form.QUERY_V2:
        _verify_v2(incoming, claim, key, now)
        return
    moment = _moment(claim.moment, claim.date)
    if claim.form is Form.QUERY:
        _check_expiry(claim, moment, now)
    elif abs(now - moment) > SKEW:
        raise ApiError(
            "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403
        )
    _check_signed(incoming, claim)
    if not hmac.compare_digest(signature(incoming, claim, key.secret), claim.signature.encode("latin-1", "replace")):
        raise mismatch()


def verify_policy(policy: str, claim: Claim, key: Key) -> None:
    """Checks the signature of a form's policy, in base64 as it was sent; when it ends, the policy itself says.

    Raises:
        ApiError: SignatureDoesNotMatch; AccessDenied for a date that is none.
    """
    text = policy.encode()
    if claim.form is Form.FORM_V2:
        expected = base64.b64encode(hmac.new(key.secret.encode(), text, hashlib.sha1).digest())
    else:
        _moment(claim.moment, claim.date)
        derived = signing_key(key.secret, claim.date, claim.region, claim.service)
        expected = hmac.new(derived, text, hashlib.sha256).hexdigest().encode()
    if not hmac.compare_digest(expected, claim.signature.encode()):
        raise mismatch()


def mismatch() -> ApiError:
    return ApiError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing "
        "method.",
        403,
    )


def signature(incoming: Incoming, claim: Claim, secret: str) -> bytes:
    """The signature that the request should carry, in hex."""
    canonical = hashlib.sha256(canonical_request(incoming, claim)).hexdigest()
    text = f"{ALGORITHM}\n{claim.moment}\n{claim.date}/{claim.region}/{claim.service}/aws4_request\n{canonical}"
    key = signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest().encode()


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key derived for one day, region and service; also signs the chunks of an aws-chunked body."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def canonical_request(incoming: Incoming, claim: Claim) -> bytes:
    """Method, path, query, signed headers and payload hash, in the one form that is signed."""
    headers = incoming.headers
    lines = [f"{name}:{_trimmed(headers.get(name, ''))}\n" for name in claim.signed]
    query = (
        _canonical_query(incoming.query_string, presigned=claim.form is Form.QUERY) if incoming.query_string else b""
    )
    return b"\n".join(
        (
            incoming.method.encode(),
            _canonical_path(incoming.raw_path, claim.service),
            query,
            "".join(lines).encode("latin-1"),
            ";".join(claim.signed).encode(),
            _payload_hash(incoming, claim).encode("latin-1"),
        )
    )


def _canonical_path(raw_path: bytes, service: str) -> bytes:
    """S3 signs the path as sent; all others sign it normalised and encoded once more."""
    if service == "s3" or raw_path == b"/" or _PLAIN_PATH.fullmatch(raw_path):
        return raw_path or b"/"
    return quote(normalize_url_path(raw_path.decode("latin-1")), safe="/~", encoding="latin-1").encode()


def _canonical_query(query: bytes, presigned: bool) -> bytes:
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if not (presigned and name == b"X-Amz-Signature"):
            pairs.append((name, value))
    pairs.sort()
    return b"&".join(b"%b=%b" % pair for pair in pairs)


def _trimmed(value: str) -> str:
    return _SPACES.sub(" ", value.strip(" \t")) if "  " in value or "\t" in value else value.strip(" ")


def _payload_hash(incoming: Incoming, claim: Claim) -> str:
    if claim.form is Form.QUERY and claim.service == "s3":
        return UNSIGNED
    stated = incoming.headers.get("x-amz-content-sha256")
    if stated is not None:
        return stated
    return body_hash(incoming)


def body_hash(incoming: Incoming) -> str:
    """SHA-256 of the body, in hex."""
    body = incoming.body
    if isinstance(body, Body):
        return body.sha256
    return hashlib.sha256(body).hexdigest() if body else _EMPTY


def check_body(incoming: Incoming, claim: Claim) -> None:
    """Compares the body with the `X-Amz-Content-Sha256` that was signed; call it once the body has been read.

    Raises:
        ApiError: XAmzContentSHA256Mismatch, or a value that this service does not allow.
    """
    stated = incoming.headers.get("x-amz-content-sha256")
    if stated is None or claim.form is not Form.HEADER:
        return
    if claim.service == "s3" and (stated == UNSIGNED or stated in STREAMING):
        return
    if not _SHA256.fullmatch(stated):
        raise ApiError(
            "InvalidArgument",
            "x-amz-content-sha256 must be the SHA-256 of the body in hex, or for S3 UNSIGNED-PAYLOAD or one of "
            f"{', '.join(sorted(STREAMING))}; got {stated[:100]!r}.",
        )
    if not hmac.compare_digest(stated.lower(), body_hash(incoming)):
        raise ApiError(
            "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
        )


def _check_signed(incoming: Incoming, claim: Claim) -> None:
    """The host and every x-amz header must be under the signature, or a stranger could change them."""
    signed = set(claim.signed)
    unsigned = [name for name in incoming.headers if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        unsigned.append("host")
    elif claim.form is Form.QUERY and claim.service == "s3":
        unsigned = [name for name in unsigned if name != "x-amz-content-sha256"]
    if unsigned:
        raise ApiError(
            "AccessDenied",
            f"There were headers present in the request which were not signed: {', '.join(unsigned)}",
            403,
        )
    absent = [name for name in claim.signed if name not in incoming.headers]
    if absent:
        raise mismatch()


@lru_cache(maxsize=256)
def _moment(text: str, date: str) -> float:
    """Epoch seconds of an X-Amz-Date, which must lie on the scope's date."""
    try:
        moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise ApiError(
            "AccessDenied", f"AWS authentication requires a valid X-Amz-Date header, got {text[:40]!r}.", 403
        ) from None
    if text[:8] != date:
        raise ApiError(
            "SignatureDoesNotMatch",
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"{date!r} != {text[:8]!r}.",
            403,
        )
    return moment.timestamp()


def _check_expiry(claim: Claim, moment: float, now: float) -> None:
    if not re.fullmatch("[0-9]{1,7}", claim.expires) or not 1 <= int(claim.expires) <= LONGEST:
        raise ApiError(
            "AuthorizationQueryParametersError", f"X-Amz-Expires must be between 1 and {LONGEST} seconds", 400
        )
    if moment - now > SKEW:
        raise ApiError("AccessDenied", "Request is not valid yet", 403)
    if now > moment + int(claim.expires):
        raise ApiError("AccessDenied", "Request has expired", 403)


def _verify_v2(incoming: Incoming, claim: Claim, key: Key, now: float) -> None:
    if not re.fullmatch("[0-9]{1,12}", claim.moment):
        raise ApiError("AccessDenied", f"Invalid date (should be seconds since epoch): {claim.moment[:40]!r}", 403)
    if now > int(claim.moment):
        raise ApiError("AccessDenied", "Request has expired", 403)
    query = b"&".join(part for part in incoming.query_string.split(b"&") if not part.startswith(_V2_FIELDS))
    path = incoming.raw_path.decode("latin-1")
    url = f"{incoming.scheme}://{incoming.host}{path}" + (f"?{query.decode('latin-1')}" if query else "")
    headers = botocore.compat.HTTPHeaders()
    for name, value in {**incoming.headers, **dict(incoming.query)}.items():  # botocore moves headers into the query
        if name.startswith("x-amz-") or name in ("content-md5", "content-type"):
            headers[name] = value
    signer = _V2Signer(botocore.credentials.Credentials(key.id, key.secret))
    signer.date = claim.moment
    signed_headers: Any = headers
    expected = signer.get_signature(incoming.method, urlsplit(url), signed_headers, auth_path=path)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode("utf-8", "replace")):
        raise mismatch()


class _V2Signer(botocore.auth.HmacV1QueryAuth):
    """botocore's signer with the date that the URL carries instead of one counted from now."""

    date = ""

    def _get_date(self) -> str:
        return self.date
