"""The server is killed while an agent hands over its model, and is away while a job ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sagesmith.testing.server import running_server
from tests.kills import processes
from tests.kills.scene import BUCKET, LINES, Scene

pytest.importorskip("xgboost")
pytestmark = [pytest.mark.kill, pytest.mark.slow]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("uploads")
    with running_server(folder / "data", stop_grace=20.0) as server:
        scene = Scene(server, folder)
        scene.prepare(folder)
        yield scene


def arriving(scene: Scene) -> int:
    """Bytes of uploads that are being received, and of parts that have been."""
    found = 0
    for folder in (".tmp", ".uploads"):
        for path in (scene.server.config.data / "s3" / folder).rglob("*"):
            try:
                found += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                continue
    return found


def test_a_model_whose_upload_is_broken_off_arrives_whole(scene: Scene) -> None:
    scene.train("large")
    scene.wait_until(lambda: scene.started("large") == ["algo-1"], "the start of the script")
    (scene.marks / "large.large").touch()
    scene.let_go("large")
    for megabytes in (1, 70):
        before = arriving(scene)  # what the server before has left
        scene.wait_until(lambda: arriving(scene) > before + megabytes * 2**20, "an upload")  # noqa: B023
        scene.server.kill()
        scene.server.restart()
    job = scene.ended("large")
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Completed", None)
    assert scene.whole_model("large") == ["algo-1.txt", "large"]
    assert "Uploads" not in scene.client("s3").list_multipart_uploads(Bucket=BUCKET)
    assert scene.log_lines("large") == [f"line {number} of algo-1" for number in range(LINES)]


def test_a_job_that_ends_while_the_server_is_away_is_completed(scene: Scene) -> None:
    scene.train("alone")
    scene.wait_until(lambda: scene.started("alone") == ["algo-1"], "the start of the script")
    scene.server.kill()
    scene.let_go("alone")
    deadline = time.monotonic() + 60
    while processes.jobs(scene.server, "train"):
        assert time.monotonic() < deadline, "the script did not end"
        time.sleep(0.05)
    scene.server.restart()
    job = scene.ended("alone")
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Completed", None)
    assert scene.whole_model("alone") == ["algo-1.txt"]
    assert scene.log_lines("alone") == [f"line {number} of algo-1" for number in range(LINES)]


def test_server_and_agent_killed_together_is_told(scene: Scene) -> None:
    scene.train("both")
    scene.wait_until(lambda: scene.started("both") == ["algo-1"], "the start of the script")
    agents = processes.agents(scene.server)
    scene.server.kill()
    for agent in agents:
        agent.kill()
    scene.server.restart()
    job = scene.ended("both")
    assert job["TrainingJobStatus"] == "Failed"
    assert "algo-1 ended without a report; the process or its host is gone" in job["FailureReason"]
    processes.wait_for_none(scene.server)


def test_a_killed_training_process_is_told(scene: Scene) -> None:
    scene.train("process")
    scene.wait_until(lambda: scene.started("process") == ["algo-1"], "the start of the script")
    for process in processes.jobs(scene.server, "train"):
        process.kill()
    job = scene.ended("process")
    assert job["TrainingJobStatus"] == "Failed"
    assert "killed by SIGKILL" in job["FailureReason"]
    processes.wait_for_none(scene.server)
