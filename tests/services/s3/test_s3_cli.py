from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sagesmith.testing.server import RunningServer
from tests.clients.live import aws_cli


@pytest.fixture
def aws(server: RunningServer, tmp_path: Path):
    command = aws_cli()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": server.address,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.key.id,
        "AWS_SECRET_ACCESS_KEY": server.key.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(command), *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_a_day_with_the_cli(aws, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub dir").mkdir(parents=True)
    (tree / "a.csv").write_text("1,2\n")
    (tree / "sub dir" / "ü.txt").write_text("text")
    (tree / "big.bin").write_bytes(os.urandom(2**20) * 20)
    aws("s3", "mb", "s3://cli-bucket")
    aws("s3", "cp", "tree/big.bin", "s3://cli-bucket/copied/big.bin")
    aws("s3", "sync", "tree", "s3://cli-bucket/tree")
    listed = aws("s3", "ls", "s3://cli-bucket", "--recursive")
    names = [line.split(None, 3)[3] for line in listed.splitlines()]
    assert names == ["copied/big.bin", "tree/a.csv", "tree/big.bin", "tree/sub dir/ü.txt"]
    assert "PRE tree/" in aws("s3", "ls", "s3://cli-bucket")
    assert aws("s3", "sync", "tree", "s3://cli-bucket/tree") == "", "nothing is sent twice"
    aws("s3", "sync", "s3://cli-bucket/tree", "back")
    for path in tree.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(tree)).read_bytes() == path.read_bytes()
    aws("s3", "mv", "s3://cli-bucket/tree/a.csv", "s3://cli-bucket/moved.csv")
    assert aws("s3", "cp", "s3://cli-bucket/moved.csv", "-") == "1,2\n"
    aws("s3", "rm", "s3://cli-bucket/tree", "--recursive")
    assert "tree" not in aws("s3", "ls", "s3://cli-bucket")
    url = aws("s3", "presign", "s3://cli-bucket/moved.csv").strip()
    assert "Signature" in url
    aws("s3", "rb", "s3://cli-bucket", "--force")
    assert "cli-bucket" not in aws("s3", "ls")
