"""Our signatures against botocore's own signers, and what must be refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.core.clock import FrozenClock
from sagesmith.core.operation import ApiError
from sagesmith.gateway import sigv4
from sagesmith.gateway.credentials import Form, claim_of
from sagesmith.gateway.http import Incoming
from sagesmith.gateway.keys import Key, Keys

KEY = Key("AKIAEXAMPLE", "secret/+key", "test")
HOST = "127.0.0.1:8777"

paths = st.text(alphabet="abz09-._~ %/+=@é漢*()!'\"&?#:;,$\\", max_size=30).map(lambda text: "/" + text)
values = st.text(alphabet="abz 09-/=+é", max_size=12)
bodies = st.binary(max_size=50)


def incoming_of(prepared: Any, body: bytes) -> Incoming:
    raw = prepared.url.split(HOST, 1)[1]
    path, _, query = raw.partition("?")
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    headers.setdefault("host", HOST)
    return Incoming(prepared.method, path.encode() or b"/", query.encode(), headers, body, host=HOST)


def signed(
    signer: Any, method: str = "POST", path: str = "/", query: str = "", body: bytes = b"x", headers: Any = None
) -> Incoming:
    from urllib.parse import quote

    url = f"http://{HOST}{quote(path, safe='/~%')}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    signer.add_auth(request)
    return incoming_of(request.prepare(), body)


def v4(service: str) -> Any:
    kind = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    return kind(Credentials(KEY.id, KEY.secret), service, "eu-west-1")


def presigner(service: str, expires: int = 60) -> Any:
    kind = botocore.auth.S3SigV4QueryAuth if service == "s3" else botocore.auth.SigV4QueryAuth
    return kind(Credentials(KEY.id, KEY.secret), service, "eu-west-1", expires=expires)


def verify(incoming: Incoming, now: float | None = None, key: Key = KEY) -> None:
    claim = claim_of(incoming)
    sigv4.verify(incoming, claim, key, time.time() if now is None else now)
    sigv4.check_body(incoming, claim)


@settings(max_examples=300, deadline=None)
@given(
    service=st.sampled_from(["s3", "sagemaker", "logs"]),
    path=paths,
    query=st.lists(st.tuples(st.sampled_from(["a", "prefix", "list-type", "B", "a-b"]), values), max_size=4),
    headers=st.dictionaries(st.sampled_from(["x-amz-meta-a", "content-type", "x-amz-target"]), values, max_size=3),
    body=bodies,
)
def test_signatures_equal_those_of_botocores_signer(
    service: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    from urllib.parse import quote

    ascii_headers = {name: value.replace("é", "e") for name, value in headers.items()}
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query)
    verify(signed(v4(service), "PUT", path, text, body, ascii_headers))


@settings(max_examples=100, deadline=None)
@given(path=paths, service=st.sampled_from(["s3", "sts"]))
def test_presigned_urls_of_version_4_are_verified(path: str, service: str) -> None:
    incoming = signed(presigner(service), "GET", path, "versionId=1", b"")
    assert claim_of(incoming).form is Form.QUERY
    verify(incoming)


@settings(max_examples=100, deadline=None)
@given(path=paths)
def test_presigned_urls_of_version_2_are_verified(path: str) -> None:
    signer = botocore.auth.HmacV1QueryAuth(Credentials(KEY.id, KEY.secret), expires=60)
    incoming = signed(signer, "GET", path, "", b"")
    assert claim_of(incoming).form is Form.QUERY_V2
    verify(incoming)
    with pytest.raises(ApiError, match="Request has expired"):
        verify(incoming, time.time() + 120)


def altered(incoming: Incoming, **changes: Any) -> Incoming:
    fields = {
        name: getattr(incoming, name) for name in ("method", "raw_path", "query_string", "headers", "body", "host")
    }
    return Incoming(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"raw_path": b"/other"},
        {"query_string": b"a=2"},
        {"body": b"other"},
    ],
)
def test_an_altered_request_is_refused(changes: dict[str, Any]) -> None:
    incoming = signed(v4("sagemaker"), query="a=1")
    verify(incoming)
    with pytest.raises(ApiError) as caught:
        verify(altered(incoming, **changes))
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


def test_an_altered_s3_body_is_refused_by_its_hash() -> None:
    incoming = signed(v4("s3"), "PUT", "/b/k", body=b"right")
    claim = claim_of(altered(incoming, body=b"wrong"))
    with pytest.raises(ApiError, match="XAmzContentSHA256Mismatch"):
        sigv4.check_body(altered(incoming, body=b"wrong"), claim)


def test_an_unsigned_x_amz_header_and_another_secret_are_refused() -> None:
    incoming = signed(v4("sagemaker"))
    with pytest.raises(ApiError, match="not signed: x-amz-target"):
        verify(altered(incoming, headers={**incoming.headers, "x-amz-target": "SageMaker.DeleteEndpoint"}))
    with pytest.raises(ApiError, match="SignatureDoesNotMatch"):
        verify(incoming, key=Key(KEY.id, "another", "test"))


@pytest.mark.parametrize("seconds", [901, -901])
def test_clocks_may_differ_by_fifteen_minutes_only(seconds: int) -> None:
    incoming = signed(v4("sagemaker"))
    verify(incoming, time.time() + seconds * 0.9)
    with pytest.raises(ApiError) as caught:
        verify(incoming, time.time() + seconds)
    assert (caught.value.code, caught.value.status) == ("RequestTimeTooSkewed", 403)


def test_presigned_urls_expire_and_may_not_last_longer_than_a_week() -> None:
    with pytest.raises(ApiError, match="Request has expired"):
        verify(signed(presigner("s3"), "GET", "/b/k", "", b""), time.time() + 61)
    with pytest.raises(ApiError, match="between 1 and 604800"):
        verify(signed(presigner("s3", 604801), "GET", "/b/k", "", b""))


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("Basic dTpw", "mechanism you have provided is not supported"),
        ("AWS AKIA:sig", "mechanism you have provided is not supported"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c", "requires SignedHeaders, Signature"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00", "must have the form"),
        ("AWS4-HMAC-SHA256", "requires Credential"),
    ],
)
def test_a_malformed_authorization_is_named(authorization: str, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        claim_of(Incoming("GET", b"/", b"", {"authorization": authorization, "host": HOST}))


@settings(max_examples=300, deadline=None)
@given(
    authorization=st.text(alphabet="AWS4-HMC256 Credntial=/,Sgu;hos0é", max_size=120).map(
        lambda text: "AWS4-HMAC-SHA256 " + text
    ),
    query=st.text(alphabet="X-AmzSignatureCdl=&%/0é", max_size=80),
)
def test_no_claim_makes_anything_but_a_clean_error(authorization: str, query: str) -> None:
    for headers, text in (({"authorization": authorization}, ""), ({}, "X-Amz-Signature=1&" + query)):
        incoming = Incoming("GET", b"/b/k", text.encode(), {"host": HOST, **headers})
        with pytest.raises(ApiError) as caught:
            sigv4.verify(incoming, claim_of(incoming), KEY, time.time())
        assert caught.value.status in (400, 403)


def test_keys_are_made_once_kept_private_and_seen_by_others_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys, others = Keys(path), Keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.first == others.first
    added = others.add("reader", read_only=True)
    assert keys.find(added.id) == added
    with pytest.raises(ValueError, match="already a key named 'reader'"):
        keys.add("reader")
    others.remove("reader")
    assert keys.find(added.id) is None
    with pytest.raises(KeyError):
        keys.remove("agent")


def test_temporary_keys_carry_their_role_outlive_a_restart_and_end(tmp_path: Path) -> None:
    clock = FrozenClock()
    keys = Keys(tmp_path / "keys.json", clock)
    issued = keys.issue(keys.first.id, "arn:aws:sts::123456789012:assumed-role/R/s", clock.now() + 900)
    again = Keys(tmp_path / "keys.json", clock)
    found = again.find(issued.id, issued.token)
    assert found is not None
    assert (found.secret, found.role) == (issued.secret, "arn:aws:sts::123456789012:assumed-role/R/s")
    assert again.find(issued.id) is None
    assert again.find("ASIAOTHER", issued.token) is None
    forged = issued.token[:-1] + ("A" if issued.token[-1] != "A" else "B")
    assert again.find(issued.id, forged) is None
    clock.advance(901)
    with pytest.raises(PermissionError, match="expired"):
        again.find(issued.id, issued.token)
