"""A disk that fills up under the server: clear errors, nothing torn, and all goes on once there is room again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sagesmith.testing.server import running_server
from tests.kills.writers import check_etag, content_of, version_in

PRIVATE = ["unshare", "--map-root-user", "--mount"]
REPOSITORY = Path(__file__).parents[2]
KEY = "folder/key"


class FullAt:
    """Stands for os.fsync: the disk is full at the call of that number, counted from 0."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._fsync = os.fsync

    def __call__(self, descriptor: int) -> None:
        self._left -= 1
        if self._left == -1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(descriptor)


def test_an_object_is_never_torn_wherever_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server(tmp_path, process=False, engine="none") as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key=KEY, Body=content_of(KEY, 0, 1000))
        refusals, there = 0, 0
        for number in range(20):
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", FullAt(number))
                try:
                    s3.put_object(Bucket="bucket", Key=KEY, Body=content_of(KEY, number + 1, 1000 + number))
                except ClientError as error:
                    refusals += error.response["Error"]["Code"] == "InsufficientStorage"
                else:
                    break
            answer = s3.get_object(Bucket="bucket", Key=KEY)
            content = answer["Body"].read()
            check_etag(KEY, answer["ETag"], content)
            assert version_in(KEY, content) in (there, number + 1)
            there = version_in(KEY, content)
        assert refusals == number > 2, "every step that writes must have been tried, and refused in words"
        assert [path for path in server.config.data.glob("s3/.tmp/*") if path.is_file()] == []


def may_mount() -> bool:
    try:
        tried = subprocess.run([*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="a small disk can be made only where user namespaces are allowed")
def test_a_full_disk(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*PRIVATE, sys.executable, "-W", "error", "-m", "tests.kills.full_disk", str(disk)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
