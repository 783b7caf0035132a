"""A link is the version that was listed, or there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagesmith.store.local_objects import LocalObjects
from sagesmith.store.object_links import NoLink, link_object
from sagesmith.store.objects import ObjectInfo

ODD = [
    "a",
    "a/b",
    "../x",
    "a//b",
    ".",
    "..",
    "/",
    "tab\tline\n",
    "100%",
    "a%.object",
    "é" * 400,
    "p/" + "x" * 600,
    "~ +&",
]


@pytest.fixture
def store(tmp_path: Path) -> LocalObjects:
    objects = LocalObjects(tmp_path / "s3")
    objects.create_bucket("bucket")
    return objects


def link(store: LocalObjects, info: ObjectInfo, target: Path, bucket: str = "bucket") -> Path:
    link_object(store.root, bucket, info.key, info.etag, info.size, target)
    return target


def test_every_key_is_linked_and_nothing_is_copied(store: LocalObjects, tmp_path: Path) -> None:
    for key in ODD:
        store.put("bucket", key, f"content of {key}".encode())
    listed = list(store.list("bucket"))
    assert sorted(info.key for info in listed) == sorted(ODD)
    for number, info in enumerate(listed):
        target = link(store, info, tmp_path / str(number))
        assert target.read_bytes() == f"content of {info.key}".encode()
        path = store.path("bucket", info.key)
        assert path is not None
        assert path.samefile(target)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_any_key(store: LocalObjects, tmp_path: Path, key: str) -> None:
    info = store.put("bucket", key, key.encode())
    target = link(store, info, tmp_path / "link")
    content = target.read_bytes()
    target.unlink()
    store.delete("bucket", key)
    assert content == key.encode()


def test_a_link_keeps_its_version(store: LocalObjects, tmp_path: Path) -> None:
    target = link(store, store.put("bucket", "k", b"old"), tmp_path / "link")
    store.put("bucket", "k", b"new")
    assert (target.read_bytes(), store.get("bucket", "k")) == (b"old", b"new")
    store.delete("bucket", "k")
    assert target.read_bytes() == b"old"


def test_files_that_nobody_described_and_objects_in_parts(store: LocalObjects, tmp_path: Path) -> None:
    (store.root / "bucket" / "own.csv").write_bytes(b"1,2\n")
    store.put("bucket", "parts", b"12", ObjectInfo("parts", 0, "0123456789abcdef0123456789abcdef-2", 0.0))
    for info in store.list("bucket"):
        assert link(store, info, tmp_path / info.key).read_bytes() == store.get("bucket", info.key)


def test_another_version_is_not_linked(store: LocalObjects, tmp_path: Path) -> None:
    listed = store.put("bucket", "k", b"old")
    store.put("bucket", "k", b"new")
    target = tmp_path / "link"
    with pytest.raises(NoLink, match="has changed"):
        link(store, listed, target)
    path = store.path("bucket", "k")
    assert path is not None
    path.write_bytes(b"else")  # in place, by somebody who has the folder
    with pytest.raises(NoLink, match="has changed"):
        link(store, ObjectInfo("k", 3, "22af645d1859cb5ca6da0c484f1f37ea", 0.0), target)
    store.delete("bucket", "k")
    with pytest.raises(NoLink, match="not there"):
        link(store, listed, target)
    assert not target.is_symlink()
    assert not target.exists()


def test_what_is_no_object_is_not_linked(store: LocalObjects, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    (store.root / "bucket" / "link").symlink_to(secret)
    (store.root / "bucket" / "folder").mkdir()
    info = ObjectInfo("link", 1, "9dd4e461268c8034f5c8564e155c67a6", 0.0)
    for bucket, key in (("bucket", "link"), ("bucket", "folder"), ("..", "secret"), (".meta", "bucket"), ("no", "k")):
        with pytest.raises(NoLink):
            link_object(store.root, bucket, key, info.etag, info.size, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_stands_at_the_links_place_stays(store: LocalObjects, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    with pytest.raises(NoLink, match="File exists"):
        link(store, store.put("bucket", "k", b"x"), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"mine"
