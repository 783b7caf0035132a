"""`python -m tests.kills.full_disk FOLDER`: mounts a small disk on FOLDER, fills it under a server's feet, frees it.

Run in a mount namespace of its own (`unshare --map-root-user --mount`), so that nobody else sees the disk.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagesmith.testing.server import running_server
from tests.kills import processes
from tests.kills.scene import BUCKET, LINES, Scene
from tests.kills.writers import check_etag, content_of, version_in

SIZE = 96 * 2**20  # bytes of the disk
KEY = "precious"


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Takes every byte that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    try:
        yield
    finally:
        ballast.unlink()


def refused(call: Callable[..., Any], **request: Any) -> None:
    """The call must fail, and say why."""
    with pytest.raises(ClientError, match="disk is full") as caught:
        call(**request)
    status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert (status, caught.value.response["Error"]["Code"]) == (507, "InsufficientStorage")


def main(disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
    marks = disk.with_name("marks")
    marks.mkdir()
    with running_server(disk / "data", stop_grace=20.0) as server:
        scene = Scene(server, marks)
        scene.prepare(marks)
        s3 = server.client("s3")
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=content_of(KEY, 1, 100_000))
        scene.train("unlucky")
        scene.wait_until(lambda: scene.started("unlucky") == ["algo-1"], "the start of the script")
        scene.train("patient")  # there is no room for it yet
        with full(disk):
            on_a_full_disk(scene, s3)
        unlucky = scene.ended("unlucky")
        assert unlucky["TrainingJobStatus"] == "Failed"
        assert "disk" in unlucky["FailureReason"], unlucky["FailureReason"]
        scene.let_go("patient")
        patient = scene.ended("patient")
        assert (patient["TrainingJobStatus"], patient.get("FailureReason")) == ("Completed", None)
        assert scene.whole_model("patient") == ["algo-1.txt"]
        assert len(scene.log_lines("patient")) == LINES
        s3 = scene.client("s3")
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=content_of(KEY, 3, 100_000))
        assert read(s3) == 3
        scene.call("sagemaker", "add_tags", ResourceArn=patient["TrainingJobArn"], Tags=[{"Key": "a", "Value": "b"}])
        processes.wait_for_none(server)


def on_a_full_disk(scene: Scene, s3: Any) -> None:
    for size in (100_000, 1):
        refused(s3.put_object, Bucket=BUCKET, Key=KEY, Body=content_of(KEY, 2, size))
        assert read(s3) == 1
    refused(s3.put_object, Bucket=BUCKET, Key="another", Body=b"x" * 10_000)
    assert "another" not in [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    tags = [{"Key": f"{number}", "Value": "x" * 200} for number in range(40)]
    arn = scene.job("patient")["TrainingJobArn"]
    refused(scene.client("sagemaker").add_tags, ResourceArn=arn, Tags=tags)
    assert scene.client("sagemaker").list_tags(ResourceArn=arn)["Tags"] == []
    scene.server.kill()
    scene.server.restart()
    assert read(scene.client("s3")) == 1
    scene.let_go("unlucky")  # its model finds no room
    time.sleep(3)
    assert scene.job("unlucky")["TrainingJobStatus"] == "InProgress", "its end was recorded without any room to"


def read(s3: Any) -> int:
    """The version of the object, which must be whole."""
    answer = s3.get_object(Bucket=BUCKET, Key=KEY)
    content = answer["Body"].read()
    check_etag(KEY, answer["ETag"], content)
    return version_in(KEY, content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
