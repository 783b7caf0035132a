from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.store.objects import ObjectInfo
from sagesmith.store.remote_objects import RemoteObjects
from sagesmith.testing.check_objects import BUCKET, CHECKS
from sagesmith.testing.server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("other"), process=True) as running:
        yield running


@pytest.fixture
def objects(server: RunningServer, tmp_path: Path) -> Iterator[RemoteObjects]:
    store = RemoteObjects(server.address, tmp_path, client=server.client("s3"))
    yield store
    store.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(objects: RemoteObjects, check) -> None:
    objects.create_bucket(BUCKET, "eu-west-1")
    try:
        check(objects)
    finally:
        for info in list(objects.list(BUCKET)):
            objects.delete(BUCKET, info.key)
        objects.delete_bucket(BUCKET)


def test_large_objects_go_in_parts_and_are_read_on_demand(objects: RemoteObjects, tmp_path: Path) -> None:
    objects.create_bucket("large-bucket")
    body = bytes(range(256)) * 4096 * 17
    (tmp_path / "source").write_bytes(body)
    headers = {"content-type": "text/x", "sagesmith-upload": "id", "expires": "Wed, 02 Jan 2030 00:00:00 GMT"}
    stored = objects.put("large-bucket", "k", tmp_path / "source", ObjectInfo("k", 0, "", 0.0, headers))
    assert stored.etag.endswith("-3")
    assert stored.headers["sagesmith-upload"] == "id"
    assert stored.headers["expires"] == headers["expires"]
    with objects.open("large-bucket", "k") as file:
        assert file.read() == body
        file.seek(-5, 2)
        assert file.read() == body[-5:]
        file.seek(10)
        objects.put("large-bucket", "k", b"replaced")
        with pytest.raises(OSError, match="cannot be read on"):
            file.read(5)


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = RemoteObjects("http://127.0.0.1:9", tmp_path)
    with pytest.raises(ApiError, match="cannot be asked"):
        store.head("bucket", "k")
    store.close()


@pytest.mark.slow
def test_a_server_on_another_server(server: RunningServer, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": server.key.id, "AWS_SECRET_ACCESS_KEY": server.key.secret}
    with running_server(tmp_path / "front", s3_endpoint=server.address, environment=keys) as front:
        client = front.client("s3")
        client.create_bucket(Bucket="front-bucket")
        client.put_object(Bucket="front-bucket", Key="a/b", Body=b"through", Metadata={"n": "1"})
        assert server.client("s3").get_object(Bucket="front-bucket", Key="a/b")["Body"].read() == b"through"
        got = client.get_object(Bucket="front-bucket", Key="a/b", Range="bytes=2-4")
        assert (got["Body"].read(), got["Metadata"]) == (b"rou", {"n": "1"})
        client.close()
