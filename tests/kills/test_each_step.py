"""The server is killed before, within and after each step of each machine; everything ends as if it had not been.

In each test the server dies three times in one state: before the step, when the step has run and nothing is
committed, and when it is committed. It comes back on another port each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sagesmith.core.machine import MACHINES
from sagesmith.services import load_rooms
from sagesmith.testing.server import running_server
from tests.kills import processes
from tests.kills.killable_server import give_orders, orders_left
from tests.kills.scene import BUCKET, ENDED, LINES, Scene

pytest.importorskip("xgboost")
pytestmark = [pytest.mark.kill, pytest.mark.slow]

PLACES = ("before", "after", "committed")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("steps")
    with running_server(folder / "data", module="tests.kills.killable_server", stop_grace=20.0) as server:
        scene = Scene(server, folder)
        scene.prepare(folder)
        yield scene


@pytest.fixture(autouse=True)
def nothing_is_left(scene: Scene) -> Iterator[None]:
    """After each test: every order was carried out, and nothing runs or lies about any more."""
    yield
    assert orders_left(scene.server.config.data) == [], "the server did not pass here"
    scene.wait_until(lambda: scene.gangs() == [], "the end of every gang")
    processes.wait_for_none(scene.server)


def die_in(scene: Scene, kind: str, state: str) -> None:
    give_orders(scene.server.config.data, [f"{kind}.{state}.{place}" for place in PLACES])


def dead_thrice(scene: Scene) -> None:
    scene.wait_until(lambda: not orders_left(scene.server.config.data), "the third death")
    scene.revive()


def assert_completed(scene: Scene, name: str, attempts: int = 1) -> None:
    job = scene.ended(name)
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Completed", None)
    assert scene.started(name) == ["algo-1"] * attempts, "a gang ran twice, or never"
    assert scene.whole_model(name) == ["algo-1.txt"]
    expected = [f"line {number} of algo-1" for number in range(LINES)] * attempts
    assert scene.log_lines(name) == expected
    assert [entry["Status"] for entry in job["SecondaryStatusTransitions"]][-1] == "Completed"


@pytest.mark.parametrize("state", ["Launching", "Watching", "Finishing"])
def test_a_training_job_completes(scene: Scene, state: str) -> None:
    name = f"completes-{state}"
    die_in(scene, "TrainingJob", state)
    scene.train(name)
    scene.let_go(name)
    assert_completed(scene, name)


def test_a_failing_training_job_fails_with_its_own_words(scene: Scene) -> None:
    die_in(scene, "TrainingJob", "Ending")
    scene.train("fails")
    scene.let_go("fails", fail=True)
    job = scene.ended("fails")
    assert job["TrainingJobStatus"] == "Failed"
    assert "the script was told to fail" in job["FailureReason"]
    assert scene.started("fails") == ["algo-1"]


def test_a_training_job_that_lost_its_agent_is_retried(scene: Scene) -> None:
    die_in(scene, "TrainingJob", "Restarting")
    scene.train("retried", retries=1)
    scene.wait_until(lambda: scene.started("retried") == ["algo-1"], "the first attempt")
    scene.wait_until(lambda: len(scene.log_lines("retried")) == LINES, "the lines of the first attempt")
    for agent in processes.agents(scene.server):
        agent.kill()
    scene.let_go("retried")
    assert_completed(scene, "retried", attempts=2)


def test_a_stopped_training_job_stops(scene: Scene) -> None:
    scene.train("stops")
    scene.wait_until(lambda: scene.started("stops") == ["algo-1"], "the start of the script")
    die_in(scene, "TrainingJob", "Stopping")
    scene.call("sagemaker", "stop_training_job", TrainingJobName="stops")
    assert scene.ended("stops")["TrainingJobStatus"] == "Stopped"
    assert scene.started("stops") == ["algo-1"]


def created(scene: Scene, name: str, config: str = "good") -> None:
    scene.call("sagemaker", "create_endpoint", EndpointName=name, EndpointConfigName=config)
    wanted = "InService" if config == "good" else "Failed"
    scene.wait_until(lambda: scene.endpoint(name) == wanted, f"endpoint {name} {wanted}")


def deleted(scene: Scene, name: str) -> None:
    scene.call("sagemaker", "delete_endpoint", EndpointName=name)
    scene.wait_until(lambda: scene.endpoint(name) == "", f"the end of endpoint {name}")


def scaled(scene: Scene, name: str) -> None:
    wanted = [{"VariantName": "v", "DesiredInstanceCount": 2}]
    scene.call(
        "sagemaker", "update_endpoint_weights_and_capacities", EndpointName=name, DesiredWeightsAndCapacities=wanted
    )
    scene.wait_until(lambda: _instances(scene, name) == 2, "two instances")


def _instances(scene: Scene, name: str) -> int:
    described = scene.call("sagemaker", "describe_endpoint", EndpointName=name)
    ready = described["EndpointStatus"] == "InService"
    return int(described["ProductionVariants"][0]["CurrentInstanceCount"]) if ready else 0


def updated(scene: Scene, name: str) -> None:
    scene.call("sagemaker", "update_endpoint", EndpointName=name, EndpointConfigName="good")


def spoilt(scene: Scene, name: str) -> None:
    """An update that cannot succeed: all traffic stays where it is, and the reason is told."""
    scene.call("sagemaker", "update_endpoint", EndpointName=name, EndpointConfigName="bad")
    described = {}

    def rolled_back() -> bool:
        described.update(scene.call("sagemaker", "describe_endpoint", EndpointName=name))
        return "FailureReason" in described and described["EndpointStatus"] == "InService"

    scene.wait_until(rolled_back, "the rollback")
    assert "model data" in described["FailureReason"]
    assert described["EndpointConfigName"] == "good"


def watched(_scene: Scene, _name: str) -> None:
    """Nothing is asked of the endpoint."""


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("InService", watched),
        ("Scaling", scaled),
        ("Updating", updated),
        ("Baking", updated),
        ("Terminating", updated),
        ("RollingBack", spoilt),
    ],
)
def test_an_endpoint_answers_again(scene: Scene, state: str, change: Callable[[Scene, str], None]) -> None:
    name = f"changes-{state}"
    created(scene, name)
    die_in(scene, "Endpoint", state)
    change(scene, name)
    dead_thrice(scene)
    scene.wait_until(lambda: scene.endpoint(name) == "InService", "an endpoint in service")
    assert scene.answers(name)
    deleted(scene, name)


def test_an_endpoint_is_created(scene: Scene) -> None:
    die_in(scene, "Endpoint", "Creating")
    created(scene, "created")
    assert scene.answers("created")
    assert len(processes.jobs(scene.server, "serve")) == 1, "a gang was started twice"
    deleted(scene, "created")


def test_an_endpoint_is_deleted(scene: Scene) -> None:
    created(scene, "deleted")
    die_in(scene, "Endpoint", "Deleting")
    deleted(scene, "deleted")


def test_an_endpoint_that_cannot_serve_fails(scene: Scene) -> None:
    die_in(scene, "Endpoint", "Failed")
    created(scene, "hopeless", "bad")
    described = scene.call("sagemaker", "describe_endpoint", EndpointName="hopeless")
    assert "Failed to extract model data" in described["FailureReason"]
    dead_thrice(scene)
    deleted(scene, "hopeless")


def transform(scene: Scene, name: str, model: str = "good") -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}}
    scene.call(
        "sagemaker",
        "create_transform_job",
        TransformJobName=name,
        ModelName=model,
        TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/predictions/{name}", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )


def transform_ended(scene: Scene, name: str) -> tuple[str, str]:
    """How a transform job ended, and why if it failed."""

    def described() -> dict[str, str]:
        return scene.call("sagemaker", "describe_transform_job", TransformJobName=name)

    scene.wait_until(lambda: described()["TransformJobStatus"] in ENDED, f"the end of {name}")
    return described()["TransformJobStatus"], described().get("FailureReason", "")


@pytest.mark.parametrize("state", ["Launching", "Watching", "Finishing"])
def test_a_transform_job_completes(scene: Scene, state: str) -> None:
    name = f"transforms-{state}"
    die_in(scene, "TransformJob", state)
    transform(scene, name)
    assert transform_ended(scene, name) == ("Completed", "")
    answer = scene.call("s3", "get_object", Bucket=BUCKET, Key=f"predictions/{name}/rows.csv.out")
    predictions = answer["Body"].read().decode().split()
    assert len(predictions) == 200
    assert all(0 <= float(prediction) <= 1 for prediction in predictions)


def test_a_failing_transform_job_fails_with_its_reason(scene: Scene) -> None:
    die_in(scene, "TransformJob", "Ending")
    transform(scene, "fails", "bad")
    status, reason = transform_ended(scene, "fails")
    assert status == "Failed"
    assert "Failed to extract model data" in reason


def test_a_stopped_transform_job_stops(scene: Scene) -> None:
    transform(scene, "stops")
    scene.wait_until(lambda: bool(processes.agents(scene.server)), "an agent")
    die_in(scene, "TransformJob", "Stopping")
    scene.call("sagemaker", "stop_transform_job", TransformJobName="stops")
    assert transform_ended(scene, "stops")[0] == "Stopped"


def test_every_state_of_every_machine_has_its_test() -> None:
    load_rooms()
    tested = {
        "TrainingJob": {"Launching", "Watching", "Ending", "Restarting", "Stopping", "Finishing"},
        "Endpoint": {
            *("Creating", "InService", "Scaling", "Updating", "Baking", "Terminating", "RollingBack"),
            *("Failed", "Deleting"),
        },
        "TransformJob": {"Launching", "Watching", "Ending", "Stopping", "Finishing"},
    }
    assert {kind: set(machine.steps) for kind, machine in MACHINES.items()} == tested
