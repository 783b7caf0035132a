"""What an attacker may try against a running server, one check each from outside; the rooms test the details."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.auth
import psutil
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as ClientConfig
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from sagesmith.gateway.keys import Key, Keys
from sagesmith.testing.server import RunningServer
from tests.clients.conftest import rows
from tests.clients.live import IMAGE, ROLE, ROOT, live_server, processes_of, wait_for

pytest.importorskip("xgboost")

OPERATORS_SECRET = "secret-of-the-operators-own-account"
BUCKET = "target"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    operators = {"AWS_ACCESS_KEY_ID": "AKIAOPERATOR", "AWS_SECRET_ACCESS_KEY": OPERATORS_SECRET}
    with live_server(tmp_path_factory.mktemp("security") / "data", environment=operators, stop_grace=5.0) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="train/rows.csv", Body=rows(100).encode())
        s3.put_object(Bucket=BUCKET, Key="secret.txt", Body=b"text")
        yield server


def exchange(server: RunningServer, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to bytes as they stand; status 0 when the server only closed the connection."""
    host, port = server.address.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(request)
            while piece := connection.recv(65536):
                received += piece
                head, _, body = received.partition(b"\r\n\r\n")
                if b"content-length: %d\r\n" % len(body) in head.lower() + b"\r\n":
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass  # it had seen enough
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def signed(
    server: RunningServer,
    path: str,
    *,
    method: str = "GET",
    service: str = "s3",
    body: bytes = b"",
    key: Key | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request, signed by botocore."""
    key = key or server.key
    request = AWSRequest(method, server.address + path, headers=headers or {}, data=body)
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    if service != "s3":
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    auth(Credentials(key.id, key.secret), service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def send(
    server: RunningServer, path: str, headers: dict[str, str], *, method: str = "GET", body: bytes = b""
) -> tuple[int, bytes]:
    host = server.address.removeprefix("http://")
    fields = {**headers, "Host": host, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return exchange(server, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)


LIST = b'{"MaxResults": 5}'
TARGET = {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}


def list_models(server: RunningServer, *, body: bytes = LIST, key: Key | None = None) -> dict[str, str]:
    return signed(server, "/", method="POST", service="sagemaker", body=body, key=key, headers=TARGET)


# -- who asks --------------------------------------------------------------------------------------------------------
def test_a_request_as_botocore_signs_it_is_answered(server: RunningServer) -> None:
    """That the refusals below are not refusals of everything."""
    path = f"/{BUCKET}/secret.txt"
    assert send(server, path, signed(server, path)) == (200, b"text")
    assert send(server, "/", list_models(server), method="POST", body=LIST)[0] == 200


def test_no_signature_no_answer(server: RunningServer) -> None:
    assert send(server, f"/{BUCKET}/secret.txt", {})[0] == 403
    status, body = send(server, "/", TARGET, method="POST", body=LIST)
    assert (status, b"MissingAuthenticationToken" in body) == (403, True)
    assert send(server, "/endpoints/e/invocations", {}, method="POST", body=b"1")[0] == 403


@pytest.mark.parametrize("stranger", [Key("AKIANOBODY", "x" * 40, ""), None])
def test_a_wrong_key_or_secret_gets_no_answer(server: RunningServer, stranger: Key | None) -> None:
    key = stranger or Key(server.key.id, "x" * 40, "")
    path = f"/{BUCKET}/secret.txt"
    assert send(server, path, signed(server, path, key=key))[0] == 403
    assert send(server, "/", list_models(server, key=key), method="POST", body=LIST)[0] == 403


@pytest.mark.parametrize("hours", [-1, 1, -24 * 7])
def test_a_request_of_another_time_is_refused(
    server: RunningServer, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: then)
    path = f"/{BUCKET}/secret.txt"
    status, body = send(server, path, signed(server, path))
    assert (status, b"RequestTimeTooSkewed" in body) == (403, True)
    assert send(server, "/", list_models(server), method="POST", body=LIST)[0] == 403


def test_what_was_signed_cannot_be_changed(server: RunningServer) -> None:
    headers = list_models(server)
    other = LIST.replace(b"5", b"6")
    assert send(server, "/", headers, method="POST", body=other)[0] in (400, 403)
    rehashed = {**headers, "X-Amz-Content-SHA256": hashlib.sha256(other).hexdigest()}
    assert send(server, "/", rehashed, method="POST", body=other)[0] == 403
    assert send(server, "/", {**headers, "X-Amz-Target": "SageMaker.ListEndpoints"}, method="POST", body=LIST)[0] == 403
    path = f"/{BUCKET}/secret.txt"
    put = signed(server, path, method="PUT", body=b"good")
    assert send(server, path, put, method="PUT", body=b"evil")[0] in (400, 403)
    assert send(server, path, put, method="DELETE")[0] == 403
    assert send(server, f"/{BUCKET}/train/rows.csv", signed(server, path))[0] == 403
    assert server.client("s3").get_object(Bucket=BUCKET, Key="secret.txt")["Body"].read() == b"text"


# -- names that are paths --------------------------------------------------------------------------------------------
TRICKS = ["../escaped", "../../escaped", "a/../../../escaped", "..", ".", "/escaped", "a//b", "..\\escaped", "%2e%2e/x"]


def files_outside(server: RunningServer) -> list[str]:
    """Whatever lies beside the data folder, or is called `escaped` outside of the objects' folder."""
    data = server.config.data
    found = [str(path) for path in data.parent.iterdir() if path != data]
    escaped = [path for path in everything_below(data) if "escaped" in path.name]
    return found + [str(path) for path in escaped if not path.is_relative_to(data / "s3")]


def everything_below(folder: Path) -> list[Path]:
    """Folders and files; a folder that the server takes away meanwhile is passed over."""
    return [Path(above, name) for above, folders, files in os.walk(folder) for name in (*folders, *files)]


@pytest.mark.parametrize("key", TRICKS)
def test_any_key_is_stored_inside_and_read_back(server: RunningServer, key: str) -> None:
    content = os.urandom(8)
    path = f"/{BUCKET}/{quote(key, safe='/')}"
    status, _ = send(server, path, signed(server, path, method="PUT", body=content), method="PUT", body=content)
    assert status == 200
    assert send(server, path, signed(server, path)) == (200, content)
    assert [item["Key"] for item in server.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]] == [key]
    assert send(server, path, signed(server, path, method="DELETE"), method="DELETE")[0] == 204
    assert files_outside(server) == []


@pytest.mark.parametrize("bucket", ["..", "%2e%2e", "%2e%2e%2fescaped", ".tmp", "a%2fb", "..%5cx", "%00abc", "UPPER"])
def test_a_bucket_is_no_path(server: RunningServer, bucket: str) -> None:
    for path in (f"/{bucket}", f"/{bucket}/keys.json"):
        for method in ("PUT", "GET", "DELETE"):
            status, body = send(server, path, signed(server, path, method=method), method=method)
            assert 400 <= status < 500, (method, path, status)
            assert server.key.secret.encode() not in body
    assert files_outside(server) == []


@pytest.mark.parametrize("name", ["../escaped", "..", "a/b", "a\\b", "a\0b", "", "x" * 64, "-a"])
def test_names_of_resources_are_no_paths(server: RunningServer, name: str) -> None:
    sagemaker = server.client("sagemaker", config=ClientConfig(parameter_validation=False))
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (sagemaker.create_training_job, training_job(name)),
        (sagemaker.create_training_job, training_job("job", channel=name) if name not in ("-a", "x" * 64) else {}),
        (sagemaker.create_model, {"ModelName": name, "PrimaryContainer": {"Image": IMAGE}}),
        (sagemaker.create_endpoint, {"EndpointName": name, "EndpointConfigName": "c"}),
        (sagemaker.describe_training_job, {"TrainingJobName": name}),
    ]
    for call, request in calls:
        if not request:
            continue
        with pytest.raises(ClientError) as caught:
            call(**request)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert files_outside(server) == []


def training_job(name: str, channel: str = "train") -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [{"ChannelName": channel, "ContentType": "text/csv", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "HyperParameters": {"num_round": "1000000", "objective": "binary:logistic"},
    }


def test_an_endpoints_name_in_the_address_is_no_path(server: RunningServer) -> None:
    for name in ("..", "%2e%2e%2f..", "a%2fb", "%00"):
        path = f"/endpoints/{name}/invocations"
        headers = signed(server, path, method="POST", service="sagemaker", body=b"1")
        assert 400 <= send(server, path, headers, method="POST", body=b"1")[0] < 500


# -- archives --------------------------------------------------------------------------------------------------------
def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def hostile_archives(outside: Path) -> dict[str, tuple[bytes, str]]:
    """Name → a model.tar.gz, and what the endpoint must say of it."""
    plain = tarfile.TarInfo
    return {
        "parent": (archive((plain("../../../escaped"), b"x")), "would lie outside the folder"),
        "absolute": (archive((plain(str(outside / "escaped")), b"x")), "would lie outside the folder"),
        "symlink": (archive(link("door", str(outside)), (plain("door/escaped"), b"x")), "is a link"),
        "hardlink": (archive(link("xgboost-model", "/etc/passwd", tarfile.LNKTYPE)), "is a link"),
        "device": (archive(link("tty", "", tarfile.CHRTYPE)), "neither a plain file nor a folder"),
    }


@pytest.mark.slow
def test_archives_that_reach_out_fail_the_endpoint_and_leave_no_file(server: RunningServer) -> None:
    sagemaker, outside = server.client("sagemaker"), server.config.data.parent
    archives = hostile_archives(outside)
    for name, (content, _) in archives.items():
        key = f"archives/{name}/model.tar.gz"
        server.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{key}"}
        sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    for name, (_, reason) in archives.items():

        def ended(name: str = name) -> Any:
            described = sagemaker.describe_endpoint(EndpointName=name)
            return described if described["EndpointStatus"] != "Creating" else None

        described = wait_for(ended, f"the endpoint {name} is no longer being created")
        assert described["EndpointStatus"] == "Failed"
        assert "Failed to extract model data" in described["FailureReason"]
        assert reason in described["FailureReason"]
        sagemaker.delete_endpoint(EndpointName=name)
    assert files_outside(server) == []


# -- sizes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [b"[" * 1_000_000, b'{"a":' * 100_000, b'{"NameContains": "' + b"a" * (16 << 20) + b'"}', b"{" + b'"\\u' * 9],
)
def test_json_that_is_deep_large_or_broken_is_refused(server: RunningServer, body: bytes) -> None:
    status, _ = send(server, "/", list_models(server, body=body), method="POST", body=body)
    assert status in (0, 400, 413), "0: the connection was closed before all of it was sent"
    assert server.client("sagemaker").list_models(MaxResults=1), "the server goes on"


@pytest.mark.parametrize(
    "head",
    [
        b"x-large: " + b"a" * 1_000_000 + b"\r\n",
        b"".join(b"x-%d: a\r\n" % number for number in range(50_000)),
        b"content-length: 99999999999999999999\r\n",
        b"content-length: -1\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"x-bad\0name: 1\r\n",
    ],
    ids=["large", "many", "length", "negative", "chunked and length", "two lengths", "nul"],
)
def test_headers_that_are_huge_or_ambiguous_are_refused(server: RunningServer, head: bytes) -> None:
    status, _ = exchange(server, b"POST / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n0\r\n\r\n")
    assert status == 0 or 400 <= status < 500
    assert server.client("sagemaker").list_models(MaxResults=1), "the server goes on"


# -- keys ------------------------------------------------------------------------------------------------------------
def environment_of(process: psutil.Process) -> bytes:
    """As the kernel has it."""
    return Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.slow
def test_jobs_and_agents_see_no_key(server: RunningServer) -> None:
    server.client("sagemaker").create_training_job(**training_job("curious"))
    data = server.config.data

    def job() -> psutil.Process | None:
        found = [p for p in processes_of(data) if "sagesmith.container" in p.info["cmdline"]]
        return found[0] if found else None

    process = wait_for(job, "the job's process runs")
    agents = Keys(server.config.keys_file).agent.secret
    secrets = [server.key.secret, agents, OPERATORS_SECRET, "AWS_SECRET", "SAGESMITH_"]
    environment = environment_of(process)
    assert b"TRAINING_JOB_NAME=curious" in environment
    assert not [secret for secret in secrets if secret.encode() in environment]
    for other in processes_of(data):
        line = " ".join(other.info["cmdline"])
        assert not [secret for secret in secrets[:3] if secret in line], "a command line is everybody's to read"
        if "sagesmith.agent" in line:
            assert not [secret for secret in secrets[:3] if secret.encode() in environment_of(other)]
    server.client("sagemaker").stop_training_job(TrainingJobName="curious")
    waiter = server.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="curious", WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_files_with_keys_are_their_owners_alone(server: RunningServer) -> None:
    data = server.config.data
    assert stat.S_IMODE(server.config.keys_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.config.runs.stat().st_mode) & 0o077 == 0
    secrets = [server.key.secret.encode(), Keys(server.config.keys_file).agent.secret.encode()]
    server.client("s3").list_buckets()
    wait_for(lambda: any(path.name == "access.log" for path in everything_below(data)), "the request is logged")
    logs = [path for path in everything_below(data) if ".log" in path.name and path.is_file()]
    assert {"access.log", "server.log"} <= {path.name for path in logs}
    assert not [path for path in logs for secret in secrets if secret in path.read_bytes()]


def test_without_signatures_only_loopback_is_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sagesmith", "up", "--data", str(tmp_path), "--port", "0", "--no-auth"]
    done = subprocess.run([*command, "--host", "0.0.0.0"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "without signature checks the server may only listen on loopback, not on 0.0.0.0" in done.stderr
    assert not (tmp_path / "address").exists()


def test_what_an_error_says_holds_no_secret(server: RunningServer) -> None:
    headers = list_models(server, key=Key(server.key.id, "x" * 40, ""))
    status, body = send(server, "/", headers, method="POST", body=LIST)
    assert status == 403
    assert server.key.secret.encode() not in body
    assert json.loads(body)["__type"]
