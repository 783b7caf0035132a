"""The running server through boto3 and raw sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config as ClientConfig
from botocore.exceptions import ClientError

from sagesmith.core.config import Config
from sagesmith.core.operation import OPERATIONS, ApiError, Context, Operation
from sagesmith.gateway.keys import Key
from sagesmith.server import Server, serve
from sagesmith.testing.server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("data"), process=False, engine="none") as running:
        yield running


def code_of(call: Any, **request: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def message_of(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value.response["Error"]["Message"])


def raw(server: RunningServer, request: bytes, timeout: float = 10) -> bytes:
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
            head, _, body = received.partition(b"\r\n\r\n")
            if b"content-length: %d" % len(body) in head.lower():
                break
        return received


def test_health_needs_no_signature(server: RunningServer) -> None:
    answer = raw(server, b"GET /_sagesmith/health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "ok"
    assert raw(server, b"GET /_sagesmith/other HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 404")


def test_every_answer_has_a_request_id_a_date_and_a_length(server: RunningServer) -> None:
    for service, call in (("sts", "get_caller_identity"), ("s3", "list_buckets"), ("sagemaker", "list_models")):
        try:
            metadata = getattr(server.client(service), call)()["ResponseMetadata"]
        except ClientError as error:
            metadata = error.response["ResponseMetadata"]
        assert {"x-amzn-requestid", "date", "content-length"} <= metadata["HTTPHeaders"].keys(), service
        assert metadata["RequestId"]


@pytest.mark.parametrize(
    ("service", "call", "request_", "unknown_key", "wrong_secret"),
    [
        ("s3", "list_buckets", {}, "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        ("sagemaker", "list_models", {}, "UnrecognizedClientException", "InvalidSignatureException"),
        ("cloudwatch", "list_metrics", {}, "UnrecognizedClientException", "InvalidSignatureException"),
        ("sts", "get_caller_identity", {}, "InvalidClientTokenId", "SignatureDoesNotMatch"),
        (
            "sagemaker-runtime",
            "invoke_endpoint",
            {"EndpointName": "e", "Body": b"1"},
            "UnrecognizedClientException",
            "InvalidSignatureException",
        ),
    ],
)
def test_wrong_keys_are_refused_in_each_services_own_words(
    server: RunningServer, service: str, call: str, request_: dict[str, Any], unknown_key: str, wrong_secret: str
) -> None:
    stranger = server.client(service, key=Key("AKIASTRANGER", "secret", ""))
    assert code_of(getattr(stranger, call), **request_) == (unknown_key, 403)
    forger = server.client(service, key=Key(server.key.id, "secret", ""))
    assert code_of(getattr(forger, call), **request_) == (wrong_secret, 403)


def test_unsigned_requests_are_refused(server: RunningServer) -> None:
    assert b"AccessDenied" in raw(server, b"GET /bucket/key HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = raw(
        server, b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: SageMaker.ListModels\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert answer.startswith(b"HTTP/1.1 403")
    assert b'"__type":"MissingAuthenticationTokenException"' in answer


def test_what_is_not_built_is_refused_by_name_and_not_retried(server: RunningServer) -> None:
    call = server.client("sagemaker", config=ClientConfig(retries={"total_max_attempts": 3})).create_hub
    with pytest.raises(ClientError) as caught:
        call(HubName="h", HubDescription="d")
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "CreateHub of sagemaker" in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_validation_speaks_in_awss_words(server: RunningServer) -> None:
    message = message_of(server.client("sagemaker").list_models, MaxResults=1000, SortBy="Colour")
    assert message.startswith("2 validation errors detected: ")
    assert (
        "Value '1000' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"
        in (message)
    )
    assert (
        "Value 'Colour' at 'sortBy' failed to satisfy constraint: Member must satisfy enum value set: [Name, "
        in message
    )


def test_operations_unknown_to_the_model_are_named(server: RunningServer) -> None:
    client = server.client("sagemaker")
    client.meta.events.register(
        "before-sign.sagemaker.ListModels",
        lambda request, **_: request.headers.replace_header("X-Amz-Target", "SageMaker.TrainFaster"),
    )
    assert code_of(client.list_models) == ("UnknownOperationException", 400)
    assert "TrainFaster" in message_of(client.list_models)


@pytest.fixture
def answering() -> Iterator[Any]:
    """Replaces the functions of operations for one test."""
    saved = dict(OPERATIONS)

    def install(service: str, name: str, function: Any, asynchronous: bool = False) -> None:
        OPERATIONS[service, name] = Operation(service, name, function, asynchronous)

    yield install
    OPERATIONS.clear()
    OPERATIONS.update(saved)


def test_an_unexpected_exception_is_a_500_with_a_request_id(
    server: RunningServer, answering: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: dict[str, Any], ctx: Context) -> None:
        raise KeyError("secret detail")

    answering("sagemaker", "DescribeModel", broken)
    with pytest.raises(ClientError) as caught:
        server.client("sagemaker").describe_model(ModelName="m")
    response = caught.value.response
    assert response["Error"]["Code"] == "InternalFailure"
    assert "secret detail" not in str(response)
    assert response["ResponseMetadata"]["RequestId"] in caplog.text
    assert "secret detail" in caplog.text


def test_the_runtimes_model_error_carries_its_members(server: RunningServer, answering: Any) -> None:
    async def failing(request: dict[str, Any], ctx: Context) -> None:
        fields = {"OriginalStatusCode": 503, "OriginalMessage": "no", "LogStreamArn": "arn:log"}
        raise ApiError("ModelError", "Received server error (503) from model", 424, fields)

    answering("sagemaker-runtime", "InvokeEndpoint", failing, True)
    client = server.client("sagemaker-runtime")
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="e", Body=b"1")
    assert caught.value.response["OriginalStatusCode"] == 503
    assert caught.value.response["OriginalMessage"] == "no"
    assert caught.value.response["LogStreamArn"] == "arn:log"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_invoke_endpoint_passes_headers_and_body_both_ways(server: RunningServer, answering: Any) -> None:
    seen: dict[str, Any] = {}

    async def echo(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
        seen.update(request)
        return {"Body": request["Body"][::-1], "ContentType": "text/plain", "InvokedProductionVariant": "AllTraffic"}

    answering("sagemaker-runtime", "InvokeEndpoint", echo, True)
    answer = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="my-endpoint", Body=b"\x00abc", ContentType="text/csv", Accept="*/*", CustomAttributes="a=b"
    )
    assert (answer["Body"].read(), answer["ContentType"]) == (b"cba\x00", "text/plain")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert seen == {
        "EndpointName": "my-endpoint",
        "Body": b"\x00abc",
        "ContentType": "text/csv",
        "Accept": "*/*",
        "CustomAttributes": "a=b",
    }
    assert (
        code_of(server.client("sagemaker-runtime").invoke_endpoint, EndpointName="e", Body=bytes(6 * 2**20 + 1))[1]
        == 413
    )
    message = message_of(server.client("sagemaker-runtime").invoke_endpoint, EndpointName="-e", Body=b"")
    assert "at 'endpointName' failed to satisfy constraint: Member must satisfy regular expression pattern" in message


def test_response_streams_arrive_event_by_event(server: RunningServer, answering: Any) -> None:
    async def stream(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"Body": [{"PayloadPart": {"Bytes": b"one"}}, {"PayloadPart": {"Bytes": b"two"}}], "ContentType": "x/y"}

    answering("sagemaker-runtime", "InvokeEndpointWithResponseStream", stream, True)
    answer = server.client("sagemaker-runtime").invoke_endpoint_with_response_stream(EndpointName="e", Body=b"1")
    assert [event["PayloadPart"]["Bytes"] for event in answer["Body"]] == [b"one", b"two"]


def test_cloudwatch_errors_carry_the_query_code(server: RunningServer, answering: Any) -> None:
    def missing(request: dict[str, Any], ctx: Context) -> None:
        raise ApiError("ResourceNotFound", "no such alarm", 404)

    answering("cloudwatch", "DeleteAlarms", missing)
    with pytest.raises(ClientError) as caught:
        server.client("cloudwatch").delete_alarms(AlarmNames=["a"])
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-query-error"] == "ResourceNotFound;Sender"


def test_read_only_keys_may_only_read(tmp_path: Path) -> None:
    with running_server(tmp_path, process=False, engine="none") as server:
        from sagesmith.gateway.keys import Keys

        reader = Keys(server.config.keys_file).add("reader", read_only=True)
        assert server.client("sagemaker", key=reader).list_models()["Models"] == []
        call = server.client("sagemaker", key=reader).delete_model
        assert code_of(call, ModelName="m") == ("AccessDeniedException", 403)
        assert code_of(server.client("s3", key=reader).create_bucket, Bucket="bbb") == ("AccessDenied", 403)
        session = server.client("sts", key=reader)
        assert code_of(session.assume_role, RoleArn="arn:aws:iam::123456789012:role/R", RoleSessionName="ss")[1] == 403


def test_the_sts_and_iam_calls_of_the_sdks(server: RunningServer) -> None:
    sts, iam = server.client("sts"), server.client("iam")
    identity = sts.get_caller_identity()
    assert identity["Account"] == "123456789012"
    role = identity["Arn"].split("/")[1]
    found = iam.get_role(RoleName=role)["Role"]
    assert found["Arn"] == "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
    principal = found["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert principal == {"Service": "sagemaker.amazonaws.com"}
    assert iam.get_role(RoleName=role)["Role"]["CreateDate"] == found["CreateDate"]
    actions = ["sagemaker:CreateTrainingJob", "s3:GetObject"]
    simulated = iam.simulate_principal_policy(PolicySourceArn=found["Arn"], ActionNames=actions)
    decisions = [(item["EvalActionName"], item["EvalDecision"]) for item in simulated["EvaluationResults"]]
    assert decisions == [(action, "allowed") for action in actions]
    assert simulated["IsTruncated"] is False


def test_roles_are_created_listed_and_deleted(server: RunningServer) -> None:
    iam = server.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    created = iam.create_role(RoleName="mine", Path="/team/", AssumeRolePolicyDocument=trust, Description="d")["Role"]
    assert created["Arn"] == "arn:aws:iam::123456789012:role/team/mine"
    assert code_of(iam.create_role, RoleName="mine", AssumeRolePolicyDocument=trust)[0] == "EntityAlreadyExists"
    assert code_of(iam.create_role, RoleName="o", AssumeRolePolicyDocument="[")[0] == "MalformedPolicyDocument"
    policy = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    iam.attach_role_policy(RoleName="mine", PolicyArn=policy)
    attached = iam.list_attached_role_policies(RoleName="mine")["AttachedPolicies"]
    assert attached == [{"PolicyName": "AmazonSageMakerFullAccess", "PolicyArn": policy}]
    assert code_of(iam.delete_role, RoleName="mine")[0] == "DeleteConflict"
    iam.detach_role_policy(RoleName="mine", PolicyArn=policy)
    names = [role["RoleName"] for role in iam.list_roles(PathPrefix="/team/")["Roles"]]
    assert names == ["mine"]
    iam.delete_role(RoleName="mine")
    assert iam.list_roles(PathPrefix="/team/")["Roles"] == []


def test_temporary_keys_sign_requests_and_show_their_role(server: RunningServer) -> None:
    sts = server.client("sts")
    answer = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/Train", RoleSessionName="me")
    for credentials in (answer["Credentials"], sts.get_session_token()["Credentials"]):
        session = boto3.Session(
            credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"], "us-east-1"
        )
        arn = session.client("sts", endpoint_url=server.address).get_caller_identity()["Arn"]
        if credentials is answer["Credentials"]:
            assert arn == answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/Train/me"
    assert code_of(sts.assume_role, RoleArn="arn:aws:iam::999999999999:role/T", RoleSessionName="me")[1] == 403
    assert "session policy" in message_of(
        sts.assume_role, RoleArn="arn:aws:iam::123456789012:role/T", RoleSessionName="me", Policy="{}"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"MaxResults": "five"}',
        b'{"MaxResults": 1e400}',
        b'{"MaxResults": 99999999999999999999999}',
        b'{"MaxResults": NaN}',
        b'{"MaxResults": ' + b"9" * 5000 + b"}",
        b'{"NameContains": {"a": 1}}',
        b'{"NameContains": "\\ud800"}',
        b'{"CreationTimeAfter": "yesterday"}',
        b'{"CreationTimeAfter": 1e300}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_hostile_bodies_are_serialization_errors(server: RunningServer, body: bytes) -> None:
    client = server.client("sagemaker")
    client.meta.events.register("before-call.sagemaker.ListModels", lambda params, **_: params.update(body=body))
    assert code_of(client.list_models) == ("SerializationException", 400)


def test_bodies_and_headers_have_limits(server: RunningServer) -> None:
    client = server.client("sagemaker")
    huge = b'{"NameContains": "' + b"a" * (8 * 2**20) + b'"}'
    client.meta.events.register("before-call.sagemaker.ListModels", lambda params, **_: params.update(body=huge))
    assert code_of(client.list_models) == ("RequestEntityTooLargeException", 413)
    answer = raw(server, b"GET /b/k HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 70_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"RequestHeaderSectionTooLarge" in answer
    endless = raw(server, b"GET /b/k HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 300_000)
    assert endless.startswith(b"HTTP/1.1 431")


def test_a_key_may_be_used_in_every_region(server: RunningServer) -> None:
    for region in ("eu-central-1", "ap-south-1"):
        assert server.client("sagemaker", region=region).list_models()["Models"] == []


def test_the_access_log_has_a_line_per_request(tmp_path: Path) -> None:
    with running_server(tmp_path, process=False, engine="none") as server:
        answer = server.client("sagemaker").list_models()
        code_of(server.client("sagemaker").create_hub, HubName="h", HubDescription="d")
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [line["operation"] for line in lines] == ["ListModels", "CreateHub"]
    assert lines[0]["id"] == answer["ResponseMetadata"]["RequestId"]
    assert (lines[0]["status"], lines[1]["status"], lines[1]["error"]) == (200, 501, "NotImplemented")
    assert server.key.secret not in (tmp_path / "access.log").read_text()


def test_without_signature_checks_any_key_will_do_on_loopback_only(tmp_path: Path) -> None:
    with running_server(tmp_path, process=False, engine="none", auth=False) as server:
        anybody = server.client("sagemaker", key=Key("test", "test", ""))
        assert anybody.list_models()["Models"] == []
    with pytest.raises(ValueError, match=r"only listen on loopback, not on 0\.0\.0\.0"):
        serve(Config(data=tmp_path, host="0.0.0.0", auth=False))


def test_one_server_per_data_folder(tmp_path: Path) -> None:
    held = f"another server \\(process {os.getpid()}\\) runs on the data folder"
    with Server(Config(data=tmp_path, port=0, engine="none")), pytest.raises(OSError, match=held):
        Server(Config(data=tmp_path, port=0, engine="none")).__enter__()
    with Server(Config(data=tmp_path, port=0, engine="none")) as server:
        assert server.address.startswith("http://127.0.0.1:")


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no engine 'slurm'"):
        Server(Config(data=tmp_path, port=0, engine="slurm")).__enter__()


def test_the_process_starts_dies_comes_back_and_ends(tmp_path: Path) -> None:
    with running_server(tmp_path, engine="none") as server:
        assert server.config.address_file.read_text().strip() == server.address
        server.client("iam").create_role(
            RoleName="kept", AssumeRolePolicyDocument=json.dumps({"Statement": []}), Path="/x/"
        )
        server.kill()
        server.restart()
        assert [role["RoleName"] for role in server.client("iam").list_roles(PathPrefix="/x/")["Roles"]] == ["kept"]
        assert server.stop() == 0


def test_the_server_imports_nothing_heavy() -> None:
    program = (
        "import sys; import sagesmith.server; from sagesmith.services import load_rooms; load_rooms(); "
        "print([m for m in ('torch','xgboost','numba','scipy','pyarrow','faiss','sklearn') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert result.stdout.strip() == "[]"


def test_a_put_with_expect_is_told_to_continue_at_once(server: RunningServer) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    client = server.client("s3")
    client.create_bucket(Bucket="expecting")
    url = client.generate_presigned_url("put_object", Params={"Bucket": "expecting", "Key": "k"})
    path = url.removeprefix(server.address)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"PUT {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        started = time.monotonic()
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert time.monotonic() - started < 5  # not a measure of speed: a client would wait a second and go on
        connection.sendall(b"abc")
        assert b"200 OK" in connection.recv(1000)
    assert client.get_object(Bucket="expecting", Key="k")["Body"].read() == b"abc"


def test_a_put_that_may_not_be_is_refused_before_its_body_is_read(server: RunningServer) -> None:
    answer = raw(server, b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403")


def test_signed_chunks_are_verified_with_the_requests_own_key(server: RunningServer) -> None:
    server.client("s3").create_bucket(Bucket="chunks")
    assert chunked_put(server, b"good", tampered=False).startswith(b"HTTP/1.1 200")
    assert server.client("s3").get_object(Bucket="chunks", Key="k")["Body"].read() == b"good"
    answer = chunked_put(server, b"evil", tampered=True)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"SignatureDoesNotMatch" in answer
    assert server.client("s3").get_object(Bucket="chunks", Key="k")["Body"].read() == b"good"


def chunked_put(server: RunningServer, data: bytes, *, tampered: bool) -> bytes:
    """A PUT with STREAMING-AWS4-HMAC-SHA256-PAYLOAD, as the SDKs for Java and Go write it."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    host = server.address.removeprefix("http://")
    headers = {
        "host": host,
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-date": moment,
        "x-amz-decoded-content-length": str(len(data)),
    }
    signed = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"PUT\n/chunks/k\n\n{lines}\n{signed}\n{headers['x-amz-content-sha256']}"
    key = f"AWS4{server.key.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")

    def sign(text: str) -> str:
        return hmac.digest(key, text.encode(), "sha256").hex()

    def sha256(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    seed = previous = sign(f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(canonical.encode())}")
    body = b""
    for chunk in (data, b""):
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{moment}\n{scope}\n{previous}\n{sha256(b'')}\n{sha256(chunk)}"
        previous = sign(text)
        shown = chunk[::-1] if tampered else chunk
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + shown + b"\r\n"
    credential = f"AWS4-HMAC-SHA256 Credential={server.key.id}/{scope}, SignedHeaders={signed}, Signature={seed}"
    fields = {**headers, "authorization": credential, "content-encoding": "aws-chunked", "content-length": len(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(server, f"PUT /chunks/k HTTP/1.1\r\n{head}\r\n".encode() + body)
