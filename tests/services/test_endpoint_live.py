"""The whole way, with boto3 and real processes: a trained model deployed, called under load while it is updated and
while processes are killed, used for batch transform, deleted."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from botocore.exceptions import ClientError

from sagesmith.testing.server import RunningServer, running_server

pytest.importorskip("xgboost")

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROW = b"0.1,0.9"

pytestmark = pytest.mark.slow


def model_archive(folder: Path) -> bytes:
    """A model.tar.gz of a small trained model."""
    from sagesmith.algorithms import XGBoost

    random = np.random.default_rng(0)
    features = random.random((200, 2), dtype=np.float32)
    model = XGBoost(objective="binary:logistic", num_round=5).fit(features, (features[:, 0] > 0.5).astype(np.float32))
    folder.mkdir()
    model.save(folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return packed.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("live")
    archive = model_archive(folder / "model")
    with running_server(folder / "data") as server:
        s3, sagemaker = server.client("s3"), server.client("sagemaker")
        s3.create_bucket(Bucket="models")
        s3.put_object(Bucket="models", Key="m/model.tar.gz", Body=archive)
        container = {"Image": IMAGE, "ModelDataUrl": "s3://models/m/model.tar.gz"}
        sagemaker.create_model(ModelName="m", PrimaryContainer=container)
        for name, count in (("one", 1), ("two", 2)):
            variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large"}
            variants = [{**variant, "InitialInstanceCount": count}]
            sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        yield server
        sagemaker = server.client("sagemaker")
        for endpoint in sagemaker.list_endpoints()["Endpoints"]:
            sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])
        wait_for(lambda: sagemaker.list_endpoints()["Endpoints"], [], 90)


def wait_for(look: Callable[[], Any], wanted: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"still {seen!r}, not {wanted!r}"
        time.sleep(0.05)


def status(sagemaker: Any, name: str) -> str:
    """EndpointStatus; "" once there is no such endpoint."""
    try:
        return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationException" and "Could not find" in str(error):
            return ""
        raise


def in_service(sagemaker: Any, name: str, config: str = "one") -> None:
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    wait_for(lambda: status(sagemaker, name), "InService")


class Load:
    """Clients that invoke an endpoint without pause; `failures` has what they met."""

    def __init__(self, server: RunningServer, name: str, clients: int = 2) -> None:
        self.failures: list[Exception] = []
        self.answers = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(server, name)) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, server: RunningServer, name: str) -> None:
        client = server.client("sagemaker-runtime")
        while not self._ended.is_set():
            try:
                answer = client.invoke_endpoint(EndpointName=name, Body=ROW, ContentType="text/csv")
                assert 0 <= float(answer["Body"].read()) <= 1
                self.answers += 1
            except Exception as error:
                self.failures.append(error)


def invocations(server: RunningServer, name: str) -> float:
    """What CloudWatch has counted of an endpoint's invocations."""
    now = time.time()
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": "v"}]
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=dimensions,
        StartTime=now - 3600,
        EndTime=now + 60,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def containers(server: RunningServer) -> list[psutil.Process]:
    """The serving processes of the server's data folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "serve" in line and any(str(server.config.data) in part for part in line):
            found.append(process)
    return found


def test_an_update_under_load_fails_no_request(server: RunningServer) -> None:
    sagemaker = server.client("sagemaker")
    in_service(sagemaker, "busy")
    with Load(server, "busy") as load:
        wait_for(lambda: load.answers > 20, True)
        sagemaker.update_endpoint(EndpointName="busy", EndpointConfigName="two")
        wait_for(lambda: status(sagemaker, "busy"), "InService", 90)
        wait_for(lambda: len(containers(server)), 2, 90)
        before = load.answers
        wait_for(lambda: load.answers > before + 20, True)
    assert load.failures == []
    described = sagemaker.describe_endpoint(EndpointName="busy")
    assert described["EndpointConfigName"] == "two"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    wait_for(lambda: invocations(server, "busy") == load.answers, True)
    sagemaker.delete_endpoint(EndpointName="busy")
    wait_for(lambda: status(sagemaker, "busy"), "", 90)
    assert containers(server) == []


def test_errors_reach_the_client_in_aws_shape(server: RunningServer) -> None:
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    in_service(sagemaker, "errors")

    def refused(name: str = "errors", **members: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            runtime.invoke_endpoint(**{"EndpointName": name, "Body": ROW, "ContentType": "text/csv", **members})
        answer: dict[str, Any] = caught.value.response
        return answer

    answer = refused(ContentType="image/png")
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == 415
    assert answer["OriginalMessage"] in answer["Error"]["Message"]
    assert answer["LogStreamArn"].endswith("log-group:/aws/sagemaker/Endpoints/errors")
    answer = refused("absent")
    assert answer["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint absent of account 123456789012 not found.",
    }
    assert refused(Body=b"1" * (6 * 2**20 + 1))["ResponseMetadata"]["HTTPStatusCode"] in (400, 413)
    answer = runtime.invoke_endpoint(EndpointName="errors", Body=ROW, ContentType="text/csv", TargetVariant="v")
    assert answer["InvokedProductionVariant"] == "v"
    assert server.stop() == 0
    server.restart()
    assert invocations(server, "errors") == 2, "what was counted is not lost when the server is stopped"
    sagemaker = server.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName="errors")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="errors", WaiterConfig={"Delay": 1, "MaxAttempts": 90})


def test_an_endpoint_outlives_its_container_its_agent_and_the_server(server: RunningServer) -> None:
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    in_service(sagemaker, "tough")

    def answers() -> bool:
        try:
            runtime.invoke_endpoint(EndpointName="tough", Body=ROW, ContentType="text/csv")
        except ClientError:
            return False
        return True

    assert answers()
    (container,) = containers(server)
    os.kill(container.pid, signal.SIGKILL)
    wait_for(lambda: [one.pid for one in containers(server)] not in ([], [container.pid]), True)
    wait_for(answers, True)
    (container,) = containers(server)
    agent = container.parent()
    assert agent is not None
    server.kill()
    os.kill(agent.pid, signal.SIGKILL)
    server.restart()
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    wait_for(lambda: [one.pid for one in containers(server)] not in ([], [container.pid]), True)
    wait_for(answers, True)
    sagemaker.delete_endpoint(EndpointName="tough")
    wait_for(lambda: status(sagemaker, "tough"), "", 90)


def test_a_batch_transform_answers_every_record(server: RunningServer) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket="batch")
    rows = {f"in/{name}.csv": [f"{i / 100:.2f},0.5" for i in range(count)] for name, count in (("a", 50), ("sub/b", 3))}
    for key, lines in rows.items():
        s3.put_object(Bucket="batch", Key=key, Body="\n".join(lines).encode())
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://batch/in/"}
    sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="m",
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": "s3://batch/out", "AssembleWith": "Line", "Accept": "text/csv"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
        BatchStrategy="SingleRecord",
        DataProcessing={"JoinSource": "Input"},
    )

    def state() -> str:
        return str(sagemaker.describe_transform_job(TransformJobName="t")["TransformJobStatus"])

    wait_for(lambda: state() != "InProgress", True, 90)
    described = sagemaker.describe_transform_job(TransformJobName="t")
    assert described["TransformJobStatus"] == "Completed", described.get("FailureReason")
    for key, lines in rows.items():
        output = s3.get_object(Bucket="batch", Key=key.replace("in/", "out/") + ".out")["Body"].read().decode()
        written = output.splitlines()
        assert [line.rpartition(",")[0] for line in written] == lines
        assert all(0 <= float(line.rpartition(",")[2]) <= 1 for line in written)
