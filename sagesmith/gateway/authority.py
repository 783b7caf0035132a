"""Who may do what: a claim becomes a known key, or an error in the words of the service that was asked."""

from __future__ import annotations

from typing import NamedTuple

from botocore.model import OperationModel

from sagesmith.core.clock import Clock
from sagesmith.core.operation import ApiError
from sagesmith.gateway import sigv4
from sagesmith.gateway.credentials import Claim, Form
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.keys import Key, Keys
from sagesmith.gateway.route import Route, read_only

_QUERY_SERVICES = ("sts", "iam", "sns")

# S3's code → that of the JSON services and of the query services; None: the same.
_CODES: dict[str, tuple[str | None, str | None]] = {
    "InvalidAccessKeyId": ("UnrecognizedClientException", "InvalidClientTokenId"),
    "SignatureDoesNotMatch": ("InvalidSignatureException", None),
    "AccessDenied": ("AccessDeniedException", None),
    "ExpiredToken": ("ExpiredTokenException", None),
    "XAmzContentSHA256Mismatch": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "MissingAuthenticationToken": ("MissingAuthenticationTokenException", None),
}


class Principal(NamedTuple):
    """Who asks, once it is known."""

    key: str = ""  # the access key id
    role: str = ""  # the ARN of the session whose temporary key it is
    read_only: bool = False


NOBODY = Principal()


class Authority:
    """Checks signatures against the keys, unless `required` is False: then any key will do."""

    def __init__(self, keys: Keys, clock: Clock, required: bool = True) -> None:
        self.keys = keys
        self.clock = clock
        self.required = required

    def authenticate(self, incoming: Incoming, claim: Claim, route: Route | None) -> Principal:
        """Whoever signed the request.

        Raises:
            ApiError: 403, in the service's own words.
        """
        try:
            if not self.required:
                return self._unchecked(claim)
            key = self._known(claim, route)
            if claim.service == "s3" and claim.form is Form.HEADER and "x-amz-content-sha256" not in incoming.headers:
                raise ApiError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
            sigv4.verify(incoming, claim, key, self.clock.now())
            if claim.service != "s3":
                sigv4.check_body(incoming, claim)
            return Principal(key.id, key.role, key.read_only)
        except ApiError as error:
            raise _in_words_of(error, route) from None

    def authenticate_form(self, claim: Claim, policy: str) -> Principal:
        """Whoever signed the policy of a form that is posted to S3.

        Raises:
            ApiError: 403.
        """
        if not self.required:
            return self._unchecked(claim)
        key = self._known(claim, None)
        sigv4.verify_policy(policy, claim, key)
        return Principal(key.id, key.role, key.read_only)

    def permit(self, principal: Principal, model: OperationModel) -> None:
        """Lets a read-only key call only what changes nothing.

        Raises:
            ApiError: AccessDenied, 403.
        """
        if principal.read_only and not read_only(model):
            message = f"The key {principal.key} is read-only and may not call {model.name}."
            raise _translated(ApiError("AccessDenied", message, 403), model.service_model.service_name)

    def secret_of(self, claim: Claim) -> str | None:
        """The secret that the claim's key signs with; None when signatures are not checked."""
        if not self.required or claim.form is Form.NONE:
            return None
        key = self.keys.find(claim.key, claim.token)
        return key.secret if key is not None else None

    def _known(self, claim: Claim, route: Route | None) -> Key:
        if claim.form is Form.NONE:
            if route is None or route.service == "s3":
                raise ApiError("AccessDenied", "Access Denied: anonymous requests are not allowed.", 403)
            raise ApiError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        try:
            key = self.keys.find(claim.key, claim.token)
        except PermissionError as error:
            raise ApiError("ExpiredToken", str(error), 403) from None
        if key is None:
            message = "The AWS Access Key Id you provided does not exist in our records."
            if route is not None and route.service != "s3":
                message = "The security token included in the request is invalid."
            raise ApiError("InvalidAccessKeyId", message, 403)
        return key

    def _unchecked(self, claim: Claim) -> Principal:
        try:
            key = self.keys.find(claim.key, claim.token)
        except PermissionError:
            key = None
        return Principal(claim.key, key.role if key is not None else "")


def _in_words_of(error: ApiError, route: Route | None) -> ApiError:
    return _translated(error, route.service if route is not None else "s3")


def _translated(error: ApiError, service: str) -> ApiError:
    if service == "s3":
        return error
    ours = _CODES.get(error.code, (None, None))
    code = ours[1] if service in _QUERY_SERVICES else ours[0]
    return ApiError(code or error.code, error.message, error.status, error.fields, error.headers)
