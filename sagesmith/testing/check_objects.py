"""check_objects: what every object store must do; call `check_objects(store)` with an empty one.

def test_my_store(tmp_path):
    check_objects(MyObjects(tmp_path))
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sagesmith.store.objects import (
    BadKey,
    BucketExists,
    BucketNotEmpty,
    CommonPrefix,
    NoSuchBucket,
    NoSuchObject,
    ObjectInfo,
    Objects,
    PreconditionFailed,
)

AWKWARD_KEYS = [
    "a",
    "a/b",
    "a/b/c",
    "a//b",
    "a/",
    "/x",
    "../x",
    "..",
    ".",
    "./.",
    "%",
    "%2E",
    "a%.object",
    "x%+",
    " space and + plus",
    "new\nline\x00",
    "back\\slash",
    "é/ü",
    "日本/語",
    "\U0001f600",
    "CON",
    "k" * 1024,
    "ü" * 512,
    "d" * 300 + "/" + "f" * 300,
    "d" * 300,
    "." * 248,
    "%" * 300,
    "\x01" * 250,
]
BUCKET = "check-objects"


def check_objects(objects: Objects) -> None:
    """Runs all checks in order; each leaves the store as it found it.

    Raises:
        AssertionError: naming what the store does wrong.
    """
    for check in CHECKS:
        objects.create_bucket(BUCKET, "eu-west-1")
        check(objects)
        for info in list(objects.list(BUCKET)):
            objects.delete(BUCKET, info.key)
        objects.delete_bucket(BUCKET)


def check_buckets(objects: Objects) -> None:
    """Buckets are made once, listed, described, and deleted only when empty."""
    assert objects.bucket(BUCKET).created > 0, "a bucket knows when it was made"
    assert BUCKET in [info.name for info in objects.buckets()], "buckets() lists what create_bucket made"
    _raises(BucketExists, lambda: objects.create_bucket(BUCKET))
    _raises(NoSuchBucket, lambda: objects.bucket("check-objects-none"))
    _raises(NoSuchBucket, lambda: objects.put("check-objects-none", "k", b""))
    _raises(NoSuchBucket, lambda: list(objects.list("check-objects-none")))
    objects.put(BUCKET, "deep/key", b"1")
    _raises(BucketNotEmpty, lambda: objects.delete_bucket(BUCKET))


def check_bytes(objects: Objects) -> None:
    """Bytes come back whole, in ranges and as a seekable file; a missing key is an error; deleting twice is none."""
    stored = objects.put(BUCKET, "k", b"0123456789")
    assert stored.etag == hashlib.md5(b"0123456789", usedforsecurity=False).hexdigest(), "the ETag is the MD5"
    assert objects.get(BUCKET, "k") == b"0123456789"
    assert objects.get(BUCKET, "k", 3, 4) == b"3456"
    assert objects.get(BUCKET, "k", 8) == b"89"
    with objects.open(BUCKET, "k") as file:
        file.seek(5)
        assert file.read(2) == b"56"
    objects.put(BUCKET, "empty", b"")
    assert objects.get(BUCKET, "empty") == b""
    path = objects.scratch / "check-objects-source"
    path.write_bytes(b"moved")
    objects.put(BUCKET, "k", path)
    assert objects.get(BUCKET, "k") == b"moved"
    assert not path.exists(), "put takes the file over"
    objects.delete(BUCKET, "k")
    objects.delete(BUCKET, "k")
    for ask in (objects.get, objects.open, objects.head, objects.read):
        _raises(NoSuchObject, partial(ask, BUCKET, "k"))


def check_metadata(objects: Objects) -> None:
    """Headers and tags come back with the bytes they were stored with and go when those are replaced."""
    headers = {"content-type": "text/csv", "x-amz-meta-note": "n", "cache-control": "no-store"}
    objects.put(BUCKET, "k", b"1", ObjectInfo("k", 1, "", 0.0, headers, {}, {"team": "a b"}))
    found, file = objects.read(BUCKET, "k")
    file.close()
    assert found == objects.head(BUCKET, "k")
    assert {**found.headers, **headers} == found.headers
    assert found.size == 1
    assert found.modified > 0
    assert found.tags == {"team": "a b"}
    objects.tag(BUCKET, "k", {"new": ""})
    assert objects.head(BUCKET, "k").tags == {"new": ""}
    assert objects.head(BUCKET, "k").headers == found.headers, "tags change alone"
    objects.put(BUCKET, "k", b"2")
    assert "x-amz-meta-note" not in objects.head(BUCKET, "k").headers
    assert not objects.head(BUCKET, "k").tags
    _raises(NoSuchObject, lambda: objects.tag(BUCKET, "none", {}))


def check_awkward_keys(objects: Objects) -> None:
    """Every key of 1 to 1,024 bytes of UTF-8 is a name of its own."""
    for key in AWKWARD_KEYS:
        objects.put(BUCKET, key, key.encode())
    for key in AWKWARD_KEYS:
        assert objects.get(BUCKET, key) == key.encode(), key
        assert objects.head(BUCKET, key).key == key
    listed = [info.key for info in objects.list(BUCKET)]
    assert listed == sorted(AWKWARD_KEYS, key=str.encode), "list is in UTF-8 byte order and complete"
    for key in AWKWARD_KEYS[::2]:
        objects.delete(BUCKET, key)
    assert [info.key for info in objects.list(BUCKET)] == sorted(AWKWARD_KEYS[1::2], key=str.encode)
    for bad in ("", "k" * 1025, "ü" * 513, "\ud800"):
        _raises(BadKey, partial(objects.put, BUCKET, bad, b""))
        _raises(BadKey, partial(objects.get, BUCKET, bad))


def check_listing(objects: Objects) -> None:
    """Prefixes, starting points and delimiters select what a plain filter over all keys selects."""
    keys = ["a", "a-b", "a/1", "a/2/x", "a/2/y", "a0", "b/c/d", "b-1", "b-2", "é/1", "z"]
    for key in keys:
        objects.put(BUCKET, key, b"")
    for prefix in ("", "a", "a/", "a/2", "b", "é", "none"):
        for after in ("", "a", "a/2/x", "a/2/", "b-1", "zz"):
            wanted = sorted((k for k in keys if k.startswith(prefix) and k.encode() > after.encode()), key=str.encode)
            assert [info.key for info in objects.list(BUCKET, prefix, after)] == wanted, (prefix, after)
            for delimiter in ("/", "-", "/2"):
                found = [
                    item.prefix if isinstance(item, CommonPrefix) else item.key
                    for item in objects.list_folders(BUCKET, prefix, delimiter, after)
                ]
                assert found == rolled_up(keys, prefix, delimiter, after), (prefix, delimiter, after)


def rolled_up(keys: list[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """The keys and common prefixes of a listing, worked out the slow way."""
    found = set()
    for key in keys:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if at < 0 else key[: at + len(delimiter)])
    return sorted((item for item in found if item.encode() > after.encode()), key=str.encode)


def check_conditions(objects: Objects) -> None:
    """A conditional write happens only when the present object is the demanded one; one of many racers wins."""
    first = objects.put(BUCKET, "k", b"1", if_absent=True)
    _raises(PreconditionFailed, lambda: objects.put(BUCKET, "k", b"2", if_absent=True))
    objects.put(BUCKET, "k", b"2", if_match=first.etag)
    _raises(PreconditionFailed, lambda: objects.put(BUCKET, "k", b"3", if_match=first.etag))
    _raises(PreconditionFailed, lambda: objects.put(BUCKET, "none", b"3", if_match=first.etag))
    assert objects.get(BUCKET, "k") == b"2"

    def race(number: int) -> bool:
        try:
            objects.put(BUCKET, "race", str(number).encode(), if_absent=True)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(16))) == 1, "exactly one conditional create wins"


def check_replacement(objects: Objects) -> None:
    """An open reader keeps its version; concurrent readers see whole versions with the metadata that belongs."""
    objects.put(BUCKET, "k", b"old" * 1000)
    with objects.open(BUCKET, "k") as file:
        objects.put(BUCKET, "k", b"new")
        assert file.read() == b"old" * 1000, "an open reader keeps its version"

    def write(number: int) -> None:
        body = bytes([number]) * 1000 * (number + 1)
        objects.put(BUCKET, "k", body, ObjectInfo("k", 0, "", 0.0, {"x-amz-meta-n": str(number)}))

    def read(_: int) -> None:
        info, file = objects.read(BUCKET, "k")
        with file:
            data = file.read()
        assert hashlib.md5(data, usedforsecurity=False).hexdigest() == info.etag, "bytes and metadata belong together"
        assert info.headers["x-amz-meta-n"] == str(data[0])
        assert len(data) == info.size

    write(0)
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, number) for number in range(20)]
        reads = [pool.submit(read, number) for number in range(40)]
        for future in [*writes, *reads]:
            future.result()


def check_neighbours(objects: Objects, bucket: str = BUCKET) -> None:
    """Threads that write and delete `a`, `a/b` and `a/b/c` at the same time do not disturb each other."""

    def churn(key: str) -> None:
        for number in range(10):
            objects.put(bucket, key, str(number).encode())
            assert objects.get(bucket, key) == str(number).encode()
            objects.delete(bucket, key)
        objects.put(bucket, key, b"last")

    keys = ["a", "a/b", "a/b/c", "a/b/d"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, keys))
    assert [(info.key, objects.get(bucket, info.key)) for info in objects.list(bucket)] == [(k, b"last") for k in keys]


CHECKS: list[Callable[[Objects], None]] = [
    check_buckets,
    check_bytes,
    check_metadata,
    check_awkward_keys,
    check_listing,
    check_conditions,
    check_replacement,
    check_neighbours,
]


def _raises(error: type[Exception], act: Callable[[], object]) -> None:
    try:
        act()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")
